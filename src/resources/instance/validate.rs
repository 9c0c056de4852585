//! Rules across the attributes of a configured instance. Unknown is never a problem.

use super::body::{INTERCEPTED, OWN};
use super::{kinds, volumes};
use crate::plugin::{Diagnostics, Path, Value};
use crate::resources::{expiry, keys};

/// Finds every problem of `config`.
pub(super) fn validate(config: &Value, problems: &mut Diagnostics) {
    keys::refused(config.get("config"), &Path::from("config"), OWN, problems);
    nesting(config, problems);
    devices(config, problems);
    volumes::validate(config, problems);
    kind(config, problems);
    profiles(config.get("profiles"), problems);
    if is(config, "ephemeral", true) && is(config, "running", false) {
        problems.error(
            "running",
            "An ephemeral instance cannot be stopped",
            "Incus deletes an ephemeral instance when it stops. Set `ephemeral = false`, or remove `running = false`.",
        );
    }
    let wait = config.get("wait");
    if is(wait, "agent", false) {
        for (name, value) in [("agent_timeout", wait.get("agent_timeout")), ("cloud_init", wait.get("cloud_init"))] {
            if value.as_str().is_some() || value.as_bool() == Some(true) {
                problems.error(
                    Path::from("wait").attribute(name),
                    "Nothing to wait with",
                    format!(
                        "`agent = false` does not wait for the agent, which `{name}` is about. Remove one of them."
                    ),
                );
            }
        }
    }
    expiry::warn(config, problems);
}

fn is(config: &Value, name: &str, truth: bool) -> bool {
    config.get(name).as_bool() == Some(truth)
}

fn nesting(config: &Value, problems: &mut Diagnostics) {
    if !is(config, "nesting", true) {
        return;
    }
    for key in INTERCEPTED.into_iter().filter(|key| !config.get("config").get(key).is_null()) {
        problems.error(
            Path::from("config").key(key),
            "Key with an attribute of its own",
            format!("`nesting = true` sets `{key}`. Remove it here, or remove `nesting`."),
        );
    }
}

fn devices(config: &Value, problems: &mut Diagnostics) {
    for (device, keys) in config.get("devices").as_map().into_iter().flatten() {
        let at = Path::from("devices").key(device.as_str());
        let mut refuse = |detail: String| problems.error(at.clone(), "Device with an attribute of its own", detail);
        if device == "root" && !config.get("root_disk").is_null() {
            refuse("`root_disk` sets the device `root`. Remove one of them.".to_owned());
        } else if device == "eth0" && config.get("ipv4_address").is_known() && !config.get("ipv4_address").is_null() {
            refuse(
                "`ipv4_address` sets the device `eth0`. Remove one of them; `ipv4.address` may stand in the device."
                    .to_owned(),
            );
        } else if device.starts_with("sv-") || device.starts_with("pd-") {
            refuse(format!(
                "Names that begin with `sv-` and `pd-` belong to `volumes`. Rename `{device}`, or write it there."
            ));
        }
        match keys {
            Value::Null => problems.error(at, "Device without keys", format!("`{device}` is null. Remove it, or write its keys.")),
            Value::Map(keys) if keys.get("type").is_none_or(Value::is_null) => problems.error(
                at,
                "Device without a type",
                format!("`{device}` has no `type`. Write it, such as `type = \"disk\"` or `type = \"nic\"`; to hide a profile's device: \"none\"."),
            ),
            Value::Map(_) => keys::keys_of_device(keys, &at, problems),
            _ => {}
        }
    }
}

