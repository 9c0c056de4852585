#!/usr/bin/env bash
# The tree of the outer guest: Debian 13 with Incus of SUITE, reached by ssh alone.
#   outer.sh TREE SUITE MIRROR PUBLIC_KEY
set -euo pipefail
tree=$1 suite=$2 mirror=$3 key=$4
sources=("deb $mirror trixie main")
[[ $suite == trixie ]] || sources+=("deb $mirror $suite main")
# Incus alone comes from SUITE. The kernel is unpacked, not installed: the initramfs is our own.
mmdebstrap --quiet --variant=minbase --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --setup-hook='mkdir -p "$1/etc/apt/preferences.d"; printf "Package: incus*\nPin: release n='"$suite"'\nPin-Priority: 900\n" >"$1/etc/apt/preferences.d/lab"' \
    --include=systemd,systemd-sysv,udev,dbus,iproute2,incus,incus-agent,qemu-system-x86,qemu-system-modules-spice,qemu-utils,ovmf,seabios,virtiofsd,genisoimage,gdisk,nftables,dnsmasq-base,openssh-server,kmod,btrfs-progs,e2fsprogs,attr,squashfs-tools \
    --customize-hook='chroot "$1" sh -c "cd /var/tmp && apt-get download -q \$(apt-cache depends linux-image-amd64 | sed -n \"s/.*Depends: \\(linux-image-[0-9][^ ]*\\).*/\\1/p\" | head -n1)"' \
    --customize-hook='dpkg-deb -x "$1"/var/tmp/linux-image-*.deb "$1/var/tmp/kernel" && mv "$1"/var/tmp/kernel/boot/* "$1/boot/"' \
    --customize-hook='mkdir -p "$1/usr/lib/modules"; mv "$1"/var/tmp/kernel/*/lib/modules/* "$1/usr/lib/modules/" 2>/dev/null || mv "$1"/var/tmp/kernel/lib/modules/* "$1/usr/lib/modules/"' \
    --customize-hook='rm -r "$1"/var/tmp/*; chroot "$1" depmod "$(ls "$1/usr/lib/modules")"' \
    trixie "$tree" "${sources[@]}"
rm -rf "$tree"/dev/* "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/*
echo lab >"$tree/etc/hostname"
printf '/dev/vda / ext4 defaults 0 0\n' >"$tree/etc/fstab"
install -D -m 600 "$key" "$tree/root/.ssh/authorized_keys"
rm -f "$tree/etc/resolv.conf"
# Before Incus looks for them; the processor has one of the first two.
printf 'kvm_amd\nkvm_intel\nvhost_vsock\n' >"$tree/etc/modules-load.d/lab.conf"
# What Incus takes where `security.csm` asks for a BIOS.
ln -sf /usr/share/seabios/bios-256k.bin "$tree/usr/share/OVMF/seabios.bin"
chroot "$tree" systemctl -q enable ssh
chroot "$tree" systemctl -q mask systemd-networkd systemd-networkd.socket systemd-networkd-wait-online ldconfig systemd-timesyncd apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap \
    dpkg-db-backup.timer fstrim.timer man-db.timer serial-getty@ttyS0 getty@tty1 apparmor
