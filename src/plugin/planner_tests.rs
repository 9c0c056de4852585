use super::*;
use crate::plugin::{Private, Type};
use serde_json::json;

fn value(json: serde_json::Value) -> Value {
    Value::from_json(&json)
}

fn lower_case(value: &Value) -> Option<Value> {
    value.as_str().map(|text| text.to_lowercase().into())
}

fn schema() -> Schema {
    Schema::new(
        0,
        "",
        vec![
            Attribute::string("name").required().canonical(lower_case),
            Attribute::string("kind").default("lxc").replace(),
            Attribute::string("note").optional(),
            Attribute::string("id").computed(),
            Attribute::number("index").optional_computed(),
            Attribute::list("tags", Type::String).optional(),
            Attribute::map("labels", Type::String).optional(),
            Attribute::string("secret").optional().write_only(),
            Attribute::single(
                "wait",
                vec![Attribute::number("timeout").default(30), Attribute::bool("boot").optional()],
            )
            .optional(),
            Attribute::nested_map(
                "nics",
                vec![
                    Attribute::string("network").required().replace(),
                    Attribute::string("address").optional_computed(),
                ],
            )
            .optional(),
        ],
    )
}

fn config(changes: serde_json::Value) -> Value {
    let mut config = value(json!({"name": "web", "kind": null, "note": null, "id": null, "index": null, "tags": null,
        "labels": null, "secret": null, "wait": null, "nics": null}));
    for (name, change) in value(changes).as_map().unwrap() {
        config.set(name, change.clone());
    }
    config
}

fn prior(changes: serde_json::Value) -> Value {
    let mut prior = config(json!({"kind": "lxc", "id": "1", "index": 7}));
    for (name, change) in value(changes).as_map().unwrap() {
        prior.set(name, change.clone());
    }
    prior
}

fn plan(config: &Value, prior: &Value) -> Value {
    propose(&schema().attributes, config, prior)
}

