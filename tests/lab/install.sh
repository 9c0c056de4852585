#!/usr/bin/env bash
# Installs from Debian what the tests and the demo need and this machine lacks: Incus (from backports where the release
# has none) and a few small packages. Does nothing where all is there. Root, Debian 12 or later.
#   install.sh [--vm] [--check]   with --vm: what tests/lab/vm.sh needs; with --check: only says what is missing, and fails if something is
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/tools.sh"

declare -A package_of=([nft]=nftables [ip]=iproute2 [dnsmasq]=dnsmasq-base [busybox]=busybox-static [setfattr]=attr [lxcfs]=lxcfs [btrfs]=btrfs-progs
    [unsquashfs]=squashfs-tools [iptables]=iptables [incus]=incus [jq]=jq [make]=make [ssh]=openssh-client [sshd]=openssh-server [sudo]=sudo)
vm=()
if [[ ${1:-} == --vm ]]; then
    shift
    package_of=([ip]=iproute2 [mmdebstrap]=mmdebstrap [qemu-system-x86_64]=qemu-system-x86 [qemu-img]=qemu-utils [syslinux]=syslinux [mcopy]=mtools
        [mkfs.vfat]=dosfstools [sfdisk]=fdisk [mke2fs]=e2fsprogs [cpio]=cpio [xz]=xz-utils [zstd]=zstd [ssh]=openssh-client [busybox]=busybox-static
        [incus]=incus [jq]=jq)
    for file in /usr/share/seabios/bios-256k.bin:seabios /usr/lib/syslinux/mbr/mbr.bin:syslinux-common; do
        [[ -e ${file%:*} ]] || vm+=("${file#*:}")
    done
fi
missing=(${vm[@]+"${vm[@]}"})
for program in "${!package_of[@]}"; do type -P "$program" >/dev/null || missing+=("${package_of[$program]}"); done
# A busybox that is linked to libraries is of no use inside a container.
if type -P busybox >/dev/null && ! busybox --list | grep -qx udhcpc; then missing+=(busybox-static); fi
[[ ${#missing[@]} -gt 0 ]] || exit 0
if [[ ${1:-} == --check ]]; then say "missing: ${missing[*]}"; exit 1; fi
[[ $(id -u) == 0 ]] || { say "root is needed to install: ${missing[*]}"; exit 1; }
[[ -e /etc/debian_version ]] && type -P apt-get >/dev/null || { say "not a Debian; install by hand: ${missing[*]}"; exit 1; }

export DEBIAN_FRONTEND=noninteractive
. /etc/os-release
apt-get update -q >&2
target=()
if [[ " ${missing[*]} " == *" incus "* ]] && ! apt-cache policy incus | grep -q 'Candidate: [0-9]'; then
    # The mirror that this machine already uses, with the backports suite.
    uri=$(mirror "$VERSION_CODENAME")
    [[ -n $uri ]] || { say "no Debian source for $VERSION_CODENAME is configured; add ${VERSION_CODENAME}-backports by hand"; exit 1; }
    cat >"/etc/apt/sources.list.d/$VERSION_CODENAME-backports.sources" <<EOF
Types: deb
URIs: $uri
Suites: $VERSION_CODENAME-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
    apt-get update -q >&2
    target=(-t "$VERSION_CODENAME-backports")
fi
# The packages' own services are not started: the tests bring their own daemon.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
say "installing ${missing[*]}"
if [[ ${#target[@]} -gt 0 ]]; then apt-get install -qy --no-install-recommends "${target[@]}" incus >&2; fi
apt-get install -qy --no-install-recommends "${missing[@]}" >&2
# Nor at the next boot: a machine that had no sshd is not to be reached by one.
if [[ " ${missing[*]} " == *" openssh-server "* ]] && type -P systemctl >/dev/null; then systemctl -q disable ssh.service ssh.socket >&2 || true; fi
