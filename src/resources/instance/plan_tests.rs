//! The rules of the plan, one line each.

use serde_json::{Value as Json, json};

use super::plan::{Defaults, OWNER, identity, rules};
use super::schema::schema;
use crate::plugin::{Diagnostics, Plan, Private, Value};
use crate::resources::session::Preset;

struct Planned {
    planned: Value,
    replaces: bool,
    diagnostics: Diagnostics,
}

impl Planned {
    #[track_caller]
    fn is(self, name: &str, expected: impl Into<Value>) -> Self {
        assert_eq!(*self.planned.get(name), expected.into(), "{name}");
        self
    }

    #[track_caller]
    fn unknown(self, names: &[&str]) -> Self {
        let found: Vec<_> = self
            .planned
            .as_map()
            .into_iter()
            .flatten()
            .filter(|(_, value)| value.has_unknown())
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(found, names);
        self
    }

    #[track_caller]
    fn says(self, path: &str, summary: &str) -> Self {
        let found = self.diagnostics.iter().any(|one| one.path.to_string() == path && one.summary.contains(summary));
        assert!(found, "{:?}", self.diagnostics);
        self
    }

    #[track_caller]
    fn silent(self) -> Self {
        assert!(self.diagnostics.is_empty(), "{:?}", self.diagnostics);
        self
    }
}

fn config(extra: &Json) -> Value {
    let mut config = json!({"name": "web", "domain": "pro", "image": "busybox"});
    config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    Value::from_json(&config)
}

const UNSET: Defaults<'static> = Defaults { image: &Preset::Unset, delete_protection: &Preset::Unset };

fn run(defaults: Defaults<'_>, config: &Value, prior: &Value, private: &[(&str, &str)]) -> Planned {
    let mut kept = Private::default();
    private.iter().for_each(|(name, value)| kept.set(name, *value));
    let mut plan = Plan::start(&schema(), config, prior, config, kept);
    rules(defaults, &mut plan);
    identity(&mut plan);
    Planned { replaces: plan.replaces(), planned: plan.planned, diagnostics: plan.diagnostics }
}

fn create(extra: Json) -> Planned {
    run(UNSET, &config(&extra), &Value::Null, &[])
}

/// The state after a create of `extra`, with what the create found out.
fn state(extra: &Json) -> Value {
    let mut state = create(extra.clone()).planned;
    let found = json!({"status": "Running", "ipv6_address": null, "location": "none", "image_fingerprint": "abc",
        "owner": "0123456789abcdef", "uid": "6f000000-bbbbbbbbbbbbbbbbbbbbbbbb/u",
        "interfaces": {"eth0": {"name": "eth0", "mac": "00:16:3e:00:00:01", "addresses": ["10.0.0.100"]}}});
    for (name, value) in found.as_object().unwrap() {
        state.set(name, Value::from_json(value));
    }
    if state.get("ipv4_address").is_unknown() {
        state.set("ipv4_address", "10.0.0.100");
    }
    state
}

fn update(before: Json, after: Json) -> Planned {
    let private: &[(&str, &str)] =
        if before.get("ipv4_address").is_some() { &[("ipv4", "static")] } else { &[("incarnation", "x")] };
    run(UNSET, &config(&after), &state(&before), private)
}

const MOVES: &[&str] = &["interfaces", "ipv4_address", "ipv6_address", "status"];

#[test]
fn the_id_is_known_from_the_name() {
    create(json!({})).is("id", "pro/web").silent();
}

#[test]
fn protection_is_the_opposite_of_ephemeral() {
    create(json!({})).is("delete_protection", true);
    create(json!({"ephemeral": true})).is("delete_protection", false);
}

#[test]
fn the_providers_protection_comes_before_that() {
    let defaults = Defaults { delete_protection: &Preset::To(false), ..UNSET };
    run(defaults, &config(&json!({})), &Value::Null, &[]).is("delete_protection", false);
}

#[test]
fn the_default_image_is_read_once() {
    let image = Preset::To("new".to_owned());
    let defaults = Defaults { image: &image, ..UNSET };
    run(defaults, &config(&json!({"image": null})), &Value::Null, &[]).is("image", "new");
    run(defaults, &config(&json!({"image": null})), &state(&json!({})), &[]).is("image", "busybox").silent();
}

#[test]
fn no_image_at_all_is_refused() {
    create(json!({"image": null})).says("image", "No image");
}

#[test]
fn no_change_leaves_everything_known() {
    assert_eq!(update(json!({}), json!({})).unknown(&[]).silent().planned, state(&json!({})));
}

