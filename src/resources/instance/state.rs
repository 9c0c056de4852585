//! The state of an instance, from what Incus shows. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::body::{self, Device, NIC, OWN, ROOT};
use super::plan::is_ipv4;
use super::{restart, volumes};
use crate::incus::Config;
use crate::incus::instance::{Instance, Kind, State};
use crate::incus::is_true;
use crate::incus::network::Lease;
use crate::plugin::Value;
use crate::resources::{cloud_init, keys, marks, uid};

/// Where addresses come from.
pub(super) enum Seen {
    /// Nothing was asked: those of the prior state stay.
    Nothing,
    /// The bridge's leases.
    Leases(Vec<Lease>),
    /// The guest.
    Guest(State),
}

/// Which devices belong to an attribute of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owned {
    /// `eth0`, by `ipv4_address`.
    pub(super) nic: bool,
    /// `root`, by `root_disk`.
    pub(super) root: bool,
}

/// What an attribute keeps from `prior` and Incus does not know.
const KEPT: [&str; 4] = ["wait", "stop_timeout", "restart_on_update", "timeouts"];

/// The whole state. `prior` gives the spelling of what means the same, and what Incus has no place for.
pub(super) fn state(found: &Instance, prior: &Value, owned: Owned, seen: &Seen) -> Value {
    let config = &found.config;
    let text = |key: &str| Value::from(config.get(key).cloned());
    let flag = |key: &str| Value::from(config.get(key).map(|value| is_true(value)));
    let mut state = Value::object();
    for name in ["id", "name", "domain", uid::NAME].into_iter().chain(KEPT) {
        state.set(name, known(prior.get(name)));
    }
    state.set("description", keys::description(&found.description, prior.get("description")));
    state.set("type", if found.kind == Kind::VirtualMachine { "vm" } else { "lxc" });
    let fingerprint = config.get("volatile.base_image").cloned();
    let image = match known(prior.get("image")) {
        Value::Null => marks::read_stored(config, "image").map(str::to_owned).or(fingerprint.clone()).into(),
        kept => kept,
    };
    state.set("image", image);
    state.set("image_fingerprint", fingerprint);
    state.set("profiles", found.profiles.clone());
    state.set("config", keys::like_prior(prior.get("config"), visible(config)));
    state.set("nesting", flag(body::NESTING));
    state.set("secure_boot", flag(body::SECURE_BOOT));
    state.set("csm", flag(body::CSM));
    state.set("boot_autostart", flag(body::AUTOSTART));
    state.set("boot_priority", config.get(body::PRIORITY).and_then(|number| number.parse::<i64>().ok()));
    state.set("snapshots_schedule", text(body::SCHEDULE));
    state.set("snapshots_expiry", text(body::EXPIRY));
    state.set("delete_protection", config.get(body::PROTECTION).is_some_and(|value| is_true(value)));
    state.set("cloud_init", cloud_init::read(config, prior.get("cloud_init")));
    state.set("ephemeral", found.ephemeral);
    state.set("running", !found.is_stopped() && !found.is_paused() && found.status_code != ERROR);
    state.set("status", status(found));
    state.set("location", found.location.as_str());
    state.set("owner", text(marks::OWNER));
    devices(&mut state, found, prior, owned);
    addresses(&mut state, found, prior, owned, seen);
    state
}

const ERROR: u16 = 112;

/// What belongs into `config`. The keys that `nesting` brings are hidden while they are as it wants them; one that was
/// taken away from an instance of ours shows as the `false` that it means.
fn visible(config: &Config) -> Config {
    let mut visible = keys::visible(config, OWN);
    if !config.get(body::NESTING).is_some_and(|value| is_true(value)) {
        return visible;
    }
    let ours = config.contains_key(marks::FINGERPRINT);
    for key in body::INTERCEPTED {
        match visible.get(key) {
            Some(value) if is_true(value) => {
                visible.remove(key);
            }
            None if ours => {
                visible.insert(key.to_owned(), "false".to_owned());
            }
            _ => {}
        }
    }
    visible
}

