//! From what is written to what nft reads, without nft.

use std::collections::BTreeSet;

use super::*;

const OWNER: &str = "0123456789abcdef";

pub(super) fn policy(from: &str, to: &str, protocol: Option<&str>, ports: &[&str]) -> PolicyInput {
    let ports: Vec<_> = ports.iter().map(|port| Given::Known((*port).to_owned())).collect();
    PolicyInput {
        from: from.to_owned().into(),
        to: to.to_owned().into(),
        ports: Given::Known((!ports.is_empty()).then_some(ports)),
        protocol: Given::Known(protocol.map(str::to_owned)),
        bidirectional: Given::Known(false),
    }
}

fn both_ways(policy: PolicyInput) -> PolicyInput {
    PolicyInput { bidirectional: Given::Known(true), ..policy }
}

pub(super) fn endpoint(domain: &str, address: &str) -> EndpointInput {
    EndpointInput { domain: domain.to_owned().into(), address: address.to_owned().into() }
}

pub(super) fn input(domains: &[&str], endpoints: &[(&str, EndpointInput)], policies: &[(&str, PolicyInput)]) -> Input {
    let owned = |name: &&str| (name.to_string(), Given::Known(None));
    Input {
        prefix: String::new(),
        domains: Given::Known(domains.iter().map(owned).collect()),
        endpoints: Given::Known(endpoints.iter().map(|(name, value)| (name.to_string(), value.clone())).collect()),
        policies: Given::Known(policies.iter().map(|(name, value)| (name.to_string(), value.clone())).collect()),
    }
}

#[track_caller]
pub(super) fn isolation(input: &Input) -> Isolation {
    let parsed = Isolation::parse(input);
    assert_eq!(parsed.problems, []);
    parsed.isolation.unwrap()
}

#[track_caller]
pub(super) fn ruleset(input: &Input) -> Ruleset {
    isolation(input).compile(OWNER.parse().unwrap()).unwrap()
}

/// Each problem as `place: summary`.
#[track_caller]
fn problems(input: &Input, expected: &[&str]) {
    let parsed = Isolation::parse(input);
    assert!(parsed.isolation.is_none());
    assert_eq!(said(&parsed.problems), expected);
}

#[track_caller]
fn warns(input: &Input, expected: &[&str]) {
    let parsed = Isolation::parse(input);
    assert_eq!(parsed.problems, []);
    assert_eq!(said(&parsed.warnings), expected);
}

fn said(problems: &[Problem]) -> Vec<String> {
    problems
        .iter()
        .map(|problem| {
            let place = match &problem.place {
                Place::Prefix => "nesting_prefix".to_owned(),
                Place::Domain { name } => format!("domains[{name}]"),
                Place::Endpoint { name, field } => format!("endpoints[{name}].{field:?}"),
                Place::Policy { name, field } => format!("policies[{name}].{field:?}"),
            };
            format!("{place}: {}", problem.summary)
        })
        .collect()
}

fn showcase() -> Input {
    input(
        &["admin", "perso", "pro"],
        &[
            ("web", endpoint("pro", "10.110.0.10")),
            ("desk", endpoint("perso", "10.120.0.7")),
            ("six", endpoint("pro", "fd00::10")),
        ],
        &[
            ("intranet", policy("perso", "pro", Some("tcp"), &["443", "8000-8010"])),
            ("ops", both_ways(policy("admin", "pro", None, &[]))),
            ("ping", policy("pro", "perso", Some("icmp"), &[])),
            ("dns", policy("desk", "web", Some("udp"), &["53"])),
            ("six", policy("perso", "six", Some("tcp"), &["443"])),
            ("from desk", policy("desk", "admin", Some("icmp"), &[])),
        ],
    )
}

#[test]
fn the_showcase_compiles_to_its_golden_file() {
    let script = ruleset(&showcase()).script();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/nft/golden/showcase.nft");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &script).unwrap();
    }
    assert_eq!(script, std::fs::read_to_string(path).unwrap());
}

#[test]
fn a_rule_is_one_line_for_a_reviewer() {
    let rules: Vec<String> = isolation(&showcase())
        .rules()
        .unwrap()
        .into_iter()
        .map(|(key, line)| format!("{key}: {}", line.unwrap()))
        .collect();
    assert_eq!(
        rules,
        [
            "domain/admin: bridge net-admin",
            "domain/perso: bridge net-perso",
            "domain/pro: bridge net-pro",
            "policy/dns: desk (perso 10.120.0.7) -> web (pro 10.110.0.10) udp 53",
            "policy/from desk: desk (perso 10.120.0.7) -> admin icmp",
            "policy/intranet: perso -> pro tcp 443,8000-8010",
            "policy/ops: admin <-> pro any",
            "policy/ping: pro -> perso icmp",
            "policy/six: perso -> six (pro fd00::10) tcp 443",
        ]
    );
}

