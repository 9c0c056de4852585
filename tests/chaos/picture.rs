//! What is there, without what may differ between two ways to get there.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::cli::Workspace;
use crate::scene::DOMAIN;
use crate::step;

/// Every object by its path, and the ruleset by its table.
pub(crate) type Picture = BTreeMap<String, Value>;

/// Taken by the `incus` and `nft` commands.
pub(crate) fn take(run: &Workspace) -> Picture {
    let incus = run.incus();
    let mut picture = Picture::new();
    for url in run.leftovers() {
        let seen = match url.split_once("/1.0/") {
            Some(_) => of_object(&incus.query(&in_project(&url))),
            None => table(run),
        };
        picture.insert(step::lasting(&url), seen);
    }
    picture
}

fn in_project(url: &str) -> String {
    if url.contains("project=") || url.starts_with("/1.0/projects") || url.starts_with("/1.0/networks") {
        return url.to_owned();
    }
    format!("{url}?project={DOMAIN}")
}

/// The lines in which two pictures differ.
pub(crate) fn differences(wanted: &Picture, found: &Picture) -> Vec<String> {
    let mut lines = Vec::new();
    for (url, value) in wanted {
        match found.get(url) {
            None => lines.push(format!("missing: {url}")),
            Some(other) if other != value => lines.push(format!("differs: {url}\n  wanted {value}\n  found  {other}")),
            Some(_) => {}
        }
    }
    lines.extend(found.keys().filter(|url| !wanted.contains_key(*url)).map(|url| format!("too much: {url}")));
    lines
}

fn of_object(object: &Value) -> Value {
    let mut kept = Map::new();
    for name in ["name", "description", "status", "type", "content_type", "ephemeral", "profiles", "devices"] {
        if let Some(value) = object.get(name) {
            kept.insert(name.to_owned(), value.clone());
        }
    }
    let config = object["config"].as_object().into_iter().flatten();
    let of_a_round = ["incarnation", "fingerprint", ".made", ".owner"];
    let lasting =
        config.filter(|(key, _)| !key.starts_with("volatile.") && !of_a_round.iter().any(|end| key.ends_with(end)));
    kept.insert("config".to_owned(), lasting.map(|(key, value)| (key.clone(), value.clone())).collect());
    Value::Object(kept)
}

/// The lines of the table without its mark, sorted: nft lists sets in the order in which they were made.
fn table(run: &Workspace) -> Value {
    let output = run.inside("nft").args(["list", "table", "inet", "anklume"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_digit = |letter: char| letter.is_ascii_hexdigit();
    let words = text.split_inclusive(|letter| !is_digit(letter));
    let text: String = words.filter(|word| word.trim_end_matches(|letter| !is_digit(letter)).len() < 64).collect();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines.into()
}
