//! A volume as it is configured, as Incus keeps it, and as the state shows it. Pure.

use serde::{Deserialize, Serialize};

use super::exposed;
use super::filled::{DRIVERS, FILLED, Filled, MADE_WITH};
use super::schema::{self, digits};
use crate::incus::is_true;
use crate::incus::{Config, volume::Volume};
use crate::plugin::{DecodeError, Private, Value};
use crate::resources::keys::{self, Own};
use crate::resources::session::Session;
use crate::resources::timeouts::{self, Timeouts};
use crate::resources::{marks, name, uid};

/// Keys with an attribute of their own.
pub(super) const OWN: &[Own] = &[(SIZE, "size"), (SCHEDULE, "snapshots_schedule"), (EXPIRY, "snapshots_expiry")];
pub(super) const SIZE: &str = "size";
pub(super) const SCHEDULE: &str = "snapshots.schedule";
pub(super) const EXPIRY: &str = "snapshots.expiry";
const SOURCE: &str = "source";
const PROTECTION: &str = "delete_protection";

/// Private state: the filesystem of a volume that cannot shrink.
const RIGID: &str = "rigid";
/// What Incus shrinks on a block device (LVM, Ceph, ZFS in block mode; 6.0 to 7.3). Elsewhere a size is a quota.
const SHRINKING: [&str; 2] = ["ext4", "btrfs"];

/// Keeps whether a volume can shrink, which a plan cannot ask.
pub(super) fn keep_rigid(found: &Volume, private: &mut Private) {
    let filesystem = found.config.get("block.filesystem").filter(|name| !name.is_empty());
    match filesystem.filter(|name| found.content_type == "filesystem" && !SHRINKING.contains(&name.as_str())) {
        Some(name) => private.set(RIGID, name.as_str()),
        None => private.remove(RIGID),
    }
}

/// The filesystem that [`keep_rigid`] kept.
pub(super) fn rigid(private: &Private) -> Option<&str> {
    private.get(RIGID)
}

/// The attributes that a configuration may set.
#[derive(Clone, Deserialize)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) domain: String,
    pub(super) pool: Option<String>,
    pub(super) content_type: String,
    pub(super) size: Option<String>,
    description: Option<String>,
    pub(super) config: Option<Config>,
    pub(super) source: Option<Source>,
    pub(super) snapshots_schedule: Option<String>,
    pub(super) snapshots_expiry: Option<String>,
    delete_protection: Option<bool>,
    timeouts: Timeouts,
}

/// `source`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Source {
    pub(super) volume: Option<String>,
    pub(super) snapshot: Option<String>,
    pub(super) pool: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) file: Option<String>,
    pub(super) url: Option<String>,
    pub(super) sha256: Option<String>,
}

impl Source {
    /// As it stands on the volume.
    fn note(&self) -> Option<String> {
        let url = self.url.as_deref().map(|url| exposed::shown(url).to_owned());
        serde_json::to_string(&Self { url, ..self.clone() }).ok()
    }

    /// Whether what stands on the volume is the same content, wherever it came from.
    fn is_noted(&self, config: &Config) -> bool {
        let noted = marks::read_stored(config, SOURCE).and_then(|text| serde_json::from_str::<Self>(text).ok());
        let sha256 = noted.and_then(|noted| noted.sha256);
        matches!((&self.sha256, sha256), (Some(ours), Some(noted)) if digits(ours) == digits(&noted))
    }
}

impl Model {
    /// Reads what is planned.
    ///
    /// # Errors
    ///
    /// When `planned` does not have the form of the schema.
    pub(super) fn of(planned: &Value) -> Result<Self, DecodeError> {
        planned.decode()
    }

    pub(super) fn is_iso(&self) -> bool {
        self.content_type == "iso"
    }

