//! `anklume_nft_isolation`: what passes between real containers on real bridges, and what does not.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::Case;
use crate::cli::{APPLY, Workspace};
use crate::nft_drift::mark;

pub(crate) const CASES: &[Case] = &[
    ("a_policy_lets_pass_what_it_says_and_nothing_else", matrix),
    ("a_withdrawn_connection_stops_and_a_kept_one_goes_on", withdrawn),
    ("rules_are_planned_and_applied_before_any_bridge_exists", before_any_bridge),
    ("no_packet_passes_while_policies_are_applied", applies),
    ("an_imported_table_is_ours_from_the_first_apply_on", imported),
    ("a_table_stays_ours_when_the_owner_changes", renamed),
    ("a_state_without_uid_is_carried_over", carried),
];

pub(crate) const HOST: &str = "anklume_nft_isolation.host";

/// Domains with a subnet of their own, and a running container `box-<name>` in each, at `.10`.
fn world(names: &[&str]) -> String {
    names
        .iter()
        .enumerate()
        .map(|(id, name)| {
            format!(
                "resource \"anklume_domain\" \"{name}\" {{\n  name = \"{name}\"\n  storage_pool = \"default\"\n  subnet_id = {id}\n}}\n\n\
                 resource \"anklume_instance\" \"{name}\" {{\n  name = \"box-{name}\"\n  domain = anklume_domain.{name}.name\n  \
                 image = \"busybox\"\n  stop_timeout = \"0s\"\n  delete_protection = false\n  ipv4_address = \"{}\"\n}}\n\n",
                address(id)
            )
        })
        .collect()
}

fn address(id: usize) -> String {
    format!("10.120.{id}.10")
}

/// The isolation of `names`, with `policies` and what else it has.
pub(crate) fn isolation(names: &[&str], policies: &str, more: &str) -> String {
    let domains: Vec<_> = names.iter().map(|name| format!("{name} = null")).collect();
    format!(
        "resource \"anklume_nft_isolation\" \"host\" {{\n  domains = {{ {} }}\n  policies = {{\n{policies}\n  }}\n{more}\n}}\n\n",
        domains.join(", ")
    )
}

