#!/usr/bin/env bash
# What a plan does to the isolation, a line each; fails where a human has to look. Needs jq.
#
#   tofu plan -out=plan.bin && tofu show -json plan.bin | ./review.sh
#
# Fails when an isolation is destroyed or replaced, a domain leaves it or has another bridge, its file for the next boot
# goes or is another one, a rule is not known yet, or the line of a policy is new or changed that everything may pass, that begins in one of
# $NEVER_FROM, or that ends in one of $NEVER_TO (names of domains, separated by spaces). REVIEWED=1: says the same, and
# does not fail.
set -euo pipefail

plan=$(cat)
jq -e -s 'length == 1 and (.[0] | (.resource_changes | type) == "array" and .errored != true)' <<<"$plan" >/dev/null 2>&1 || {
    echo "this is no plan, or one that failed: tofu show -json plan.bin" >&2
    exit 2
}
report=$(jq -r --arg from "${NEVER_FROM-untrusted disposable}" --arg to "${NEVER_TO-admin}" '
    def words: split(" ") | map(select(. != ""));
    def texts: with_entries(.value = (.value // "(known after apply)"));

    .resource_changes[]? | select(.type == "anklume_nft_isolation") | .address as $address | .change as $change
    | ($change.before // {}) as $before | ($change.after // {}) as $after | ($change.after_unknown // {}) as $unknown
    | ($before.rules // {}) as $old
    | (($after.rules // {}) + (if ($unknown.rules | type) == "object" then $unknown.rules | map_values(null) else {} end) | texts) as $new
    | ($after.endpoints // {}) as $endpoints
    | def domain: . as $name | if $name == null then empty else $endpoints[$name].domain // $name end;
    [
        (($old + $new) | keys[] | select($old[.] != $new[.])
            | if $old[.] == null then "+ \(@json): \($new[.])" elif $new[.] == null then "- \(@json): \($old[.])" else "~ \(@json): \($old[.]) => \($new[.])" end),

        (if $change.actions | index("delete") // index("forget") then "REFUSED \($address): the isolation goes, if only for a moment" else empty end),
        (if $unknown.rules == true then "REFUSED \($address): no rule is known yet" else empty end),
        (select($change.actions | index("delete") // index("forget") | not) | $old | keys[] | select(startswith("domain/") and $old[.] != $new[.])
            | "REFUSED \(@json): the domain \(if $new[.] == null then "leaves the isolation" else "has another bridge" end)"),
        (if $before.persist_path != null and $after.persist_path == null and $unknown.persist_path != true
            then "REFUSED \($address): after a reboot the domains can talk, as no file holds the rules"
            elif $before.persist_path != null and $before.persist_path != $after.persist_path
            then "REFUSED \($address): the file for the next boot is another one, which the boot has to know" else empty end),
        ($new | to_entries[] | select(.value == "(known after apply)") | "REFUSED \(.key | @json): what it says is known after apply only"),
        ($after.policies // {} | to_entries[] | "policy/\(.key)" as $rule | select($old[$rule] != $new[$rule]) | ($rule | @json) as $name | .value
            | ([[.from, .to]] + (if .bidirectional then [[.to, .from]] else [] end)) as $ways
            | ($ways[] | (.[0] | domain) as $begins | (.[1] | domain) as $ends_in
                | (if $from | words | index($begins) then "REFUSED \($name): it begins in \($begins)" else empty end),
                  (if $to | words | index($ends_in) then "REFUSED \($name): it ends in \($ends_in)" else empty end)),
              (if .protocol == null then "REFUSED \($name): everything may pass" else empty end))
    ] | .[]' <<<"$plan")

[[ -z $report ]] || printf '%s\n' "$report"
grep -q '^REFUSED ' <<<"$report" || exit 0
[[ ${REVIEWED:-} == 1 ]] && { echo "reviewed: REVIEWED=1"; exit 0; }
echo "a human has to look; then run it again with REVIEWED=1" >&2
exit 1
