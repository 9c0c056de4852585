//! Steps: the writes of one apply, told apart by what they are about and not by when they come.

use serde_json::Value;

use crate::http::Message;

/// The request as a step: `POST /1.0/instances one`, `PUT /1.0/instances/one/state stop`; `None` for a read.
pub(crate) fn of(request: &Message) -> Option<String> {
    let (method, target) = (request.word(0), request.word(1));
    if method == "GET" {
        return None;
    }
    let path = target.split('?').next().unwrap_or_default();
    let is_operation = path.starts_with("/1.0/operations/");
    let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    let words = [body["name"].as_str(), body["action"].as_str(), request.header("x-incus-name")];
    let more: String = words.into_iter().flatten().map(|word| format!(" {word}")).collect();
    let path = if is_operation { "/1.0/operations/{}" } else { path };
    Some(lasting(&format!("{method} {path}{more}")))
}

/// `text` without what differs from run to run: the names of temporary volumes.
pub(crate) fn lasting(text: &str) -> String {
    const START: &str = "anklume-";
    let mut parts = text.split(START);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        plain += if digits == 16 { "{temporary}" } else { START };
        plain += &part[if digits == 16 { 16 } else { 0 }..];
    }
    plain
}
