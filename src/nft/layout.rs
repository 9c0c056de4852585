//! The sets and chains of the table: the same whatever the number of domains and policies.
//!
//! What nft 1.0.6 reads back bounds it: at most 5 parts and 64 bytes in a concatenation. Numbers stand for protocols,
//! since nft takes their names from `/etc/protocols`, which a minimal host lacks.

use serde_json::{Value, json};

/// A part of a key of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Interface,
    Address4,
    Address6,
    Protocol,
    Port,
}

impl Part {
    pub(super) fn nft(self) -> &'static str {
        match self {
            Self::Interface => "ifname",
            Self::Address4 => "ipv4_addr",
            Self::Address6 => "ipv6_addr",
            Self::Protocol => "inet_proto",
            Self::Port => "inet_service",
        }
    }
}

/// A set of the table. Keys are in the order of the one who opens a connection, then the one who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    /// The listed bridges.
    Bridges,
    /// Each of them with itself.
    Same,
    /// Policies between two domains.
    Open,
    /// Policies from an endpoint to a domain.
    From4,
    From6,
    /// Policies from a domain to an endpoint.
    To4,
    To6,
    /// The bridges of endpoints in policies between two of them, and those policies: six parts would be too many for one.
    At4,
    At6,
    Both4,
    Both6,
}

impl Set {
    pub(super) const ALL: [Self; 11] = [
        Self::Bridges,
        Self::Same,
        Self::Open,
        Self::From4,
        Self::From6,
        Self::To4,
        Self::To6,
        Self::At4,
        Self::At6,
        Self::Both4,
        Self::Both6,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bridges => "bridges",
            Self::Same => "same",
            Self::Open => "open",
            Self::From4 => "from4",
            Self::From6 => "from6",
            Self::To4 => "to4",
            Self::To6 => "to6",
            Self::At4 => "at4",
            Self::At6 => "at6",
            Self::Both4 => "both4",
            Self::Both6 => "both6",
        }
    }

    pub(super) fn parts(self) -> &'static [Part] {
        use Part::{Address4, Address6, Interface, Port, Protocol};
        match self {
            Self::Bridges => &[Interface],
            Self::Same => &[Interface, Interface],
            Self::Open => &[Interface, Interface, Protocol, Port],
            Self::From4 | Self::To4 => &[Interface, Interface, Address4, Protocol, Port],
            Self::From6 | Self::To6 => &[Interface, Interface, Address6, Protocol, Port],
            Self::At4 => &[Interface, Address4],
            Self::At6 => &[Interface, Address6],
            Self::Both4 => &[Address4, Address4, Protocol, Port],
            Self::Both6 => &[Address6, Address6, Protocol, Port],
        }
    }

    /// Whether its keys hold ranges.
    pub(super) fn has_ranges(self) -> bool {
        self.parts().contains(&Part::Protocol)
    }
}

/// A value of a packet.
#[derive(Debug, Clone, Copy)]
enum Key {
    Iif,
    Oif,
    Source4,
    Source6,
    Destination4,
    Destination6,
    Protocol,
    SourcePort,
    DestinationPort,
    /// Of the connection that an ICMP error is about, as the one who answers sees it.
    CtProtocol,
    CtPort,
    CtOpener4,
    CtOpener6,
    CtAnswerer4,
    CtAnswerer6,
}

impl Key {
    fn text(self) -> &'static str {
        match self {
            Self::Iif => "iifname",
            Self::Oif => "oifname",
            Self::Source4 => "ip saddr",
            Self::Source6 => "ip6 saddr",
            Self::Destination4 => "ip daddr",
            Self::Destination6 => "ip6 daddr",
            Self::Protocol => "meta l4proto",
            Self::SourcePort => "th sport",
            Self::DestinationPort => "th dport",
            Self::CtProtocol => "ct protocol",
            Self::CtPort => "ct reply proto-src",
            Self::CtOpener4 => "ct original ip saddr",
            Self::CtOpener6 => "ct original ip6 saddr",
            Self::CtAnswerer4 => "ct reply ip saddr",
            Self::CtAnswerer6 => "ct reply ip6 saddr",
        }
    }

    fn json(self) -> Value {
        let payload = |protocol: &str, field: &str| json!({"payload": {"protocol": protocol, "field": field}});
        let ct = |key: &str, direction: &str| json!({"ct": {"key": key, "dir": direction}});
        match self {
            Self::Iif => json!({"meta": {"key": "iifname"}}),
            Self::Oif => json!({"meta": {"key": "oifname"}}),
            Self::Protocol => json!({"meta": {"key": "l4proto"}}),
            Self::Source4 => payload("ip", "saddr"),
            Self::Source6 => payload("ip6", "saddr"),
            Self::Destination4 => payload("ip", "daddr"),
            Self::Destination6 => payload("ip6", "daddr"),
            Self::SourcePort => payload("th", "sport"),
            Self::DestinationPort => payload("th", "dport"),
            Self::CtProtocol => json!({"ct": {"key": "protocol"}}),
            Self::CtPort => ct("proto-src", "reply"),
            Self::CtOpener4 => ct("ip saddr", "original"),
            Self::CtOpener6 => ct("ip6 saddr", "original"),
            Self::CtAnswerer4 => ct("ip saddr", "reply"),
            Self::CtAnswerer6 => ct("ip6 saddr", "reply"),
        }
    }
}