/// Incus would answer "Unknown configuration key", which sends the operator looking for a typo.
fn kind(config: &Value, problems: &mut Diagnostics) {
    let kind = config.get("type");
    if kind.is_unknown() {
        return;
    }
    let is_vm = kind.as_str() == Some("vm");
    for key in config.get("config").as_map().into_iter().flatten().map(|(key, _)| key) {
        let at = Path::from("config").key(key.as_str());
        if is_vm && kinds::is_of_containers(key) {
            let detail = format!("A virtual machine has no `{key}`. Remove it, or set `type = \"lxc\"`.");
            problems.error(at, "Key of containers only", detail);
        } else if !is_vm && kinds::is_of_vms(key) {
            let detail = format!("A container has no `{key}`. Remove it, or set `type = \"vm\"`.");
            problems.error(at, "Key of virtual machines only", detail);
        }
    }
    let set = |name: &str| !config.get(name).is_null();
    let wait = config.get("wait");
    if !is_vm {
        for name in ["agent", "agent_timeout"] {
            if wait.as_map().is_some() && !wait.get(name).is_null() {
                problems.error(
                    Path::from("wait").attribute(name),
                    "Attribute of virtual machines only",
                    format!(
                        "A container has no agent: commands run in it at once. Remove `{name}`, or set `type = \"vm\"`."
                    ),
                );
            }
        }
        for (name, what) in [("secure_boot", "secure boot"), ("csm", "a BIOS to boot by")] {
            if set(name) {
                problems.error(
                    name,
                    "Attribute of virtual machines only",
                    format!("Only a virtual machine has {what}. Remove `{name}`, or set `type = \"vm\"`."),
                );
            }
        }
        return;
    }
    if set("nesting") {
        problems.error(
            "nesting",
            "Attribute of containers only",
            "A virtual machine needs no key to run containers, or virtual machines where the host's processor allows it. Remove `nesting`, or set `type = \"lxc\"`.",
        );
    }
    for (device, keys) in config.get("devices").as_map().into_iter().flatten() {
        if keys.get("type").as_str() != Some("gpu") {
            continue;
        }
        for key in kinds::CONTAINER_GPU.iter().filter(|key| !keys.get(key).is_null()) {
            problems.error(
                Path::from("devices").key(device.as_str()).key(*key),
                "Key of containers only",
                format!(
                    "The guest itself owns the devices of a virtual machine. Remove `{key}`, or set `type = \"lxc\"`."
                ),
            );
        }
    }
    if is(config, "csm", true) && !config.get("secure_boot").is_unknown() && !is(config, "secure_boot", false) {
        problems.error(
            "csm",
            "CSM needs secure boot off",
            "A virtual machine that boots by BIOS has no secure boot. Add `secure_boot = false`.",
        );
    }
}

