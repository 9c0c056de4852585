#!/usr/bin/env bash
# A private Incus for tests and the demo: own directory, own network, mount, PID and cgroup subtree. It touches no
# Incus, no firewall and no interface of this machine. Root, `incus` installed (tests/lab/install.sh). A second up.
#   incus.sh up DIR [POOL...]   pool `default` (dir), further POOLs of the same kind, image `busybox`; prints how to use it
#   incus.sh exec DIR COMMAND   runs COMMAND where that Incus is the local one
#   incus.sh namespace DIR       its network namespace, for `ip netns exec`
#   incus.sh kill DIR           kill -9 of the daemon alone; it is started again, instances go on
#   incus.sh down DIR           ends it and proves that nothing is left
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
verb=${1:-} dir=${2:-}
[[ -n $verb && -n $dir ]] || { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
shift 2
dir=$(realpath -m "$dir")
ns=anklume-$(printf %s "$dir" | sha256sum | cut -c1-8)
incusd=$(type -P incusd || ls /usr/libexec/incus/incusd /usr/lib/incus/incusd /opt/incus/bin/incusd 2>/dev/null | head -n1 || true)

say() { echo "incus.sh: $*" >&2; }

# A namespace of its own for each file of the daemon; the client needs only these two.
inside() { ip netns exec "$ns" env INCUS_DIR="$dir/incus" INCUS_CONF="$dir/conf" "$@"; }

# The cgroup of everything below this daemon, one in each hierarchy (one alone with the unified layout).
cgroups() {
    if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then echo "/sys/fs/cgroup/$ns"
    else
        local hierarchy
        for hierarchy in /sys/fs/cgroup/*/; do [[ -L ${hierarchy%/} || ! -e ${hierarchy}cgroup.procs ]] || echo "$hierarchy$ns"; done
    fi
}

# Moves this process into that subtree. LXC puts containers beside `init.scope`, the name it strips from the
# cgroup of PID 1: so no process stands where the unified layout wants none.
enter_cgroups() {
    local group
    cgroups | while read -r group; do
        mkdir -p "$group"
        if [[ -e $group/cpuset.cpus && -z $(cat "$group/cpuset.cpus") && ! -e $group/cgroup.controllers ]]; then
            cat "$group/../cpuset.cpus" >"$group/cpuset.cpus"
            cat "$group/../cpuset.mems" >"$group/cpuset.mems"
        fi
        if [[ -e $group/cgroup.controllers ]]; then
            mkdir -p "$group/init.scope"
            echo $$ >"$group/init.scope/cgroup.procs"
            local controller
            for controller in $(cat "$group/cgroup.controllers"); do echo "+$controller" >"$group/cgroup.subtree_control" 2>/dev/null || true; done
        else
            echo $$ >"$group/cgroup.procs"
        fi
    done
}

# Runs as PID 1 of the namespaces: when it ends, the kernel ends every process and mount below it.
supervise() {
    mount --rbind "$dir/cgroup" /sys/fs/cgroup
    # Without a systemd the machine may lack what containers want to find.
    mkdir -p /var/lib/lxcfs
    lxcfs --pidfile="$dir/lxcfs.pid" /var/lib/lxcfs >"$dir/lxcfs.log" 2>&1 &
    until mountpoint -q /var/lib/lxcfs; do sleep 0.02; kill -0 $! || exit 1; done
    while [[ ! -e $dir/stop ]]; do
        INCUS_DIR=$dir/incus "$incusd" --group root --logfile="$dir/incusd.log" >>"$dir/incusd.err" 2>&1 || true
    done
}

start() {
    enter_cgroups
    mount --make-rprivate /
    mount --rbind /sys/fs/cgroup "$dir/cgroup"
    exec ip netns exec "$ns" "$here/incus.sh" supervise "$dir"
}

up() {
    [[ $(id -u) == 0 ]] || { say "a private Incus needs root"; exit 1; }
    [[ -n $incusd ]] || { say "no incusd found: run tests/lab/install.sh"; exit 1; }
    [[ ! -e $dir/pid ]] || { say "$dir already holds one: incus.sh down $dir"; exit 1; }
    mkdir -p "$dir"/{incus,conf,cgroup}
    # Unprivileged containers have to pass through to their root, whoever made the directory.
    chmod 711 "$dir"
    ip netns add "$ns"
    ip -n "$ns" link set lo up
    ip netns exec "$ns" sysctl -qw net.ipv4.ip_forward=1
    mkdir -p /var/lib/lxcfs
    setsid unshare --mount --pid --fork --kill-child=KILL --mount-proc "$here/incus.sh" start "$dir" </dev/null >"$dir/start.log" 2>&1 &
    echo $! >"$dir/pid"
    if ! inside "$incusd" waitready --timeout=60; then
        cat "$dir/start.log" "$dir/incusd.err" "$dir/incusd.log" >&2 2>/dev/null || true
        exit 1
    fi
    local pool
    { echo "storage_pools:"; for pool in default "$@"; do echo "- {name: $pool, driver: dir}"; done
      echo "profiles:"; echo "- {name: default, devices: {root: {type: disk, path: /, pool: default}}}"; } | inside incus admin init --preseed
    inside incus image import -q "$("$here/image.sh")" --alias busybox
    echo "INCUS_DIR=$dir/incus INCUS_CONF=$dir/conf NETNS=$ns"
}

# What of this daemon the machine still holds, a line each.
leftovers() {
    [[ ! -e /run/netns/$ns ]] || echo "network namespace $ns"
    grep -o " $dir[^ ]*" /proc/mounts | sed 's/^/mount/' || true
    local proc group
    for proc in /proc/[0-9]*; do
        [[ ${proc#/proc/} == "$$" ]] || ! grep -qs "/$ns" "$proc/cgroup" || echo "process ${proc#/proc/}: $(tr '\0' ' ' <"$proc/cmdline" 2>/dev/null)"
    done
    while read -r group; do [[ ! -e $group ]] || echo "cgroup $group"; done < <(cgroups)
    [[ ! -e $dir ]] || echo "directory $dir"
}

# A frozen process does not die of SIGKILL.
thaw() {
    local group file
    while read -r group; do
        [[ -d $group ]] || continue
        while read -r file; do
            case $file in
                */freezer.state) echo THAWED >"$file" ;;
                *) echo 0 >"$file" ;;
            esac 2>/dev/null || true
        done < <(find "$group" -name freezer.state -o -name cgroup.freeze)
    done < <(cgroups)
}

