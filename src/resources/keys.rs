//! The `config` maps of Incus objects: which keys are the user's, and which have an attribute of their own.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::marks;
use crate::incus::is_true;
use crate::plugin::{Diagnostics, Path, Value};

/// A key with an attribute of its own: `(key, attribute)`. A key that ends in `.` stands for all that begin with it.
pub type Own = (&'static str, &'static str);

fn owner(key: &str, own: &[Own]) -> Option<&'static str> {
    own.iter()
        .find(|(name, _)| *name == key || (name.ends_with('.') && key.starts_with(name)))
        .map(|(_, attribute)| *attribute)
}

/// What belongs into `config`: neither the server's own keys and our marks, nor those with an attribute.
#[must_use]
pub fn visible(config: &BTreeMap<String, String>, own: &[Own]) -> BTreeMap<String, String> {
    config
        .iter()
        .filter(|(key, _)| !marks::is_hidden(key) && owner(key, own).is_none())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Refuses keys that have an attribute of their own, and those that are the server's or ours, in the map at `path`.
pub fn refused(map: &Value, path: &Path, own: &[Own], problems: &mut Diagnostics) {
    for key in map.as_map().into_iter().flat_map(BTreeMap::keys) {
        let at = path.clone().key(key.as_str());
        if let Some(attribute) = owner(key, own) {
            problems.error(
                at,
                "Key with an attribute of its own",
                format!("`{key}` is set by the attribute `{attribute}`. Remove it here and set `{attribute}`."),
            );
        } else if marks::is_hidden(key) {
            problems.error(
                at,
                "Reserved key",
                format!(
                    "`{key}` is written by Incus or by this provider. Remove it; for keys of your own use `user.`."
                ),
            );
        } else {
            valued(key, map.get(key), at, problems);
        }
    }
}

/// A map as an attribute: an empty one is null, unless `prior` was empty rather than null.
#[must_use]
pub fn like_prior(prior: &Value, map: BTreeMap<String, String>) -> Value {
    if map.is_empty() && !prior.as_map().is_some_and(BTreeMap::is_empty) { Value::Null } else { Value::from(map) }
}

/// A description as an attribute: an empty one is null, unless `prior` was empty rather than null.
#[must_use]
pub fn description(text: &str, prior: &Value) -> Value {
    if text.is_empty() && prior.as_str() != Some("") { Value::Null } else { text.into() }
}

/// Devices as an attribute: none is null, unless `prior` was empty rather than null.
#[must_use]
pub fn devices_like_prior(prior: &Value, devices: BTreeMap<String, BTreeMap<String, String>>) -> Value {
    if devices.is_empty() && !prior.as_map().is_some_and(BTreeMap::is_empty) {
        Value::Null
    } else {
        Value::from(devices)
    }
}

/// Refuses null and `""`: Incus (6.0 to 7.3) drops a key with the empty value, so every plan would show it again.
pub fn valued(key: &str, value: &Value, at: Path, problems: &mut Diagnostics) {
    let what = match value {
        Value::Null => "null",
        Value::String(text) if text.is_empty() => "empty, and Incus keeps no key without a value",
        _ => return,
    };
    problems.error(at, "Key without a value", format!("`{key}` is {what}. Remove the key."));
}

/// Refuses keys of the device at `at` without a value, and a disk whose volume Incus would delete with the instance.
pub fn keys_of_device(device: &Value, at: &Path, problems: &mut Diagnostics) {
    for (key, value) in device.as_map().into_iter().flatten() {
        let path = at.clone().key(key.as_str());
        if key == DEPENDENT && value.as_str().is_some_and(is_true) {
            problems.error(
                path,
                "The volume would be deleted with the instance",
                "With `dependent` Incus (from 7.0 on) deletes the volume together with the instance, one with `delete_protection`, too. Remove \
                 the key. To delete both, destroy the `anklume_volume` as well.",
            );
        } else {
            valued(key, value, path, problems);
        }
    }
}

/// Key of a disk whose volume Incus (from 7.0 on) deletes together with the instance, and that it writes on that volume.
pub const DEPENDENT: &str = "dependent";

/// Refuses devices without a `type`, whom Incus' own message does not name, and their keys without a value.
pub fn devices(devices: &Value, problems: &mut Diagnostics) {
    for (name, device) in devices.as_map().into_iter().flatten() {
        let at = Path::from("devices").key(name.as_str());
        if device.is_known() && device.get("type").is_null() {
            problems.error(
                at,
                "Device without a type",
                format!("`{name}` needs a `type`, such as \"disk\", \"nic\" or \"proxy\"."),
            );
        } else {
            keys_of_device(device, &at, problems);
        }
    }
}

/// The user of an object, from its API path: `/1.0/instances/web?project=pro` is `instance web`.
#[must_use]
pub fn short_user(path: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let parts: Vec<_> = path.trim_start_matches("/1.0/").split('/').collect();
    let text = match parts.as_slice() {
        ["storage-pools", pool, "volumes", kind, name] => format!("{kind} volume {name} in pool {pool}"),
        ["storage-pools", pool, "buckets", name] => format!("bucket {name} in pool {pool}"),
        [plural, name] => format!("{} {name}", plural.trim_end_matches('s')),
        _ => path.to_owned(),
    };
    match query.strip_prefix("project=") {
        Some(project) if !project.is_empty() => decoded(&format!("{text} (project {project})")),
        _ => decoded(&text),
    }
}

/// Something of a project, from its API path: its kind in the plural, and its name.
#[must_use]
pub fn in_project<'p>(path: &'p str, project: &str) -> Option<(&'p str, &'p str)> {
    let (plain, query) = path.split_once('?').unwrap_or((path, ""));
    let own = query.split('&').find_map(|pair| pair.strip_prefix("project=")).unwrap_or("default") == project;
    plain.strip_prefix("/1.0/").and_then(|rest| rest.split_once('/')).filter(|(_, name)| own && !name.contains('/'))
}