fn known(value: &Value) -> Value {
    if value.has_unknown() { Value::Null } else { value.clone() }
}

fn status(found: &Instance) -> &str {
    if found.status == "Ready" { "Running" } else { &found.status }
}

fn devices(state: &mut Value, found: &Instance, prior: &Value, owned: Owned) {
    let mut devices = found.devices.clone();
    if owned.nic && devices.get(NIC).is_some_and(|nic| nic.contains_key("ipv4.address")) {
        devices.remove(NIC);
    }
    state.set("volumes", volumes::take(&mut devices, prior.get("volumes")));
    let root = if owned.root { devices.remove(ROOT) } else { None };
    state.set(
        "root_disk",
        root.map_or(Value::Null, |disk: Device| {
            let member = |key: &str| Value::from(disk.get(key).cloned());
            Value::Map([("size".to_owned(), member("size")), ("pool".to_owned(), member("pool"))].into())
        }),
    );
    state.set("devices", keys::devices_like_prior(prior.get("devices"), devices));
}

/// One NIC of the instance.
struct Nic<'i> {
    device: &'i str,
    keys: &'i Device,
    mac: Option<&'i str>,
}

fn nics(found: &Instance) -> impl Iterator<Item = Nic<'_>> {
    found.expanded_devices.iter().filter(|(_, keys)| keys.get("type").is_some_and(|kind| kind == "nic")).map(
        |(device, keys)| {
            let mac = keys.get("hwaddr").or_else(|| found.config.get(&format!("volatile.{device}.hwaddr")));
            Nic { device, keys, mac: mac.map(String::as_str) }
        },
    )
}

/// The network of `eth0`, whose leases tell its address.
pub(super) fn network(found: &Instance) -> Option<&str> {
    found
        .expanded_devices
        .get(NIC)
        .filter(|nic| nic.get("type").is_some_and(|kind| kind == "nic"))?
        .get("network")
        .map(String::as_str)
}

/// Name in the guest, and global addresses.
fn guest_addresses(nic: &Nic<'_>, state: &State) -> Option<(String, Vec<String>)> {
    let mac = nic.mac?;
    let (name, seen) = state.network.iter().find(|(_, seen)| seen.hwaddr.eq_ignore_ascii_case(mac))?;
    let global =
        seen.addresses.iter().filter(|address| address.scope == "global").map(|address| address.address.clone());
    Some((name.clone(), global.collect()))
}