    /// Brings a volume to what is configured; returns whether anything changed. An ISO has its description and marks only.
    ///
    /// Every attribute is named, so that a new one does not compile until it has its place.
    pub(super) fn apply(&self, volume: &mut Volume, filled: &Filled) -> bool {
        let before = volume.clone();
        let Self {
            size,
            description,
            config,
            source,
            snapshots_schedule,
            snapshots_expiry,
            delete_protection,
            timeouts,
            // Decided at creation, or by an action.
            name: _,
            domain: _,
            pool: _,
            content_type: _,
        } = self;
        volume.description = description.clone().unwrap_or_default();
        if !self.is_iso() {
            let mut wanted = config.clone().unwrap_or_default();
            let made_with: Vec<_> = DRIVERS.into_iter().filter(|key| wanted.contains_key(*key)).collect();
            let stays = |key: &str| filled.has(key, &volume.config) || DRIVERS.contains(&key) || key == keys::DEPENDENT;
            for (key, value) in volume.config.iter().filter(|(key, _)| stays(key)) {
                wanted.entry(key.clone()).or_insert_with(|| value.clone());
            }
            keys::bring(&mut volume.config, &wanted, OWN);
            // A source may have given a size that the configuration does not.
            if let Some(size) = size {
                volume.config.insert(SIZE.to_owned(), size.clone());
            }
            for (key, value) in [(SCHEDULE, snapshots_schedule), (EXPIRY, snapshots_expiry)] {
                if value.is_some() || !filled.has(key, &volume.config) {
                    keys::put(&mut volume.config, key, value.clone());
                }
            }
            let mark = filled.mark(&volume.config);
            keys::put(&mut volume.config, &marks::stored(FILLED), mark);
            let made_with = (!made_with.is_empty()).then(|| made_with.join(","));
            keys::put(&mut volume.config, &marks::stored(MADE_WITH), made_with);
        }
        timeouts::store(&mut volume.config, timeouts);
        let protected = delete_protection.unwrap_or(true).to_string();
        keys::put(&mut volume.config, &marks::stored(PROTECTION), Some(protected));
        let is_noted = source.as_ref().is_some_and(|source| source.is_noted(&volume.config));
        if !is_noted {
            let note = source.as_ref().and_then(Source::note);
            keys::put(&mut volume.config, &marks::stored(SOURCE), note);
        }
        *volume != before
    }
}

/// The fingerprint of a volume. Of a source with a checksum that alone counts: a signed URL is another one each time. The
/// pool is a part of the id, and a size that a source gives is none of the configuration.
pub(super) fn fingerprint(session: &Session, id: &str, config: &Value, planned: &Value, prior: &Value) -> String {
    let mut settings = schema::schema().settings(planned, prior);
    settings.set("pool", Value::Null);
    if config.get("size").is_null() {
        settings.set("size", Value::Null);
    }
    if !settings.get("source").get("sha256").is_null() {
        let mut source = Value::object();
        source.set("sha256", settings.get("source").get("sha256").clone());
        settings.set("source", source);
    }
    marks::fingerprint(session.owner(), super::KIND, id, &settings)
}

/// The name under which a volume is filled: that of its owner and id, so that the next create of it finds what an
/// interrupted one left, whatever was configured then.
pub(super) fn temporary(owner: &str, id: &str) -> String {
    format!("{}{}", name::HALF_MADE, &marks::fingerprint(owner, super::KIND, id, &Value::object())[..16])
}

/// The protection that stands on a volume; `None` where none was ever written.
pub(super) fn protection(config: &Config) -> Option<bool> {
    marks::read_stored(config, PROTECTION).map(is_true)
}

/// How long an ISO is, in bytes.
pub(super) fn length(iso: &Volume) -> Option<u64> {
    iso.config.get(SIZE).and_then(|text| text.parse().ok())
}

/// Takes the protection off.
pub(super) fn lift(volume: &mut Volume) -> bool {
    let before = volume.config.insert(marks::stored(PROTECTION), "false".to_owned());
    before.as_deref() != Some("false")
}

/// Where a volume is.
pub(super) struct Place<'p> {
    pub(super) domain: &'p str,
    pub(super) pool: &'p str,
}

