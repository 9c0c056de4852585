//! What Incus filled in by itself on a volume: from `volume.*` of its pool, by a driver, or out of a backup.

use std::collections::BTreeMap;

use super::model::{EXPIRY, Model, OWN, SCHEDULE, SIZE};
use crate::incus::{Config, volume::Volume};
use crate::plugin::Value;
use crate::resources::marks;

/// The mark of the keys that Incus filled in by itself, with their values as JSON.
pub(super) const FILLED: &str = "filled";
/// The mark of those of [`DRIVERS`] that were configured, separated by commas.
pub(super) const MADE_WITH: &str = "made_with";
/// Keys that the drivers of Incus fill in (LVM and Ceph, 6.0 to 7.3), and that a volume never loses: it could not be mounted
/// any more. That they were filled in is not marked, but that they were configured.
pub(super) const DRIVERS: [&str; 2] = ["block.filesystem", "block.mount_options"];

/// Keys that nobody configured and that are no drift, with the values that Incus gave them; `None` = any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filled(BTreeMap<String, Option<String>>);

impl Filled {
    /// As it stands on a volume.
    pub(super) fn of(config: &Config) -> Self {
        let marked = marks::read_stored(config, FILLED).and_then(|text| serde_json::from_str::<Config>(text).ok());
        let marked = marked.unwrap_or_default().into_iter().map(|(key, value)| (key, Some(value)));
        let configured = marks::read_stored(config, MADE_WITH).unwrap_or_default();
        let drivers = DRIVERS.into_iter().filter(|key| !configured.split(',').any(|one| one == *key));
        Self(drivers.map(|key| (key.to_owned(), None)).chain(marked).collect())
    }

    /// What `volume`, which Incus made, filled or copied, has beside what `model` configures.
    pub(super) fn beside(volume: &Volume, model: &Model) -> Self {
        let configured = |key: &str| match key {
            SCHEDULE => model.snapshots_schedule.is_some(),
            EXPIRY => model.snapshots_expiry.is_some(),
            SIZE => true,
            _ => model.config.as_ref().is_some_and(|config| config.contains_key(key)),
        };
        let keys = volume.config.iter().filter(|(key, _)| !marks::is_hidden(key) && !configured(key));
        Self(keys.map(|(key, value)| (key.clone(), Some(value.clone()))).collect())
    }

    /// Without the keys that `state` shows: once configured, they can be taken back.
    pub(super) fn unless_shown(mut self, state: &Value) -> Self {
        let attribute = |key: &str| OWN.iter().find(|(own, _)| *own == key).map(|(_, attribute)| *attribute);
        self.0.retain(|key, _| match attribute(key) {
            Some(attribute) => state.get(attribute).is_null(),
            None => state.get("config").get(key).is_null(),
        });
        self
    }

    /// What is written of it on a volume that has `config`.
    pub(super) fn mark(&self, config: &Config) -> Option<String> {
        let told = |(key, _): &(&String, &String)| !DRIVERS.contains(&key.as_str()) && self.0.contains_key(*key);
        let keys: Config = config.iter().filter(told).map(|(key, value)| (key.clone(), value.clone())).collect();
        (!keys.is_empty()).then(|| serde_json::to_string(&keys).unwrap_or_default())
    }

    /// Whether `key` has its value in `config` from Incus.
    pub(super) fn has(&self, key: &str, config: &Config) -> bool {
        self.0.get(key).is_some_and(|value| value.is_none() || value.as_ref() == config.get(key))
    }
}
