#!/usr/bin/env bash
# The registry's documentation, by tfplugindocs from the provider's schema, examples/ and the guides in templates/.
#   docs.sh write | check      check: fails with the difference where docs/ is not what `write` would make
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
client=$("$root/tests/lab/tools.sh" client)
tfplugindocs=$("$root/tests/lab/tools.sh" tfplugindocs)
cat >"$work/cli.tfrc" <<EOF
provider_installation {
  dev_overrides { "anklume/anklume" = "${CARGO_TARGET_DIR:-$root/target}/debug" }
  direct {}
}
EOF
mkdir "$work/schema"
cat >"$work/schema/main.tf" <<'EOF'
terraform {
  required_providers {
    anklume = { source = "anklume/anklume" }
  }
}
EOF
# tfplugindocs looks the provider up by its bare name, whichever registry the client took it for.
(cd "$work/schema" && TF_CLI_CONFIG_FILE=$work/cli.tfrc CHECKPOINT_DISABLE=1 "$client" providers schema -json) |
    sed -E 's#registry\.(opentofu\.org|terraform\.io)/anklume/anklume#anklume#' >"$work/schema.json"
mkdir "$work/tree"
cp -r "$root/examples" "$root/templates" "$work/tree/"
"$tfplugindocs" generate --provider-dir "$work/tree" --provider-name anklume --rendered-provider-name AnKLuMe --providers-schema "$work/schema.json" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
pages() { (cd "$1" && find . \( -path './index.md' -o -path './resources/*' -o -path './data-sources/*' -o -path './functions/*' -o -path './guides/*' \) -type f | sort); }
case ${1:-} in
    write) mkdir -p "$root/docs"; cp -r "$work/tree/docs/." "$root/docs/" ;;
    check)
        mkdir -p "$work/now"
        [[ ! -d $root/docs ]] || pages "$root/docs" | tar -C "$root/docs" -cf - -T - | tar -C "$work/now" -xf -
        diff -ru "$work/now" "$work/tree/docs" || { echo "docs/ is not current: make docs" >&2; exit 1; } ;;
    *) sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
