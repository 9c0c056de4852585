//! An instance as it is configured, and as Incus keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::incus::instance::{Instance, Kind};
use crate::incus::{Config, Devices};
use crate::plugin::{DecodeError, Value};
use crate::resources::keys::{self, Own};
use crate::resources::marks;

/// Keys with an attribute of their own.
pub(super) const OWN: &[Own] = &[
    (AUTOSTART, "boot_autostart"),
    (PRIORITY, "boot_priority"),
    (SCHEDULE, "snapshots_schedule"),
    (EXPIRY, "snapshots_expiry"),
    (SECURE_BOOT, "secure_boot"),
    (CSM, "csm"),
    (NESTING, "nesting"),
    (PROTECTION, "delete_protection"),
    (USER_DATA, "cloud_init"),
    (VENDOR_DATA, "cloud_init"),
    (NETWORK_CONFIG, "cloud_init"),
];
pub(super) const AUTOSTART: &str = "boot.autostart";
pub(super) const PRIORITY: &str = "boot.autostart.priority";
pub(super) const SCHEDULE: &str = "snapshots.schedule";
pub(super) const EXPIRY: &str = "snapshots.expiry";
pub(super) const SECURE_BOOT: &str = "security.secureboot";
pub(super) const CSM: &str = "security.csm";
pub(super) const NESTING: &str = "security.nesting";
pub(super) const PROTECTION: &str = "security.protection.delete";
pub(super) const USER_DATA: &str = "cloud-init.user-data";
pub(super) const VENDOR_DATA: &str = "cloud-init.vendor-data";
pub(super) const NETWORK_CONFIG: &str = "cloud-init.network-config";

/// The device of a static address.
pub(super) const NIC: &str = "eth0";
/// The device of the root disk.
pub(super) const ROOT: &str = "root";

/// Keys of one device.
pub(super) type Device = BTreeMap<String, String>;

/// The attributes that a configuration may set.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) domain: String,
    pub(super) description: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) image: Option<String>,
    pub(super) profiles: Option<Vec<String>>,
    pub(super) config: Option<Config>,
    pub(super) devices: Option<Devices>,
    pub(super) root_disk: Option<RootDisk>,
    pub(super) ipv4_address: Option<String>,
    pub(super) nesting: Option<bool>,
    pub(super) secure_boot: Option<bool>,
    pub(super) csm: Option<bool>,
    pub(super) cloud_init: Option<CloudInit>,
    pub(super) running: bool,
    pub(super) ephemeral: bool,
    pub(super) delete_protection: Option<bool>,
    pub(super) boot_autostart: Option<bool>,
    pub(super) boot_priority: Option<i64>,
    pub(super) snapshots_schedule: Option<String>,
    pub(super) snapshots_expiry: Option<String>,
    pub(super) wait: Option<Waits>,
    pub(super) stop_timeout: Option<String>,
    pub(super) restart_on_update: bool,
    pub(super) timeouts: Option<BTreeMap<String, Option<String>>>,
}

/// `root_disk`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RootDisk {
    pub(super) size: Option<String>,
    pub(super) pool: Option<String>,
}

/// `cloud_init`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CloudInit {
    pub(super) user_data: Option<String>,
    pub(super) vendor_data: Option<String>,
    pub(super) network_config: Option<String>,
}

/// `wait`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waits {
    pub(super) boot_timeout: Option<String>,
    pub(super) agent: Option<bool>,
    pub(super) agent_timeout: Option<String>,
    pub(super) addresses: Option<bool>,
    pub(super) addresses_timeout: Option<String>,
    pub(super) cloud_init: Option<bool>,
    pub(super) on_failure: Option<String>,
}

/// Devices as the profiles of the list give them, to be copied where the instance overrides one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inherited(pub(super) Devices);

impl Inherited {
    /// Adds up the devices of profiles, later ones win.
    pub(super) fn of<'p>(profiles: impl IntoIterator<Item = &'p Devices>) -> Self {
        let mut all = Devices::new();
        profiles.into_iter().for_each(|devices| all.extend(devices.clone()));
        Self(all)
    }
}

