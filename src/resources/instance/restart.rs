//! Which changes take effect at a start only. Pure.

use std::collections::BTreeMap;

use crate::plugin::{Path, Private, Value};
use crate::resources::marks;

const MEMORY: &str = "limits.memory";

/// Keys of a container that its running init never sees (Incus 6.0 to 7.3: everything else applies live).
const CONTAINER_AT_START: &[&str] = &[
    "environment.",
    "limits.kernel.",
    "linux.",
    "nvidia.",
    "oci.",
    "raw.",
    "security.idmap.",
    "security.nesting",
    "security.privileged",
    "security.syscalls.",
];

/// Keys that a running virtual machine takes, or how they begin; the others are refused (`cannot be updated when VM is
/// running`). Incus takes `security.csm` and `security.secureboot` too, for the next start.
const VM_LIVE: &[&str] = &[
    "boot.",
    "cloud-init.",
    "cluster.evacuate",
    "environment.",
    "limits.memory.oom_priority",
    "placement.",
    "security.agent.metrics",
    "security.guestapi",
    "security.protection.",
    "snapshots.",
    "user.",
];

/// Keys of a NIC whose change takes it out of the guest and puts it back, without its addresses.
const NIC_REPLUG: &[&str] = &["name", "network", "nictype", "parent", "hwaddr", "mtu", "vlan", "ipv4.address"];

/// Types of devices that a running virtual machine takes and gives back; the others, a TPM or a GPU, are refused (`Device
/// cannot be added when instance is running`, Incus 6.0.4 to 7.3).
const VM_HOTPLUG: &[&str] = &["disk", "nic", "none", "pci", "proxy", "usb"];

/// The attributes whose change needs a restart of a running instance.
///
/// An address known after apply is one of DHCP; it needs a restart only where it was static before. `private` tells that,
/// and whether a stale `eth0` has to be plugged anew. `config` tells an address that is to be static from one of DHCP.
pub(super) fn reasons(config: &Value, prior: &Value, planned: &Value, private: &Private) -> Vec<Path> {
    let was_static = private.get(super::plan::IPV4) == Some("static");
    let is_vm = planned.get("type").as_str() == Some("vm");
    let mut reasons = Vec::new();
    for key in changed_keys(prior.get("config"), planned.get("config")) {
        let (from, to) = (prior.get("config").get(key), planned.get("config").get(key));
        if at_start(is_vm, key, from, to) {
            reasons.push(Path::from("config").key(key));
        }
    }
    for name in ["nesting", "secure_boot", "csm", "ipv4_address"] {
        let (from, to) = (prior.get(name), planned.get(name));
        let pinned = name == "ipv4_address" && pins(config, private);
        if pinned || (from != to && (was_static || !to.is_unknown() || name != "ipv4_address")) {
            reasons.push(Path::from(name));
        }
    }
    let replugged = private.get(super::plan::REPLUG).is_some();
    if replugged && reasons.iter().all(|path| *path != Path::from("ipv4_address")) {
        reasons.push(Path::from("ipv4_address"));
    }
    for device in changed_keys(prior.get("devices"), planned.get("devices")) {
        let (from, to) = (prior.get("devices").get(device), planned.get("devices").get(device));
        let both = from.as_map().is_some() && to.as_map().is_some();
        let replugged = both && is_nic(to) && NIC_REPLUG.iter().any(|key| from.get(key) != to.get(key));
        if replugged || is_vm && [from, to].into_iter().any(is_at_start) {
            reasons.push(Path::from("devices").key(device));
        }
    }
    reasons
}

/// Whether an address of DHCP, which may be the same, becomes a static one. Where what was kept is lost, nothing says
/// which it was, and the same address is taken for the same.
pub(super) fn pins(config: &Value, private: &Private) -> bool {
    let was_static = private.get(super::plan::IPV4) == Some("static") || marks::is_lost(private);
    config.get("ipv4_address").as_str().is_some() && !was_static
}

/// A root disk that goes to another storage pool, for which Incus needs the instance stopped: the attribute that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Moves {
    /// It does.
    Sure(Path),
    /// It does if the profiles, or a value known after apply, name another pool.
    Perhaps(Path),
}

