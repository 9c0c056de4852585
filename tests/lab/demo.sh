#!/usr/bin/env bash
# The demo: examples/demo on a private Incus, from the plan to nothing left.
#   KEEP=1 leaves it running; CLI=terraform (or a path) takes another client; LAB=1 adds a virtual machine, in an emulated
#   machine where it has to be (LAB=0: never).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
lab=$root/tests/lab
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

if [[ $(id -u) != 0 || ! -e /etc/debian_version ]]; then
    if ! type -P incus >/dev/null; then socket="none: the \`incus\` command is not installed"
    elif [[ -n ${INCUS_DIR:-} ]]; then socket="INCUS_DIR=$INCUS_DIR"
    else socket="remote \`$(incus remote get-default 2>/dev/null || echo local)\` of the incus command"; fi
    cat >&2 <<EOF
A private Incus for the demo needs root on a Debian machine (12 or later): \`sudo make demo\`.
Without it, the Incus that the provider would use here is $socket.
To run the demo on an Incus of your choice, point the provider at it and apply it yourself:

    make install
    export INCUS_REMOTE=<a remote of \`incus remote list\`>    # or INCUS_ADDR=https://host:8443, or INCUS_SOCKET=/path
    cd examples/demo && tofu init && tofu apply -var image=images:alpine/3.22

It makes the projects pro and perso with the bridges net-pro and net-perso and, on this machine, the nftables table
\`inet anklume\`, and takes them away with \`tofu destroy\`.
EOF
    exit 1
fi

"$lab/install.sh"
case ${CLI:-} in
    "") client=$("$lab/tools.sh" client) ;;
    */*) client=$CLI ;;
    *) client=$("$lab/tools.sh" client "$CLI") ;;
esac
target=${CARGO_TARGET_DIR:-$root/target}/debug
[[ -x $target/terraform-provider-anklume ]] || { echo "the provider is not built: make build" >&2; exit 1; }

dir=$(mktemp -d /tmp/anklume-demo.XXXXXX)
end() {
    local code=$?
    [[ -z ${kept:-} ]] || exit "$code"
    "$lab/$incus" down "$dir" || code=1
    [[ $code == 0 ]] || echo "the demo failed" >&2
    exit "$code"
}
if why=$("$lab/vm.sh" quick) || [[ ${LAB:-} == 1 ]]; then with_vm=${LAB:-1}; else with_vm=0; fi
if [[ $with_vm == 1 ]]; then incus=vm.sh; else incus=incus.sh; fi
trap end EXIT
"$lab/$incus" up "$dir" >/dev/null
if [[ $with_vm == 1 ]]; then
    export TF_VAR_vm_image=debvm TF_VAR_csm=true TF_VAR_agent_timeout=10m TF_VAR_isolation=false
    inside() { ip netns exec "$("$lab/vm.sh" namespace "$dir")" env INCUS_CONF="$dir/conf" "$@"; }
else
    inside() { "$lab/incus.sh" exec "$dir" "$@"; }
fi
mkdir "$dir/demo"
cp "$root"/examples/demo/*.tf "$dir/demo"
cat >"$dir/cli.tfrc" <<EOF
provider_installation {
  dev_overrides { "anklume/anklume" = "$target" }
  direct {}
}
EOF
cd "$dir/demo"
export TF_CLI_CONFIG_FILE=$dir/cli.tfrc CHECKPOINT_DISABLE=1
if [[ -t 1 ]]; then plain=(); else plain=(-no-color); fi

step "$("$client" version | grep -m1 -E '^(OpenTofu|Terraform) v'), Incus $(inside incus query /1.0 | jq -r .environment.server_version)"
[[ $with_vm == 1 ]] || echo "No virtual machine: ${why:-LAB=0}. With one, in an emulated machine that is built once (6 minutes): make demo LAB=1"
step "plan";                    inside "$client" plan "${plain[@]}" -input=false -out=plan.bin
step "apply";                   inside "$client" apply "${plain[@]}" -input=false plan.bin
step "what Incus says";         inside incus list --all-projects -c ens4t
if [[ $with_vm == 1 ]]; then
    step "a command inside the virtual machine"; inside incus exec pro-sandbox --project pro -- uname -a
else
    step "who can talk to whom"
    inside incus exec pro-web --project pro -- sh -c 'echo "hello from pro-web" >/srv/index.html; busybox httpd -p 80 -h /srv; busybox httpd -p 81 -h /srv'
    inside incus exec perso-mail --project perso -- sh -c 'echo mail >/srv/index.html; busybox httpd -p 80 -h /srv'
    # reaches CONTAINER ADDRESS PORT : the page that the container gets there; fails where it gets none
    reaches() {
        inside incus exec "$1" --project "${1%%-*}" -- sh -c "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 $2 $3" 2>/dev/null |
            tr -d '\r' | sed '1,/^$/d' | grep .
    }
    web=$(inside "$client" output -json addresses | jq -r '."pro-web"') mail=$(inside "$client" output -json addresses | jq -r '."perso-mail"')
    # `incus exec` of 6.0 loses an output now and then.
    for _ in 1 2 3; do page=$(reaches perso-mail "$web" 80) && break; done
    [[ $page == "hello from pro-web" ]] || { echo "perso-mail does not reach pro-web, port 80, which a policy allows: $page"; exit 1; }
    echo "perso-mail to pro-web, port 80: $page"
    for try in "perso-mail pro-web $web 81" "pro-web perso-mail $mail 80"; do
        read -r from to address port <<<"$try"
        if reaches "$from" "$address" "$port"; then echo "$from reaches $to, port $port: nothing keeps them apart"; exit 1; fi
        echo "$from to $to, port $port: dropped, as no policy says otherwise"
    done
fi
step "a second plan is empty";  inside "$client" plan "${plain[@]}" -input=false -detailed-exitcode
step "a change in place";       inside "$client" apply "${plain[@]}" -input=false -auto-approve -var note=second
                                inside incus list --all-projects -c nd
if [[ ${KEEP:-} == 1 ]]; then
    kept=1
    if [[ $with_vm == 1 ]]; then within="ip netns exec $("$lab/vm.sh" namespace "$dir") env INCUS_CONF=$dir/conf"; else within="$lab/incus.sh exec $dir"; fi
    cat <<EOF

It stays in $dir. To go on:

    cd $dir/demo
    export TF_CLI_CONFIG_FILE=$dir/cli.tfrc ${TF_VAR_csm:+$(env | grep ^TF_VAR_ | tr '\n' ' ')}
    $within $client plan
    $within incus list --all-projects
    $lab/$incus down $dir      # ends it, with all it holds
EOF
    exit 0
fi
step "destroy";                 inside "$client" destroy "${plain[@]}" -input=false -auto-approve
step "what is left"
left=$(inside incus query '/1.0/instances?all-projects=true' | jq -r '.[]'
    inside incus query /1.0/projects | jq -r '.[] | select(. != "/1.0/projects/default")'
    inside incus query '/1.0/networks?recursion=1' | jq -r '.[] | select(.managed) | .name'
    inside incus query '/1.0/profiles?all-projects=true' | jq -r '.[] | select(. != "/1.0/profiles/default")'
    inside nft list tables | grep anklume || true)
[[ -z $left ]] || { echo "$left"; exit 1; }
echo "nothing: no project, network, profile or instance, no table of nftables"
