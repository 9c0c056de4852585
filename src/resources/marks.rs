//! What the provider writes on the objects it makes: marks by which it knows its own, and the attributes that
//! Incus has no place for.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::plugin::{Private, Value};

/// Key of the fingerprint: a hash of who made the object and what was configured.
pub const FINGERPRINT: &str = "user.anklume.fingerprint";
/// Key of the incarnation: random, written anew when an object is adopted.
pub const INCARNATION: &str = "user.anklume.incarnation";
/// Key of whose an instance is ([`of_owner`]): of those alone a volume is taken when it is deleted.
pub const OWNER: &str = "user.anklume.owner";
const PREFIX: &str = "user.anklume.";
/// Private state: the incarnation that was written, empty where an object without one was imported.
const KEPT: &str = "incarnation";
/// Private state: the incarnations, separated by commas, that stood where one was to be written and may stand still.
const BEFORE: &str = "incarnation_before";
const PATIENCE: [&str; 2] = ["timeouts", "wait"];
const FORMAT_VERSION: &str = "1";

/// The two marks that a create request carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// 64 hexadecimal digits.
    pub fingerprint: String,
    /// 32 hexadecimal digits.
    pub incarnation: String,
}

impl Marks {
    /// Marks with an incarnation of their own.
    #[must_use]
    pub fn new(fingerprint: String) -> Self {
        Self { fingerprint, incarnation: incarnation() }
    }

    /// Writes both into the configuration of an object; no incarnation where that is empty.
    pub fn write(&self, config: &mut BTreeMap<String, String>) {
        config.insert(FINGERPRINT.to_owned(), self.fingerprint.clone());
        if !self.incarnation.is_empty() {
            config.insert(INCARNATION.to_owned(), self.incarnation.clone());
        }
    }
}

/// Who made an object that is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The same owner, from the same configuration: an interrupted create of ours.
    Ours,
    /// Anybody else, or another configuration.
    Foreign,
}

/// Hash of the format version, `owner`, `kind`, `id` and the values that the user configured, as 64 hexadecimal
/// digits. Nulls are left out, and so are the top-level attributes named in `secret`, and `timeouts` and `wait`: raising
/// a limit must not make a stranger of what an earlier apply began.
#[must_use]
pub fn fingerprint(owner: &str, kind: &str, id: &str, config: &Value, secret: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in [FORMAT_VERSION, owner, kind, id] {
        text(&mut hash, part);
    }
    if let Some(attributes) = config.as_map() {
        for (name, value) in attributes.iter().filter(|(name, value)| {
            !value.is_null() && !secret.contains(&name.as_str()) && !PATIENCE.contains(&name.as_str())
        }) {
            text(&mut hash, name);
            feed(&mut hash, value);
        }
    }
    hex(&hash.finalize())
}

/// What [`OWNER`] holds for `owner`, as 16 hexadecimal digits: it may be a path of the operator's machine.
#[must_use]
pub fn of_owner(owner: &str) -> String {
    hex(&Sha256::digest(owner)[..8])
}

/// 32 random hexadecimal digits.
#[must_use]
pub fn incarnation() -> String {
    hex(&rand::random::<[u8; 16]>())
}

/// The key under which an attribute without a place in Incus is kept: `user.anklume.<name>`.
#[must_use]
pub fn stored(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// The value stored under [`stored`]`(name)`.
#[must_use]
pub fn read_stored<'c>(config: &'c BTreeMap<String, String>, name: &str) -> Option<&'c str> {
    config.get(&stored(name)).map(String::as_str)
}

/// Whether an object with this configuration carries `fingerprint`.
#[must_use]
pub fn recognise(config: &BTreeMap<String, String>, fingerprint: &str) -> Found {
    if config.get(FINGERPRINT).is_some_and(|found| found == fingerprint) { Found::Ours } else { Found::Foreign }
}

/// The incarnation that an object carries; empty without one.
#[must_use]
pub fn carried(config: &BTreeMap<String, String>) -> &str {
    config.get(INCARNATION).map_or("", String::as_str)
}

/// Keeps the incarnation that is written, or that an imported object carries.
pub fn keep(private: &mut Private, incarnation: &str) {
    private.set(KEPT, incarnation);
}

/// The incarnation that [`keep`] was given; empty without one.
#[must_use]
pub fn kept(private: &Private) -> &str {
    private.get(KEPT).unwrap_or_default()
}

/// Whether nothing was kept: core loses what stands beside the state where the provider ends in the middle of an update or
/// a delete (OpenTofu 1.12, Terraform 1.11), and hands out none of a tainted object that it replaces.
#[must_use]
pub fn is_lost(private: &Private) -> bool {
    private.get(KEPT).is_none()
}

/// Keeps what an object carried before an adoption whose outcome is not clear: either incarnation may stand now, and
/// both are ours.
pub fn keep_before<'c>(private: &mut Private, found: impl IntoIterator<Item = &'c BTreeMap<String, String>>) {
    let found: Vec<_> = found.into_iter().map(carried).collect();
    if found.is_empty() { private.remove(BEFORE) } else { private.set(BEFORE, found.join(",")) }
}