/// A statement, as text and as nft prints it in JSON.
#[derive(Debug, Clone)]
struct Statement {
    text: String,
    json: Value,
}

fn statement(text: &str, json: Value) -> Statement {
    Statement { text: text.to_owned(), json }
}

fn matches(text: &str, op: &str, left: Value, right: Value) -> Statement {
    statement(text, json!({"match": {"op": op, "left": left, "right": right}}))
}

fn in_set(keys: &[Key], set: Set) -> Statement {
    let text: Vec<&str> = keys.iter().map(|key| key.text()).collect();
    let left = match keys {
        [only] => only.json(),
        several => json!({"concat": several.iter().map(|key| key.json()).collect::<Vec<_>>()}),
    };
    let name = format!("@{}", set.name());
    matches(&format!("{} {name}", text.join(" . ")), "==", left, json!(name))
}

fn named(key: Key, wildcard: &str) -> Statement {
    matches(&format!("{} \"{wildcard}\"", key.text()), "==", key.json(), json!(wildcard))
}

fn accept() -> Statement {
    statement("accept", json!({"accept": null}))
}

fn drop() -> Statement {
    statement("drop", json!({"drop": null}))
}

fn goto(chain: &str) -> Statement {
    statement(&format!("goto {chain}"), json!({"goto": {"target": chain}}))
}

/// A rule of a chain.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    /// As it is written; without the comment.
    pub(super) text: String,
    /// Its `expr` in the JSON of nft, normalised.
    pub(super) json: Value,
}

fn rule(statements: impl IntoIterator<Item = Statement>) -> Rule {
    let statements: Vec<Statement> = statements.into_iter().collect();
    let text: Vec<&str> = statements.iter().map(|statement| statement.text.as_str()).collect();
    let text = text.join(" ");
    Rule { text, json: normalised(&Value::Array(statements.into_iter().map(|statement| statement.json).collect())) }
}

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
        rule([named(Key::Iif, wildcard), named(Key::Oif, wildcard), goto("unlisted")]),
        rule([named(Key::Iif, wildcard), in_set(&[Key::Oif], Set::Bridges), drop()]),
        rule([in_set(&[Key::Iif], Set::Bridges), named(Key::Oif, wildcard), drop()]),
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

/// The form of a rule's JSON that does not depend on how nft happens to print it: no counters, anonymous sets and flags
/// in one order, protocols as numbers.
pub(super) fn normalised(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            Value::Array(items.iter().filter(|item| item.get("counter").is_none()).map(normalised).collect())
        }
        Value::Object(fields) => {
            let mut fields: serde_json::Map<String, Value> =
                fields.iter().map(|(key, value)| (key.clone(), normalised(value))).collect();
            for unordered in ["set", "flags", "|"] {
                if let Some(items) = fields.get_mut(unordered) {
                    *items = sorted(items.take());
                }
            }
            if let Some(Value::Array(mask)) = fields.get_mut("&") {
                for side in mask {
                    if let Some(flags) = side.get_mut("|") {
                        *side = flags.take();
                    }
                    *side = sorted(side.take());
                }
            }
            let of_protocol = fields.get("left").is_some_and(|left| *left == Key::Protocol.json());
            if let (true, Some(right)) = (of_protocol, fields.get_mut("right")) {
                *right = numbered(right.take());
            }
            Value::Object(fields)
        }
        other => other.clone(),
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Array(mut items) => {
            items.sort_by_cached_key(Value::to_string);
            Value::Array(items)
        }
        other => other,
    }
}

fn numbered(value: Value) -> Value {
    match value {
        Value::String(name) => protocol_number(&name).map_or(Value::String(name), |number| json!(number)),
        Value::Array(items) => sorted(Value::Array(items.into_iter().map(numbered).collect())),
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(key, value)| (key, numbered(value))).collect()),
        other => other,
    }
}

/// The number of a protocol by the names that nft prints (IANA).
pub(super) fn protocol_number(name: &str) -> Option<u16> {
    match name {
        "icmp" => Some(1),
        "tcp" => Some(6),
        "udp" => Some(17),
        "ipv6-icmp" | "icmpv6" => Some(58),
        _ => None,
    }
}