/// Brings the user's keys on an object to `wanted`: sets what is there, removes what the user may see and does not
/// want. Keys with an attribute of their own and hidden ones stay as they are. Returns whether anything changed.
pub fn bring(config: &mut BTreeMap<String, String>, wanted: &BTreeMap<String, String>, own: &[Own]) -> bool {
    let before = config.clone();
    config.retain(|key, _| marks::is_hidden(key) || owner(key, own).is_some() || wanted.contains_key(key));
    config.extend(wanted.iter().map(|(key, value)| (key.clone(), value.clone())));
    *config != before
}

/// Sets `key` to `value`, or removes it.
pub fn put(config: &mut BTreeMap<String, String>, key: &str, value: Option<String>) {
    match value {
        Some(value) => config.insert(key.to_owned(), value),
        None => config.remove(key),
    };
}

/// Two lists of keys as one; `N` is the sum of their lengths.
///
/// # Panics
///
/// When it is not, which the compiler tells of a constant.
#[must_use]
pub const fn joined<const N: usize>(first: &[Own], second: &[Own]) -> [Own; N] {
    assert!(first.len() + second.len() == N);
    let mut all = [("", ""); N];
    let mut at = 0;
    while at < N {
        all[at] = if at < first.len() { first[at] } else { second[at - first.len()] };
        at += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &[Own] = &[("boot.autostart", "boot_autostart"), ("cloud-init.", "cloud_init")];

    fn map(keys: &[&str]) -> BTreeMap<String, String> {
        keys.iter().map(|key| ((*key).to_owned(), "1".to_owned())).collect()
    }

    #[test]
    fn only_the_users_keys_are_visible() {
        let all = map(&[
            "limits.cpu",
            "volatile.x",
            "user.anklume.image",
            "boot.autostart",
            "cloud-init.user-data",
            "user.mine",
        ]);
        assert_eq!(visible(&all, OWN), map(&["limits.cpu", "user.mine"]));
    }

    #[test]
    fn a_key_with_an_attribute_is_refused_naming_it() {
        let mut problems = Diagnostics::default();
        refused(&Value::from(map(&["boot.autostart", "limits.cpu"])), &Path::from("config"), OWN, &mut problems);
        let all: Vec<_> = problems.iter().collect();
        assert_eq!(all.len(), 1);
        assert!(all[0].detail.contains("boot_autostart"));
    }

    #[test]
    fn a_key_without_a_value_is_refused_wherever_it_stands() {
        let of = |value: Value| Value::Map([("user.e".to_owned(), value)].into());
        for (value, refusals) in [(Value::Null, 1), ("".into(), 1), (" ".into(), 0), (Value::Unknown, 0)] {
            let mut problems = Diagnostics::default();
            refused(&of(value.clone()), &Path::from("network_config"), OWN, &mut problems);
            assert_eq!(problems.iter().count(), refusals, "{value:?}");
            let mut problems = Diagnostics::default();
            let device = [("type".to_owned(), "nic".into()), ("mtu".to_owned(), value)].into();
            devices(&Value::Map([("eth0".to_owned(), Value::Map(device))].into()), &mut problems);
            assert_eq!(problems.iter().count(), refusals);
            assert!(problems.iter().all(|told| told.detail.ends_with("Remove the key.")
                && told.path == Path::from("devices").key("eth0").key("mtu")));
        }
    }

    #[test]
    fn a_volume_that_would_go_with_the_instance_is_refused() {
        for (value, refusals) in [("true", 1), ("1", 1), ("false", 0)] {
            let mut problems = Diagnostics::default();
            let device = [("type".to_owned(), "disk".into()), (DEPENDENT.to_owned(), value.into())].into();
            devices(&Value::Map([("data".to_owned(), Value::Map(device))].into()), &mut problems);
            assert_eq!(problems.iter().count(), refusals, "{value}");
            assert!(problems.iter().all(|told| told.path == Path::from("devices").key("data").key(DEPENDENT)));
        }
    }

    #[test]
    fn empty_stays_as_the_prior_had_it() {
        assert!(like_prior(&Value::Null, map(&[])).is_null());
        assert!(!like_prior(&Value::from(map(&[])), map(&[])).is_null());
    }

    #[test]
    fn a_removed_key_is_taken_away_and_a_hidden_one_stays() {
        let mut config = map(&["limits.cpu", "volatile.x", "boot.autostart"]);
        assert!(bring(&mut config, &map(&["limits.memory"]), OWN));
        assert_eq!(config, map(&["limits.memory", "volatile.x", "boot.autostart"]));
        assert!(!bring(&mut config, &map(&["limits.memory"]), OWN));
    }
}
