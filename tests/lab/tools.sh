#!/usr/bin/env bash
# The tools that tests need and no package brings, built once and kept by the hash of their recipe.
#   tools.sh tofu | tfplugindocs | cargo-deny | ansible   prints the path of the executable, building it first where needed
#   tools.sh client [tofu|terraform]            the command line client: $TF_CLI, else `tofu` on PATH, else the built one,
#                                               else `terraform`; with a name, that one
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/anklume-test
cargo_deny_version=0.19.0
ansible_version=12.3.0

say() { echo "$(basename "$0"): $*" >&2; }

# key FILE... : the first 16 hex digits of the recipe's hash
key() { cat "$@" | sha256sum | cut -c1-16; }

# once DIR COMMAND... : runs COMMAND in a fresh directory that becomes DIR only when it succeeds
once() {
    local target=$1; shift
    mkdir -p "$cache"
    (
        flock 9
        [[ -d $target ]] && exit 0
        local fresh
        fresh=$(mktemp -d "$cache/build.XXXXXX")
        if "$@" "$fresh" >"$target.log" 2>&1; then
            mv "$fresh" "$target"
        else
            rm -rf "$fresh"
            tail -n 20 "$target.log" >&2
            say "failed: the whole log is $target.log"
            exit 1
        fi
    ) 9>"$target.lock"
}

# mirror SUITE : the Debian mirror that this machine's own sources name for it, nothing if there is none
mirror() {
    { cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null || true; } |
        awk -v suite="$1" '/^URIs:/ {uri = $2} /^Suites:/ {for (i = 2; i <= NF; i++) if ($i == suite) {print uri; exit}}
            /^deb / {for (i = 2; i <= NF; i++) if ($i ~ /:\//) u = $i; for (i = 2; i <= NF; i++) if ($i == suite) {print u; exit}}'
}

build_go() {
    local name=$1 package=$2 flags=$3 out=$4
    cd "$here/../tools/$name"
    CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "$flags" -o "$out/$name" "$package"
}

go_tool() {
    local name=$1 package=$2 flags=$3 target
    target=$cache/$name-$({ cat "$here/../tools/$name/go.mod" "$here/../tools/$name/go.sum"; echo "$package $flags"; } | key -)
    if [[ ! -x $target/$name ]]; then
        command -v go >/dev/null || { say "$name needs Go to be built (https://go.dev/dl), or put \`$name\` on PATH"; return 1; }
        say "building $name, once; log: $target.log"
        once "$target" build_go "$name" "$package" "$flags"
    fi
    echo "$target/$name"
}

tofu() { go_tool tofu github.com/opentofu/opentofu/cmd/tofu "-s -w -X github.com/opentofu/opentofu/version.dev=no"; }
tfplugindocs() { go_tool tfplugindocs github.com/hashicorp/terraform-plugin-docs/cmd/tfplugindocs "-s -w"; }

build_cargo_deny() { cargo install --locked --no-track --version "$cargo_deny_version" --root "$1" --target-dir "$1/target" cargo-deny && rm -rf "$1/target"; }

cargo-deny() {
    local target=$cache/cargo-deny-$cargo_deny_version
    if [[ ! -x $target/bin/cargo-deny ]]; then
        say "building cargo-deny $cargo_deny_version, once; log: $target.log"
        once "$target" build_cargo_deny
    fi
    echo "$target/bin/cargo-deny"
}

build_ansible() {
    python3 -m pip install -q --target "$1/lib" "ansible==$ansible_version"
    printf '#!/bin/sh\nPYTHONPATH=${0%%/*}/lib exec python3 -m ansible adhoc "$@"\n' >"$1/ansible"
    chmod 755 "$1/ansible"
}

ansible() {
    local target=$cache/ansible-$ansible_version
    if [[ ! -x $target/ansible ]]; then
        python3 -m pip --version >/dev/null 2>&1 || { say "Ansible needs pip: install python3-pip"; return 1; }
        say "installing Ansible $ansible_version, once; log: $target.log"
        once "$target" build_ansible || return 1
    fi
    echo "$target/ansible"
}

client() {
    case ${1:-} in
        "")
            if [[ -n ${TF_CLI:-} ]]; then type -P "$TF_CLI" || { say "TF_CLI=$TF_CLI is not an executable"; return 1; }
            else type -P tofu || tofu || type -P terraform; fi ;;
        tofu) type -P tofu || tofu ;;
        *) type -P "$1" || { say "\`$1\` is not installed"; return 1; } ;;
    esac
}

# Sourced, it gives its functions alone.
[[ ${BASH_SOURCE[0]} == "$0" ]] || return 0
case ${1:-} in
    tofu | tfplugindocs | cargo-deny | ansible | client) "$@" ;;
    *) sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