#[test]
fn the_order_of_ports_and_the_names_of_policies_change_nothing() {
    let one = input(&["a", "b"], &[], &[("x", policy("a", "b", Some("tcp"), &["80", "443"]))]);
    let other = input(&["a", "b"], &[], &[("y\"; drop", policy("a", "b", Some("tcp"), &["443", "80", "80"]))]);
    assert_eq!(ruleset(&one).script(), ruleset(&other).script());
}

#[test]
fn an_address_that_is_unknown_leaves_its_own_rule_unknown_and_no_other() {
    let mut input = showcase();
    if let Given::Known(endpoints) = &mut input.endpoints {
        endpoints.get_mut("web").unwrap().address = Given::Unknown;
    }
    let isolation = isolation(&input);
    let unknown: Vec<String> =
        isolation.rules().unwrap().into_iter().filter(|(_, line)| line.is_none()).map(|(key, _)| key).collect();
    assert_eq!(unknown, ["policy/dns"]);
    assert_eq!(isolation.ruleset(), None);
    assert!(isolation.compile(OWNER.parse().unwrap()).is_none());
}

#[test]
fn an_unused_address_that_is_unknown_hinders_nothing() {
    let mut input = showcase();
    if let Given::Known(endpoints) = &mut input.endpoints {
        endpoints
            .insert("later".to_owned(), EndpointInput { domain: "pro".to_owned().into(), address: Given::Unknown });
    }
    assert!(isolation(&input).ruleset().is_some());
}

#[test]
fn unknown_is_never_a_problem() {
    let nothing =
        Input { prefix: String::new(), domains: Given::Unknown, endpoints: Given::Unknown, policies: Given::Unknown };
    assert_eq!(isolation(&nothing).rules(), None);
    let unknown = PolicyInput {
        from: Given::Unknown,
        to: Given::Unknown,
        ports: Given::Unknown,
        protocol: Given::Unknown,
        bidirectional: Given::Unknown,
    };
    let mut input = showcase();
    if let (Given::Known(policies), Given::Known(domains)) = (&mut input.policies, &mut input.domains) {
        policies.insert("later".to_owned(), unknown);
        domains.insert("perso".to_owned(), Given::Unknown);
    }
    let rules = isolation(&input).rules().unwrap();
    assert_eq!((&rules["policy/later"], &rules["domain/perso"]), (&None, &None));
    assert!(rules["policy/intranet"].is_some());
}

#[test]
fn all_problems_are_said_at_once() {
    let mut input = input(
        &["a", "b", "not ok"],
        &[("a", endpoint("a", "10.0.0.1")), ("host", endpoint("c", "10.0.0.0/8")), ("x", endpoint("b", "10.0.0.1"))],
        &[
            ("1", policy("a", "host2", None, &["443"])),
            ("2", policy("a", "a", Some("icmp"), &["1"])),
            ("3", policy("a", "b", Some("tcp"), &["80", "0", "9-1"])),
            ("4", policy("a", "b", Some("sctp"), &["80"])),
        ],
    );
    if let (Given::Known(domains), Given::Known(policies)) = (&mut input.domains, &mut input.policies) {
        domains.insert("c".to_owned(), Given::Known(Some("net-a".to_owned())));
        domains.insert("d".to_owned(), Given::Known(Some("net-*".to_owned())));
        policies.get_mut("3").unwrap().bidirectional = Given::Unknown;
        policies.insert(
            "5".to_owned(),
            PolicyInput { ports: Given::Known(Some(Vec::new())), ..policy("a", "b", Some("tcp"), &[]) },
        );
    }
    problems(
        &input,
        &[
            "domains[c]: Two domains on one bridge",
            "domains[d]: Invalid bridge",
            "domains[not ok]: Invalid domain name",
            "endpoints[a].Itself: One name for a domain and an endpoint",
            "endpoints[host].Itself: The host is no endpoint",
            "endpoints[host].Address: Invalid address",
            "endpoints[x].Address: One address in two domains",
            "policies[1].To: Unknown name",
            "policies[1].Ports: Ports without a protocol",
            "policies[2].To: A policy from a name to itself",
            "policies[2].Ports: Ports with icmp",
            "policies[3].Port(1): Invalid port",
            "policies[3].Port(2): Invalid port",
            "policies[4].Protocol: Invalid protocol",
            "policies[5].Ports: No ports",
        ],
    );
}

