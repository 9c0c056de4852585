//! What the core asks of a plan: rules 11 to 21.

use anklume::plugin::wire::tfplugin6 as wire;
use serde_json::{Value as Json, json};

use crate::caller::{Caller, dynamic, thing};
use crate::msgpack::UNKNOWN;

fn prior(members: Json) -> Json {
    let mut prior = thing(json!({"id": "toy/web", "kind": "plain", "size": 3}));
    for (name, member) in members.as_object().unwrap() {
        prior[name] = member.clone();
    }
    prior
}

/// The only error of the plan of a new object, which has to be called a defect of the provider.
async fn defect(config: Json) -> String {
    let planned = Caller::toy().await.plan(&config, &Json::Null, &[]).await;
    assert!(planned.error().contains("The provider contradicts itself"), "{}", planned.error());
    planned.error().to_owned()
}

// Rule 11.

#[tokio::test]
async fn a_configured_value_is_planned_as_configured_or_as_it_was() {
    let caller = Caller::toy().await;
    let changed = thing(json!({"name": "db", "note": "a", "tags": ["x"], "size": 4}));
    for old in [Json::Null, prior(json!({"note": "b", "tags": ["y", "z"]}))] {
        let planned = caller.plan(&changed, &old, &[]).await.fine().state;
        for name in ["name", "note", "tags", "size"] {
            assert_eq!(planned[name], changed[name], "{name}");
        }
    }
    let planned = caller.plan(&thing(json!({"name": "WEB"})), &prior(json!({})), &[]).await.fine();
    assert_eq!(planned.state, prior(json!({})));
}

#[tokio::test]
async fn a_configured_value_planned_as_a_third_one_is_refused() {
    let error = defect(thing(json!({"note": "breach-value"}))).await;
    assert!(
        error.starts_with("note: ") && error.contains("a configured value is planned as something else"),
        "{error}"
    );
}

// Rule 12.

#[tokio::test]
async fn what_is_null_and_computed_may_be_planned_as_anything() {
    let caller = Caller::toy().await;
    let config = thing(json!({"nics": {"eth0": {"mtu": null, "mac": null}}}));
    let planned = caller.plan(&config, &Json::Null, &[]).await.fine().state;
    assert_eq!(planned["id"], UNKNOWN);
    assert_eq!(planned["kind"], "plain");
    assert_eq!(planned["nics"]["eth0"], json!({"mtu": 1500, "mac": UNKNOWN}));
    let old = prior(json!({"nics": {"eth0": {"mtu": 1500, "mac": "02:00"}}}));
    assert_eq!(caller.plan(&config, &old, &[]).await.fine().state, old);
}

// Rule 13.

#[tokio::test]
async fn what_is_null_and_not_computed_is_planned_as_null() {
    let old = prior(json!({"note": "a", "tags": ["x"], "nics": {}}));
    let planned = Caller::toy().await.plan(&thing(json!({})), &old, &[]).await.fine();
    assert_eq!(planned.state, prior(json!({})));
    let error = defect(thing(json!({"note": "breach-null"}))).await;
    assert!(error.starts_with("tags: ") && error.contains("leaves null and nothing computes"), "{error}");
}

// Rule 14.

#[tokio::test]
async fn a_configured_container_keeps_its_elements_and_keys() {
    let error = defect(thing(json!({"note": "breach-size", "tags": ["x"]}))).await;
    assert!(error.starts_with("tags: ") && error.contains("another number of elements"), "{error}");
    let nics = json!({"eth0": {"mtu": null, "mac": null}});
    let error = defect(thing(json!({"note": "breach-keys", "nics": nics}))).await;
    assert!(error.starts_with("nics: ") && error.contains("other keys"), "{error}");
    let old = prior(json!({"nics": {"eth1": {"mtu": 9000, "mac": "02:00"}}, "tags": ["x", "y"]}));
    let config = thing(json!({"nics": nics, "tags": ["x"]}));
    let planned = Caller::toy().await.plan(&config, &old, &[]).await.fine().state;
    assert_eq!(planned["nics"], json!({"eth0": {"mtu": 1500, "mac": UNKNOWN}}));
    assert_eq!(planned["tags"], json!(["x"]));
}

