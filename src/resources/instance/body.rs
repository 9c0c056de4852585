//! An instance as it is configured, and as Incus keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::volumes::{self, Volumes};
pub(super) use crate::incus::instance::PROTECTION;
use crate::incus::instance::{Instance, Kind, is_root};
use crate::incus::{Config, Devices};
use crate::plugin::{DecodeError, Value};
use crate::resources::cloud_init::{self, CloudInit};
use crate::resources::keys::{self, Own};
use crate::resources::{marks, notes};

/// Keys with an attribute of their own.
pub(super) const OWN: &[Own] = &keys::joined::<14>(
    &[
        (AUTOSTART, "boot_autostart"),
        (PRIORITY, "boot_priority"),
        (SCHEDULE, "snapshots_schedule"),
        (EXPIRY, "snapshots_expiry"),
        (SECURE_BOOT, "secure_boot"),
        (CSM, "csm"),
        (NESTING, "nesting"),
        (PROTECTION, "delete_protection"),
    ],
    cloud_init::OWN,
);
pub(super) const AUTOSTART: &str = "boot.autostart";
pub(super) const PRIORITY: &str = "boot.autostart.priority";
pub(super) const SCHEDULE: &str = "snapshots.schedule";
pub(super) const EXPIRY: &str = "snapshots.expiry";
pub(super) const SECURE_BOOT: &str = "security.secureboot";
pub(super) const CSM: &str = "security.csm";
pub(super) const NESTING: &str = "security.nesting";
/// What containers inside need besides [`NESTING`]; these belong to `nesting` while it is true.
pub(super) const INTERCEPTED: [&str; 2] = ["security.syscalls.intercept.mknod", "security.syscalls.intercept.setxattr"];

/// The device of a static address.
pub(super) const NIC: &str = "eth0";
/// The device of the root disk.
pub(super) const ROOT: &str = "root";

/// Keys of one device.
pub(super) type Device = BTreeMap<String, String>;

/// The attributes that a configuration may set.
#[derive(Clone, Deserialize)]
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
    pub(super) volumes: Option<Volumes>,
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
pub(super) struct Inherited {
    pub(super) devices: Devices,
    /// Profiles that do not exist.
    pub(super) missing: Vec<String>,
}

impl Inherited {
    /// Adds up the devices of profiles, later ones win.
    pub(super) fn of<'p>(profiles: impl IntoIterator<Item = &'p Devices>) -> Self {
        let mut devices = Devices::new();
        profiles.into_iter().for_each(|more| devices.extend(more.clone()));
        Self { devices, missing: Vec::new() }
    }

    /// The root disk, with the name of its device.
    pub(super) fn root(&self) -> Option<(&str, &Device)> {
        root_of(&self.devices)
    }

    /// Whether there is an `eth0` that could get an address.
    pub(super) fn has_nic(&self) -> bool {
        self.devices.get(NIC).is_some_and(|nic| nic.get("type").is_some_and(|kind| kind == "nic"))
    }
}

fn root_of(devices: &Devices) -> Option<(&str, &Device)> {
    devices.iter().find(|(_, device)| is_root(device)).map(|(name, device)| (name.as_str(), device))
}