fn addresses(state: &mut Value, found: &Instance, prior: &Value, owned: Owned, seen: &Seen) {
    let mut interfaces = BTreeMap::new();
    let (mut ipv4, mut ipv6) = (None, None);
    for nic in nics(found) {
        let (name, addresses) = interface(&nic, found, prior, seen);
        if nic.device == NIC {
            ipv4 = addresses.iter().find(|address| is_ipv4(address)).cloned();
            ipv6 = addresses.iter().find(|address| !is_ipv4(address)).cloned();
        }
        let members: [(&str, Value); 3] =
            [("name", name.into()), ("mac", nic.mac.map(str::to_owned).into()), ("addresses", addresses.into())];
        interfaces.insert(
            nic.device.to_owned(),
            Value::Map(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        );
    }
    let address = if owned.nic {
        // The address of the device, not that of a lease: a copy taken away behind our back is drift.
        found.devices.get(NIC).and_then(|nic| nic.get("ipv4.address")).cloned()
    } else {
        ipv4.or_else(|| {
            prior
                .get("ipv4_address")
                .as_str()
                .filter(|_| runs(found) && matches!(seen, Seen::Nothing))
                .map(str::to_owned)
        })
    };
    state.set("ipv4_address", address);
    state.set("ipv6_address", ipv6);
    state.set("interfaces", Value::Map(interfaces));
}

fn runs(found: &Instance) -> bool {
    !found.is_stopped()
}

fn interface(nic: &Nic<'_>, found: &Instance, prior: &Value, seen: &Seen) -> (Option<String>, Vec<String>) {
    let before = prior.get("interfaces").get(nic.device);
    let before = if before.get("mac").as_str() == nic.mac && nic.mac.is_some() { before } else { &Value::Null };
    let configured = nic.keys.get("name").or_else(|| found.config.get(&format!("volatile.{}.name", nic.device)));
    let name = before.get("name").as_str().map(str::to_owned).or_else(|| configured.cloned());
    let fixed = nic.keys.get("ipv4.address").filter(|address| is_ipv4(address)).cloned();
    if !runs(found) {
        return (name, fixed.into_iter().collect());
    }
    if let Seen::Guest(state) = seen
        && let Some((guest_name, mut addresses)) = guest_addresses(nic, state)
    {
        // Without its agent a virtual machine is seen from the host, by the names of devices.
        let name = if found.kind == Kind::VirtualMachine && state.processes <= 0 { name } else { Some(guest_name) };
        if !addresses.iter().any(|address| is_ipv4(address)) {
            addresses.extend(fixed);
        }
        return (name, addresses);
    }
    let mut addresses: Vec<String> = before
        .get("addresses")
        .as_list()
        .unwrap_or_default()
        .iter()
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect();
    let lease = match (seen, nic.mac) {
        (Seen::Leases(leases), Some(mac)) => leases
            .iter()
            .find(|lease| lease.hwaddr.eq_ignore_ascii_case(mac) && is_ipv4(&lease.address))
            .map(|lease| lease.address.clone()),
        _ => None,
    };
    if let Some(current) = fixed.or(lease).filter(|current| !addresses.contains(current)) {
        addresses.retain(|address| !is_ipv4(address));
        addresses.insert(0, current);
    }
    (name, addresses)
}

/// How the `eth0` of a static address differs from the one that it should be a copy of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stale {
    /// Key by key, in words.
    pub(super) differences: String,
    /// Whether Incus takes the device out of the guest to mend it.
    pub(super) replugs: bool,
}

/// Shows the `eth0` of a static address in `devices` where it is not `wanted` with that address: a stale copy of the
/// profiles' device, or one changed by hand. From there the next apply takes it away. Returns how it differs.
pub(super) fn show_stale(state: &mut Value, found: &Instance, wanted: Option<&Device>) -> Option<Stale> {
    let nic = found.devices.get(NIC)?;
    let address = nic.get("ipv4.address")?;
    let wanted = body::static_nic(Some(wanted?), address);
    if wanted == *nic {
        return None;
    }
    show(state, NIC, nic);
    let keys = differing(nic, &wanted);
    Some(Stale { differences: told(&keys, nic, &wanted), replugs: keys.iter().any(|key| restart::replugs(key)) })
}

/// Shows the `root` of a `root_disk` in `devices`, as [`show_stale`] does, where it is not that of the profiles with a
/// size and a pool of its own. Returns how it differs.
pub(super) fn show_changed_root(state: &mut Value, found: &Instance, inherited: Option<&Device>) -> Option<String> {
    let root = found.devices.get(ROOT)?;
    let mut wanted = body::root(inherited, &body::RootDisk { size: None, pool: None });
    for key in ["size", "pool"] {
        keys::put(&mut wanted, key, root.get(key).cloned());
    }
    if wanted == *root {
        return None;
    }
    show(state, ROOT, root);
    Some(told(&differing(root, &wanted), root, &wanted))
}

fn show(state: &mut Value, name: &str, device: &Device) {
    let mut devices = state.get("devices").as_map().cloned().unwrap_or_default();
    devices.insert(name.to_owned(), device.clone().into());
    state.set("devices", Value::Map(devices));
}

fn differing<'d>(found: &'d Device, wanted: &'d Device) -> Vec<&'d String> {
    let keys: BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
    keys.into_iter().filter(|key| found.get(*key) != wanted.get(*key)).collect()
}

