//! What a rule is made of, as text and as nft prints it in JSON.
//!
//! Numbers stand for protocols, since nft takes their names from `/etc/protocols`, which a minimal host lacks.

use serde_json::{Value, json};

use super::set::Set;

/// A value of a packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key {
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

    pub(super) fn json(self) -> Value {
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
pub(super) struct Statement {
    text: String,
    json: Value,
}

pub(super) fn statement(text: &str, json: Value) -> Statement {
    Statement { text: text.to_owned(), json }
}

pub(super) fn matches(text: &str, op: &str, left: Value, right: Value) -> Statement {
    statement(text, json!({"match": {"op": op, "left": left, "right": right}}))
}

pub(super) fn in_set(keys: &[Key], set: Set) -> Statement {
    let text: Vec<&str> = keys.iter().map(|key| key.text()).collect();
    let left = match keys {
        [only] => only.json(),
        several => json!({"concat": several.iter().map(|key| key.json()).collect::<Vec<_>>()}),
    };
    let name = format!("@{}", set.name());
    matches(&format!("{} {name}", text.join(" . ")), "==", left, json!(name))
}

pub(super) fn named(key: Key, wildcard: &str) -> Statement {
    matches(&format!("{} \"{wildcard}\"", key.text()), "==", key.json(), json!(wildcard))
}

pub(super) fn accept() -> Statement {
    statement("accept", json!({"accept": null}))
}

pub(super) fn drop() -> Statement {
    statement("drop", json!({"drop": null}))
}

pub(super) fn goto(chain: &str) -> Statement {
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

pub(super) fn rule(statements: impl IntoIterator<Item = Statement>) -> Rule {
    let statements: Vec<Statement> = statements.into_iter().collect();
    let text: Vec<&str> = statements.iter().map(|statement| statement.text.as_str()).collect();
    let text = text.join(" ");
    Rule { text, json: normalised(&Value::Array(statements.into_iter().map(|statement| statement.json).collect())) }
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
            // nft 1.1.4 calls it so where it only asks whether there is one.
            if fields.get("result") == Some(&json!("check")) {
                fields.insert("result".to_owned(), json!("oif"));
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
