//! Who reaches whom: exactly what the policies say.

use std::net::SocketAddr;
use std::time::Duration;

use anklume::nft::{EndpointInput, Given, Input, PolicyInput};

use super::Case;
use super::net::{self, Kind, Probe, Router, apply, bridge_nf, check, inside, policy, raw_of};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const KINDS: [Kind; 3] = [Kind::Tcp(443), Kind::Udp(443), Kind::Ping];

pub const CASES: &[Case] = &[
    ("five domains reach each other exactly where a policy says so", each_pair),
    ("with a nesting prefix it is the same", nested),
    ("a policy opens its port and no other", ports),
    ("a policy without a protocol opens all of them, and bidirectional both ways", any),
    ("under a policy without a protocol any other protocol passes that carries four bytes", other_protocols),
    ("a policy of an endpoint opens that address and no neighbour", endpoints),
];

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Tcp(_) => "tcp",
        Kind::Udp(_) => "udp",
        Kind::Ping => "icmp",
    }
}

/// Every flow between two domains, of both families.
fn flows(router: &Router, names: &[&str], passes: impl Fn(&str, &str, Kind) -> bool) -> Vec<Probe> {
    let mut probes = Vec::new();
    for from in names {
        for to in names.iter().filter(|to| *to != from) {
            for kind in KINDS {
                let (source, target) = (format!("{from}1"), format!("{to}1"));
                for to_address in [router.v4(&target), router.v6(&target)] {
                    probes.push(Probe { from: source.clone(), to: to_address, kind, passes: passes(from, to, kind) });
                }
            }
        }
    }
    probes
}

fn each_pair() {
    let router = Router::up("", &NAMES);
    check(&flows(&router, &NAMES, |_, _, _| true));
    apply(&router.ruleset(&NAMES, &[]));
    check(&flows(&router, &NAMES, |_, _, _| false));
    // Each kind of each pair once, three at a time, of three pairs; every other time with bridge-nf.
    let pairs = pairs(&NAMES);
    for index in 0..pairs.len() {
        bridge_nf(["0", "1"][index % 2]);
        let open: Vec<_> = (0..3).map(|kind| (pairs[(index + 7 * kind) % pairs.len()], KINDS[kind])).collect();
        let policies: Vec<_> =
            open.iter().map(|((from, to), kind)| (word(*kind), policy(from, to, Some(word(*kind)), &[]))).collect();
        apply(&router.ruleset(&NAMES, &policies));
        check(&flows(&router, &NAMES, |from, to, kind| open.contains(&((from, to), kind))));
    }
    // All but one: what the one would open stays shut among all that is open.
    for (index, &(from, to)) in pairs.iter().enumerate() {
        let shut = KINDS[index % 3];
        let open = |its_from: &str, its_to: &str, kind: Kind| (its_from, its_to, kind) != (from, to, shut);
        let all: Vec<(String, PolicyInput)> = pairs
            .iter()
            .flat_map(|(from, to)| KINDS.map(|kind| (*from, *to, kind)))
            .filter(|(from, to, kind)| open(from, to, *kind))
            .map(|(from, to, kind)| (format!("{from}{to}{kind:?}"), policy(from, to, Some(word(kind)), &[])))
            .collect();
        let all: Vec<(&str, PolicyInput)> = all.iter().map(|(name, policy)| (name.as_str(), policy.clone())).collect();
        apply(&router.ruleset(&NAMES, &all));
        // The other way round: each pair was open with the one, and is shut with the other.
        bridge_nf(["1", "0"][index % 2]);
        check(&flows(&router, &NAMES, open));
    }
    bridge_nf("0");
}

fn pairs<'a>(names: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let each = names.iter().flat_map(|from| names.iter().map(move |to| (*from, *to)));
    each.filter(|(from, to)| from != to).collect()
}

fn nested() {
    let names = ["a", "b"];
    let router = Router::up("001-", &names);
    apply(&router.ruleset(&names, &[("x", policy("a", "b", Some("tcp"), &["443"]))]));
    check(&flows(&router, &names, |from, _, kind| from == "a" && kind == Kind::Tcp(443)));
    // The bridges of another level are none of ours.
    apply(&net::ruleset("002-", &["z"], &[]));
    check(&flows(&router, &names, |_, _, _| true));
}

