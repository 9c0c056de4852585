//! The chains of the table: the same whatever the number of domains and policies.

use serde_json::{Value, json};

use super::set::Set;
use super::statement::{Key, Rule, Statement, accept, drop, goto, in_set, matches, named, rule, statement};

/// A chain and its rules.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) rules: Vec<Rule>,
}

/// The chain that the kernel calls.
pub(super) const BASE: &str = "forward";
/// How the kernel calls it.
pub(super) const HOOK: &str = "type filter hook forward priority -1; policy accept;";

/// All chains, in the order that they are written; `wildcard` is `net-*` with the prefix of the host.
pub(super) fn chains(wildcard: &str) -> Vec<Chain> {
    let direction = |original: &str, reply: &str| {
        statement(
            &format!("ct direction vmap {{ original : goto {original}, reply : goto {reply} }}"),
            json!({"vmap": {"key": {"ct": {"key": "direction"}}, "data": {"set": [
                ["original", {"goto": {"target": original}}], ["reply", {"goto": {"target": reply}}]]}}}),
        )
    };
    let any_of = |text: &str, op: &str, left: Value, right: Value| matches(text, op, left, json!({"set": right}));
    let field = |protocol: &str, field: &str| json!({"payload": {"protocol": protocol, "field": field}});
    let prefix = |address: &str, length: u8| json!({"prefix": {"addr": address, "len": length}});
    let state = json!({"ct": {"key": "state"}});

    let forward = vec![
        rule([in_set(&[Key::Iif], Set::Bridges), in_set(&[Key::Oif], Set::Bridges), goto("listed")]),
        rule([named(Key::Iif, wildcard), in_set(&[Key::Oif], Set::Bridges), drop()]),
        rule([in_set(&[Key::Iif], Set::Bridges), named(Key::Oif, wildcard), drop()]),
        rule([named(Key::Iif, wildcard), named(Key::Oif, wildcard), goto("unlisted")]),
    ];
    let listed = vec![
        rule([in_set(&[Key::Iif, Key::Oif], Set::Same), accept()]),
        // Answers are known by their addresses: a third domain must not borrow those of the one that was asked.
        rule([
            matches(
                "fib saddr . iif oif missing",
                "==",
                json!({"fib": {"result": "oif", "flags": ["saddr", "iif"]}}),
                json!(false),
            ),
            drop(),
        ]),
        rule([
            matches("ct state related", "in", state.clone(), json!("related")),
            any_of("meta l4proto { 1, 58 }", "==", Key::Protocol.json(), json!([1, 58])),
            goto("mistakes"),
        ]),
        // Conntrack takes a connection up in the middle, in the direction of the packet that it happens to see first:
        // one that was withdrawn would come back under an opposite policy as soon as its entry times out.
        rule([
            any_of("ct state { new, related }", "==", state, json!(["new", "related"])),
            matches(
                "tcp flags & (fin | syn | rst | ack) != syn",
                "!=",
                json!({"&": [field("tcp", "flags"), ["fin", "syn", "rst", "ack"]]}),
                json!("syn"),
            ),
            drop(),
        ]),
        // Whom a policy lets open a connection could open one with the ports of another that was withdrawn, and what is sent
        // again in that would pass for answers: before a connection is known both ways, answers are those to its opening.
        rule([
            matches("ct status assured", "in", json!({"ct": {"key": "status"}}), json!("assured")),
            direction("onward", "back"),
        ]),
        rule([
            matches("ct direction reply", "==", json!({"ct": {"key": "direction"}}), json!("reply")),
            matches(
                "tcp flags & (syn | rst | ack) == ack",
                "==",
                json!({"&": [field("tcp", "flags"), ["syn", "rst", "ack"]]}),
                json!("ack"),
            ),
            drop(),
        ]),
        rule([direction("onward", "back")]),
        rule([drop()]),
    ];
    // An error has the direction in which it runs itself: from the one who opened the connection, or to them.
    let mistakes = vec![
        rule([
            any_of(
                "icmp type != { destination-unreachable, time-exceeded, parameter-problem }",
                "!=",
                field("icmp", "type"),
                json!(["destination-unreachable", "time-exceeded", "parameter-problem"]),
            ),
            drop(),
        ]),
        rule([
            any_of(
                "icmpv6 type != { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }",
                "!=",
                field("icmpv6", "type"),
                json!(["destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem"]),
            ),
            drop(),
        ]),
        rule([direction("mistakes_onward", "mistakes_back")]),
        rule([drop()]),
    ];
    let unlisted = vec![
        rule([
            matches(
                "fib daddr . iif oif exists",
                "==",
                json!({"fib": {"result": "oif", "flags": ["daddr", "iif"]}}),
                json!(true),
            ),
            accept(),
        ]),
        // A bridge on which the host has no address has no route either: what was routed goes where the routes say. Rules
        // of routing by the interface of arrival are not asked.
        rule([
            matches(
                &format!("fib daddr . mark oifname != \"{wildcard}\""),
                "!=",
                json!({"fib": {"result": "oifname", "flags": ["daddr", "mark"]}}),
                json!(wildcard),
            ),
            accept(),
        ]),
        // No host forwards these from one interface to another (RFC 5771, RFC 4291), so it is one bridge.
        rule([
            any_of(
                "ip daddr { 224.0.0.0/24, 255.255.255.255 }",
                "==",
                field("ip", "daddr"),
                json!([prefix("224.0.0.0", 24), "255.255.255.255"]),
            ),
            accept(),
        ]),
        rule([
            any_of(
                "ip6 daddr { fe80::/10, ff02::/16 }",
                "==",
                field("ip6", "daddr"),
                json!([prefix("fe80::", 10), prefix("ff02::", 16)]),
            ),
            accept(),
        ]),
        rule([drop()]),
    ];
    vec![
        Chain { name: "mistakes_onward", rules: errors([Key::Iif, Key::Oif]) },
        Chain { name: "mistakes_back", rules: errors([Key::Oif, Key::Iif]) },
        Chain { name: "mistakes", rules: mistakes },
        Chain { name: "onward", rules: policies(&ONWARD) },
        Chain { name: "back", rules: policies(&BACK) },
        Chain { name: "listed", rules: listed },
        Chain { name: "unlisted", rules: unlisted },
        Chain { name: BASE, rules: forward },
    ]
}

