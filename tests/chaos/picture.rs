//! What is there, without what may differ between two ways to get there.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::incus::Incus;
use crate::lab::Lab;
use crate::scene::DOMAIN;
use crate::step;

/// Every object by its path, and the ruleset by its table.
pub(crate) type Picture = BTreeMap<String, Value>;

/// Taken by the `incus` and `nft` commands.
pub(crate) fn take(lab: &Lab) -> Picture {
    let incus = Incus::new(lab);
    let mut picture = Picture::new();
    for url in objects(lab) {
        let seen = match url.split_once("/1.0/") {
            Some(_) => of_object(lab, &url, &incus.query(&in_project(&url))),
            None => table(lab),
        };
        picture.insert(step::lasting(&url), seen);
    }
    picture
}

/// Every object and table that the scene left.
fn objects(lab: &Lab) -> impl Iterator<Item = String> {
    lab.leftovers().into_iter().filter(|left| !left.starts_with("process "))
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

/// The file in which a volume of a pool holds its text; of the pool's kind `dir`, which mounts nothing.
pub(crate) fn of_volume(lab: &Lab, pool: &str, directory: &str) -> PathBuf {
    lab.dir().join(format!("incus/storage-pools/{pool}/custom/{directory}/text"))
}

/// The file in which what stands at `url` holds its text, if it holds any.
pub(crate) fn text(lab: &Lab, url: &str, object: &Value) -> Option<PathBuf> {
    let path = url.split('?').next()?;
    let parts: Vec<_> = path.trim_start_matches("/1.0/").split('/').collect();
    match parts[..] {
        ["storage-pools", pool, "volumes", "custom", name] if object["content_type"] == "filesystem" => {
            Some(of_volume(lab, pool, &format!("{DOMAIN}_{name}")))
        }
        ["instances", name] => {
            let pool = object["expanded_devices"]["root"]["pool"].as_str()?;
            Some(lab.dir().join(format!("incus/storage-pools/{pool}/containers/{DOMAIN}_{name}/rootfs/text")))
        }
        _ => None,
    }
}

/// The files of all that holds a text.
pub(crate) fn texts(lab: &Lab) -> Vec<PathBuf> {
    let incus = Incus::new(lab);
    let urls = objects(lab).filter(|url| url.starts_with("/1.0/"));
    urls.filter_map(|url| text(lab, &url, &incus.query(&in_project(&url)))).collect()
}

/// Drops the text of every object whose path satisfies `is_lost`.
pub(crate) fn forget_texts(picture: &mut Picture, is_lost: impl Fn(&str) -> bool) {
    for (url, value) in picture {
        if let Some(object) = value.as_object_mut().filter(|_| is_lost(url)) {
            object.remove("text");
        }
    }
}

fn of_object(lab: &Lab, url: &str, object: &Value) -> Value {
    let mut kept = Map::new();
    if let Some(file) = text(lab, url, object) {
        kept.insert("text".to_owned(), fs::read_to_string(file).ok().into());
    }
    for name in ["name", "description", "status", "type", "content_type", "ephemeral", "profiles", "devices"] {
        if let Some(value) = object.get(name) {
            kept.insert(name.to_owned(), value.clone());
        }
    }
    let config = object["config"].as_object().into_iter().flatten();
    let of_a_round = ["incarnation", "fingerprint", ".made", ".owner", "uuid"];
    let lasting =
        config.filter(|(key, _)| !key.starts_with("volatile.") && !of_a_round.iter().any(|end| key.ends_with(end)));
    kept.insert("config".to_owned(), lasting.map(|(key, value)| (key.clone(), value.clone())).collect());
    Value::Object(kept)
}

/// The lines of the table without its mark, sorted: nft lists sets in the order in which they were made.
fn table(lab: &Lab) -> Value {
    let output = lab.command("nft").args(["list", "table", "inet", "anklume"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_digit = |letter: char| letter.is_ascii_hexdigit();
    let words = text.split_inclusive(|letter| !is_digit(letter));
    let text: String = words.filter(|word| word.trim_end_matches(|letter| !is_digit(letter)).len() < 24).collect();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines.into()
}