// Rule 16.

#[tokio::test]
async fn what_is_write_only_is_null_in_every_answer() {
    let caller = Caller::toy().await;
    let config = thing(json!({"secret": "hush"}));
    let planned = caller.plan(&config, &Json::Null, &[]).await.fine().state;
    let created = caller.apply(&config, &Json::Null, &planned, &[]).await.fine().state;
    let replanned = caller.plan(&thing(json!({"secret": "hush", "note": "a"})), &created, &[]).await.fine().state;
    let updated = caller.change(&config, &created, &[]).await.fine().state;
    let partial = caller.create(&thing(json!({"secret": "hush", "note": "partial"}))).await.state;
    let read = caller.read(&created, &[]).await.fine().state;
    let imported = caller.import("web").await.fine().state;
    let saved = json!({"name": "web", "secret": "hush"});
    let upgraded = caller.upgrade(1, &saved).await.fine().state;
    for state in [planned, created, replanned, updated, partial, read, imported, upgraded] {
        assert_eq!(state["secret"], Json::Null);
        assert_eq!(state["name"].as_str().map(str::to_lowercase).as_deref(), Some("web"));
    }
    let error = defect(thing(json!({"secret": "hush", "note": "breach-secret"}))).await;
    assert!(error.starts_with("secret: ") && error.contains("a write-only value is planned"), "{error}");
}

// Rule 17.

#[tokio::test]
async fn the_plan_of_a_destruction_is_null() {
    let caller = Caller::toy().await;
    assert_eq!(caller.plan(&Json::Null, &prior(json!({})), b"kept").await.fine().state, Json::Null);
    let planned = caller.plan(&Json::Null, &prior(json!({"note": "breach-destroy"})), &[]).await;
    assert!(planned.error().contains("a destroyed object has a plan"), "{}", planned.error());
}

#[tokio::test]
async fn a_destruction_can_be_refused_when_it_is_planned() {
    let planned = Caller::toy().await.plan(&Json::Null, &prior(json!({"note": "protected"})), &[]).await;
    assert_eq!(planned.error(), "note: Protected: Unprotect it first.");
}

// Rule 18.

#[tokio::test]
async fn replacement_is_asked_for_only_where_a_declared_value_changes() {
    let caller = Caller::toy().await;
    let old = prior(json!({}));
    let changed = caller.plan(&thing(json!({"kind": "fancy"})), &old, &[]).await.fine();
    assert_eq!(changed.replace, ["kind"]);
    let kept = caller.plan(&thing(json!({"kind": "plain", "note": "a"})), &old, &[]).await.fine();
    assert_eq!(kept.replace, [""; 0]);
    assert_eq!(caller.plan(&thing(json!({"kind": "fancy"})), &Json::Null, &[]).await.fine().replace, [""; 0]);
    let absent = caller.plan(&thing(json!({"note": "breach-path"})), &old, &[]).await;
    assert!(absent.error().contains("an attribute that does not exist calls for replacement"), "{}", absent.error());
    assert_eq!(absent.replace, [""; 0]);
}

// Rule 19.

#[tokio::test]
async fn a_replacement_is_planned_again_without_prior_state_and_with_the_private_of_the_first_plan() {
    let caller = Caller::toy().await;
    let config = thing(json!({"kind": "fancy"}));
    let first = caller.plan(&config, &prior(json!({})), &[]).await.fine();
    assert_eq!(first.warnings, [""; 0]);
    let second = caller.plan(&config, &Json::Null, &first.private).await.fine();
    assert_eq!(second.warnings, ["kind: Replaced: The object is made anew."]);
    assert_eq!(second.state["id"], UNKNOWN);
    assert_eq!(second.private, first.private);
    let fresh = caller.plan(&config, &Json::Null, &[]).await.fine();
    assert_eq!(fresh.warnings, [""; 0]);
    assert_eq!(fresh.state, second.state);
}