impl Model {
    /// Whether an instance that is not usable is accepted with a warning.
    pub(super) fn warns(&self) -> bool {
        self.wait.as_ref().is_some_and(|wait| wait.on_failure.as_deref() == Some("warn"))
    }

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
        for (key, attached) in model.volumes.iter_mut().flatten() {
            attached.is_placed = config.get("volumes").get(key).get("pool").as_str().is_some();
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
            devices.insert(NIC.to_owned(), static_nic(inherited.devices.get(NIC), address));
        }
        if let Some(disk) = &self.root_disk {
            devices.insert(ROOT.to_owned(), root(inherited.devices.get(ROOT), disk));
        }
        devices
    }

    /// [`Self::devices`] with those of `volumes`; `current` are those of the instance, where there is one.
    pub(super) fn all_devices(&self, inherited: &Inherited, current: &Devices) -> Devices {
        let mut devices = self.devices(inherited);
        if let Some(volumes) = &self.volumes {
            devices.extend(volumes::devices(volumes, current));
        }
        devices
    }

    /// The storage pool of its root disk, where that is known from what is configured and `inherited`.
    pub(super) fn root_pool(&self, inherited: &Inherited) -> Option<String> {
        let own = self.devices(inherited);
        let (_, device) = root_of(&own).or_else(|| inherited.root())?;
        device.get("pool").cloned()
    }

    /// Brings the keys of an instance to what is configured; the server's own and the marks stay.
    ///
    /// Every attribute is named, so that a new one does not compile until it has its place.
    pub(super) fn bring(&self, config: &mut Config) {
        let Self {
            config: wanted,
            nesting,
            secure_boot,
            csm,
            cloud_init,
            delete_protection,
            boot_autostart,
            boot_priority,
            snapshots_schedule,
            snapshots_expiry,
            // Written by `store`.
            ipv4_address: _,
            root_disk: _,
            volumes: _,
            wait: _,
            stop_timeout: _,
            restart_on_update: _,
            timeouts: _,
            // Written by `apply`.
            description: _,
            profiles: _,
            devices: _,
            ephemeral: _,
            // Decided at creation, or by an action.
            name: _,
            domain: _,
            kind: _,
            image: _,
            running: _,
        } = self;
        keys::bring(config, &wanted.clone().unwrap_or_default(), OWN);
        let flag = |value: Option<bool>| value.map(|flag| flag.to_string());
        cloud_init.clone().unwrap_or_default().write(config);
        let own: [(&str, Option<String>); 8] = [
            (AUTOSTART, flag(*boot_autostart)),
            (PRIORITY, boot_priority.map(|number| number.to_string())),
            (SCHEDULE, snapshots_schedule.clone()),
            (EXPIRY, snapshots_expiry.clone()),
            (SECURE_BOOT, flag(*secure_boot)),
            (CSM, flag(*csm)),
            (NESTING, flag(*nesting)),
            (PROTECTION, flag(delete_protection.filter(|on| *on))),
        ];
        own.into_iter().for_each(|(key, value)| keys::put(config, key, value));
        if *nesting == Some(true) {
            config.extend(INTERCEPTED.map(|key| (key.to_owned(), "true".to_owned())));
        }
        self.store(config);
    }

    /// Writes what Incus has no place for, so that an import finds it. The image is written at creation only.
    fn store(&self, config: &mut Config) {
        let Self {
            ipv4_address,
            root_disk,
            volumes,
            wait,
            stop_timeout,
            restart_on_update,
            timeouts,
            // Incus has a place for these.
            name: _,
            domain: _,
            kind: _,
            description: _,
            image: _,
            profiles: _,
            config: _,
            devices: _,
            nesting: _,
            secure_boot: _,
            csm: _,
            cloud_init: _,
            running: _,
            ephemeral: _,
            delete_protection: _,
            boot_autostart: _,
            boot_priority: _,
            snapshots_schedule: _,
            snapshots_expiry: _,
        } = self;
        let stored: [(&str, Option<String>); 7] = [
            ("ipv4_address", ipv4_address.clone()),
            ("root_disk", root_disk.as_ref().map(|_| "true".to_owned())),
            ("volumes", volumes.as_ref().filter(|volumes| !volumes.is_empty()).map(|_| "true".to_owned())),
            ("wait", wait.as_ref().and_then(|wait| serde_json::to_string(wait).ok())),
            ("timeouts", timeouts.as_ref().and_then(|timeouts| serde_json::to_string(timeouts).ok())),
            ("stop_timeout", stop_timeout.clone().filter(|text| text != "30s")),
            ("restart_on_update", (!restart_on_update).then(|| "false".to_owned())),
        ];
        stored.into_iter().for_each(|(name, value)| keys::put(config, &marks::stored(name), value));
        // The notes of deleted volumes and profiles go: devices and profiles are written as configured.
        config.retain(|key, _| !notes::is_note(key));
    }

    /// Brings a whole instance to what is configured; returns whether anything changed.
    pub(super) fn apply(&self, instance: &mut Instance, inherited: &Inherited) -> bool {
        let before = instance.clone();
        let Instance {
            description,
            config,
            devices,
            profiles,
            ephemeral,
            // Not written by a PUT.
            name: _,
            kind: _,
            status: _,
            status_code: _,
            location: _,
            expanded_config: _,
            expanded_devices: _,
            rest: _,
        } = instance;
        *description = self.description.clone().unwrap_or_default();
        *profiles = self.profiles();
        *ephemeral = self.ephemeral;
        *devices = self.all_devices(inherited, devices);
        self.bring(config);
        *instance != before
    }
}

/// The profile's `eth0` with a static address.
pub(super) fn static_nic(inherited: Option<&Device>, address: &str) -> Device {
    let mut nic = inherited.cloned().unwrap_or_default();
    nic.insert("ipv4.address".to_owned(), address.to_owned());
    nic
}

/// The profile's `root` with a size and a pool of its own.
pub(super) fn root(inherited: Option<&Device>, disk: &RootDisk) -> Device {
    let RootDisk { size, pool } = disk;
    let mut device = inherited
        .cloned()
        .unwrap_or_else(|| [("type".to_owned(), "disk".to_owned()), ("path".to_owned(), "/".to_owned())].into());
    if let Some(pool) = pool {
        device.insert("pool".to_owned(), pool.clone());
    }
    if let Some(size) = size {
        device.insert("size".to_owned(), size.clone());
    }
    device
}

#[cfg(test)]
#[path = "body_tests.rs"]
pub(super) mod tests;
