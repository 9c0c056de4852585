#!/usr/bin/env bash
# The VM images of the lab, as `incus image import` takes them: BIOS disks, for the firmware of UEFI does not survive emulation.
#   images.sh OUT SUITE MIRROR HOST    HOST: the tree of the outer guest, whose kernel they share
# debvm: agent, python3, cloud-init. debvm-noagent: the same kernel alone, with an address. stuck: never boots. crash: powers off.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$1 suite=$2 mirror=$3 host=$4
mkdir -p "$out"
first=1 boot_mib=48

# disk FILE APPEND [TREE] : a boot partition with kernel and initramfs, then TREE as ext4
disk() {
    local file=$1 append=$2 tree=${3:-} root_mib=0 raw
    raw=$file.raw
    if [[ -n $tree ]]; then root_mib=$(($(du -sm --apparent-size "$tree" | cut -f1) * 5 / 4 + 96)); fi
    truncate -s $((first + boot_mib + root_mib))M "$raw"
    { echo "start=${first}MiB, size=${boot_mib}MiB, type=c, bootable"
      [[ -z $tree ]] || echo "start=$((first + boot_mib))MiB, type=83"; } | sfdisk -q --label dos "$raw"
    dd if=/usr/lib/syslinux/mbr/mbr.bin of="$raw" bs=440 count=1 conv=notrunc status=none
    truncate -s "${boot_mib}M" "$file.boot"
    mkfs.vfat -F 16 "$file.boot" >/dev/null
    printf 'DEFAULT l\nPROMPT 0\nTIMEOUT 0\nLABEL l\n LINUX vmlinuz\n INITRD initrd\n APPEND console=ttyS0 quiet mitigations=off nokaslr audit=0 apparmor=0 cryptomgr.notests %s\n' "$append" >"$file.cfg"
    mcopy -i "$file.boot" "$file.cfg" ::syslinux.cfg
    mcopy -i "$file.boot" "$host"/boot/vmlinuz-* ::vmlinuz
    mcopy -i "$file.boot" "$out/initrd" ::initrd
    syslinux --install "$file.boot"
    # The code of the boot sector counts from the start of the disk.
    printf "$(printf '\\x%02x\\x%02x\\x00\\x00' $((first * 2048 % 256)) $((first * 2048 / 256)))" | dd of="$file.boot" bs=1 seek=28 conv=notrunc status=none
    dd if="$file.boot" of="$raw" bs=1M seek=$first conv=notrunc,sparse status=none
    if [[ -n $tree ]]; then
        truncate -s "${root_mib}M" "$file.root"
        mke2fs -q -t ext4 -O ^64bit,^metadata_csum,^has_journal -m 0 -d "$tree" "$file.root"
        dd if="$file.root" of="$raw" bs=1M seek=$((first + boot_mib)) conv=notrunc,sparse status=none
    fi
    qemu-img convert -O qcow2 "$raw" "$file"
    rm -f "$raw" "$file".{boot,root,cfg}
}

# sector FILE TEXT CODE : a disk whose first sector writes TEXT to the serial port and goes on with CODE
sector() {
    local file=$1 text=$2 code=$3
    {
        printf '\x31\xc0\x8e\xd8\xbe'
        printf "$(printf '\\x%02x' $((18 + ${#code} / 4)))"
        printf '\x7c\xac\x84\xc0\x74\x06\xba\xf8\x03\xee\xeb\xf5'
        printf "$code"
        printf '%s\r\n\0' "$text"
    } >"$file.raw"
    truncate -s 1M "$file.raw"
    printf '\x55\xaa' | dd of="$file.raw" bs=1 seek=510 conv=notrunc status=none
    qemu-img convert -O qcow2 "$file.raw" "$file"
    rm "$file.raw"
}

metadata() {
    printf 'architecture: x86_64\ncreation_date: 1700000000\nproperties: {os: lab, description: %s}\n' "$1" >"$out/metadata.yaml"
    mkdir "$out/templates"
    [[ $1 != debvm ]] || seed
    tar -C "$out" -czf "$out/$1.tar.gz" metadata.yaml templates
    rm -r "$out/metadata.yaml" "$out/templates"
}

# What cloud-init reads comes into a machine as templates of its image.
seed() {
    local name
    printf 'instance-id: {{ instance.name }}\nlocal-hostname: {{ instance.name }}\n' >"$out/templates/meta-data.tpl"
    for name in user-data vendor-data; do
        printf '{{ config_get("cloud-init.%s", properties.default) }}\n' "$name" >"$out/templates/$name.tpl"
    done
    echo 'templates:' >>"$out/metadata.yaml"
    for name in meta-data user-data vendor-data; do
        printf '  /var/lib/cloud/seed/nocloud-net/%s: {when: [create, copy], create_only: true, template: %s.tpl, properties: {default: "#cloud-config\\n{}"}}\n' \
            "$name" "$name" >>"$out/metadata.yaml"
    done
}

root() {
    local tree=$1 sources=("deb $mirror trixie main")
    [[ $suite == trixie ]] || sources+=("deb $mirror $suite main")
    mmdebstrap --quiet --variant=essential --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --setup-hook='mkdir -p "$1/etc/apt/preferences.d"; printf "Package: incus*\nPin: release n='"$suite"'\nPin-Priority: 900\n" >"$1/etc/apt/preferences.d/lab"' \
        --include=incus-agent,python3,cloud-init,busybox-static,util-linux,mount,iproute2 trixie "$tree" "${sources[@]}"
    rm -rf "$tree"/dev/* "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/*
    # 7.0 brings the agents of all systems.
    find "$tree/usr/libexec/incus" -name 'incus-agent.*' ! -name '*.linux.x86_64' -delete
    "$here/guest/install" "$tree"
    # The rest needs programs that are not here, and a minute each.
    printf '%s\n' 'datasource_list: [NoCloud]' 'network: {config: disabled}' 'cloud_init_modules: [write_files]' 'cloud_config_modules: []' \
        'cloud_final_modules: []' >"$tree/etc/cloud/cloud.cfg.d/90-lab.cfg"
    rm -f "$tree/sbin/init"
    ln -s ../bin/busybox "$tree/sbin/init"
}

root "$out/root"
"$here/initramfs.sh" "$out/initrd" "$host" virtio_pci virtio_scsi sd_mod sr_mod isofs crc32c_generic ext4 virtio_net virtio_console vmw_vsock_virtio_transport 9pnet_virtio 9p virtiofs evdev button
disk "$out/debvm.qcow2" "root=/dev/sda2" "$out/root"
disk "$out/debvm-noagent.qcow2" ""
# cli; hlt
sector "$out/stuck.qcow2" "lab: no system here" '\xfa\xf4\xeb\xfd'
# three seconds of the BIOS' clock; then ACPI off: port 0x604 of the q35 board
sector "$out/crash.qcow2" "lab: kernel panic, not a kernel" '\xb4\x86\xb9\x2d\x00\x31\xd2\xcd\x15\xba\x04\x06\xb8\x00\x20\xef\xf4\xeb\xfd'
for name in debvm debvm-noagent stuck crash; do metadata "$name"; done
rm -rf "$out/root" "$out/initrd"