// Rule 20.

/// Whether a later plan keeps whatever an earlier one knew.
fn keeps(earlier: &Json, later: &Json) -> bool {
    match (earlier, later) {
        (Json::String(text), _) if text == UNKNOWN => true,
        (Json::Array(earlier), Json::Array(later)) => {
            earlier.len() == later.len() && earlier.iter().zip(later).all(|(a, b)| keeps(a, b))
        }
        (Json::Object(earlier), Json::Object(later)) => {
            earlier.len() == later.len() && earlier.iter().all(|(name, member)| keeps(member, &later[name]))
        }
        (earlier, later) => earlier == later,
    }
}

#[tokio::test]
async fn a_plan_made_again_is_the_same() {
    let caller = Caller::toy().await;
    let config = thing(json!({"kind": "fancy", "nics": {"eth0": {"mtu": null, "mac": null}}}));
    for old in [Json::Null, prior(json!({}))] {
        let first = caller.plan(&config, &old, b"kept").await.fine();
        caller.create(&config).await.fine();
        assert_eq!(caller.plan(&config, &old, b"kept").await.fine(), first);
    }
}

#[tokio::test]
async fn a_plan_made_again_with_more_known_keeps_what_it_knew() {
    let caller = Caller::toy().await;
    let nics = |mtu: Json| json!({"eth0": {"mtu": mtu, "mac": null}});
    let old = prior(json!({"note": "a", "tags": ["x"], "nics": {"eth0": {"mtu": 9000, "mac": "02:00"}}}));
    let before =
        thing(json!({"name": UNKNOWN, "note": UNKNOWN, "tags": ["x"], "size": UNKNOWN, "nics": nics(json!(UNKNOWN))}));
    let after = thing(json!({"name": "WEB", "note": "a", "tags": ["x"], "size": 3, "nics": nics(json!(9000))}));
    for old in [Json::Null, old.clone()] {
        let first = caller.plan(&before, &old, &[]).await.fine();
        let second = caller.plan(&after, &old, &[]).await.fine();
        assert!(keeps(&first.state, &second.state), "{} became {}", first.state, second.state);
    }
    // The update has come to nothing.
    let second = caller.plan(&after, &old, &[]).await.fine();
    assert_eq!(second.state, old);
    assert_eq!(second.replace, [""; 0]);
}

// Rule 21.

#[tokio::test]
async fn validation_runs_several_times_and_accepts_unknown_everywhere() {
    let caller = Caller::toy().await;
    let mut unknown = thing(json!({}));
    for (name, member) in unknown.as_object_mut().unwrap() {
        *member = if name == "id" { Json::Null } else { json!(UNKNOWN) };
    }
    let deep = thing(json!({"tags": [UNKNOWN], "nics": {"eth0": {"mtu": UNKNOWN, "mac": null}, "eth1": UNKNOWN}}));
    for config in [&unknown, &deep, &unknown, &deep] {
        caller.validate(config).await.fine();
    }
    for _ in 0..2 {
        let bad = caller.validate(&thing(json!({"name": "bad"}))).await;
        assert_eq!(bad.error(), "name: Bad name: Choose another.");
    }
}

#[tokio::test]
async fn the_configuration_of_the_provider_may_be_unknown() {
    let mut provider = Caller::toy().await.provider;
    for _ in 0..2 {
        let config = dynamic(&json!({"remote": UNKNOWN}));
        let request = wire::validate_provider_config::Request { config: config.clone() };
        assert!(provider.validate_provider_config(request).await.unwrap().into_inner().diagnostics.is_empty());
        let request = wire::configure_provider::Request { terraform_version: String::new(), config };
        assert!(provider.configure_provider(request).await.unwrap().into_inner().diagnostics.is_empty());
    }
}
