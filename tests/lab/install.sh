#!/usr/bin/env bash
# Installs from Debian what the tests and the demo need and this machine lacks: Incus (from backports where the release
# has none) and a few small packages. Does nothing where all is there. Root, Debian 12 or later.
#   install.sh [--check]     with --check: only says what is missing, and fails if something is
set -euo pipefail
say() { echo "install.sh: $*" >&2; }

declare -A package_of=([nft]=nftables [ip]=iproute2 [dnsmasq]=dnsmasq-base [busybox]=busybox-static [setfattr]=attr [lxcfs]=lxcfs [btrfs]=btrfs-progs
    [unsquashfs]=squashfs-tools [iptables]=iptables [incus]=incus [jq]=jq [make]=make)
missing=()
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
    uri=$(cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null |
        awk -v suite="$VERSION_CODENAME" '/^URIs:/ {uri = $2} /^Suites:/ {for (i = 2; i <= NF; i++) if ($i == suite) {print uri; exit}}
            /^deb / {for (i = 2; i <= NF; i++) if ($i ~ /:\//) u = $i; for (i = 2; i <= NF; i++) if ($i == suite) {print u; exit}}')
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
