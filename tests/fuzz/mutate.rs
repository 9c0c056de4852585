//! What is done to bytes, to JSON and to texts.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value as Json, json};

/// Texts that mean something somewhere, or look as if they did.
const TEXTS: [&str; 41] = [
    "",
    " ",
    "..",
    "/",
    "%00",
    "\0",
    "\u{202e}",
    "é",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "NaN",
    "99999999999999999999",
    "99999999999999999999GiB",
    "-5MiB",
    "9223372036854775807h",
    "1s1s",
    "10.0.0.0/33",
    "10.0.0.1/-1",
    "0.0.0.0/0",
    "fe80::1%eth0/129",
    "::/0",
    "volatile.x",
    "user.anklume.",
    "user.anklume.fingerprint",
    "eth0",
    "root",
    "sv-a",
    "none",
    "default",
    "Operation not found",
    "instance is busy running a \"x\" operation",
    "{}",
    "[",
    "\"",
    "/1.0/operations/",
    "${x}",
    "%{if",
    // Not known yet, in a message.
    "\0unknown",
];

/// Some edits of bytes: flips, cuts, repetitions, insertions.
pub(crate) fn bytes(dice: &mut StdRng, bytes: &mut Vec<u8>) {
    for _ in 0..dice.random_range(1..=4) {
        if bytes.is_empty() {
            bytes.push(dice.random());
        }
        let at = dice.random_range(0..bytes.len());
        match dice.random_range(0..9) {
            0 => bytes[at] ^= 1 << dice.random_range(0..8),
            1 => bytes[at] = dice.random(),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..(at + dice.random_range(1..=16)).min(bytes.len()))),
            4 => bytes.insert(at, *[0, 0xff, 0xc0, 0x80, b'"', b'{', b'\n'].choose(dice).unwrap()),
            5 => {
                let end = (at + dice.random_range(1..=64)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            6 => {
                // Lengths and counts that promise more than there is.
                let end = (at + 4).min(bytes.len());
                bytes[at..end].fill(0xff);
            }
            7 => bytes.extend((0..dice.random_range(1..32)).map(|_| dice.random::<u8>())),
            _ => {
                let other = dice.random_range(0..bytes.len());
                bytes.swap(at, other);
            }
        }
    }
}

/// Some edits of a text, which stays one.
pub(crate) fn text(dice: &mut StdRng, text: &str) -> String {
    match dice.random_range(0..5) {
        0 => (*TEXTS.choose(dice).unwrap()).to_owned(),
        1 => format!("{text}{}", TEXTS.choose(dice).unwrap()),
        2 => text.repeat(dice.random_range(2..6)),
        3 if dice.random_ratio(1, 20) => "x".repeat(1 << dice.random_range(10..21)),
        _ => {
            let mut raw = text.as_bytes().to_vec();
            bytes(dice, &mut raw);
            String::from_utf8_lossy(&raw).into_owned()
        }
    }
}

fn anything(dice: &mut StdRng) -> Json {
    match dice.random_range(0..13) {
        0 => Json::Null,
        1 => json!(dice.random::<bool>()),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(i64::MIN),
        5 => json!(1.5e308),
        6 => json!([]),
        7 => json!({}),
        8 => json!([null, {}, [[]], "x"]),
        9 => json!({"": null, "name": {}, "config": [], "status_code": "x"}),
        10 => (0..100).fold(Json::Null, |inner, _| json!([inner])),
        _ => json!(text(dice, "x")),
    }
}

fn count(json: &Json) -> usize {
    1 + match json {
        Json::Array(items) => items.iter().map(count).sum(),
        Json::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

fn node<'j>(json: &'j mut Json, left: &mut usize) -> Option<&'j mut Json> {
    if *left == 0 {
        return Some(json);
    }
    *left -= 1;
    match json {
        Json::Array(items) => items.iter_mut().find_map(|item| node(item, left)),
        Json::Object(members) => members.values_mut().find_map(|member| node(member, left)),
        _ => None,
    }
}

/// Some edits of a value: other types, other texts, members that go, come or move.
pub(crate) fn json(dice: &mut StdRng, json: &mut Json) {
    for _ in 0..dice.random_range(1..=3) {
        let mut at = dice.random_range(0..count(json));
        let Some(node) = node(json, &mut at) else { continue };
        match node {
            Json::String(known) if dice.random_ratio(2, 3) => *known = text(dice, known),
            Json::Array(items) if !items.is_empty() && dice.random_ratio(2, 3) => {
                let item = items[dice.random_range(0..items.len())].clone();
                match dice.random_range(0..3) {
                    0 => items.extend(vec![item; dice.random_range(1..200)]),
                    1 => drop(items.remove(0)),
                    _ => items.push(anything(dice)),
                }
            }
            Json::Object(members) if !members.is_empty() && dice.random_ratio(2, 3) => {
                let name = members.keys().nth(dice.random_range(0..members.len())).unwrap().clone();
                let member = match dice.random_range(0..3) {
                    0 => members.remove(&name).unwrap(),
                    _ => anything(dice),
                };
                if dice.random_bool(0.7) {
                    let name = if dice.random() { text(dice, &name) } else { name };
                    members.insert(name, member);
                }
            }
            other => *other = anything(dice),
        }
    }
}

/// The text of a value with a member written twice, or far too deep.
pub(crate) fn odd_json(dice: &mut StdRng, json: &Json) -> String {
    let text = json.to_string();
    match dice.random_range(0..3) {
        0 => text.replacen('{', r#"{"metadata":7,"type":"async","metadata":null,"#, 1),
        1 => {
            let depth = 1 << dice.random_range(6..17);
            text.replacen("\"metadata\":", &format!("\"metadata\":{}", "[".repeat(depth)), 1)
        }
        _ => text.replace("[]", "null").replace("{}", "null"),
    }
}