/// The whole state. `prior` gives the spelling of what means the same; `protected` is the protection of a volume on which
/// none was ever written.
pub(super) fn state(found: &Volume, prior: &Value, place: &Place<'_>, protected: bool) -> Value {
    let config = &found.config;
    let filled = Filled::of(config).unless_shown(prior);
    let mut visible = keys::visible(config, OWN);
    visible.retain(|key, _| !filled.has(key, config) && key != keys::DEPENDENT);
    let text = |key: &str| Value::from(config.get(key).filter(|_| !filled.has(key, config)).cloned());
    let mut state = Value::object();
    state.set("id", format!("{}/{}/{}", place.domain, place.pool, found.name));
    state.set(uid::NAME, prior.get(uid::NAME).clone());
    state.set("name", found.name.as_str());
    state.set("domain", place.domain);
    state.set("pool", place.pool);
    state.set("content_type", found.content_type.as_str());
    state.set("size", text(SIZE));
    state.set("description", keys::description(&found.description, prior.get("description")));
    state.set("config", keys::like_prior(prior.get("config"), visible));
    state.set("source", source(config, prior.get("source")));
    state.set("snapshots_schedule", text(SCHEDULE));
    state.set("snapshots_expiry", text(EXPIRY));
    state.set("delete_protection", protection(config).unwrap_or(protected));
    state.set("timeouts", prior.get("timeouts").clone());
    state
}

