#!/usr/bin/env bash
# Everything that CI runs, one tier after the other; ends with what ran against what, and `N passed, N failed`.
# A tier that could not run is a failure under CI=true and is named everywhere else.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ci=${CI:-false}
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
passed=0 failed=0 failures=() not_run=()

# Tests that cargo counted in a log, by the word behind the number.
counted() { sed -n "s/^test result:.* \([0-9]*\) $2;.*/\1/p" "$1" | awk '{n += $1} END {print n + 0}'; }

# tier NAME COMMAND... : tests are counted one by one, anything else as one
tier() {
    local name=$1 log=$logs/$1 good bad code again; shift
    again=${*/--no-print-directory /}
    printf '\n== %s\n' "$name"
    "$@" 2>&1 | tee "$log"
    code=${PIPESTATUS[0]}
    good=$(counted "$log" passed) bad=$(counted "$log" failed)
    if grep -q 'NOT RUN: ' "$log"; then
        not_run+=("$name: $(sed -n 's/.*NOT RUN: //p' "$log" | head -n1)")
        if [[ $ci == true ]]; then failed=$((failed + 1)); failures+=("$name: could not run"); fi
        # What did run counts, and what failed above all.
        if ((code == 0 && good == 0 && bad == 0)); then return; fi
    fi
    if ((code == 0 && good == 0 && bad == 0)); then good=1; fi
    if ((code != 0 && bad == 0)); then bad=1; fi
    passed=$((passed + good)) failed=$((failed + bad))
    if ((bad > 0)); then failures+=("$name: $bad failed; again: $again"); fi
}

if [[ $(id -u) == 0 && -e /etc/debian_version ]]; then tier install tests/lab/install.sh; fi
for name in fmt-check lint deny docs-check unit plugin fake fuzz web nft testacc chaos vm; do tier "$name" make --no-print-directory "$name"; done

version() { "$@" 2>/dev/null | grep -m1 -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' || echo "not installed"; }
printf '\n== what ran against what\n'
tofu=$(tests/lab/tools.sh client tofu 2>/dev/null || true)
printf 'incus %s, tofu %s, terraform %s, nft %s, rustc %s, kernel %s\n' "$(version incus --version)" "$(version "${tofu:-false}" version)" \
    "$(version terraform version)" "$(version nft --version)" "$(version rustc --version)" "$(uname -r)"
grep -hE '^acceptance ran on|after the later of agent and address' "$logs/testacc" "$logs/vm" 2>/dev/null
grep -hoE 'WITHOUT: .*' "$logs"/* 2>/dev/null | sort -u
for line in ${not_run[@]+"${not_run[@]}"}; do echo "NOT RUN  $line"; done
for line in ${failures[@]+"${failures[@]}"}; do echo "FAILED   $line"; done
echo "$passed passed, $failed failed"
((failed == 0))