#[test]
fn a_live_change_leaves_everything_known() {
    update(json!({}), json!({"config": {"limits.cpu": "1"}, "description": "x"})).unknown(&[]).silent();
}

#[test]
fn a_change_of_running_moves_addresses() {
    update(json!({}), json!({"running": false})).unknown(MOVES).silent();
}

#[test]
fn a_change_of_profiles_moves_addresses() {
    update(json!({}), json!({"profiles": ["default", "a"]})).unknown(MOVES).silent();
}

#[test]
fn a_restart_is_warned_of() {
    update(json!({}), json!({"nesting": true})).unknown(MOVES).says("nesting", "will be restarted");
}

#[test]
fn a_restart_that_is_not_wanted_moves_nothing() {
    update(json!({}), json!({"nesting": true, "restart_on_update": false}))
        .unknown(&[])
        .says("nesting", "waits for a restart");
}

#[test]
fn a_rename_is_in_place() {
    let plan = update(json!({}), json!({"name": "www"})).is("id", "pro/www").unknown(MOVES);
    let plan = plan.says("name", "will be restarted");
    assert!(!plan.replaces);
}

#[test]
fn an_ephemeral_instance_is_not_renamed() {
    update(json!({"ephemeral": true}), json!({"ephemeral": true, "name": "www"})).says("name", "cannot be renamed");
}

#[test]
fn a_static_address_is_known_and_the_way_back_is_not() {
    update(json!({}), json!({"ipv4_address": "10.0.0.5"})).is("ipv4_address", "10.0.0.5");
    update(json!({"ipv4_address": "10.0.0.5"}), json!({})).unknown(MOVES).says("ipv4_address", "will be restarted");
}

#[test]
fn an_unknown_image_neither_replaces_nor_is_refused() {
    let mut wanted = config(&json!({}));
    wanted.set("image", Value::Unknown);
    let plan = run(UNSET, &wanted, &state(&json!({})), &[]).silent().unknown(&["image"]);
    assert!(!plan.replaces);
}

#[test]
fn an_unknown_domain_or_type_of_a_protected_instance_is_no_problem() {
    for name in ["domain", "type"] {
        let mut wanted = config(&json!({}));
        wanted.set(name, Value::Unknown);
        run(UNSET, &wanted, &state(&json!({})), &[]).silent();
    }
}

#[test]
fn unknown_defaults_of_the_provider_leave_unknown_what_depends_on_them() {
    let defaults = Defaults { image: &Preset::Unknown, delete_protection: &Preset::Unknown };
    let plan = run(defaults, &config(&json!({"image": null})), &Value::Null, &[]).silent();
    assert!(plan.planned.get("image").is_unknown() && plan.planned.get("delete_protection").is_unknown());
    run(defaults, &config(&json!({"image": null})), &state(&json!({})), &[]).is("image", "busybox");
    run(defaults, &config(&json!({"delete_protection": true})), &Value::Null, &[]).is("delete_protection", true);
}

#[test]
fn a_stale_copy_of_eth0_is_explained() {
    let mut prior = state(&json!({"ipv4_address": "10.0.0.5"}));
    prior.set("devices", Value::from_json(&json!({"eth0": {"type": "nic", "ipv4.address": "10.0.0.5"}})));
    let config = config(&json!({"ipv4_address": "10.0.0.5"}));
    let private = [("ipv4", "static"), ("stale", "`mtu` is not set here and \"1400\" there")];
    let plan = run(UNSET, &config, &prior, &private).says("ipv4_address", "not that of the profiles");
    assert!(plan.diagnostics.iter().any(|one| one.detail.contains("`mtu`")));
}

#[test]
fn a_stale_copy_of_eth0_is_taken_away() {
    let mut prior = state(&json!({"ipv4_address": "10.0.0.5"}));
    prior.set("devices", Value::from_json(&json!({"eth0": {"type": "nic", "ipv4.address": "10.0.0.5"}})));
    let config = config(&json!({"ipv4_address": "10.0.0.5"}));
    run(UNSET, &config, &prior, &[("ipv4", "static")]).is("devices", Value::Null).is("ipv4_address", "10.0.0.5");
}

#[test]
fn another_image_replaces_and_protection_refuses_that() {
    assert!(
        update(json!({"delete_protection": false}), json!({"delete_protection": false, "image": "other"}))
            .silent()
            .replaces
    );
    update(json!({}), json!({"image": "other"})).says("delete_protection", "protected");
    update(json!({}), json!({"type": "vm", "delete_protection": false})).says("delete_protection", "protected");
}