fn profiles(profiles: &Value, problems: &mut Diagnostics) {
    let names = profiles.as_list().unwrap_or_default();
    for (index, name) in (0_i64..).zip(names) {
        let at = Path::from("profiles").index(index);
        if name.is_null() {
            problems.error(at, "Profile without a name", "This element is null. Remove it, or write a profile's name.");
        } else if name.as_str().is_some() && names.iter().filter(|other| *other == name).count() > 1 {
            problems.error(at, "Profile listed twice", "Incus takes each profile once. Remove one of them.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(config: serde_json::Value) -> Diagnostics {
        let mut problems = Diagnostics::default();
        validate(&Value::from_json(&config), &mut problems);
        problems
    }

    #[track_caller]
    fn refused(config: serde_json::Value, path: &str, text: &str) {
        let found = problems(config);
        assert!(
            found.has_errors() && found.iter().any(|one| one.path.to_string() == path && one.detail.contains(text)),
            "{found:?}"
        );
    }

    #[track_caller]
    fn good(config: serde_json::Value) {
        let found = problems(config);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_plain_container_is_good() {
        good(json!({"name": "web", "type": "lxc", "profiles": ["default", "web"], "config": {"limits.cpu": "2"}}));
    }

    #[test]
    fn a_key_with_an_attribute_is_refused() {
        refused(json!({"config": {"boot.autostart": "true"}}), "config[\"boot.autostart\"]", "boot_autostart");
    }

    #[test]
    fn what_nesting_sets_is_refused_beside_it_only() {
        let key = "security.syscalls.intercept.mknod";
        let path = "config[\"security.syscalls.intercept.mknod\"]";
        refused(json!({"nesting": true, "config": {key: "true"}}), path, "nesting");
        good(json!({"config": {key: "true"}}));
        good(json!({"nesting": false, "config": {key: "true"}}));
    }

    #[test]
    fn root_beside_root_disk_is_refused() {
        refused(
            json!({"devices": {"root": {"type": "disk"}}, "root_disk": {"size": "1GiB"}}),
            "devices[\"root\"]",
            "root_disk",
        );
    }

    #[test]
    fn root_alone_is_good() {
        good(json!({"devices": {"root": {"type": "disk", "path": "/", "pool": "p"}}}));
    }

    #[test]
    fn eth0_beside_an_address_is_refused() {
        refused(
            json!({"devices": {"eth0": {"type": "nic"}}, "ipv4_address": "10.1.0.2"}),
            "devices[\"eth0\"]",
            "ipv4_address",
        );
    }

    #[test]
    fn names_of_volumes_are_kept() {
        refused(json!({"devices": {"sv-data": {"type": "disk"}}}), "devices[\"sv-data\"]", "Rename");
        refused(json!({"devices": {"pd-data": {"type": "disk"}}}), "devices[\"pd-data\"]", "Rename");
    }

    #[test]
    fn a_device_needs_a_type() {
        refused(json!({"devices": {"disk0": {"path": "/"}}}), "devices[\"disk0\"]", "type");
    }

    #[test]
    fn a_key_of_a_device_has_a_value() {
        let devices = json!({"disk0": {"type": "disk", "path": "/x", "source": ""}});
        refused(json!({"devices": devices}), "devices[\"disk0\"][\"source\"]", "Remove the key");
        refused(json!({"config": {"user.e": ""}}), "config[\"user.e\"]", "Remove the key");
    }

    #[test]
    fn an_ephemeral_instance_cannot_be_stopped() {
        refused(json!({"ephemeral": true, "running": false}), "running", "ephemeral");
    }

    #[test]
    fn a_container_has_no_secure_boot() {
        refused(json!({"secure_boot": false}), "secure_boot", "type = \"vm\"");
        refused(json!({"type": "lxc", "csm": true}), "csm", "type = \"vm\"");
    }

    #[test]
    fn a_vm_has_no_container_keys() {
        refused(json!({"type": "vm", "nesting": true}), "nesting", "lxc");
        refused(
            json!({"type": "vm", "config": {"security.privileged": "true"}}),
            "config[\"security.privileged\"]",
            "lxc",
        );
    }

    #[test]
    fn the_agent_is_a_virtual_machines() {
        refused(json!({"type": "lxc", "wait": {"agent": true}}), "wait.agent", "vm");
        refused(json!({"wait": {"agent_timeout": "5s"}}), "wait.agent_timeout", "vm");
        good(json!({"type": "vm", "wait": {"agent": true, "agent_timeout": "5s", "cloud_init": true}}));
    }

    #[test]
    fn without_the_agent_nothing_is_asked_of_it() {
        refused(json!({"type": "vm", "wait": {"agent": false, "agent_timeout": "5s"}}), "wait.agent_timeout", "agent");
        refused(json!({"type": "vm", "wait": {"agent": false, "cloud_init": true}}), "wait.cloud_init", "agent");
        good(json!({"type": "vm", "wait": {"agent": false, "cloud_init": false}}));
    }

    #[test]
    fn a_container_has_no_vm_keys() {
        refused(json!({"config": {"raw.qemu": "-x"}, "type": "lxc"}), "config[\"raw.qemu\"]", "vm");
        refused(json!({"config": {"limits.memory.hugepages": "true"}}), "config[\"limits.memory.hugepages\"]", "vm");
    }

    #[test]
    fn a_vms_gpu_has_no_owner() {
        let gpu = json!({"type": "vm", "devices": {"gpu": {"type": "gpu", "mode": "0660"}}});
        refused(gpu, "devices[\"gpu\"][\"mode\"]", "lxc");
        good(json!({"type": "lxc", "devices": {"gpu": {"type": "gpu", "mode": "0660"}}}));
    }

    #[test]
    fn csm_needs_secure_boot_off() {
        refused(json!({"type": "vm", "csm": true}), "csm", "secure_boot = false");
        good(json!({"type": "vm", "csm": true, "secure_boot": false}));
    }

    #[test]
    fn a_profile_is_listed_once() {
        refused(json!({"profiles": ["a", "b", "a"]}), "profiles[2]", "once");
    }

    #[test]
    fn sixty_months_are_a_warning() {
        let found = problems(json!({"snapshots_expiry": "60m"}));
        assert!(!found.has_errors() && !found.is_empty());
    }

    #[test]
    fn unknown_is_never_a_problem() {
        let mut config = Value::from_json(&json!({"csm": true, "devices": {"eth0": {"type": "nic"}}}));
        for name in [
            "type",
            "secure_boot",
            "nesting",
            "ipv4_address",
            "profiles",
            "config",
            "ephemeral",
            "running",
            "root_disk",
            "wait",
        ] {
            config.set(name, Value::Unknown);
        }
        let mut problems = Diagnostics::default();
        validate(&config, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        let mut config = Value::object();
        config.set("devices", Value::Unknown);
        validate(&config, &mut problems);
        assert!(problems.is_empty());
    }
}
