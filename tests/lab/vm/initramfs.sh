#!/usr/bin/env bash
# An initramfs: busybox, these modules of HOST in the order of their dependencies, and the start of every guest here.
#   initramfs.sh FILE HOST MODULE...
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
file=$(realpath -m "$1") host=$2
shift 2
version=$(ls "$host/lib/modules")
tree=$(mktemp -d "$file.XXXXXX")
mkdir -p "$tree"/{bin,sbin,modules,etc}
cp "$(type -P busybox)" "$tree/bin/busybox"
cp "$here/guest/init" "$tree/init"
"$here/guest/install" "$tree"
for module; do chroot "$host" modprobe -S "$version" --show-depends "$module" || echo "no module $module" >&2; done |
    awk '$1 == "insmod" && !seen[$2]++ {print $2}' | while read -r path; do
        module=$(basename "$path" .xz)
        # Unpacked here: the guest's processor is the slow one.
        case $path in *.xz) xz -dc "$host$path" >"$tree/modules/$module" ;; *) cp "$host$path" "$tree/modules/$module" ;; esac
        echo "$module" >>"$tree/modules/order"
    done
(cd "$tree" && find . | cpio --quiet -o -H newc) >"$file"
rm -rf "$tree"