#[test]
fn the_image_of_an_object_made_by_others_is_kept() {
    let config = config(&json!({"image": "images:debian/13"}));
    let plan = run(UNSET, &config, &state(&json!({})), &[("image", "kept")]).is("image", "busybox");
    assert!(!plan.says("image", "stays as it is").replaces);
}

#[test]
fn the_address_that_dhcp_gave_becomes_static_with_a_restart() {
    let (prior, config) = (state(&json!({})), config(&json!({"ipv4_address": "10.0.0.100"})));
    let pinned = run(UNSET, &config, &prior, &[("prefix", "x")]).is("ipv4_address", "10.0.0.100");
    pinned.says("ipv4_address", "will be restarted").unknown(&["interfaces", "ipv6_address", "status"]);
    run(UNSET, &config, &prior, &[("ipv4", "static")]).silent().unknown(&[]);
    // A provider that ended in the middle of an update lost which it was.
    run(UNSET, &config, &prior, &[]).silent().unknown(&[]);
}

#[test]
fn a_root_disk_grows_and_moves_in_place() {
    let disk = |size: &str, pool: &str| json!({"root_disk": {"size": size, "pool": pool}});
    assert!(!update(disk("1GiB", "a"), disk("2GiB", "a")).silent().unknown(&[]).replaces);
    let moved = update(disk("1GiB", "a"), disk("1GiB", "b")).unknown(MOVES).says("root_disk.pool", "will be restarted");
    assert!(!moved.replaces && !moved.diagnostics.has_errors());
}

#[test]
fn a_move_to_a_pool_that_is_not_certain_is_warned_of_too() {
    let disk = json!({"root_disk": {"size": null, "pool": "b"}});
    update(json!({}), disk.clone()).says("root_disk.pool", "may be restarted");
    update(disk, json!({})).says("root_disk", "may be restarted");
    update(json!({}), json!({"root_disk": {"size": "2GiB"}})).silent();
}

#[test]
fn a_stopped_instance_moves_without_a_word_and_an_ephemeral_one_does_not() {
    let disk = |pool: &str, name: &str, value: bool| json!({"root_disk": {"size": null, "pool": pool}, name: value});
    let mut stopped = state(&disk("a", "running", false));
    stopped.set("running", false);
    run(UNSET, &config(&disk("b", "running", false)), &stopped, &[]).silent();
    update(disk("a", "ephemeral", true), disk("b", "ephemeral", true)).says("root_disk.pool", "cannot be moved");
}

#[test]
fn the_same_size_in_another_spelling_is_no_change() {
    let disk = |size: &str| json!({"root_disk": {"size": size, "pool": "a"}});
    update(disk("1GiB"), disk("1024MiB")).is("root_disk", Value::from_json(&json!({"size": "1GiB", "pool": "a"})));
}

#[test]
fn a_vms_disk_does_not_shrink() {
    let disk = |size: &str| json!({"type": "vm", "root_disk": {"size": size, "pool": "a"}});
    update(disk("2GiB"), disk("1GiB")).says("root_disk.size", "cannot shrink");
}

#[test]
fn unknown_is_never_a_problem() {
    let mut config = config(&json!({}));
    for name in [
        "name",
        "domain",
        "image",
        "profiles",
        "config",
        "devices",
        "root_disk",
        "ipv4_address",
        "ephemeral",
        "running",
        "type",
    ] {
        config.set(name, Value::Unknown);
    }
    run(UNSET, &config, &Value::Null, &[]).silent();
}

#[test]
fn more_memory_of_a_vm_may_restart_it() {
    let vm = |memory: &str| json!({"type": "vm", "config": {"limits.memory": memory}});
    update(vm("1GiB"), vm("2GiB")).unknown(MOVES).says("config[\"limits.memory\"]", "may be restarted");
    update(json!({"config": {"limits.memory": "1GiB"}}), json!({"config": {"limits.memory": "2GiB"}})).silent();
}

#[test]
fn another_owner_on_the_instance_is_an_update_that_writes_it() {
    run(UNSET, &config(&json!({})), &state(&json!({})), &[(OWNER, "fedcba9876543210")]).unknown(&["owner"]).silent();
}

#[test]
fn a_state_without_identity_or_mark_gets_one_with_the_next_change_and_not_before() {
    for uid in [Value::Null, "unmarked/u".into()] {
        let mut prior = state(&json!({}));
        prior.set("uid", uid.clone());
        prior.set("owner", Value::Null);
        run(UNSET, &config(&json!({})), &prior, &[]).unknown(&[]);
        run(UNSET, &config(&json!({"description": "new"})), &prior, &[]).unknown(&["owner", "uid"]);
    }
}
