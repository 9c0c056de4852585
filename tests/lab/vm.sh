#!/usr/bin/env bash
# A real Incus with real virtual machines for tests: Debian 13 in QEMU, in a network namespace of its own. With nested KVM where the
# machine has it, else emulated (a PC with AMD's virtualization, so that the guest has a KVM of its own). Root, Debian 12 or later,
# 8 GiB of memory, 3 GiB of disk. VMs there want security.csm=true and security.secureboot=false.
#   vm.sh build SUITE         trixie (Incus 6.0) or trixie-backports (7.0), kept in the cache by its recipe: about 5 minutes, once; prints where
#   vm.sh up DIR [SUITE]      seconds: API at https://127.0.0.1:8443 in the namespace and, for watchers, DIR/incus/unix.socket; the
#                             `incus` command's remote `lab` in DIR/conf;
#                             images debvm (agent, python3, cloud-init), debvm-noagent, stuck (never boots), crash (powers off), busybox
#   vm.sh exec DIR COMMAND    runs COMMAND in it, as root
#   vm.sh quick               says what is missing where it would be emulated, and fails
#   vm.sh namespace DIR       its network namespace, for `ip netns exec`
#   vm.sh leftovers DIR       what of it this machine holds, a line each
#   vm.sh down DIR            ends it and proves that nothing is left
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/tools.sh"
verb=${1:-}
[[ -n ${2:-} || $verb == quick ]] || { sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
shift || true

# Whether a guest of this machine would have a KVM of its own; the file alone says nothing.
nested() { [[ -w /dev/kvm ]] && grep -qsE '^(Y|1)$' /sys/module/kvm_{intel,amd}/parameters/nested; }
if nested; then accel=kvm cpu=(-accel kvm -cpu host)
else accel=tcg cpu=(-accel tcg,thread=multi,tb-size=1024 -cpu EPYC,svm=on,npt=on,x2apic=off); fi

place() {
    dir=$(realpath -m "$1")
    ns=anklume-vm-$(printf %s "$dir" | sha256sum | cut -c1-8)
}

# Where the lab of a suite is kept: by what makes it, and by what resumes its memory.
kept() {
    local recipe
    recipe=$({ declare -f machine assemble; cat "$here"/vm/*.sh "$here"/vm/guest/* "$here/image.sh"; echo "$accel"; qemu-system-x86_64 --version; } | key -)
    echo "$cache/vm-$1-$recipe"
}

inside() { ip netns exec "$ns" "$@"; }

lab() {
    inside ssh -i "$dir/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=20 \
        -o ControlMaster=auto -o ControlPersist=yes -o ControlPath="$dir/ssh" root@127.0.0.1 "$@"
}

# One command to QEMU's monitor, and its answer once the monitor takes the next.
monitor() {
    inside bash -c 'exec 3<>/dev/tcp/127.0.0.1/4444; printf "%s\ninfo version\n" "$1" >&3
        while IFS= read -r -t 300 line <&3; do case $line in *Debian*|[0-9]*.[0-9]*.[0-9]*) break ;; *) echo "$line" ;; esac; done' - "$1" || true
}

# machine KEPT SYSTEM POOL [OPTION...] : starts it; its pid goes to DIR/pid
machine() {
    local kept=$1 system=$2 pool=$3; shift 3
    ip netns add "$ns"
    ip -n "$ns" link set lo up
    # `exec`: the pid is QEMU's own.
    (exec ip netns exec "$ns" setsid qemu-system-x86_64 -machine q35 "${cpu[@]}" -smp 2 -m 6144 -vga none -nodefaults \
        -kernel "$kept/vmlinuz" -initrd "$kept/initrd" -append 'root=/dev/vda rw console=ttyS0 quiet mitigations=off audit=0 apparmor=0 net.ifnames=0 lab.address=10.0.2.15/24' \
        -drive "file=$system,if=virtio,format=qcow2,cache=unsafe" -drive "file=$pool,if=virtio,format=qcow2,cache=unsafe" \
        -netdev user,id=n0,hostfwd=tcp:127.0.0.1:22-:22,hostfwd=tcp:127.0.0.1:8443-:8443 -device virtio-net-pci,netdev=n0,romfile= \
        -device virtio-rng-pci -display none -serial "file:$dir/console.log" -monitor tcp:127.0.0.1:4444,server=on,wait=off "$@" \
        </dev/null >"$dir/qemu.log" 2>&1) &
    echo $! >"$dir/pid"
}

# Until its sshd answers.
reachable() {
    local pid deadline=$((SECONDS + $1))
    pid=$(cat "$dir/pid")
    until lab true 2>/dev/null; do
        if ! kill -0 "$pid" 2>/dev/null || ((SECONDS > deadline)); then
            tail -n 20 "$dir/qemu.log" "$dir/console.log" >&2
            say "the outer guest does not answer"
            return 1
        fi
        sleep 0.2
    done
}

# assemble SUITE OUT : everything that a warm `up` takes, by booting it once
assemble() {
    local suite=$1 out=$2 uri sources
    . /etc/os-release
    uri=$(mirror trixie); [[ -n $uri ]] || uri=$(mirror "$VERSION_CODENAME")
    [[ -n $uri ]] || { say "no Debian source for $VERSION_CODENAME is configured"; exit 1; }
    place "$out/boot"
    mkdir -p "$dir"
    trap 'end >&2' EXIT
    ssh-keygen -q -t ed25519 -N '' -f "$dir/key"
    "$here/vm/outer.sh" "$out/outer" "$suite" "$uri" "$dir/key.pub"
    # Two machines that enter their guests at the same time panic the emulated kernel (QEMU 10.0, 6.12): they share a processor.
    if [[ $accel == tcg ]]; then
        install -D -m 644 /dev/stdin "$out/outer/etc/systemd/system/incus.service.d/lab.conf" <<<$'[Service]\nCPUAffinity=0'
    fi
    "$here/vm/images.sh" "$out/outer/root/images" "$suite" "$uri" "$out/outer"
    cp "$("$here/image.sh")" "$out/outer/root/images/busybox.tar.gz"
    cp "$out"/outer/boot/vmlinuz-* "$out/vmlinuz"
    "$here/vm/initramfs.sh" "$out/initrd" "$out/outer" virtio_pci virtio_blk virtio_net crc32c_generic ext4
    truncate -s 6G "$out/system.raw"
    mke2fs -q -t ext4 -m 0 -d "$out/outer" "$out/system.raw"
    (cd "$out" && qemu-img create -q -f qcow2 -F raw -b system.raw system.qcow2)
    rm -rf "$out/outer"
    qemu-img create -q -f qcow2 "$out/pool.qcow2" 40G
    machine "$out" "$out/system.qcow2" "$out/pool.qcow2"
    reachable 600
    lab 'ls /dev/kvm /dev/vhost-vsock' || { lab 'lsmod; dmesg | tail -n 30'; say "the outer guest has no KVM"; exit 1; }
    lab 'incus admin waitready --timeout 300 && incus admin init --preseed' <<'PRESEED'
config: {core.https_address: ":8443"}
storage_pools: [{name: default, driver: btrfs, config: {source: /dev/vdb}}]
profiles: [{name: default, devices: {root: {type: disk, path: /, pool: default}}}]
PRESEED
    # An instance of each image leaves the image's volume in the pool: the next ones are clones.
    lab 'set -e; cd /root/images
        for image in debvm debvm-noagent stuck crash; do
            incus image import -q $image.tar.gz $image.qcow2 --alias $image
            incus create -q $image first --vm -c security.csm=true -c security.secureboot=false
            incus delete first
        done
        incus image import -q busybox.tar.gz --alias busybox
        incus launch -q busybox first && incus delete -f first
        rm -r /root/images; sync; echo 3 >/proc/sys/vm/drop_caches; qemu-system-x86_64 --version >/dev/null; incus list >/dev/null'
    local token
    # Its clock runs behind, and a certificate of this machine is not valid before it was made.
    token=$(lab "date -s @$(($(date +%s) + 60)) >/dev/null; incus config trust add command -q")
    inside env INCUS_CONF="$out/conf" incus remote add lab https://127.0.0.1:8443 --accept-certificate --token "$token"
    INCUS_CONF=$out/conf incus remote switch lab
    mv "$dir/key" "$out/key"
    sed -i 's/\r//' "$dir/console.log"
    monitor "migrate_set_parameter max-bandwidth 10G" >/dev/null
    monitor "migrate \"exec:zstd -q -1 -T0 >$out/state\"" >/dev/null
    monitor "info migrate" | grep -q '^Migration status: completed\|^Status:.*completed' || { monitor "info migrate" >&2; say "its memory could not be kept"; exit 1; }
    monitor quit >/dev/null 2>&1
    end
    trap - EXIT
}

build() {
    local suite=$1 target
    "$here/install.sh" --vm >&2 || return 1
    "$here/image.sh" >/dev/null || return 1
    target=$(kept "$suite")
    if [[ ! -d $target ]]; then
        say "building the lab of $suite ($accel), once; log: $target.log"
        once "$target" "$here/vm.sh" assemble "$suite" || return 1
    fi
    echo "$target"
}

up() {
    local target suite=${2:-trixie-backports} started=$SECONDS
    place "$1"
    [[ $(id -u) == 0 ]] || { say "the lab needs root"; exit 1; }
    if [[ -e $dir/pid ]] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; then say "$dir is up already"; return; fi
    target=$(build "$suite")
    mkdir -p "$dir"
    cp -r "$target/conf" "$target/key" "$dir/"
    local disk
    for disk in system pool; do qemu-img create -q -f qcow2 -F qcow2 -b "$target/$disk.qcow2" "$dir/$disk.qcow2"; done
    machine "$target" "$dir/system.qcow2" "$dir/pool.qcow2" -incoming "exec:zstd -qdc $target/state"
    reachable 120
    # Its clock stood still since it was kept.
    lab "date -s @$(date +%s) >/dev/null && incus admin waitready --timeout 60"
    mkdir "$dir/incus"
    lab -O forward -L "$dir/incus/unix.socket:/var/lib/incus/unix.socket"
    echo "INCUS_CONF=$dir/conf NETNS=$ns ADDRESS=https://127.0.0.1:8443"
    say "up after $((SECONDS - started)) s with $accel, $suite"
}

leftovers() {
    place "$1"
    [[ ! -e /run/netns/$ns ]] || echo "network namespace $ns"
    grep -o " $dir[^ ]*" /proc/mounts | sed 's/^/mount/' || true
    local proc line
    for proc in /proc/[0-9]*; do
        line=$({ tr '\0' ' ' <"$proc/cmdline"; } 2>/dev/null) || continue
        if [[ $line == *qemu-system*"$dir/"* || $line == *"ssh:"*"$dir/ssh"* ]]; then echo "process ${proc#/proc/}: $line"; fi
    done
    [[ ! -e $dir ]] || echo "directory $dir"
}

# Ends the machine of DIR and removes DIR.
end() {
    local pid
    if [[ -S $dir/ssh ]]; then ssh -o ControlPath="$dir/ssh" -O exit root@127.0.0.1 2>/dev/null || true; fi
    if pid=$(cat "$dir/pid" 2>/dev/null) && grep -qs "qemu-system" "/proc/$pid/cmdline"; then
        kill -KILL "$pid" 2>/dev/null || true
        for _ in $(seq 500); do kill -0 "$pid" 2>/dev/null || break; sleep 0.02; done
    fi
    ip netns del "$ns" 2>/dev/null || true
    rm -rf --one-file-system "$dir"
}

down() {
    local left
    place "$1"
    end
    left=$(leftovers "$dir")
    [[ -z $left ]] || { say "left behind:"; echo "$left" >&2; exit 1; }
}

quick() {
    [[ $accel == tcg ]] || return 0
    if [[ ! -e /dev/kvm ]]; then echo "this machine has no /dev/kvm"
    elif [[ ! -w /dev/kvm ]]; then echo "/dev/kvm is not writable here"
    else echo "the KVM of this machine gives its guests none of their own (nested=N)"; fi
    return 1
}

case $verb in
    quick) quick ;;
    build | up | down | leftovers | assemble) "$verb" "$@" ;;
    exec) place "$1"; shift; lab "$(printf '%q ' "$@")" ;;
    namespace) place "$1"; echo "$ns" ;;
    *) say "unknown verb $verb"; exit 2 ;;
esac