#[test]
fn the_host_is_refused_as_an_endpoint_of_a_policy() {
    let input = input(&["a"], &[], &[("x", policy("a", "host", None, &[]))]);
    problems(&input, &["policies[x].To: The host is no endpoint"]);
}

#[test]
fn a_policy_that_adds_nothing_is_named_with_the_one_that_does() {
    let endpoints = [("web", endpoint("b", "10.0.0.2")), ("six", endpoint("a", "fd00::1"))];
    let check = |policies: &[(&str, PolicyInput)], expected: &[&str]| {
        warns(&input(&["a", "b", "c"], &endpoints, policies), expected)
    };
    let tcp = |from, to, ports: &[&str]| policy(from, to, Some("tcp"), ports);
    check(
        &[("x", tcp("a", "b", &["80", "443"])), ("y", tcp("a", "b", &["443", "80"]))],
        &["policies[y].Itself: Duplicated policy"],
    );
    check(
        &[("x", tcp("a", "b", &["80"])), ("y", policy("a", "b", None, &[]))],
        &["policies[x].Itself: Shadowed policy"],
    );
    check(
        &[("x", tcp("a", "web", &["80"])), ("y", tcp("a", "b", &["1-100"]))],
        &["policies[x].Itself: Shadowed policy"],
    );
    check(
        &[("x", tcp("b", "a", &["80"])), ("y", both_ways(tcp("a", "b", &["80"])))],
        &["policies[x].Itself: Shadowed policy"],
    );
    check(&[("x", both_ways(tcp("a", "b", &["80"]))), ("y", tcp("a", "b", &["1-99"]))], &[]);
    check(&[("x", tcp("a", "b", &["80"])), ("y", tcp("b", "a", &["80"])), ("z", tcp("a", "c", &["80"]))], &[]);
    check(&[("x", tcp("b", "web", &[]))], &["policies[x].Itself: A policy that lets nothing pass"]);
    check(&[("x", tcp("six", "web", &[]))], &["policies[x].Itself: A policy that lets nothing pass"]);
    let parsed = Isolation::parse(&input(
        &["a", "b"],
        &[],
        &[("x", tcp("a", "b", &["80"])), ("y", policy("a", "b", None, &[]))],
    ));
    assert!(parsed.warnings[0].detail.contains("\"x\"") && parsed.warnings[0].detail.contains("\"y\""));
}

#[test]
fn a_changed_policy_is_one_changed_line() {
    let lines = |ports: &[&str]| {
        let input =
            input(&["a", "b"], &[], &[("x", policy("a", "b", Some("tcp"), ports)), ("y", policy("b", "a", None, &[]))]);
        isolation(&input).rules().unwrap().into_iter().collect::<BTreeSet<_>>()
    };
    assert_eq!(lines(&["80"]).difference(&lines(&["81"])).count(), 1);
}

#[test]
fn the_rules_of_two_domains_are_those_of_two_hundred() {
    let chains = |number: usize| {
        let names: Vec<String> = (0..number).map(|index| format!("d{index}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let script = ruleset(&input(&names, &[], &[("x", policy("d0", "d1", Some("tcp"), &["80"]))])).script();
        script[script.find("\tchain ").unwrap()..].to_owned()
    };
    assert_eq!(chains(2), chains(200));
}

#[test]
fn two_hundred_domains_and_two_thousand_policies_compile_in_well_under_a_second() {
    let names: Vec<String> = (0..200).map(|index| format!("d{index:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let policies: Vec<(String, PolicyInput)> = (0..2000)
        .map(|index| {
            let (from, to) = (names[index % 200], names[(index * 7 + index / 200 + 1) % 200]);
            let to = if from == to { names[(index + 1) % 200] } else { to };
            (format!("p{index}"), policy(from, to, Some("tcp"), &["443", "8000-8010"]))
        })
        .collect();
    let policies: Vec<(&str, PolicyInput)> =
        policies.iter().map(|(name, policy)| (name.as_str(), policy.clone())).collect();
    let input = input(&names, &[], &policies);
    let begun = std::time::Instant::now();
    let ruleset = ruleset(&input);
    assert!(ruleset.script().lines().count() > 2000);
    assert!(begun.elapsed().as_millis() < 700, "{:?}", begun.elapsed());
}