/// The output of `program` where the Incus of this run is the local one.
pub(crate) fn output(run: &Workspace, program: &str, arguments: &[&str]) -> String {
    let output = run.inside(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Whether the table is there.
pub(crate) fn has_table(run: &Workspace) -> bool {
    output(run, "nft", &["list", "tables"]).contains("table inet anklume")
}

/// The table, in nft's own words; `MARK` for its mark, and the empty set that is named by it last: nft lists sets in the order
/// in which they were made.
pub(crate) fn table(run: &Workspace) -> String {
    let text = unmarked(&output(run, "nft", &["list", "table", "inet", "anklume"]));
    let begin = text.find("\tset owner_MARK {").unwrap_or(text.len());
    let (before, rest) = text.split_at(begin);
    let (set, after) = rest.split_once("\n\n").unwrap_or((rest, ""));
    format!("{before}{after}{set}")
}

/// `MARK` for every number of 64 hexadecimal digits.
pub(crate) fn unmarked(text: &str) -> String {
    let mut words = String::new();
    let mut digits = String::new();
    for letter in text.chars().chain(['\n']) {
        if letter.is_ascii_hexdigit() {
            digits.push(letter);
            continue;
        }
        words += if digits.len() == 64 { "MARK" } else { &digits };
        digits.clear();
        words.push(letter);
    }
    words
}

fn shell(run: &Workspace, name: &str, line: &str) -> String {
    run.incus().run(&["exec", &format!("box-{name}"), "--project", name, "--", "sh", "-c", line])
}

/// What starts a line of shell that goes on when the one that started it has ended.
fn background(line: &str) -> String {
    format!("setsid sh -c '{line}' </dev/null >/dev/null 2>&1 &")
}

/// A web server on the ports 80 and 81 of each container.
fn serve(run: &Workspace, names: &[&str]) {
    for name in names {
        shell(run, name, "echo page >/srv/index.html; httpd -p 80 -h /srv; httpd -p 81 -h /srv");
    }
}

/// What reaches which container from `from`: `b tcp/80`, `b udp`, `b icmp`. An answer has to come back: the page, the
/// port that is closed, the echo.
fn reached(run: &Workspace, from: &str, names: &[&str]) -> BTreeSet<String> {
    let mut script = String::new();
    for (id, name) in names.iter().enumerate().filter(|(_, name)| **name != from) {
        let to = address(id);
        for port in [80, 81] {
            let fetch = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {to} {port} 2>/dev/null | grep -q page");
            script += &format!("({fetch} && echo '{name} tcp/{port}') &\n");
        }
        script += &format!("(ping -c 1 -W 2 {to} >/dev/null 2>&1 && echo '{name} icmp') &\n");
        // Hosts send few such errors in a second.
        let trace = format!("traceroute -n -q 1 -w 1 -f 2 -m 2 -p 4000 {to} 2>/dev/null | grep -q '^ 2  {to}'");
        script += &format!("(({trace} || {trace} || {trace}) && echo '{name} udp') &\n");
    }
    shell(run, from, &format!("{script}wait")).lines().map(str::to_owned).collect()
}

/// All that passes between the containers, as `a b tcp/80`.
fn passes(run: &Workspace, names: &[&str]) -> BTreeSet<String> {
    names
        .iter()
        .flat_map(|from| reached(run, from, names).into_iter().map(move |what| format!("{from} {what}")))
        .collect()
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

/// A host outside of all domains, `192.0.2.2`, which goes with the value.
struct Outside(Child);

impl Outside {
    fn new(run: &Workspace) -> Self {
        let child = run.inside("unshare").args(["--net", "sleep", "600"]).stdout(Stdio::null()).spawn().unwrap();
        let outside = Self(child);
        let pid = outside.0.id().to_string();
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let lab = output(run, "readlink", &["/proc/self/ns/net"]);
        let there = || fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        let started = Instant::now();
        // `ip netns exec` comes first, then the namespace of its own.
        while there() == own || there().to_string_lossy() == lab.trim() {
            assert!(started.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(10));
        }
        output(run, "ip", &["link", "add", "outside", "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        output(run, "ip", &["address", "add", "192.0.2.1/24", "dev", "outside"]);
        output(run, "ip", &["link", "set", "outside", "up"]);
        for words in ["address add 192.0.2.2/24 dev eth0", "link set eth0 up"] {
            let words: Vec<_> = words.split(' ').collect();
            output(run, "nsenter", &[&["--net", "--target", &pid, "ip"], words.as_slice()].concat());
        }
        outside
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn matrix(here: &Workspace) {
    let run = here.elsewhere("isolation", &[]);
    let names = ["a", "b", "c"];
    let configure = |policies: &str, more: &str| {
        run.configure(&format!("{}{}", world(&names), isolation(&names, policies, more)));
    };
    run.configure(&world(&names));
    run.apply();
    serve(&run, &names);
    assert_eq!(passes(&run, &names).len(), 24, "without an isolation everything passes");

    configure("", "");
    run.apply();
    assert_eq!(passes(&run, &names), set(&[]));
    let outside = Outside::new(&run);
    for name in names {
        let gateway = format!("10.120.{}.254", names.iter().position(|one| *one == name).unwrap());
        shell(&run, name, "ping -c 1 -W 2 192.0.2.2");
        shell(&run, name, "udhcpc -n -q -t 3 -T 1 -i eth0 -s /bin/true");
        shell(&run, name, &format!("nslookup box-{name}.incus {gateway}"));
    }
    drop(outside);

    let policies = "
    web   = { from = \"a\", to = \"b\", ports = [\"80\"], protocol = \"tcp\", description = \"what it is for; }\" }
    trace = { from = \"b\", to = \"c\", ports = [\"4000-4100\"], protocol = \"udp\" }
    ping  = { from = \"a\", to = \"c\", protocol = \"icmp\", bidirectional = true }";
    configure(policies, "");
    run.plan_updates(&[HOST]);
    run.apply();
    run.plan_is_empty();
    assert_eq!(passes(&run, &names), set(&["a b tcp/80", "b c udp", "a c icmp", "c a icmp"]));

    // Only the endpoint is reached, not its neighbours.
    let endpoints = |at: &str| format!("  endpoints = {{ one = {{ domain = \"b\", address = \"{at}\" }} }}");
    let to_one =
        "    one = { from = \"a\", to = \"one\", protocol = \"tcp\" }\n    back = { from = \"one\", to = \"c\" }";
    configure(to_one, &endpoints(&address(1)));
    let text = run.apply();
    assert!(text.contains("A neighbour can take the address"), "{text}");
    assert_eq!(
        passes(&run, &names),
        set(&["a b tcp/80", "a b tcp/81", "b c icmp", "b c tcp/80", "b c tcp/81", "b c udp"])
    );
    configure(to_one, &endpoints("10.120.1.11"));
    run.apply();
    assert_eq!(passes(&run, &names), set(&[]));

    run.configure(&world(&names));
    run.apply();
    assert!(!has_table(&run));
    assert_eq!(passes(&run, &names).len(), 24);
    run.destroy();
    assert_eq!(run.leftovers(), Vec::<String>::new());
}

fn withdrawn(here: &Workspace) {
    let run = here.elsewhere("withdrawn", &[]);
    let names = ["a", "b"];
    let policy =
        |ports: &str| format!("    stream = {{ from = \"a\", to = \"b\", ports = [{ports}], protocol = \"tcp\" }}");
    let configure = |ports: &str| {
        let any_back = "    back = { from = \"b\", to = \"a\" }";
        run.configure(&format!(
            "{}{}",
            world(&names),
            isolation(&names, &format!("{}\n{any_back}", policy(ports)), "")
        ));
    };
    configure("\"7000\", \"7001\"");
    run.apply();
    for port in [7000, 7001] {
        let listen = background(&format!("sleep 600 | nc -l -p {port} >/tmp/{port}"));
        shell(&run, "b", &format!("{listen} until netstat -tln | grep -q :{port}; do usleep 20000; done"));
        let send = background(&format!("(while usleep 20000; do echo line; done) | nc {} {port}", address(1)));
        shell(&run, "a", &send);
    }
    let size = |port: u16| shell(&run, "b", &format!("wc -c </tmp/{port}")).trim().parse::<u64>().unwrap();
    let grows = |port: u16| {
        let before = size(port);
        std::thread::sleep(Duration::from_millis(1500));
        size(port) > before
    };
    assert!(grows(7000) && grows(7001));
    configure("\"7001\"");
    run.apply();
    assert!(!grows(7000), "not one more byte");
    assert!(grows(7001), "what stays allowed goes on");
    run.destroy();
}

fn before_any_bridge(here: &Workspace) {
    let run = here.elsewhere("bridges", &[]);
    let policies = "    web = { from = \"a\", to = \"b\", ports = [\"443\"], protocol = \"tcp\" }";
    let alone = isolation(&["a", "b"], policies, "");
    run.configure(&alone);
    let change = |address: &str| -> Value {
        run.succeed(&["plan", "-input=false", "-no-color", "-out=tfplan"]);
        let plan: Value = serde_json::from_str(&run.succeed(&["show", "-json", "tfplan"]).text).unwrap();
        let changes = plan["resource_changes"].as_array().unwrap().clone();
        changes.into_iter().find(|change| change["address"] == address).unwrap()["change"].take()
    };
    let planned = change(HOST);
    let names = |rules: &Value| rules.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&planned["after"]["rules"]), ["domain/a", "domain/b", "policy/web"]);
    assert!(planned["after"]["ruleset"].as_str().unwrap().contains("net-a"));
    assert_eq!(planned["after_unknown"]["rules"].as_object().map(serde_json::Map::len).unwrap_or_default(), 0);
    run.apply();
    run.plan_is_empty();
    assert!(table(&run).contains("\"net-a\""), "{}", table(&run));
    assert_eq!(run.attributes(HOST)["rules"], planned["after"]["rules"]);

    // An address that is known only after apply leaves its own rule unknown, and no other.
    let addressed = "  endpoints = { box = { domain = \"a\", address = anklume_instance.a.ipv4_address } }";
    let to_it = format!("{policies}\n    it = {{ from = \"b\", to = \"box\", protocol = \"icmp\" }}");
    let dynamic = world(&["a"]).replace("ipv4_address = \"10.120.0.10\"", "");
    run.configure(&format!("{dynamic}{}", isolation(&["a", "b"], &to_it, addressed)));
    let planned = change(HOST);
    assert_eq!(names(&planned["after"]["rules"]), ["domain/a", "domain/b", "policy/web"]);
    assert_eq!(planned["after_unknown"]["rules"], serde_json::json!({"policy/it": true}));
    run.apply();
    run.plan_is_empty();
    assert!(run.attributes(HOST)["rules"]["policy/it"].as_str().unwrap().contains("10.120."));
    run.destroy();
    assert!(!has_table(&run));

    // A level of nesting has bridges of its own, and the isolation of one is not another's.
    let level = |digits: &str| run.configure_provider(&format!("  nesting_prefix = \"{digits}\"\n"), &alone);
    level("001");
    run.apply();
    run.plan_is_empty();
    let there = table(&run);
    assert!(there.contains("\"001-net-a\"") && there.contains("\"001-net-*\"") && !there.contains("\"net-"), "{there}");
    level("002");
    assert!(run.plan_fails().contains("Another nesting prefix"));
    level("001");
    run.destroy();
    assert!(!has_table(&run));
}

/// Packets of a forbidden pair that were sent, and that came through: counted in a table beside ours.
fn witnessed(run: &Workspace) -> (u64, u64) {
    let listed: Value = serde_json::from_str(&output(run, "nft", &["-j", "list", "counters"])).unwrap();
    let counter = |name: &str| {
        let counters = listed["nftables"].as_array().unwrap().iter().map(|object| &object["counter"]);
        counters.filter(|counter| counter["name"] == name).find_map(|counter| counter["packets"].as_u64()).unwrap()
    };
    (counter("sent"), counter("passed"))
}

/// Fewer applies than the hundred that `APPLIES=100` asks for, so that the whole of the tests stays short.
fn applies(here: &Workspace) {
    let run = here.elsewhere("applies", &[]);
    let count: u32 = std::env::var("APPLIES").ok().and_then(|count| count.parse().ok()).unwrap_or(12);
    let names = ["a", "b", "c"];
    run.configure(&world(&names));
    let isolating = run.beside();
    let configure = |round: u32| {
        let policies = format!(
            "    web = {{ from = \"a\", to = \"c\", ports = [\"{}\"], protocol = \"tcp\" }}\n    {} = {{ from = \"c\", to = \"b\" }}",
            1000 + round,
            if round.is_multiple_of(2) { "even" } else { "odd" }
        );
        isolating.configure(&isolation(&names, &policies, ""));
    };
    configure(0);
    isolating.apply();
    run.apply();
    let witness = "add table inet witness; add counter inet witness sent; add counter inet witness passed; \
                   add chain inet witness before { type filter hook prerouting priority 0; }; \
                   add chain inet witness after { type filter hook forward priority 10; }; \
                   add rule inet witness before iifname net-a ip daddr 10.120.1.0/24 counter name sent; \
                   add rule inet witness after iifname net-a oifname net-b counter name passed";
    output(&run, "nft", &[witness]);
    let to = address(1);
    // One that starts before the container has its route ends at once.
    let ping = background(&format!("while :; do ping -q -i 0.005 {to}; usleep 50000; done"));
    shell(&run, "a", &format!("{ping} {ping}"));
    let started = Instant::now();
    while witnessed(&run).0 == 0 {
        assert!(started.elapsed() < Duration::from_secs(10), "nothing is sent");
        std::thread::sleep(Duration::from_millis(50));
    }
    for round in 1..=count {
        configure(round);
        isolating.apply();
    }
    let (sent, passed) = witnessed(&run);
    println!("{count} applies, {sent} packets sent between forbidden domains, {passed} passed ({})", run.client());
    assert!(sent > u64::from(count) * 20, "{sent} packets are too few to show anything");
    assert_eq!(passed, 0);
    output(&run, "nft", &["delete", "table", "inet", "witness"]);
    run.destroy();
    isolating.destroy();
    assert!(!has_table(&run));
}

fn imported(here: &Workspace) {
    let run = here.elsewhere("imported", &[]);
    let policies =
        |port: u16| format!("    web = {{ from = \"a\", to = \"b\", ports = [\"{port}\"], protocol = \"tcp\" }}");
    let file = run.dir().join("rules.nft");
    let persist = format!("  persist_path = {file:?}");
    run.configure(&isolation(&["a", "b"], &policies(80), &persist));
    run.apply();
    let (first, whole, written) = (mark(&run), table(&run), fs::read_to_string(&file).unwrap());

    // A directory of its own is an owner of its own.
    let other = run.beside();
    let configured = isolation(&["a", "b", "c"], &policies(443), &persist);
    other.configure(&configured);
    other.import(HOST, "inet anklume");
    let state = other.attributes(HOST);
    assert_eq!(state["uid"].as_str().unwrap(), &first[32..]);
    assert!(state["domains"].is_null() && state["rules"].is_null(), "{state}");
    other.plan_updates(&[HOST]);
    other.destroy();
    assert_eq!((mark(&run), table(&run)), (first.clone(), whole));
    assert_eq!(fs::read_to_string(&file).unwrap(), written);

    let block = format!("import {{\n  to = {HOST}\n  id = \"inet anklume\"\n}}\n\n");
    other.configure(&format!("{block}{configured}"));
    let text = other.apply();
    assert!(text.contains("1 imported, 0 added, 1 changed, 0 destroyed"), "{text}");
    other.plan_is_empty();
    let second = mark(&run);
    assert!(second[..16] != first[..16] && second[16..32] != first[16..32] && second[32..] == first[32..]);
    assert!(table(&run).contains("net-c") && fs::read_to_string(&file).unwrap().contains(&second));
    run.forget(HOST);
    other.destroy();
    assert!(!has_table(&run) && !file.exists());
}

fn renamed(here: &Workspace) {
    let run = here.elsewhere("owner", &[]);
    let file = run.dir().join("rules.nft");
    let configure = |owner: &str, port: u16| {
        let policies = format!("    web = {{ from = \"a\", to = \"b\", ports = [\"{port}\"], protocol = \"tcp\" }}");
        let isolation = isolation(&["a", "b"], &policies, &format!("  persist_path = {file:?}"));
        run.configure_provider(&format!("  owner = \"{owner}\"\n"), &isolation);
    };
    configure("one", 80);
    run.apply();
    let first = mark(&run);
    configure("two", 80);
    run.plan_is_empty();
    assert_eq!(mark(&run), first);
    configure("two", 443);
    run.plan_updates(&[HOST]);
    run.apply();
    run.plan_is_empty();
    let second = mark(&run);
    assert!(second[..16] != first[..16] && second[16..32] != first[16..32] && second[32..] == first[32..]);
    assert!(fs::read_to_string(&file).unwrap().contains(&second));
    configure("three", 443);
    run.plan_is_empty();
    run.destroy();
    assert!(!has_table(&run) && !file.exists());
}

/// As a version without `uid` wrote it, with its private state and without.
fn carried(here: &Workspace) {
    let run = here.elsewhere("carried", &[]);
    let file = run.dir().join("rules.nft");
    let configure = |port: u16| {
        let policies = format!("    web = {{ from = \"a\", to = \"b\", ports = [\"{port}\"], protocol = \"tcp\" }}");
        run.configure(&isolation(&["a", "b"], &policies, &format!("  persist_path = {file:?}")));
    };
    let put_back = |private: Option<&str>| {
        let path = run.dir().join("terraform.tfstate");
        let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let instance = state["resources"][0]["instances"][0].as_object_mut().unwrap();
        instance["attributes"].as_object_mut().unwrap().remove("uid").unwrap();
        instance.remove("private");
        if let Some(private) = private {
            instance.insert("private".to_owned(), STANDARD.encode(private).into());
        }
        fs::write(path, state.to_string()).unwrap();
    };
    configure(80);
    run.apply();
    let uid = || run.attributes(HOST)["uid"].as_str().unwrap().to_owned();
    let (first, private) = (uid(), format!("{{\"mark\":\"{}\",\"prefix\":\"\"}}", mark(&run)));
    for (round, private) in [Some(private.as_str()), None].into_iter().enumerate() {
        put_back(private);
        run.plan_is_empty();
        run.succeed(&["apply", "-refresh-only", "-auto-approve", "-input=false", "-no-color"]);
        assert_eq!(uid(), first);
        put_back(private);
        configure(81 + u16::try_from(round).unwrap());
        run.succeed(&[APPLY, &["-refresh=false"]].concat());
        assert_eq!((uid(), &mark(&run)[32..]), (first.clone(), first.as_str()));
        run.plan_is_empty();
    }

    // Another owner cannot tell.
    put_back(None);
    let (whole, main) = (table(&run), run.dir().join("main.tf"));
    let configured = fs::read_to_string(&main).unwrap();
    let block = "provider \"anklume\" {\n";
    assert!(configured.contains(block));
    fs::write(&main, configured.replace(block, &format!("{block}  owner = \"another\"\n"))).unwrap();
    let text = run.succeed(&["plan", "-input=false", "-no-color"]).text;
    assert!(text.contains("replaced outside Terraform") && text.contains("will be created"), "{text}");
    let refused = run.fail(&["destroy", "-auto-approve", "-input=false", "-no-color", "-refresh=false"]);
    assert!(refused.contains("nothing shows that it is the one of this resource"), "{refused}");
    assert_eq!(table(&run), whole);
    fs::write(&main, configured).unwrap();
    run.destroy();
    assert!(!has_table(&run) && !file.exists());
}