down() {
    local pid group left
    touch "$dir/stop" 2>/dev/null || true
    # `unshare` is the parent of PID 1 in there: its end is the end of all.
    if pid=$(cat "$dir/pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null && grep -qs "incus.sh" "/proc/$pid/cmdline"; then
        kill -KILL "$pid"
        thaw
        for _ in $(seq 200); do kill -0 "$pid" 2>/dev/null || break; sleep 0.02; done
    fi
    thaw
    for _ in $(seq 200); do grep -qs "/$ns" /proc/[0-9]*/cgroup || break; sleep 0.02; done
    ip netns del "$ns" 2>/dev/null || true
    while read -r group; do
        [[ ! -d $group ]] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done < <(cgroups)
    rm -rf --one-file-system "$dir"
    left=$(leftovers)
    [[ -z $left ]] || { say "left behind:"; echo "$left" >&2; exit 1; }
}

# The number that the API reports is the one inside the namespace: look among the processes of our cgroup.
kill_daemon() {
    local proc pid=
    for proc in /proc/[0-9]*; do
        if grep -qs "/$ns" "$proc/cgroup" && [[ $(tr '\0' ' ' <"$proc/cmdline") == "$incusd --group "* ]]; then pid=${proc#/proc/}; fi
    done
    [[ -n $pid ]] || { say "no daemon runs in $dir"; exit 1; }
    kill -KILL "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
    inside "$incusd" waitready --timeout=60
}

case $verb in
    up | down | leftovers | start | supervise) "$verb" "$@" ;;
    exec) inside "$@" ;;
    namespace) echo "$ns" ;;
    kill) kill_daemon ;;
    *) say "unknown verb $verb"; exit 2 ;;
esac