/// Whether the object is the one that `private` was kept for. A replacement that adopted it wrote another incarnation,
/// and what others made under its name carries none.
///
/// Without anything kept it is: so core destroys a tainted object before it makes another, and nothing was adopted then.
#[must_use]
pub fn same_incarnation(config: &BTreeMap<String, String>, private: &Private) -> bool {
    let found = carried(config);
    private.get(KEPT).is_none_or(|kept| found == kept)
        || private.get(BEFORE).is_some_and(|before| before.split(',').any(|one| one == found))
}

/// Keys that never reach the user's `config`: the server's own and our marks.
#[must_use]
pub fn is_hidden(key: &str) -> bool {
    ["volatile.", "image.", PREFIX].iter().any(|prefix| key.starts_with(prefix))
}

/// Length before bytes, so that no two sequences of texts hash alike.
fn text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text.as_bytes());
}

fn feed(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Null | Value::Unknown => text(hash, "null"),
        Value::Bool(flag) => text(hash, if *flag { "true" } else { "false" }),
        Value::Number(_) => {
            text(hash, &value.decode::<serde_json::Value>().map(|json| json.to_string()).unwrap_or_default())
        }
        Value::String(string) => {
            hash.update(b"s");
            text(hash, string);
        }
        Value::List(items) => {
            hash.update(b"l");
            hash.update((items.len() as u64).to_be_bytes());
            items.iter().for_each(|item| feed(hash, item));
        }
        Value::Map(members) => {
            hash.update(b"m");
            let set: Vec<_> = members.iter().filter(|(_, value)| !value.is_null()).collect();
            hash.update((set.len() as u64).to_be_bytes());
            for (name, value) in set {
                text(hash, name);
                feed(hash, value);
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, Value)]) -> Value {
        Value::Map(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    fn of(config: &Value) -> String {
        fingerprint("me", "anklume_domain", "pro", config, &["cloud_init"])
    }

    #[test]
    fn a_fingerprint_depends_on_what_is_configured_and_on_nothing_else() {
        let base = config(&[("name", "pro".into()), ("description", Value::Null)]);
        assert_eq!(of(&base), of(&config(&[("name", "pro".into())])));
        assert_eq!(of(&base), of(&config(&[("name", "pro".into()), ("cloud_init", "secret".into())])));
        assert_ne!(of(&base), of(&config(&[("name", "pro".into()), ("nat", true.into())])));
        assert_ne!(of(&base), fingerprint("you", "anklume_domain", "pro", &base, &[]));
        assert_ne!(of(&base), fingerprint("me", "anklume_profile", "pro", &base, &[]));
    }

    #[test]
    fn neighbouring_texts_do_not_run_together() {
        assert_ne!(of(&config(&[("a", "bc".into())])), of(&config(&[("ab", "c".into())])));
    }

    #[test]
    fn the_format_of_a_fingerprint_does_not_change_unnoticed() {
        let value = config(&[("name", "pro".into()), ("subnet_id", 4_i64.into()), ("nat", true.into())]);
        assert_eq!(of(&value).len(), 64);
    }

    fn carrying(incarnation: &str) -> BTreeMap<String, String> {
        let mut config = BTreeMap::new();
        Marks { fingerprint: "f".into(), incarnation: incarnation.into() }.write(&mut config);
        config
    }

    #[test]
    fn an_object_of_another_incarnation_or_of_none_is_another_object() {
        let mut private = Private::default();
        assert!(same_incarnation(&carrying("a"), &private), "a tainted one that goes before another is made");
        keep(&mut private, "a");
        assert!(same_incarnation(&carrying("a"), &private));
        assert!(!same_incarnation(&carrying("b"), &private));
        assert!(!same_incarnation(&BTreeMap::new(), &private));
    }

    #[test]
    fn an_import_without_a_mark_is_another_object_once_somebody_has_marked_it() {
        let mut private = Private::default();
        keep(&mut private, "");
        assert!(same_incarnation(&carrying(""), &private));
        assert!(!same_incarnation(&carrying("a"), &private));
    }

    #[test]
    fn after_an_adoption_that_failed_only_the_incarnations_that_may_stand_are_ours() {
        let mut private = Private::default();
        keep(&mut private, "b");
        keep_before(&mut private, [&carrying("a"), &carrying("z")]);
        for ours in ["a", "b", "z"] {
            assert!(same_incarnation(&carrying(ours), &private), "{ours}");
        }
        assert!(!same_incarnation(&carrying("c"), &private));
        assert!(!same_incarnation(&BTreeMap::new(), &private));
        keep_before(&mut private, []);
        assert!(!same_incarnation(&carrying("a"), &private));
    }

    #[test]
    fn incarnations_differ() {
        assert_ne!(incarnation(), incarnation());
        assert_eq!(incarnation().len(), 32);
    }
}
