//! `volumes`: storage volumes (devices `sv-<key>`) and directories of the host (devices `pd-<key>`). Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::body::Device;
use crate::incus::Devices;
use crate::plugin::{Action, Attribute, Diagnostics, Path, Plan, Problem, Value};
use crate::resources::name;

const VOLUME: &str = "sv-";
const DIRECTORY: &str = "pd-";

/// One element of `volumes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Attached {
    pub(super) volume: Option<String>,
    /// As planned; `None` where the domain's is meant.
    pub(super) pool: Option<String>,
    path: Option<String>,
    mount: Option<String>,
    read_only: Option<bool>,
    shift: Option<bool>,
    boot_priority: Option<i64>,
    /// Whether the configuration names the pool.
    #[serde(skip)]
    pub(super) is_placed: bool,
}

/// `volumes`, by key.
pub(super) type Volumes = BTreeMap<String, Attached>;

pub(super) fn attribute() -> Attribute {
    let text = |name: &str, what: &str| Attribute::string(name).optional().describe(what);
    let flag = |name: &str, what: &str| Attribute::bool(name).optional().describe(what);
    Attribute::nested_map(
        "volumes",
        vec![
            Attribute::string("volume").optional().check(name::volume).describe(
                "The name of an `anklume_volume` of the same domain. Several instances may have one filesystem volume.",
            ),
            Attribute::string("pool").optional_computed().describe("Its storage pool. Unset: the domain's."),
            text("path", "Instead of a volume: a directory of the Incus host."),
            text("mount", "Where it is mounted inside. A block volume or an ISO has none."),
            flag("read_only", "Whether it cannot be written from inside."),
            flag("shift", "Whether owners are shifted to those of the container, as a directory of the host needs it."),
            Attribute::number("boot_priority")
                .optional()
                .check(boot_priority)
                .describe("The order in which a virtual machine tries to boot from it; higher ones first."),
        ],
    )
    .optional()
    .describe(
        "Storage volumes and directories of the host by a name of their own (`a-z`, `0-9` and `-`), attached and detached while the \
         instance runs.",
    )
}

fn boot_priority(value: &Value) -> Result<(), Problem> {
    match value {
        Value::Number(_) if !value.as_i64().is_some_and(|number| (0..=i64::from(u32::MAX)).contains(&number)) => {
            Err(Problem::new("Boot priority out of range", "Write a whole number from 0 on; higher ones come first."))
        }
        _ => Ok(()),
    }
}