fn ports() {
    let names = ["a", "b"];
    let router = Router::up("", &names);
    let probe = |from: &str, to: &str, kind, passes| Probe { from: from.to_owned(), to: router.v4(to), kind, passes };
    apply(&router.ruleset(&names, &[("x", policy("a", "b", Some("tcp"), &["1-443"]))]));
    check(&[
        probe("a1", "b1", Kind::Tcp(443), true),
        probe("a1", "b1", Kind::Tcp(444), false),
        probe("a1", "b1", Kind::Udp(443), false),
        probe("b1", "a1", Kind::Tcp(443), false),
    ]);
    apply(&router.ruleset(&names, &[("x", policy("a", "b", Some("udp"), &["444"]))]));
    check(&[
        probe("a1", "b1", Kind::Udp(444), true),
        probe("a1", "b1", Kind::Udp(443), false),
        probe("a1", "b1", Kind::Tcp(444), false),
        probe("b1", "a1", Kind::Udp(444), false),
    ]);
}

fn any() {
    let names = ["a", "b", "c"];
    let router = Router::up("", &names);
    apply(&router.ruleset(&names, &[("x", policy("a", "b", None, &[]))]));
    check(&flows(&router, &names, |from, to, _| (from, to) == ("a", "b")));
    let both = PolicyInput { bidirectional: Given::Known(true), ..policy("a", "b", None, &[]) };
    apply(&router.ruleset(&names, &[("x", both)]));
    check(&flows(&router, &names, |from, to, _| from != "c" && to != "c"));
}

/// A rule of any protocol looks at where ports would be: nft has no match for one without.
fn other_protocols() {
    let router = Router::up("", &["a", "b"]);
    let to = router.v4("b1");
    let open = [("x", policy("a", "b", None, &[]))];
    for (policies, arrive) in [(&open[..], &["four"][..]), (&[], &[])] {
        apply(&router.ruleset(&["a", "b"], policies));
        let listener = inside("b1", move || raw_of(253, to)).join().unwrap();
        inside("a1", move || {
            for payload in [&b""[..], b"abc", b"four"] {
                raw_of(253, to).send_to(payload, SocketAddr::new(to, 0)).unwrap();
            }
        })
        .join()
        .unwrap();
        listener.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut buffer = [0; 64];
        let mut heard = Vec::new();
        while let Ok(length) = listener.recv(&mut buffer) {
            heard.push(String::from_utf8_lossy(&buffer[20..length]).into_owned());
        }
        assert_eq!(heard, arrive.to_vec());
    }
}

fn endpoints() {
    let names = ["a", "b", "c"];
    let router = Router::up("", &names);
    let kind = Kind::Tcp(443);
    for v6 in [false, true] {
        let address = |guest: &str| if v6 { router.v6(guest) } else { router.v4(guest) };
        let endpoint = |domain: &str, guest: &str| EndpointInput {
            domain: domain.to_owned().into(),
            address: address(guest).to_string().into(),
        };
        for (from, to) in [("client", "server"), ("client", "b"), ("a", "server")] {
            let input = Input {
                prefix: String::new(),
                domains: Given::Known(names.iter().map(|name| (name.to_string(), Given::Known(None))).collect()),
                endpoints: Given::Known(
                    [("client".to_owned(), endpoint("a", "a1")), ("server".to_owned(), endpoint("b", "b1"))].into(),
                ),
                policies: Given::Known([("x".to_owned(), policy(from, to, Some("tcp"), &["443"]))].into()),
            };
            apply(&net::compile(&input));
            let mut probes = Vec::new();
            for source in ["a1", "a2", "b1", "b2", "c1"] {
                for target in ["a1", "a2", "b1", "b2", "c1"] {
                    if source[..1] == target[..1] {
                        continue;
                    }
                    let passes = source.starts_with('a')
                        && target.starts_with('b')
                        && (from == "a" || source == "a1")
                        && (to == "b" || target == "b1");
                    probes.push(Probe { from: source.to_owned(), to: address(target), kind, passes });
                }
            }
            check(&probes);
        }
    }
}