impl Model {
    /// Reads what is planned. The address counts only where `config` sets it: otherwise DHCP gives it.
    ///
    /// # Errors
    ///
    /// When `planned` does not have the form of the schema.
    pub(super) fn of(config: &Value, planned: &Value) -> Result<Self, DecodeError> {
        let mut model: Self = planned.decode()?;
        if config.get("ipv4_address").is_null() {
            model.ipv4_address = None;
        }
        Ok(model)
    }

    pub(super) fn kind(&self) -> Kind {
        if self.kind == "vm" { Kind::VirtualMachine } else { Kind::Container }
    }

    /// `<domain>/<name>`.
    pub(super) fn id(&self) -> String {
        format!("{}/{}", self.domain, self.name)
    }

    pub(super) fn profiles(&self) -> Vec<String> {
        self.profiles.clone().unwrap_or_default()
    }

    /// Whether devices of the profiles have to be known to write this.
    pub(super) fn inherits(&self) -> bool {
        self.ipv4_address.is_some() || self.root_disk.is_some()
    }

    /// Its devices. Those that it overrides are full copies of the profiles' ones.
    pub(super) fn devices(&self, inherited: &Inherited) -> Devices {
        let mut devices = self.devices.clone().unwrap_or_default();
        if let Some(address) = &self.ipv4_address {
            devices.insert(NIC.to_owned(), static_nic(inherited.0.get(NIC), address));
        }
        if let Some(disk) = &self.root_disk {
            devices.insert(ROOT.to_owned(), root(inherited.0.get(ROOT), disk));
        }
        devices
    }

    /// Brings the keys of an instance to what is configured; the server's own and the marks stay.
    pub(super) fn bring(&self, config: &mut Config) {
        keys::bring(config, &self.config.clone().unwrap_or_default(), OWN);
        let flag = |value: Option<bool>| value.map(|flag| flag.to_string());
        let cloud = self.cloud_init.clone().unwrap_or_default();
        let own: [(&str, Option<String>); 11] = [
            (AUTOSTART, flag(self.boot_autostart)),
            (PRIORITY, self.boot_priority.map(|number| number.to_string())),
            (SCHEDULE, self.snapshots_schedule.clone()),
            (EXPIRY, self.snapshots_expiry.clone()),
            (SECURE_BOOT, flag(self.secure_boot)),
            (CSM, flag(self.csm)),
            (NESTING, flag(self.nesting)),
            (PROTECTION, flag(self.delete_protection.filter(|on| *on))),
            (USER_DATA, cloud.user_data),
            (VENDOR_DATA, cloud.vendor_data),
            (NETWORK_CONFIG, cloud.network_config),
        ];
        own.into_iter().for_each(|(key, value)| keys::put(config, key, value));
        self.store(config);
    }

    /// Writes what Incus has no place for, so that an import finds it. The image is written at creation only.
    fn store(&self, config: &mut Config) {
        let stored: [(&str, Option<String>); 6] = [
            ("ipv4_address", self.ipv4_address.clone()),
            ("root_disk", self.root_disk.as_ref().map(|_| "true".to_owned())),
            ("wait", self.wait.as_ref().and_then(|wait| serde_json::to_string(wait).ok())),
            ("timeouts", self.timeouts.as_ref().and_then(|timeouts| serde_json::to_string(timeouts).ok())),
            ("stop_timeout", self.stop_timeout.clone().filter(|text| text != "30s")),
            ("restart_on_update", (!self.restart_on_update).then(|| "false".to_owned())),
        ];
        stored.into_iter().for_each(|(name, value)| keys::put(config, &marks::stored(name), value));
    }

