//! The sets beside the policies themselves: what a packet finds is what somebody wrote.

use std::net::IpAddr;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::ruleset::{Element, Field};
use super::set::{Part, Set};
use super::tests::{endpoint, input, isolation, policy, ruleset};
use super::*;

/// The first packet of a connection, or any packet in the terms of who opened it.
struct Packet {
    from: (&'static str, IpAddr),
    to: (&'static str, IpAddr),
    protocol: u16,
    port: u16,
}

const HOSTS: [(&str, &str); 8] = [
    ("a", "10.0.0.1"),
    ("a", "10.0.0.2"),
    ("b", "10.0.1.1"),
    ("b", "10.0.1.2"),
    ("c", "10.0.2.1"),
    ("a", "fd00::1"),
    ("b", "fd00:1::1"),
    ("b", "fd00:1::2"),
];
const ENDPOINTS: [(&str, usize); 5] = [("a1", 0), ("b1", 2), ("c1", 4), ("six-a", 5), ("six-b", 6)];
const EDGES: [u16; 8] = [1, 79, 80, 81, 443, 444, 65534, 65535];

/// Whether the rules of the chains `onward` and `back` find it.
fn finds(rules: &Ruleset, packet: &Packet) -> bool {
    let bridge = |domain: &str| Field::Interface(format!("net-{domain}"));
    let (from, to) = (bridge(packet.from.0), bridge(packet.to.0));
    let (source, target) = (Field::Address(packet.from.1), Field::Address(packet.to.1));
    let (protocol, port) = (Field::Range(packet.protocol, packet.protocol), Field::Range(packet.port, packet.port));
    let holds = |set: Set, key: &[&Field]| {
        rules.sets[&set].keys().any(|Element(fields)| fields.iter().zip(key).all(|(there, field)| within(there, field)))
    };
    let [from_set, to_set, at, both] = if packet.from.1.is_ipv4() {
        [Set::From4, Set::To4, Set::At4, Set::Both4]
    } else {
        [Set::From6, Set::To6, Set::At6, Set::Both6]
    };
    holds(Set::Open, &[&from, &to, &protocol, &port])
        || holds(from_set, &[&from, &to, &source, &protocol, &port])
        || holds(to_set, &[&from, &to, &target, &protocol, &port])
        || (holds(at, &[&from, &source])
            && holds(at, &[&to, &target])
            && holds(both, &[&source, &target, &protocol, &port]))
}

fn within(there: &Field, field: &Field) -> bool {
    match (there, field) {
        (Field::Range(from, to), Field::Range(first, last)) => from <= first && last <= to,
        _ => there == field,
    }
}

/// Whether one of the policies, read word by word, says so.
fn says(policy: &PolicyInput, packet: &Packet) -> bool {
    let is = |name: &Given<String>, (domain, address): (&str, IpAddr)| {
        let name = name.known().unwrap();
        match ENDPOINTS.iter().find(|(known, _)| known == name) {
            Some((_, host)) => HOSTS[*host].1.parse::<IpAddr>().unwrap() == address,
            None => name == domain,
        }
    };
    let protocol = match policy.protocol.known().unwrap().as_deref() {
        None => true,
        Some("tcp") => packet.protocol == 6,
        Some("udp") => packet.protocol == 17,
        Some(_) => packet.protocol == if packet.from.1.is_ipv4() { 1 } else { 58 },
    };
    let port = policy.ports.known().unwrap().as_ref().is_none_or(|ports| {
        ports.iter().any(|port| {
            let (from, to) =
                port.known().unwrap().split_once('-').unwrap_or((port.known().unwrap(), port.known().unwrap()));
            (from.parse().unwrap()..=to.parse().unwrap()).contains(&packet.port)
        })
    });
    let straight = is(&policy.from, packet.from) && is(&policy.to, packet.to);
    let swapped = is(&policy.from, packet.to) && is(&policy.to, packet.from) && *policy.bidirectional.known().unwrap();
    protocol && port && (straight || swapped)
}

fn some(random: &mut StdRng) -> PolicyInput {
    let names: Vec<&str> = ["a", "b", "c"].into_iter().chain(ENDPOINTS.map(|(name, _)| name)).collect();
    let two: Vec<&&str> = names.choose_multiple(random, 2).collect();
    let protocol = *[None, Some("tcp"), Some("udp"), Some("icmp")].choose(random).unwrap();
    let mut ports = Vec::new();
    if matches!(protocol, Some("tcp" | "udp")) {
        for _ in 0..random.random_range(0..4) {
            let (one, other) = (*EDGES.choose(random).unwrap(), *EDGES.choose(random).unwrap());
            ports.push(format!("{}-{}", one.min(other), one.max(other)));
        }
    }
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    PolicyInput { bidirectional: Given::Known(random.random()), ..policy(two[0], two[1], protocol, &ports) }
}

fn packets() -> Vec<Packet> {
    let mut packets = Vec::new();
    for (from, source) in HOSTS {
        for (to, target) in HOSTS {
            let (source, target): (IpAddr, IpAddr) = (source.parse().unwrap(), target.parse().unwrap());
            if from == to || source.is_ipv4() != target.is_ipv4() {
                continue;
            }
            let icmp = if source.is_ipv4() { 1 } else { 58 };
            for (protocol, ports) in [(6, &EDGES[..]), (17, &EDGES[..]), (icmp, &[0]), (47, &[0])] {
                packets.extend(ports.iter().map(|port| Packet {
                    from: (from, source),
                    to: (to, target),
                    protocol,
                    port: *port,
                }));
            }
        }
    }
    packets
}

#[test]
fn a_packet_finds_an_element_exactly_where_a_policy_says_so() {
    let endpoints: Vec<(&str, EndpointInput)> =
        ENDPOINTS.iter().map(|(name, host)| (*name, endpoint(HOSTS[*host].0, HOSTS[*host].1))).collect();
    let packets = packets();
    let mut random = StdRng::seed_from_u64(6);
    for _ in 0..400 {
        let policies: Vec<(String, PolicyInput)> =
            (0..random.random_range(0..6)).map(|index| (format!("p{index}"), some(&mut random))).collect();
        let named: Vec<(&str, PolicyInput)> =
            policies.iter().map(|(name, policy)| (name.as_str(), policy.clone())).collect();
        let rules = ruleset(&input(&["a", "b", "c"], &endpoints, &named));
        for packet in &packets {
            let said = policies.iter().any(|(_, policy)| says(policy, packet));
            assert_eq!(
                finds(&rules, packet),
                said,
                "{:?} to {:?}, protocol {}, port {}: {:?}",
                packet.from,
                packet.to,
                packet.protocol,
                packet.port,
                rules.rules()
            );
        }
        for (set, elements) in &rules.sets {
            let (bytes, parts) = (set.parts().iter().map(|part| bytes(*part)).sum::<usize>(), set.parts().len());
            assert!(bytes <= 64 && parts <= 5, "{set:?}");
            for (index, Element(one)) in elements.keys().enumerate() {
                let apart = |Element(other): &Element| one.iter().zip(other).any(|(one, other)| disjoint(one, other));
                assert!(elements.keys().skip(index + 1).all(apart), "elements of {set:?} overlap");
            }
        }
    }
}

/// The keys of all elements without protocol and port, by their set.
fn sides(elements: impl Iterator<Item = (Set, Element)>) -> std::collections::BTreeSet<(Set, Vec<Field>)> {
    let bare =
        |Element(fields): Element| fields.into_iter().filter(|field| !matches!(field, Field::Range(..))).collect();
    elements.map(|(set, element)| (set, bare(element))).collect()
}

#[test]
fn one_policy_more_changes_no_element_but_of_its_own_two_sides() {
    let endpoints: Vec<(&str, EndpointInput)> =
        ENDPOINTS.iter().map(|(name, host)| (*name, endpoint(HOSTS[*host].0, HOSTS[*host].1))).collect();
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..2_000 {
        let names: Vec<String> = (0..random.random_range(1..7)).map(|index| format!("p{index}")).collect();
        let policies: Vec<(&str, PolicyInput)> = names.iter().map(|name| (name.as_str(), some(&mut random))).collect();
        let of = |policies: &[(&str, PolicyInput)]| {
            let rules = ruleset(&input(&["a", "b", "c"], &endpoints, policies));
            let elements = rules
                .sets
                .into_iter()
                .flat_map(|(set, elements)| elements.into_keys().map(move |element| (set, element)));
            elements.collect::<std::collections::BTreeSet<_>>()
        };
        let (all, others, alone) = (of(&policies), of(&policies[1..]), of(&policies[..1]));
        let changed = all.symmetric_difference(&others).cloned();
        assert!(sides(changed).is_subset(&sides(alone.into_iter())), "{policies:?}");
    }
}

/// What a part takes in a key: the kernel rounds up to 4.
fn bytes(part: Part) -> usize {
    match part {
        Part::Interface | Part::Address6 => 16,
        Part::Address4 | Part::Protocol | Part::Port => 4,
    }
}

fn disjoint(one: &Field, other: &Field) -> bool {
    match (one, other) {
        (Field::Range(from, to), Field::Range(first, last)) => to < first || last < from,
        _ => one != other,
    }
}

#[test]
fn a_policy_of_any_name_changes_nothing_outside_its_own_line() {
    let one = ("x", policy("a", "b", Some("tcp"), &["80"]));
    let base = isolation(&input(&["a", "b"], &[], std::slice::from_ref(&one))).rules().unwrap();
    for name in ["", "\n", "\"; drop", "}", "é\u{202e}", "#", "domain/a", "../x", "policy/x"] {
        let with = input(&["a", "b"], &[], &[one.clone(), (name, policy("b", "a", Some("udp"), &["53"]))]);
        let mut rules = isolation(&with).rules().unwrap();
        assert_eq!(rules.remove(&format!("policy/{name}")), Some(Some("b -> a udp 53".to_owned())));
        assert_eq!(rules, base, "{name:?}");
    }
}