/// Whether the root disk goes to another storage pool.
pub(super) fn moves(prior: &Value, planned: &Value) -> Option<Moves> {
    let (from_root, to_root) = (prior.get("root_disk"), planned.get("root_disk"));
    let at = Path::from("root_disk").attribute("pool");
    match (from_root.get("pool").as_str(), to_root.get("pool")) {
        _ if from_root == to_root => {}
        (Some(from), Value::String(to)) if from != to => return Some(Moves::Sure(at)),
        (Some(_), Value::String(_)) => {}
        (None, Value::String(_)) => return Some(Moves::Perhaps(at)),
        (Some(_), _) => return Some(Moves::Perhaps(if to_root.as_map().is_some() { at } else { "root_disk".into() })),
        _ => {}
    }
    for device in changed_keys(prior.get("devices"), planned.get("devices")) {
        if device == super::body::ROOT && to_root.as_map().is_some() && from_root.as_map().is_some() {
            // Shown there because it was changed by hand; `root_disk` tells the pool.
            continue;
        }
        let at = || Path::from("devices").key(device);
        let (from, to) = (prior.get("devices").get(device), planned.get("devices").get(device));
        let pools = (from.get("pool").as_str(), to.get("pool").as_str());
        match (is_root(from), is_root(to), pools) {
            (true, true, (Some(from), Some(to))) if from != to => return Some(Moves::Sure(at())),
            (true, true, (Some(_), Some(_))) | (false, false, _) => {}
            _ => return Some(Moves::Perhaps(at())),
        }
    }
    None
}

fn is_root(device: &Value) -> bool {
    device.get("type").as_str() == Some("disk") && device.get("path").as_str() == Some("/")
}

/// Whether a change of this key takes a NIC out of the guest.
pub(super) fn replugs(key: &str) -> bool {
    NIC_REPLUG.contains(&key)
}

/// Whether a NIC comes, goes or changes.
pub(super) fn nics_changed(prior: &Value, planned: &Value) -> bool {
    let (prior, planned) = (prior.get("devices"), planned.get("devices"));
    planned.is_unknown()
        || changed_keys(prior, planned).into_iter().any(|device| {
            let (from, to) = (prior.get(device), planned.get(device));
            to.has_unknown() || is_nic(from) || is_nic(to) || device == super::body::NIC
        })
}

fn is_nic(device: &Value) -> bool {
    device.get("type").as_str() == Some("nic")
}

/// Whether a virtual machine has this device from its start to its stop.
fn is_at_start(device: &Value) -> bool {
    device.get("type").as_str().is_some_and(|kind| !VM_HOTPLUG.contains(&kind))
}

fn at_start(is_vm: bool, key: &str, from: &Value, to: &Value) -> bool {
    let among = |keys: &[&str]| keys.iter().any(|prefix| key.starts_with(prefix));
    match key {
        _ if !is_vm => among(CONTAINER_AT_START),
        MEMORY => to.is_null(),
        // A number of processors is plugged in and out; a set of them, or sockets and cores, are not.
        "limits.cpu" => [from, to].iter().any(|value| value.as_str().is_some_and(|text| text.parse::<u32>().is_err())),
        _ => !among(VM_LIVE),
    }
}

/// The attribute by which a running virtual machine gets another memory. Incus tries to do that live: 6.0 cannot give
/// more than at the start, and no version can take away what the guest does not give up.
pub(super) fn perhaps(prior: &Value, planned: &Value) -> Option<Path> {
    let (from, to) = (prior.get("config").get(MEMORY), planned.get("config").get(MEMORY));
    let is_vm = planned.get("type").as_str() == Some("vm");
    (is_vm && from != to && !to.is_null()).then(|| Path::from("config").key(MEMORY))
}

