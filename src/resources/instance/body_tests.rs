//! An instance as it is written to Incus.

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
    let model = model(json!({"config": {"limits.cpu": "2"}, "delete_protection": true, "wait": {"addresses": false}}));
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
fn nesting_carries_the_system_calls_that_containers_inside_need() {
    let mut instance = Instance::default();
    model(json!({"nesting": true})).apply(&mut instance, &inherited());
    for key in ["security.nesting", "security.syscalls.intercept.mknod", "security.syscalls.intercept.setxattr"] {
        assert_eq!(instance.config[key], "true", "{key}");
    }
    model(json!({"nesting": false})).apply(&mut instance, &inherited());
    assert_eq!(instance.config.get("security.syscalls.intercept.mknod"), None);
    let own = json!({"config": {"security.syscalls.intercept.mknod": "true"}});
    model(own).apply(&mut instance, &inherited());
    assert_eq!(instance.config["security.syscalls.intercept.mknod"], "true");
}

#[test]
fn the_pool_of_the_root_disk_is_its_own_or_the_profiles() {
    let pool = |extra| model(extra).root_pool(&inherited()).unwrap();
    assert_eq!(pool(json!({})), "fast");
    assert_eq!(pool(json!({"root_disk": {"size": "1GiB"}})), "fast");
    assert_eq!(pool(json!({"root_disk": {"pool": "slow"}})), "slow");
    assert_eq!(pool(json!({"devices": {"disk0": {"type": "disk", "path": "/", "pool": "slow"}}})), "slow");
    assert_eq!(model(json!({})).root_pool(&Inherited::default()), None);
}

#[test]
fn later_profiles_win() {
    let first: Devices = serde_json::from_value(json!({"eth0": {"network": "a"}})).unwrap();
    let second: Devices = serde_json::from_value(json!({"eth0": {"network": "b"}})).unwrap();
    assert_eq!(Inherited::of([&first, &second]).devices["eth0"]["network"], "b");
}
