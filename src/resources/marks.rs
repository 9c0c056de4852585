//! The keys that the provider writes on its objects: marks by which it recognises them, and the attributes that Incus
//! cannot store.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::session::Session;
use super::uid::Uid;
use crate::plugin::{Private, Value};

/// Key of the fingerprint: a hash of the owner and of the planned configuration.
pub const FINGERPRINT: &str = "user.anklume.fingerprint";
/// Key of the incarnation: a time and random digits, written anew when an object is adopted.
pub const INCARNATION: &str = "user.anklume.incarnation";
/// Key of the hash of an instance's owner ([`of_owner`]): a deleted volume or profile is detached from those alone.
pub const OWNER: &str = "user.anklume.owner";
/// Key of what `volatile.uuid` of an instance was when it was written: a copy has these keys, and another uuid.
const UUID: &str = "user.anklume.uuid";
/// Key by which Incus tells instances apart. A project with limits takes none from a request (6.0.4).
const VOLATILE_UUID: &str = "volatile.uuid";
/// Key of the uuid that an instance had before its root disk moved by a copy with another one.
const MOVED_UUID: &str = "user.anklume.moved_uuid";
/// Key of the templates that Incus applies at the first start of an instance: `copy` on a copy (6.0 to 7.3).
const TEMPLATE: &str = "volatile.apply_template";
const PREFIX: &str = "user.anklume.";
/// Private state of before 0.1.0: the incarnation that was written, empty where an object without one was imported.
const KEPT: &str = "incarnation";
/// Private state of before 0.1.0: further incarnations, separated by commas, that may be on the object.
const BEFORE: &str = "incarnation_before";
/// Private state: the hash of the owner that wrote the object last.
const WRITTEN_BY: &str = "owner";
/// Attributes that limit a wait and say nothing of the object.
const PATIENCE: [&str; 2] = ["timeouts", "wait"];
const FORMAT_VERSION: &str = "2";
/// The age up to which an object of ours counts as left by an interrupted create.
const YOUNG: Duration = Duration::from_secs(24 * 60 * 60);

/// The two marks that a create request carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// 64 hexadecimal digits.
    pub fingerprint: String,
    /// Eight hexadecimal digits (Unix time in seconds), `-`, 24 random ones.
    pub incarnation: String,
}

impl Marks {
    /// Marks of a new object.
    #[must_use]
    pub fn new(fingerprint: String) -> Self {
        Self { fingerprint, incarnation: incarnation(seconds()) }
    }

    /// The marks that an update writes on the object of `uid`, which keeps its incarnation.
    #[must_use]
    pub fn of(mut self, uid: &Uid) -> Self {
        if let Some(mark) = uid.mark() {
            mark.clone_into(&mut self.incarnation);
        }
        self
    }

    /// The marks of an object that is adopted: later than the one that it carries, whatever the clock of who wrote that.
    pub fn supersede(&mut self, found: &BTreeMap<String, String>) {
        let mark = carried(found);
        if !mark.is_empty() && !is_older(mark, &self.incarnation) {
            self.incarnation = incarnation(time_of(mark).unwrap_or_default().saturating_add(1));
        }
    }

    /// Whether an object that is to be adopted carries the mark `before` still, or this one after a write whose answer was
    /// lost.
    #[must_use]
    pub fn may_replace(&self, before: &str, config: &BTreeMap<String, String>) -> bool {
        [before, &self.incarnation].contains(&carried(config))
    }

    /// Writes both into the configuration of an object.
    pub fn write(&self, config: &mut BTreeMap<String, String>) {
        config.insert(FINGERPRINT.to_owned(), self.fingerprint.clone());
        config.insert(INCARNATION.to_owned(), self.incarnation.clone());
    }
}

/// Who created an object that exists already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This state, from this configuration, less than 24 hours ago or with recovery asked for: it is continued.
    Ours,
    /// This state, from this configuration; since when, where its mark says so.
    Finished(Option<String>),
    /// Somebody else, or another configuration.
    Foreign,
}

/// Hash of the format version, `owner`, `kind`, `id` and `settings` ([`crate::plugin::Schema::settings`]), as 64
/// hexadecimal digits. Nulls are left out, and so are `timeouts` and `wait`: raising a limit must not make a stranger of what
/// an earlier apply began.
#[must_use]
pub fn fingerprint(owner: &str, kind: &str, id: &str, settings: &Value) -> String {
    let mut hash = Sha256::new();
    for part in [FORMAT_VERSION, owner, kind, id] {
        text(&mut hash, part);
    }
    if let Some(attributes) = settings.as_map() {
        for (name, value) in
            attributes.iter().filter(|(name, value)| !value.is_null() && !PATIENCE.contains(&name.as_str()))
        {
            text(&mut hash, name);
            feed(&mut hash, value);
        }
    }
    hex(&hash.finalize())
}