fn changed_keys<'v>(from: &'v Value, to: &'v Value) -> Vec<&'v str> {
    let keys = |map: &'v Value| map.as_map().into_iter().flat_map(BTreeMap::keys).map(String::as_str);
    let mut all: Vec<_> = keys(from).chain(keys(to)).filter(|key| from.get(key) != to.get(key)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(prior: serde_json::Value, planned: serde_json::Value, expected: &[&str]) {
        let found = reasons(&Value::Null, &Value::from_json(&prior), &Value::from_json(&planned), &Private::default());
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_limit_applies_live() {
        check(json!({"config": {"limits.cpu": "1"}}), json!({"config": {"limits.cpu": "2"}}), &[]);
        let vm = |cpu: &str| json!({"type": "vm", "config": {"limits.cpu": cpu}});
        check(vm("1"), json!({"type": "vm"}), &[]);
        check(vm("1"), vm("4"), &[]);
        check(vm("1"), vm("0-3"), &["config[\"limits.cpu\"]"]);
        check(vm("0,1"), vm("2"), &["config[\"limits.cpu\"]"]);
    }

    #[test]
    fn privileges_and_nesting_need_a_start() {
        check(json!({}), json!({"config": {"security.privileged": "true"}}), &["config[\"security.privileged\"]"]);
        check(json!({"nesting": true}), json!({"nesting": null}), &["nesting"]);
    }

    #[test]
    fn a_tpm_and_a_gpu_of_a_vm_need_a_start() {
        let with = |kind: &str, device: serde_json::Value| json!({"type": kind, "devices": {"it": device}});
        for device in [json!({"type": "tpm"}), json!({"type": "gpu", "gputype": "physical"})] {
            check(with("vm", json!(null)), with("vm", device.clone()), &["devices[\"it\"]"]);
            check(with("vm", device.clone()), with("vm", json!(null)), &["devices[\"it\"]"]);
            check(with("lxc", json!(null)), with("lxc", device), &[]);
        }
        check(with("vm", json!(null)), with("vm", json!({"type": "usb", "productid": "1"})), &[]);
    }

    #[test]
    fn most_keys_of_a_vm_need_a_start() {
        check(json!({}), json!({"type": "vm", "config": {"raw.qemu": "x", "user.a": "b"}}), &["config[\"raw.qemu\"]"]);
    }

    #[test]
    fn another_memory_of_a_vm_may_need_a_start() {
        let with =
            |kind: &str, memory: &str| Value::from_json(&json!({"type": kind, "config": {"limits.memory": memory}}));
        assert_eq!(perhaps(&with("vm", "1GiB"), &with("vm", "2GiB")).unwrap().to_string(), "config[\"limits.memory\"]");
        assert_eq!(perhaps(&with("lxc", "1GiB"), &with("lxc", "2GiB")), None);
        assert_eq!(perhaps(&with("vm", "1GiB"), &with("vm", "1GiB")), None);
        check(
            json!({"type": "vm", "config": {"limits.memory": "1GiB"}}),
            json!({"type": "vm"}),
            &["config[\"limits.memory\"]"],
        );
    }

    #[test]
    fn another_address_needs_a_start() {
        check(json!({"ipv4_address": "10.0.0.1"}), json!({"ipv4_address": "10.0.0.2"}), &["ipv4_address"]);
    }

    #[test]
    fn a_lease_that_may_change_needs_no_start_and_a_static_address_that_goes_does() {
        let prior = Value::from_json(&json!({"ipv4_address": "10.0.0.1"}));
        let mut planned = Value::object();
        planned.set("ipv4_address", Value::Unknown);
        assert!(reasons(&Value::Null, &prior, &planned, &Private::default()).is_empty());
        let mut private = Private::default();
        private.set("ipv4", "static");
        assert_eq!(reasons(&Value::Null, &prior, &planned, &private).len(), 1);
    }

    #[test]
    fn another_pool_of_the_root_disk_moves_it() {
        let moved =
            |from: serde_json::Value, to: serde_json::Value| moves(&Value::from_json(&from), &Value::from_json(&to));
        let own = |pool: &str| json!({"root_disk": {"size": "1GiB", "pool": pool}});
        let device = |pool: &str| json!({"devices": {"root": {"type": "disk", "path": "/", "pool": pool}}});
        let at = || Path::from("root_disk").attribute("pool");
        assert_eq!(moved(own("a"), own("b")), Some(Moves::Sure(at())));
        assert_eq!(moved(own("a"), own("a")), None);
        assert_eq!(moved(json!({}), own("b")), Some(Moves::Perhaps(at())));
        assert_eq!(moved(own("a"), json!({})), Some(Moves::Perhaps("root_disk".into())));
        assert_eq!(moved(device("a"), device("b")), Some(Moves::Sure(Path::from("devices").key("root"))));
        assert_eq!(moved(json!({}), json!({"devices": {"eth1": {"type": "nic"}}})), None);
        let mut changed = own("a");
        changed.as_object_mut().unwrap().extend(device("a").as_object().unwrap().clone());
        assert_eq!(moved(changed, own("a")), None, "shown as changed by hand");
    }

    #[test]
    fn a_stale_nic_that_is_plugged_anew_needs_a_start() {
        let mut private = Private::default();
        private.set("replug", "true");
        assert_eq!(reasons(&Value::Null, &Value::object(), &Value::object(), &private), [Path::from("ipv4_address")]);
    }

    #[test]
    fn a_nic_that_moves_needs_a_start_and_a_new_one_does_not() {
        let nic = |network: &str| json!({"devices": {"eth1": {"type": "nic", "network": network}}});
        check(nic("a"), nic("b"), &["devices[\"eth1\"]"]);
        check(json!({}), nic("b"), &[]);
        check(json!({}), json!({"devices": {"d": {"type": "disk"}}}), &[]);
    }
}