    /// Brings a whole instance to what is configured; returns whether anything changed.
    pub(super) fn apply(&self, instance: &mut Instance, inherited: &Inherited) -> bool {
        let before = instance.clone();
        instance.description = self.description.clone().unwrap_or_default();
        instance.profiles = self.profiles();
        instance.ephemeral = self.ephemeral;
        instance.devices = self.devices(inherited);
        self.bring(&mut instance.config);
        *instance != before
    }
}

/// The profile's `eth0` with a static address.
pub(super) fn static_nic(inherited: Option<&Device>, address: &str) -> Device {
    let mut nic = inherited.cloned().unwrap_or_default();
    nic.insert("ipv4.address".to_owned(), address.to_owned());
    nic
}

fn root(inherited: Option<&Device>, disk: &RootDisk) -> Device {
    let mut device = inherited
        .cloned()
        .unwrap_or_else(|| [("type".to_owned(), "disk".to_owned()), ("path".to_owned(), "/".to_owned())].into());
    if let Some(pool) = &disk.pool {
        device.insert("pool".to_owned(), pool.clone());
    }
    if let Some(size) = &disk.size {
        device.insert("size".to_owned(), size.clone());
    }
    device
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// A model with the defaults of the schema, and `extra`.
    pub(crate) fn model(extra: serde_json::Value) -> Model {
        let mut value = json!({"name": "web", "domain": "pro", "type": "lxc", "profiles": ["default"], "running": true,
            "ephemeral": false, "restart_on_update": true, "stop_timeout": "30s"});
        value.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn inherited() -> Inherited {
        let devices: Devices = serde_json::from_value(json!({
            "eth0": {"type": "nic", "network": "net-pro", "name": "eth0", "security.mac_filtering": "true"},
            "root": {"type": "disk", "path": "/", "pool": "fast"},
        }))
        .unwrap();
        Inherited::of([&devices])
    }

    #[test]
    fn a_static_address_is_a_full_copy_of_the_profiles_nic() {
        let nic = model(json!({"ipv4_address": "10.110.0.5"})).devices(&inherited()).remove("eth0").unwrap();
        assert_eq!(
            serde_json::to_value(nic).unwrap(),
            json!({"type": "nic", "network": "net-pro", "name": "eth0",
            "security.mac_filtering": "true", "ipv4.address": "10.110.0.5"})
        );
    }

    #[test]
    fn a_root_disk_is_a_full_copy_with_its_size() {
        let disk = model(json!({"root_disk": {"size": "5GiB"}})).devices(&inherited()).remove("root").unwrap();
        assert_eq!(
            serde_json::to_value(disk).unwrap(),
            json!({"type": "disk", "path": "/", "pool": "fast", "size": "5GiB"})
        );
    }

    #[test]
    fn without_overrides_there_are_no_devices() {
        assert!(model(json!({})).devices(&inherited()).is_empty());
    }

    #[test]
    fn applying_twice_changes_nothing() {
        let mut instance = Instance::default();
        let model =
            model(json!({"config": {"limits.cpu": "2"}, "delete_protection": true, "wait": {"addresses": false}}));
        assert!(model.apply(&mut instance, &inherited()));
        assert!(!model.apply(&mut instance, &inherited()));
        assert_eq!(instance.config["security.protection.delete"], "true");
    }

    #[test]
    fn a_removed_key_leaves_the_server_and_a_volatile_one_stays() {
        let config = [("limits.cpu".into(), "1".into()), ("volatile.uuid".into(), "x".into())].into();
        let mut instance = Instance { config, ..Instance::default() };
        instance.config.insert(AUTOSTART.into(), "true".into());
        model(json!({})).apply(&mut instance, &inherited());
        assert_eq!(instance.config.keys().collect::<Vec<_>>(), ["volatile.uuid"]);
    }

    #[test]
    fn later_profiles_win() {
        let first: Devices = serde_json::from_value(json!({"eth0": {"network": "a"}})).unwrap();
        let second: Devices = serde_json::from_value(json!({"eth0": {"network": "b"}})).unwrap();
        assert_eq!(Inherited::of([&first, &second]).0["eth0"]["network"], "b");
    }
}