/// The value of [`OWNER`] for `owner`, as 16 hexadecimal digits: it may be a path of the operator's machine.
#[must_use]
pub fn of_owner(owner: &str) -> String {
    hex(&Sha256::digest(owner)[..8])
}

/// The values of [`OWNER`] on instances of this state: of the present owner, and of the one that wrote the object of
/// `private`, which is the default of before 0.1.0 where `private` does not say.
#[must_use]
pub fn owners(session: &Session, private: &Private) -> Vec<String> {
    let before = private.get(WRITTEN_BY).map_or_else(|| of_owner(session.legacy_owner()), str::to_owned);
    vec![of_owner(session.owner()), before]
}

/// The private state of an object that this session writes.
#[must_use]
pub fn private(session: &Session) -> Private {
    let mut private = Private::default();
    private.set("prefix", session.prefix());
    written(session, &mut private);
    private
}

/// Keeps that this session has written the object.
pub fn written(session: &Session, private: &mut Private) {
    private.set(WRITTEN_BY, of_owner(session.owner()));
}

fn seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

fn incarnation(seconds: u32) -> String {
    format!("{seconds:08x}-{}", hex(&rand::random::<[u8; 12]>()))
}

/// Keeps the uuid of an instance, so that its copies are told from it.
pub fn write_uuid(config: &mut BTreeMap<String, String>) {
    if let Some(uuid) = config.get(VOLATILE_UUID).cloned() {
        config.insert(UUID.to_owned(), uuid);
    }
}

/// Keeps on the copy by which a root disk moves which instance it is.
pub fn write_moved(copy: &mut BTreeMap<String, String>, from: &BTreeMap<String, String>) {
    if let Some(uuid) = from.get(VOLATILE_UUID).filter(|uuid| copy.get(VOLATILE_UUID) != Some(uuid)) {
        copy.insert(MOVED_UUID.to_owned(), uuid.clone());
    }
    write_uuid(copy);
}

/// Whether an instance had `uuid` before its root disk moved.
#[must_use]
pub fn had_uuid(config: &BTreeMap<String, String>, uuid: &str) -> bool {
    config.get(MOVED_UUID).is_some_and(|moved| moved == uuid)
}

/// Forgets the uuid before a move, once the state has the new one.
pub fn forget_moved(config: &mut BTreeMap<String, String>, known: Option<&str>) {
    if config.get(VOLATILE_UUID).map(String::as_str) == known {
        config.remove(MOVED_UUID);
    }
}

/// Random text for what no other run may meet, as 32 hexadecimal digits.
#[must_use]
pub fn random() -> String {
    hex(&rand::random::<[u8; 16]>())
}

/// When a mark was written, as Unix time in seconds; those of before 0.1.0 do not say.
fn time_of(mark: &str) -> Option<u32> {
    let (time, random) = mark.split_once('-')?;
    let is_mark = time.len() == 8 && random.len() == 24;
    is_mark.then(|| u32::from_str_radix(time, 16).ok()).flatten()
}

/// Whether one mark was written before another; so it counts where neither says when.
#[must_use]
pub fn is_older(mark: &str, than: &str) -> bool {
    match (time_of(mark), time_of(than)) {
        (Some(mark), Some(than)) => mark < than,
        (mark, _) => mark.is_none(),
    }
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

/// Whether an instance is a copy of the one that its marks were written on.
#[must_use]
pub fn is_copy(config: &BTreeMap<String, String>) -> bool {
    config.get(UUID).is_some_and(|uuid| config.get(VOLATILE_UUID) != Some(uuid))
}

/// Whether an instance carries the hash of one of these owners, and is no copy.
#[must_use]
pub fn is_owned(config: &BTreeMap<String, String>, owners: &[String]) -> bool {
    !is_copy(config) && config.get(OWNER).is_some_and(|owner| owners.contains(owner))
}

/// Tells who created the object with this configuration.
#[must_use]
pub fn recognise(session: &Session, config: &BTreeMap<String, String>, fingerprint: &str) -> Found {
    let was_copied = config.get(TEMPLATE).is_some_and(|template| template == "copy");
    if is_copy(config) || was_copied || config.get(FINGERPRINT).is_none_or(|found| found != fingerprint) {
        return Found::Foreign;
    }
    let since = time_of(carried(config));
    let is_young = since.is_some_and(|since| u64::from(since.abs_diff(seconds())) < YOUNG.as_secs());
    if is_young || session.recovers() { Found::Ours } else { Found::Finished(since.and_then(date)) }
}

/// Unix time in RFC 3339, such as `2026-11-30T22:25:55Z`.
fn date(seconds: u32) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp(seconds.into()).ok()?;
    let (hour, minute, second) = at.to_hms();
    Some(format!("{}T{hour:02}:{minute:02}:{second:02}Z", at.date()))
}

/// The incarnation that an object carries; empty without one.
#[must_use]
pub fn carried(config: &BTreeMap<String, String>) -> &str {
    config.get(INCARNATION).map_or("", String::as_str)
}