fn source(config: &Config, prior: &Value) -> Value {
    if prior.as_map().is_some() {
        return prior.clone();
    }
    let stored = marks::read_stored(config, SOURCE);
    let json = stored.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    json.filter(serde_json::Value::is_object).map_or(Value::Null, |json| {
        let json = Value::from_json(&json);
        Value::Map(schema::SOURCE.iter().map(|member| ((*member).to_owned(), json.get(member).clone())).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn model(json: serde_json::Value) -> Model {
        let mut all = json!({"name": "data", "domain": "pro", "content_type": "filesystem"});
        all.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        Model::of(&Value::from_json(&all)).unwrap()
    }

    fn place() -> Place<'static> {
        Place { domain: "pro", pool: "default" }
    }

    #[test]
    fn what_is_applied_is_read_back() {
        let mut volume = Volume { content_type: "filesystem".into(), name: "data".into(), ..Volume::default() };
        let wanted = json!({"size": "1GiB", "config": {"user.a": "b"}, "snapshots_expiry": "1d", "delete_protection": false,
            "source": {"volume": "old"}});
        assert!(model(wanted.clone()).apply(&mut volume, &Filled::default()));
        assert!(!model(wanted).apply(&mut volume, &Filled::default()), "a second time");
        let state = state(&volume, &Value::Null, &place(), true);
        assert_eq!(state.get("id").as_str(), Some("pro/default/data"));
        assert_eq!(state.get("size").as_str(), Some("1GiB"));
        assert_eq!(state.get("config"), &Value::from_json(&json!({"user.a": "b"})));
        assert_eq!(state.get("delete_protection").as_bool(), Some(false));
        assert_eq!(state.get("source").get("volume").as_str(), Some("old"));
    }

    #[test]
    fn what_incus_fills_in_is_neither_shown_nor_taken_away() {
        let shown = json!({"name": "data", "config": {"size": "1GiB", "block.filesystem": "ext4", "zfs.x": "1", "snapshots.expiry": "3d"}});
        let mut volume: Volume = serde_json::from_value(shown).unwrap();
        let empty = model(json!({"size": "1GiB"}));
        let filled = Filled::beside(&volume, &empty);
        assert!(empty.apply(&mut volume, &filled) && !empty.apply(&mut volume, &filled), "marked once");
        assert_eq!(marks::read_stored(&volume.config, FILLED), Some(r#"{"snapshots.expiry":"3d","zfs.x":"1"}"#));
        let shown = state(&volume, &Value::Null, &place(), true);
        assert!(shown.get("config").is_null() && shown.get("snapshots_expiry").is_null());
        let filled = Filled::of(&volume.config).unless_shown(&shown);
        model(json!({"size": "2GiB"})).apply(&mut volume, &filled);
        assert_eq!((volume.config["zfs.x"].as_str(), volume.config["size"].as_str()), ("1", "2GiB"));
        assert!(volume.config.contains_key("block.filesystem") && volume.config["snapshots.expiry"] == "3d");
    }

    #[test]
    fn a_volume_never_loses_the_filesystem_that_it_was_made_with() {
        let mut volume = Volume { content_type: "filesystem".into(), name: "data".into(), ..Volume::default() };
        let with = model(json!({"size": "1GiB", "config": {"block.filesystem": "xfs"}}));
        with.apply(&mut volume, &Filled::default());
        let shown = state(&volume, &Value::Null, &place(), true);
        assert_eq!(shown.get("config").get("block.filesystem").as_str(), Some("xfs"), "after an import, too");
        let bare = model(json!({"size": "1GiB"}));
        let filled = Filled::of(&volume.config).unless_shown(&shown);
        bare.apply(&mut volume, &filled);
        assert_eq!(volume.config["block.filesystem"], "xfs");
        assert!(state(&volume, &Value::Null, &place(), true).get("config").is_null());
    }

    #[test]
    fn what_incus_filled_in_and_changed_since_shows() {
        let mut volume: Volume =
            serde_json::from_value(json!({"config": {"size": "1GiB", "snapshots.expiry": "3d"}})).unwrap();
        let bare = model(json!({"size": "1GiB"}));
        let filled = Filled::beside(&volume, &bare);
        bare.apply(&mut volume, &filled);
        volume.config.insert("snapshots.expiry".into(), "9d".into());
        assert_eq!(state(&volume, &Value::Null, &place(), true).get("snapshots_expiry").as_str(), Some("9d"));
    }

    #[test]
    fn what_incus_filled_in_and_was_configured_since_can_be_taken_back() {
        let shown = json!({"name": "data", "config": {"size": "1GiB", "zfs.x": "1", "snapshots.expiry": "3d"}});
        let mut volume: Volume = serde_json::from_value(shown).unwrap();
        let bare = model(json!({"size": "1GiB"}));
        let filled = Filled::beside(&volume, &bare);
        bare.apply(&mut volume, &filled);
        let prior = json!({"config": {"zfs.x": "2"}, "snapshots_expiry": "5d"});
        volume.config.extend([("zfs.x".to_owned(), "2".to_owned()), ("snapshots.expiry".to_owned(), "5d".to_owned())]);
        let prior = Value::from_json(&prior);
        let shown = state(&volume, &prior, &place(), true);
        assert_eq!((shown.get("config"), shown.get("snapshots_expiry").as_str()), (prior.get("config"), Some("5d")));
        let filled = Filled::of(&volume.config).unless_shown(&shown);
        bare.apply(&mut volume, &filled);
        assert!(!volume.config.contains_key("zfs.x") && !volume.config.contains_key("snapshots.expiry"));
        assert_eq!(marks::read_stored(&volume.config, FILLED), None);
    }

    #[test]
    fn a_volume_of_others_is_protected_as_the_provider_says() {
        let volume = Volume::default();
        for protected in [true, false] {
            let state = state(&volume, &Value::Null, &place(), protected);
            assert_eq!(state.get("delete_protection").as_bool(), Some(protected));
        }
    }

    #[test]
    fn a_filesystem_that_cannot_shrink_is_kept_as_long_as_it_is_there() {
        let mut private = Private::default();
        for (content_type, filesystem, kept) in [
            ("filesystem", Some("xfs"), Some("xfs")),
            ("filesystem", Some("ext4"), None),
            ("filesystem", Some("xfs"), Some("xfs")),
            ("filesystem", None, None),
            ("block", Some("xfs"), None),
        ] {
            let mut volume = Volume { content_type: content_type.into(), ..Volume::default() };
            volume.config.extend(filesystem.map(|name| ("block.filesystem".to_owned(), name.to_owned())));
            keep_rigid(&volume, &mut private);
            assert_eq!(rigid(&private), kept);
        }
    }

    #[test]
    fn an_iso_keeps_its_config_but_for_the_marks() {
        let mut volume = Volume::default();
        volume.config.insert(SIZE.to_owned(), "3000000".to_owned());
        model(json!({"content_type": "iso", "source": {"file": "x.iso"}})).apply(&mut volume, &Filled::default());
        assert_eq!(volume.config["size"], "3000000");
        assert_eq!(protection(&volume.config), Some(true));
    }

    #[test]
    fn where_the_same_content_comes_from_is_noted_once_and_without_its_secrets() {
        let of = |url: &str, digit: &str| {
            model(json!({"content_type": "block", "source": {"url": url, "sha256": digit.repeat(64)}}))
        };
        let mut volume = Volume::default();
        assert!(of("https://a/x?token=hidden", "a").apply(&mut volume, &Filled::default()));
        let noted = |volume: &Volume| volume.config[&marks::stored(SOURCE)].clone();
        assert!(noted(&volume).contains("\"https://a/x\""), "{}", noted(&volume));
        assert!(!of("https://b/x?token=another", "A").apply(&mut volume, &Filled::default()), "nothing to write");
        assert!(
            of("https://b/x", "b").apply(&mut volume, &Filled::default()) && noted(&volume).contains("https://b/x")
        );
    }

    #[test]
    fn a_fingerprint_knows_a_checksum_and_not_where_its_file_is() {
        let session = Session::new(crate::resources::session::Options::default());
        let with = |source: serde_json::Value| {
            let planned = Value::from_json(&json!({"name": "data", "source": source}));
            fingerprint(&session, "pro/default/data", &planned, &planned, &Value::Null)
        };
        let base = with(json!({"url": "https://a?sig=1", "sha256": "ab".repeat(32)}));
        assert_eq!(base, with(json!({"url": "https://b?sig=2", "sha256": format!("sha256:{}", "AB".repeat(32))})));
        assert_ne!(base, with(json!({"url": "https://a?sig=1", "sha256": "cd".repeat(32)})));
        assert_ne!(with(json!({"file": "a"})), with(json!({"file": "b"})));
    }

    #[test]
    fn a_temporary_name_is_that_of_an_owner_and_an_id() {
        let name = temporary("me", "pro/default/data");
        assert_eq!((name.len(), name.starts_with("anklume-")), (24, true));
        assert_ne!(name, temporary("you", "pro/default/data"));
        assert_ne!(name, temporary("me", "pro/fast/data"));
    }

    #[test]
    fn neither_headers_nor_the_pool_nor_a_size_that_a_source_gives_count() {
        let session = Session::new(crate::resources::session::Options::default());
        let of = |json: serde_json::Value, planned: serde_json::Value| {
            let (config, mut whole) = (Value::from_json(&json), Value::from_json(&json));
            planned.as_object().unwrap().iter().for_each(|(name, value)| whole.set(name, Value::from_json(value)));
            fingerprint(&session, "pro/default/data", &config, &whole, &Value::Null)
        };
        let source = json!({"url": "https://host/x"});
        let plain = of(json!({"name": "data", "source": source}), json!({}));
        assert_eq!(of(json!({"name": "data", "source": source}), json!({"pool": "default", "size": "1GiB"})), plain);
        let with_headers = json!({"url": "https://host/x", "headers": {"Authorization": "a"}});
        assert_eq!(of(json!({"name": "data", "source": with_headers}), json!({})), plain);
        assert_ne!(of(json!({"name": "data", "source": source, "size": "1GiB"}), json!({})), plain);
        let of_size = |size: &str| of(json!({"name": "data", "size": size}), json!({}));
        assert_eq!(of_size("1GiB"), of_size("1024MiB"));
        let signed = |url: &str| of(json!({"name": "d", "source": {"url": url, "sha256": "ab".repeat(32)}}), json!({}));
        assert_eq!(signed("https://host/x?sig=1"), signed("https://host/x?sig=2"));
    }
}
