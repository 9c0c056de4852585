#!/usr/bin/env bash
# Prints the path of the container image `busybox`: busybox-static, DHCP on eth0, one second from request to lease.
# Kept in the cache by the hash of this recipe and of the busybox that goes into it.
set -euo pipefail
self=$(realpath "${BASH_SOURCE[0]}")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/anklume-test
busybox=$(type -P busybox) || { echo "image.sh: busybox-static is not installed" >&2; exit 1; }
image=$cache/busybox-$(cat "$self" "$busybox" | sha256sum | cut -c1-16).tar.gz
if [[ ! -e $image ]]; then
    mkdir -p "$cache"
    tree=$(mktemp -d "$cache/image.XXXXXX")
    trap 'rm -rf "$tree"' EXIT
    mkdir -p "$tree"/rootfs/{bin,dev,etc,mnt,proc,root,run,sbin,srv,sys,tmp,var/log}
    cp "$busybox" "$tree/rootfs/bin/busybox"
    for applet in $("$busybox" --list); do [[ $applet == busybox || $applet == init ]] || ln -s busybox "$tree/rootfs/bin/$applet"; done
    cat >"$tree/rootfs/sbin/init" <<'EOF'
#!/bin/sh
# Keeps a lease on eth0. SIGPWR is Incus' graceful stop.
export PATH=/bin:/sbin
trap 'exit 0' PWR TERM INT
ip link set lo up
lease() {
    while [ ! -e /sys/class/net/eth0 ]; do sleep 1; done
    exec udhcpc -f -t 20 -T 1 -A 1 -i eth0 -x "hostname:$(hostname)" -s /etc/udhcpc.sh
}
while :; do
    lease &
    wait $!
    sleep 1 & wait $!
done
EOF
    cat >"$tree/rootfs/etc/udhcpc.sh" <<'EOF'
#!/bin/sh
export PATH=/bin:/sbin
case $1 in
    deconfig) ip link set "$interface" up; ip -4 addr flush dev "$interface" ;;
    bound | renew)
        ip -4 addr flush dev "$interface"
        ip addr add "$ip/$mask" dev "$interface"
        for gateway in $router; do ip route add default via "$gateway" dev "$interface"; done
        for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf ;;
esac
EOF
    chmod 755 "$tree/rootfs/sbin/init" "$tree/rootfs/etc/udhcpc.sh"
    echo "root:x:0:0:root:/root:/bin/sh" >"$tree/rootfs/etc/passwd"
    echo "root:x:0:" >"$tree/rootfs/etc/group"
    chmod 1777 "$tree/rootfs/tmp"
    cat >"$tree/metadata.yaml" <<EOF
architecture: $(uname -m)
creation_date: 1700000000
properties: {os: busybox, description: busybox with DHCP on eth0}
EOF
    tar -C "$tree" --sort=name --mtime=@1700000000 --owner=0 --group=0 --numeric-owner -czf "$tree/image.tar.gz" metadata.yaml rootfs
    mv "$tree/image.tar.gz" "$image"
fi
echo "$image"