fn told(keys: &[&String], found: &Device, wanted: &Device) -> String {
    let shown = |value: Option<&String>| value.map_or("not set".to_owned(), |value| format!("\"{value}\""));
    let told =
        |key: &&String| format!("`{key}` is {} here and {} there", shown(found.get(*key)), shown(wanted.get(*key)));
    keys.iter().map(told).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(config: serde_json::Value, devices: serde_json::Value) -> Instance {
        serde_json::from_value(json!({"config": config, "devices": devices, "status_code": 103})).unwrap()
    }

    fn shown(config: serde_json::Value) -> Value {
        state(&found(config, json!({})), &Value::Null, Owned::default(), &Seen::Nothing)
    }

    const MKNOD: &str = "security.syscalls.intercept.mknod";
    const SETXATTR: &str = "security.syscalls.intercept.setxattr";

    #[test]
    fn what_nesting_sets_is_not_in_config() {
        let state = shown(json!({"security.nesting": "true", MKNOD: "true", SETXATTR: "true"}));
        assert_eq!((state.get("nesting").as_bool(), state.get("config").is_null()), (Some(true), true));
        let state = shown(json!({MKNOD: "true"}));
        assert_eq!(state.get("config").get(MKNOD).as_str(), Some("true"));
    }

    #[test]
    fn a_key_of_nesting_that_was_taken_away_from_ours_is_drift() {
        let ours = json!({"security.nesting": "true", SETXATTR: "true", "user.anklume.fingerprint": "f"});
        let config = shown(ours).get("config").clone();
        assert_eq!(config, Value::from_json(&json!({MKNOD: "false"})));
        assert!(shown(json!({"security.nesting": "true"})).get("config").is_null(), "made by others");
    }

    #[test]
    fn a_paused_instance_does_not_run() {
        let paused: Instance = serde_json::from_value(json!({"status": "Frozen", "status_code": 110})).unwrap();
        let state = state(&paused, &Value::Null, Owned::default(), &Seen::Nothing);
        assert_eq!((state.get("running").as_bool(), state.get("status").as_str()), (Some(false), Some("Frozen")));
    }

    #[test]
    fn a_root_of_root_disk_that_was_changed_by_hand_is_shown() {
        let root = json!({"type": "disk", "path": "/", "pool": "default", "size": "1GiB"});
        let profile: Device = serde_json::from_value(json!({"type": "disk", "path": "/", "pool": "other"})).unwrap();
        let mut state = Value::object();
        let same = found(json!({}), json!({"root": root}));
        assert_eq!(show_changed_root(&mut state, &same, Some(&profile)), None);
        assert_eq!(show_changed_root(&mut state, &same, None), None);
        let mut limited = root;
        limited["limits.max"] = "10MiB".into();
        let changed = found(json!({}), json!({"root": limited}));
        let told = show_changed_root(&mut state, &changed, Some(&profile)).unwrap();
        assert_eq!(told, "`limits.max` is \"10MiB\" here and not set there");
        assert_eq!(state.get("devices").get("root").get("limits.max").as_str(), Some("10MiB"));
    }

    #[test]
    fn a_static_eth0_that_differs_is_shown_and_told_key_by_key() {
        let nic = json!({"type": "nic", "network": "net-pro", "ipv4.address": "10.0.0.5", "mtu": "1400"});
        let found = found(json!({}), json!({"eth0": nic}));
        let profile = |json| serde_json::from_value::<Device>(json).unwrap();
        let mut state = Value::object();
        let same = profile(json!({"type": "nic", "network": "net-pro", "mtu": "1400"}));
        assert_eq!(show_stale(&mut state, &found, Some(&same)), None);
        assert!(state.get("devices").is_null());
        let other = profile(json!({"type": "nic", "network": "net-pro", "security.mac_filtering": "true"}));
        let stale = show_stale(&mut state, &found, Some(&other)).unwrap();
        assert_eq!(
            stale.differences,
            "`mtu` is \"1400\" here and not set there, `security.mac_filtering` is not set here and \"true\" there"
        );
        assert!(stale.replugs);
        let filtered = profile(json!({"type": "nic", "network": "net-pro", "mtu": "1400", "boot.priority": "1"}));
        assert!(!show_stale(&mut state, &found, Some(&filtered)).unwrap().replugs);
        assert_eq!(state.get("devices").get("eth0").get("mtu").as_str(), Some("1400"));
    }
}