impl Attached {
    /// Its device. A volume whose pool nobody named stays where Incus has it: `current` is what stands on the instance.
    fn device(&self, key: &str, current: &Devices) -> (String, Device) {
        let Self { volume, pool, path, mount, read_only, shift, boot_priority, is_placed } = self;
        let name = format!("{}{key}", if volume.is_some() { VOLUME } else { DIRECTORY });
        let there = current.get(&name).filter(|device| !is_placed && device.get("source") == volume.as_ref());
        let pool = there.and_then(|device| device.get("pool")).or(pool.as_ref()).filter(|_| volume.is_some());
        let keys = [
            ("type", Some("disk".to_owned())),
            ("pool", pool.cloned()),
            ("source", volume.clone().or_else(|| path.clone())),
            ("path", mount.clone()),
            ("readonly", read_only.map(|flag| flag.to_string())),
            ("shift", shift.map(|flag| flag.to_string())),
            ("boot.priority", boot_priority.map(|number| number.to_string())),
        ];
        (name, keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
    }
}

/// The devices of `volumes`.
pub(super) fn devices(volumes: &Volumes, current: &Devices) -> Devices {
    volumes.iter().map(|(key, attached)| attached.device(key, current)).collect()
}

/// Takes the devices of `volumes` out of `devices`, and shows them as the attribute. One with a key that the attribute
/// does not know stays where it is: drift.
pub(super) fn take(devices: &mut Devices, prior: &Value) -> Value {
    let mut volumes = BTreeMap::new();
    devices.retain(|name, device| match shown(name, device) {
        Some((key, value)) => {
            volumes.insert(key, value);
            false
        }
        None => true,
    });
    if volumes.is_empty() && !prior.as_map().is_some_and(BTreeMap::is_empty) {
        Value::Null
    } else {
        Value::Map(volumes)
    }
}

fn shown(name: &str, device: &Device) -> Option<(String, Value)> {
    let text = |key: &str| device.get(key).cloned();
    let flag = |key: &str| device.get(key).and_then(|text| text.parse::<bool>().ok());
    let (key, is_volume) = match (name.strip_prefix(VOLUME), name.strip_prefix(DIRECTORY)) {
        (Some(key), _) => (key, true),
        (None, Some(key)) => (key, false),
        (None, None) => return None,
    };
    let source = text("source");
    let (volume, path) = if is_volume { (source, None) } else { (None, source) };
    let attached = Attached {
        volume,
        path,
        pool: text("pool"),
        mount: text("path"),
        read_only: flag("readonly"),
        shift: flag("shift"),
        boot_priority: device.get("boot.priority").and_then(|text| text.parse().ok()),
        is_placed: true,
    };
    if attached.device(key, &Devices::new()) != (name.to_owned(), device.clone()) {
        return None;
    }
    let Attached { volume, pool, path, mount, read_only, shift, boot_priority, is_placed: _ } = attached;
    let members: [(&str, Value); 7] = [
        ("volume", volume.into()),
        ("pool", pool.into()),
        ("path", path.into()),
        ("mount", mount.into()),
        ("read_only", read_only.into()),
        ("shift", shift.into()),
        ("boot_priority", boot_priority.into()),
    ];
    Some((key.to_owned(), Value::Map(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())))
}

/// A pool that nobody names: none for a directory, unknown for another volume than before.
pub(super) fn plan(plan: &mut Plan<'_>) {
    let Some(planned) = plan.planned.get("volumes").as_map().cloned() else { return };
    let (config, prior) = (plan.config.get("volumes"), plan.prior.get("volumes"));
    let mut volumes = planned;
    for (key, element) in &mut volumes {
        if !config.get(key).get("pool").is_null() || element.as_map().is_none() {
            continue;
        }
        let before = prior.get(key);
        if !element.get("path").is_null() && element.get("path").is_known() {
            element.set("pool", Value::Null);
        } else if plan.action == Action::Update
            && (before.get("volume") != element.get("volume") || before.get("pool").is_null())
        {
            element.set("pool", Value::Unknown);
        }
    }
    plan.set("volumes", Value::Map(volumes));
}

/// Finds every problem of `volumes` in `config`.
pub(super) fn validate(config: &Value, problems: &mut Diagnostics) {
    let is_container = config.get("type").is_null() || config.get("type").as_str() == Some("lxc");
    let mut mounts: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, element) in config.get("volumes").as_map().into_iter().flatten() {
        let at = Path::from("volumes").key(key.as_str());
        if key.is_empty()
            || key.len() > 60
            || !key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        {
            problems.error(
                at.clone(),
                "Invalid name",
                format!("`{key}` names a device. Use 1 to 60 lower-case letters, digits and `-`."),
            );
        }
        if element.is_null() {
            problems.error(
                at,
                "Volume without content",
                format!("`{key}` is null. Remove it, or set `volume` or `path`."),
            );
            continue;
        }
        if element.as_map().is_none() {
            continue;
        }
        one(element, &at, problems);
        let mount = element.get("mount");
        if is_container && mount.is_null() {
            problems.error(
                at.clone(),
                "Nowhere to mount",
                format!("A container needs `mount`, such as \"/srv/{key}\". Only a virtual machine has disks without."),
            );
        }
        if let Some(path) = mount.as_str() {
            if !path.starts_with('/') || path.trim_matches('/').is_empty() {
                problems.error(
                    at.clone().attribute("mount"),
                    "Invalid mount",
                    format!(
                        "\"{path}\" is not a directory below the root. Write an absolute path, such as \"/srv/{key}\"."
                    ),
                );
            } else if let Some(other) = mounts.insert(path.trim_end_matches('/'), key) {
                problems.error(
                    at.attribute("mount"),
                    "Mounted twice",
                    format!("`{other}` is mounted at \"{path}\" too. Choose another path for one of them."),
                );
            }
        }
    }
}