/// The incarnation that a version before 0.1.0 kept beside the state, and those that may be on the object as well.
#[must_use]
pub fn kept(private: &Private) -> Option<(&str, &str)> {
    private.get(KEPT).map(|kept| (kept, private.get(BEFORE).unwrap_or_default()))
}

/// Whether nothing was kept: core loses what is beside the state where the provider ends in the middle of an update or
/// a delete (OpenTofu 1.12, Terraform 1.11), and hands out none of a tainted object that it replaces.
#[must_use]
pub fn is_lost(private: &Private) -> bool {
    private.get("prefix").is_none()
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
    use crate::resources::session::Options;

    fn config(pairs: &[(&str, Value)]) -> Value {
        Value::Map(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    fn of(config: &Value) -> String {
        fingerprint("me", "anklume_domain", "pro", config)
    }

    #[test]
    fn a_fingerprint_depends_on_what_is_configured_and_on_nothing_else() {
        let base = config(&[("name", "pro".into()), ("description", Value::Null)]);
        assert_eq!(of(&base), of(&config(&[("name", "pro".into())])));
        assert_eq!(of(&base), of(&config(&[("name", "pro".into()), ("timeouts", "1m".into())])));
        assert_ne!(of(&base), of(&config(&[("name", "pro".into()), ("nat", true.into())])));
        assert_ne!(of(&base), fingerprint("you", "anklume_domain", "pro", &base));
        assert_ne!(of(&base), fingerprint("me", "anklume_profile", "pro", &base));
    }

    #[test]
    fn neighbouring_texts_do_not_run_together() {
        assert_ne!(of(&config(&[("a", "bc".into())])), of(&config(&[("ab", "c".into())])));
    }

    #[test]
    fn the_format_of_a_fingerprint_does_not_change_unnoticed() {
        let value = config(&[("name", "pro".into()), ("subnet_id", 4_i64.into()), ("nat", true.into())]);
        assert_eq!(of(&value), "82419f6a0118a690f6dc451855be0ee8803cd8e2b17fe4657d37ff0388617a51");
    }

    #[test]
    fn a_mark_says_when_it_was_written() {
        let marks = Marks::new("f".into());
        assert!(time_of(&marks.incarnation).is_some_and(|time| time.abs_diff(seconds()) < 5));
        assert_eq!(time_of("0123456789abcdef0123456789abcdef"), None);
        assert_ne!(Marks::new("f".into()).incarnation, marks.incarnation);
        assert_eq!(date(1_764_541_555).as_deref(), Some("2025-11-30T22:25:55Z"));
    }

    #[test]
    fn a_copy_is_never_continued() {
        let mut config = BTreeMap::new();
        Marks::new("f".into()).write(&mut config);
        config.insert(VOLATILE_UUID.to_owned(), "u".to_owned());
        write_uuid(&mut config);
        let session = Session::new(Options { recovers: true, ..Options::default() });
        assert_eq!(recognise(&session, &config, "f"), Found::Ours);
        for (key, value) in [(VOLATILE_UUID, "v"), (TEMPLATE, "copy")] {
            let mut copy = config.clone();
            copy.insert(key.to_owned(), value.to_owned());
            assert_eq!(recognise(&session, &copy, "f"), Found::Foreign, "{key}");
        }
    }

    #[test]
    fn an_adopted_object_carries_a_later_mark_than_before() {
        for found in [incarnation(seconds() + 100), incarnation(5), "0123456789abcdef0123456789abcdef".to_owned()] {
            let mut marks = Marks::new("f".into());
            marks.supersede(&[(INCARNATION.to_owned(), found.clone())].into());
            assert!(is_older(&found, &marks.incarnation), "{found} {}", marks.incarnation);
        }
    }

    #[test]
    fn only_a_young_object_of_this_configuration_is_continued_unless_recovery_is_asked_for() {
        let of_age = |seconds: u32, fingerprint: &str| {
            let mut config = BTreeMap::new();
            Marks { fingerprint: fingerprint.into(), incarnation: incarnation(seconds) }.write(&mut config);
            config
        };
        let now = seconds();
        let session = Session::new(Options::default());
        let day = 24 * 60 * 60;
        assert_eq!(recognise(&session, &of_age(now - day + 60, "f"), "f"), Found::Ours);
        assert_eq!(recognise(&session, &of_age(now, "g"), "f"), Found::Foreign);
        assert_eq!(recognise(&session, &of_age(1_764_541_555, "f"), "f"), Found::Finished(date(1_764_541_555)));
        let mut first = of_age(now, "f");
        first.insert(INCARNATION.to_owned(), "0123456789abcdef0123456789abcdef".to_owned());
        assert_eq!(recognise(&session, &first, "f"), Found::Finished(None));
        let session = Session::new(Options { recovers: true, ..Options::default() });
        assert_eq!(recognise(&session, &first, "f"), Found::Ours);
        assert_eq!(recognise(&session, &of_age(now, "g"), "f"), Found::Foreign);
    }
}