/// Where a packet carries the one who opened its connection and the one who answers.
struct Sides {
    bridges: [Key; 2],
    addresses4: [Key; 2],
    addresses6: [Key; 2],
    port: Key,
}

const ONWARD: Sides = Sides {
    bridges: [Key::Iif, Key::Oif],
    addresses4: [Key::Source4, Key::Destination4],
    addresses6: [Key::Source6, Key::Destination6],
    port: Key::DestinationPort,
};

const BACK: Sides = Sides {
    bridges: [Key::Oif, Key::Iif],
    addresses4: [Key::Destination4, Key::Source4],
    addresses6: [Key::Destination6, Key::Source6],
    port: Key::SourcePort,
};

fn policies(sides: &Sides) -> Vec<Rule> {
    let ([from, to], protocol, port) = (sides.bridges, Key::Protocol, sides.port);
    let mut rules = vec![rule([in_set(&[from, to, protocol, port], Set::Open), accept()])];
    for (addresses, sets) in [(sides.addresses4, SETS4), (sides.addresses6, SETS6)] {
        rules.extend(of_endpoints([from, to], addresses, [protocol, port], sets).map(rule));
    }
    rules.push(rule([drop()]));
    rules
}

/// The sets of policies with endpoints, by family: from one, to one, and the bridges and policies between two.
const SETS4: [Set; 4] = [Set::From4, Set::To4, Set::At4, Set::Both4];
const SETS6: [Set; 4] = [Set::From6, Set::To6, Set::At6, Set::Both6];

fn of_endpoints(
    [from, to]: [Key; 2],
    [source, destination]: [Key; 2],
    [protocol, port]: [Key; 2],
    [from_set, to_set, at_set, both_set]: [Set; 4],
) -> [Vec<Statement>; 3] {
    [
        vec![in_set(&[from, to, source, protocol, port], from_set), accept()],
        vec![in_set(&[from, to, destination, protocol, port], to_set), accept()],
        vec![
            in_set(&[from, source], at_set),
            in_set(&[to, destination], at_set),
            in_set(&[source, destination, protocol, port], both_set),
            accept(),
        ],
    ]
}

/// Judges an ICMP error by the connection that it is about. nft 1.0.6 takes the port of a connection into a
/// concatenation only after a single protocol.
fn errors(bridges: [Key; 2]) -> Vec<Rule> {
    let service = [Key::CtProtocol, Key::CtPort];
    let mut rules = Vec::new();
    for (number, addresses, sets) in
        [(1, [Key::CtOpener4, Key::CtAnswerer4], SETS4), (58, [Key::CtOpener6, Key::CtAnswerer6], SETS6)]
    {
        let of_family = matches(&format!("meta l4proto {number}"), "==", Key::Protocol.json(), json!(number));
        let [from, to] = bridges;
        let open = vec![in_set(&[from, to, service[0], service[1]], Set::Open), accept()];
        for statements in [open].into_iter().chain(of_endpoints(bridges, addresses, service, sets)) {
            rules.push(rule([of_family.clone()].into_iter().chain(statements)));
        }
    }
    rules.push(rule([drop()]));
    rules
}