fn one(element: &Value, at: &Path, problems: &mut Diagnostics) {
    let set = |name: &str| !element.get(name).is_null();
    match (set("volume"), set("path")) {
        (true, true) => {
            problems.error(at.clone(), "Volume and directory", "Keep `volume` or `path`: one device is one of them.")
        }
        (false, false) => problems.error(
            at.clone(),
            "Neither volume nor directory",
            "Set `volume` to the name of an `anklume_volume`, or `path` to a directory of the host.",
        ),
        (false, true) if set("pool") => {
            problems.error(
                at.clone().attribute("pool"),
                "A directory has no pool",
                "`pool` is about `volume`. Remove it.",
            );
        }
        _ => {}
    }
    if let Some(path) = element.get("path").as_str().filter(|path| !path.starts_with('/')) {
        problems.error(
            at.clone().attribute("path"),
            "Not an absolute path",
            format!("\"{path}\" is a path on the Incus host. Write all of it, from `/` on."),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn volumes(json: serde_json::Value) -> Volumes {
        serde_json::from_value(json).unwrap()
    }

    fn of(json: serde_json::Value) -> Devices {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn volumes_and_directories_are_disks_of_their_own_names() {
        let wanted = volumes(json!({
            "data": {"volume": "v", "pool": "fast", "mount": "/srv", "read_only": true},
            "home": {"path": "/home", "mount": "/home", "shift": true},
        }));
        let expected = json!({
            "sv-data": {"type": "disk", "pool": "fast", "source": "v", "path": "/srv", "readonly": "true"},
            "pd-home": {"type": "disk", "source": "/home", "path": "/home", "shift": "true"},
        });
        assert_eq!(devices(&wanted, &Devices::new()), of(expected));
    }

    #[test]
    fn what_is_attached_is_shown_and_nothing_else() {
        let mut there = of(json!({
            "sv-data": {"type": "disk", "pool": "fast", "source": "v", "path": "/srv", "boot.priority": "3"},
            "sv-odd": {"type": "disk", "pool": "fast", "source": "v", "path": "/odd", "limits.read": "1MB"},
            "eth1": {"type": "nic"},
        }));
        let shown = take(&mut there, &Value::Null);
        assert_eq!(there.keys().collect::<Vec<_>>(), ["eth1", "sv-odd"]);
        assert_eq!(shown.get("data").get("boot_priority").as_i64(), Some(3));
        assert!(shown.get("data").get("read_only").is_null() && shown.get("odd").is_null());
        assert!(take(&mut Devices::new(), &Value::Null).is_null());
        assert!(!take(&mut Devices::new(), &Value::object()).is_null());
    }

    #[test]
    fn a_volume_that_moved_stays_where_it_is() {
        let there = of(json!({"sv-data": {"type": "disk", "pool": "slow", "source": "v"}}));
        let mut wanted = volumes(json!({"data": {"volume": "v", "pool": "fast"}}));
        assert_eq!(devices(&wanted, &there)["sv-data"]["pool"], "slow");
        wanted.values_mut().for_each(|attached| attached.is_placed = true);
        assert_eq!(devices(&wanted, &there)["sv-data"]["pool"], "fast");
    }

    fn planned(config: serde_json::Value, prior: serde_json::Value) -> Value {
        let all = |volumes: serde_json::Value| {
            let mut value = Value::object();
            for attribute in super::super::schema::schema().attributes() {
                value.set(attribute.name(), Value::Null);
            }
            value.set("volumes", Value::from_json(&volumes));
            value
        };
        let members = |volumes: &serde_json::Value| {
            let mut volumes = volumes.clone();
            for (_, element) in volumes.as_object_mut().into_iter().flatten() {
                for name in ["volume", "pool", "path", "mount", "read_only", "shift", "boot_priority"] {
                    element.as_object_mut().unwrap().entry(name).or_insert(serde_json::Value::Null);
                }
            }
            volumes
        };
        let config = all(members(&config));
        let prior = if prior.is_null() { Value::Null } else { all(members(&prior)) };
        let schema = super::super::schema::schema();
        let mut plan = Plan::start(&schema, &config, &prior, &Value::object(), crate::plugin::Private::default());
        super::plan(&mut plan);
        plan.planned.get("volumes").get("data").get("pool").clone()
    }

    #[test]
    fn a_pool_that_nobody_names_is_known_while_the_volume_stays() {
        let data = |volume: &str| json!({"data": {"volume": volume, "mount": "/srv"}});
        let prior = json!({"data": {"volume": "a", "pool": "fast", "mount": "/srv"}});
        assert!(planned(data("a"), json!(null)).is_unknown());
        assert_eq!(planned(data("a"), prior.clone()), "fast".into());
        assert!(planned(data("b"), prior.clone()).is_unknown());
        assert_eq!(planned(json!({"data": {"volume": "a", "pool": "slow"}}), prior.clone()), "slow".into());
        let directory = json!({"data": {"path": "/srv", "mount": "/srv"}});
        assert!(planned(directory.clone(), json!(null)).is_null() && planned(directory.clone(), prior).is_null());
        assert!(planned(data("a"), directory).is_unknown());
    }

    fn refused(element: serde_json::Value, path: &str, text: &str) {
        let mut problems = Diagnostics::default();
        validate(&Value::from_json(&json!({"volumes": {"data": element}})), &mut problems);
        let found = problems.iter().any(|one| one.path.to_string() == path && one.detail.contains(text));
        assert!(found || text.is_empty() && problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn what_cannot_be_attached_is_told() {
        let at = "volumes[\"data\"]";
        refused(json!({"mount": "/srv"}), at, "Set `volume`");
        refused(json!({"volume": "a", "path": "/b", "mount": "/srv"}), at, "one of them");
        refused(json!({"volume": "a"}), at, "needs `mount`");
        refused(json!({"volume": "a", "mount": "/"}), "volumes[\"data\"].mount", "below the root");
        refused(json!({"path": "b", "mount": "/srv"}), "volumes[\"data\"].path", "from `/` on");
        refused(json!({"path": "/b", "pool": "c", "mount": "/srv"}), "volumes[\"data\"].pool", "Remove it");
        refused(json!({"volume": "a", "mount": "/srv"}), "", "");
        let mut problems = Diagnostics::default();
        let twice = json!({"a": {"volume": "v", "mount": "/srv"}, "b": {"volume": "w", "mount": "/srv/"}, "C": null});
        validate(&Value::from_json(&json!({"volumes": twice})), &mut problems);
        assert_eq!(problems.iter().count(), 3, "{problems:?}");
    }
}
