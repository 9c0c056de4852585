//! Values of a request and of an answer as JSON, with the few things that JSON lacks written as marked texts.

use rmp::encode;
use serde_json::{Map, Value as Json, json};

/// An unknown value.
pub(crate) const UNKNOWN: &str = "\0unknown";

/// An unknown value that the core knows to be not null.
pub(crate) const REFINED: &str = "\0refined";

/// Bytes, as the core writes the type beside a dynamic value.
pub(crate) fn bytes(text: &str) -> Json {
    json!({"\0bytes": text})
}

pub(crate) fn encode(value: &Json) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

fn write(out: &mut Vec<u8>, value: &Json) {
    let count = |length: usize| u32::try_from(length).unwrap();
    match value {
        Json::Null => encode::write_nil(out).unwrap(),
        Json::Bool(truth) => encode::write_bool(out, *truth).unwrap(),
        Json::Number(number) => match number.as_i64() {
            Some(int) => drop(encode::write_sint(out, int).unwrap()),
            None => encode::write_f64(out, number.as_f64().unwrap()).unwrap(),
        },
        Json::String(text) if text == UNKNOWN => out.extend([0xd4, 0, 0]),
        Json::String(text) if text == REFINED => out.extend([0xc7, 3, 12, 0x81, 1, 0xc2]),
        Json::String(text) => encode::write_str(out, text).unwrap(),
        Json::Array(items) => {
            encode::write_array_len(out, count(items.len())).unwrap();
            items.iter().for_each(|item| write(out, item));
        }
        Json::Object(members) => match members.get("\0bytes") {
            Some(text) => encode::write_bin(out, text.as_str().unwrap().as_bytes()).unwrap(),
            None => {
                encode::write_map_len(out, count(members.len())).unwrap();
                for (name, member) in members {
                    encode::write_str(out, name).unwrap();
                    write(out, member);
                }
            }
        },
    }
}

#[track_caller]
pub(crate) fn decode(mut bytes: &[u8]) -> Json {
    let value = read(&mut bytes);
    assert!(bytes.is_empty(), "bytes after the value");
    value
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, after) = rest.split_at(count);
    *rest = after;
    taken
}

fn uint(rest: &mut &[u8], count: usize) -> u64 {
    take(rest, count).iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

fn length(rest: &mut &[u8], count: usize) -> usize {
    usize::try_from(uint(rest, count)).unwrap()
}

fn read(rest: &mut &[u8]) -> Json {
    let marker = take(rest, 1)[0];
    match marker {
        0xc0 => Json::Null,
        0xc2 | 0xc3 => json!(marker == 0xc3),
        0x00..=0x7f => json!(marker),
        0xe0..=0xff => json!(marker.cast_signed()),
        0xcc..=0xcf => json!(uint(rest, 1 << (marker - 0xcc))),
        0xd0..=0xd3 => {
            let unused = 64 - 8 * (1 << (marker - 0xd0));
            json!((uint(rest, 1 << (marker - 0xd0)) << unused).cast_signed() >> unused)
        }
        0xca => json!(f32::from_be_bytes(take(rest, 4).try_into().unwrap())),
        0xcb => json!(f64::from_be_bytes(take(rest, 8).try_into().unwrap())),
        0xa0..=0xbf => text(rest, usize::from(marker & 0x1f)),
        0xd9..=0xdb => {
            let length = length(rest, 1 << (marker - 0xd9));
            text(rest, length)
        }
        0xc4..=0xc6 => {
            let length = length(rest, 1 << (marker - 0xc4));
            bytes(std::str::from_utf8(take(rest, length)).unwrap())
        }
        0x90..=0x9f => array(rest, usize::from(marker & 0x0f)),
        0xdc | 0xdd => {
            let length = length(rest, 2 << (marker - 0xdc));
            array(rest, length)
        }
        0x80..=0x8f => map(rest, usize::from(marker & 0x0f)),
        0xde | 0xdf => {
            let length = length(rest, 2 << (marker - 0xde));
            map(rest, length)
        }
        0xd4 => {
            assert_eq!(take(rest, 2), [0, 0], "an unknown value is written as d4 00 00");
            json!(UNKNOWN)
        }
        _ => panic!("{marker:#x} is nothing that the core reads"),
    }
}

fn text(rest: &mut &[u8], length: usize) -> Json {
    json!(std::str::from_utf8(take(rest, length)).unwrap())
}

fn array(rest: &mut &[u8], length: usize) -> Json {
    (0..length).map(|_| read(rest)).collect()
}

fn map(rest: &mut &[u8], length: usize) -> Json {
    let mut members = Map::new();
    for _ in 0..length {
        let name = read(rest).as_str().unwrap().to_owned();
        let again = members.insert(name, read(rest));
        assert!(again.is_none(), "a key is written twice");
    }
    Json::Object(members)
}