#[track_caller]
fn breach(config: &Value, prior: &Value, change: impl FnOnce(&mut Plan<'_>)) -> Option<&'static str> {
    let schema = schema();
    let mut plan = start(&schema, config, prior, config, Private::default());
    change(&mut plan);
    breaches(&schema, &plan).first().map(|(_, text)| *text)
}

#[test]
fn what_is_computed_is_unknown_in_a_new_object() {
    let planned = plan(&config(json!({})), &Value::Null);
    assert!(planned.get("id").is_unknown());
    assert!(planned.get("index").is_unknown());
    assert!(planned.get("note").is_null());
    assert_eq!(planned.get("kind").as_str(), Some("lxc"));
}

#[test]
fn a_plan_without_change_is_the_prior_state() {
    let prior =
        prior(json!({"wait": {"timeout": 30, "boot": null}, "nics": {"eth0": {"network": "a", "address": "x"}}}));
    let config =
        config(json!({"wait": {"timeout": null, "boot": null}, "nics": {"eth0": {"network": "a", "address": null}}}));
    assert_eq!(plan(&config, &prior), prior);
}

#[test]
fn the_same_meaning_keeps_the_prior_spelling() {
    let planned = plan(&config(json!({"name": "WEB"})), &prior(json!({})));
    assert_eq!(planned.get("name").as_str(), Some("web"));
    let planned = plan(&config(json!({"name": "db"})), &prior(json!({})));
    assert_eq!(planned.get("name").as_str(), Some("db"));
}

#[test]
fn an_unknown_configuration_is_planned_as_unknown() {
    let mut config = config(json!({}));
    config.set("note", Value::Unknown);
    config.set("wait", Value::Unknown);
    let planned = plan(&config, &prior(json!({})));
    assert!(planned.get("note").is_unknown());
    assert!(planned.get("wait").is_unknown());
    assert_eq!(breach(&config, &prior(json!({})), |_| {}), None);
}

#[test]
fn a_new_element_of_a_map_has_its_computed_values_unknown() {
    let prior = prior(json!({"nics": {"eth0": {"network": "a", "address": "x"}}}));
    let nics = json!({"nics": {"eth0": {"network": "a", "address": null}, "eth1": {"network": "a", "address": null}}});
    let planned = plan(&config(nics), &prior);
    assert_eq!(Path::from("nics").key("eth0").attribute("address").lookup(&planned).as_str(), Some("x"));
    assert!(Path::from("nics").key("eth1").attribute("address").lookup(&planned).is_unknown());
}

#[test]
fn what_is_write_only_is_null_in_the_plan() {
    let config = config(json!({"secret": "hush"}));
    assert!(plan(&config, &Value::Null).get("secret").is_null());
    assert_eq!(breach(&config, &Value::Null, |plan| plan.set("secret", "hush")), Some("a write-only value is planned"));
}

#[test]
fn replacement_counts_only_where_the_value_changes() {
    let schema = schema();
    let old = prior(json!({"nics": {"eth0": {"network": "a", "address": "x"}}}));
    let nics = json!({"eth0": {"network": "a", "address": null}, "eth1": {"network": "b", "address": null}});
    let kept = config(json!({"nics": nics}));
    assert!(start(&schema, &kept, &old, &kept, Private::default()).replacing().is_empty());
    let changed = config(json!({"kind": "vm", "nics": {"eth0": {"network": "c", "address": null}}}));
    let paths = start(&schema, &changed, &old, &changed, Private::default()).replacing();
    assert_eq!(paths, [Path::from("kind"), Path::from("nics").key("eth0").attribute("network")]);
}

#[test]
fn a_configured_value_planned_as_something_else_is_a_breach() {
    let config = config(json!({"note": "a", "tags": ["a"], "labels": {"a": "1"}}));
    for (name, changed) in [("note", json!("b")), ("tags", json!(["b"])), ("labels", json!({"a": "2"}))] {
        let found = breach(&config, &Value::Null, |plan| plan.set(name, value(changed)));
        assert_eq!(found, Some("a configured value is planned as something else"), "{name}");
    }
}

#[test]
fn a_configured_container_that_grows_is_a_breach() {
    let config = config(json!({"tags": ["a"], "nics": {"eth0": {"network": "a", "address": null}}}));
    let found = breach(&config, &Value::Null, |plan| plan.set("tags", vec!["a", "b"]));
    assert_eq!(found, Some("a configured list is planned with another number of elements"));
    let found = breach(&config, &Value::Null, |plan| plan.set("nics", Value::object()));
    assert_eq!(found, Some("a configured map is planned with other keys"));
}

#[test]
fn a_value_that_nothing_computes_is_a_breach() {
    let found = breach(&config(json!({})), &Value::Null, |plan| plan.set("note", "x"));
    assert_eq!(found, Some("a value is planned that the configuration leaves null and nothing computes"));
    assert_eq!(breach(&config(json!({})), &Value::Null, |plan| plan.set("index", 3)), None);
}

#[test]
fn a_replacement_path_that_does_not_exist_is_a_breach() {
    let found = breach(&config(json!({})), &prior(json!({})), |plan| plan.replace("wait.absent"));
    assert_eq!(found, Some("an attribute that does not exist calls for replacement"));
}

#[test]
fn a_rule_is_not_asked_for_what_is_unknown_or_null() {
    let rule = |_: &Value| Err(crate::plugin::Problem::new("no", "no"));
    let attributes = [Attribute::list("tags", Type::String).optional().check(rule)];
    let mut problems = Diagnostics::default();
    for tags in [Value::Null, Value::Unknown, Value::List(vec![Value::Unknown])] {
        let mut config = Value::object();
        config.set("tags", tags);
        validate(&attributes, &config, &Path::root(), &mut problems);
    }
    assert!(problems.is_empty());
    validate(&attributes, &value(json!({"tags": ["a"]})), &Path::root(), &mut problems);
    assert_eq!(problems.iter().next().unwrap().path, Path::from("tags"));
}
