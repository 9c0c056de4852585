//! What a plan of an isolation says: every rule, before anything exists. Pure: no clock, no I/O.

use super::{ID, KIND, model, place};
use crate::nft::{Given, Isolation};
use crate::plugin::{Action, Diagnostics, Plan, Value};
use crate::resources::session::Session;

/// All that is wrong with the attributes, as far as it can be told without the provider block.
pub(super) fn validate(config: &Value, problems: &mut Diagnostics) {
    let mut input = model::input("", config);
    // The bridges of null have a prefix that only the provider block says.
    if let Given::Known(domains) = &mut input.domains {
        for bridge in domains.values_mut().filter(|bridge| matches!(bridge, Given::Known(None))) {
            *bridge = Given::Unknown;
        }
    }
    problems.extend(model::errors(&Isolation::parse(&input).problems));
}

pub(super) fn plan(session: &Session, plan: &mut Plan<'_>) {
    session.walk.plan(KIND, plan);
    if plan.action == Action::Destroy {
        return;
    }
    if let Some(undecided) = place::undecided(session) {
        plan.diagnostics.extend(undecided);
    }
    alone(session.prefix(), plan);
}

/// Everything that does not depend on what else is planned.
fn alone(prefix: &str, plan: &mut Plan<'_>) {
    plan.set("id", ID);
    rules(prefix, plan);
    // A state that was written before there was `uid` gets it with the next change.
    if plan.prior.get("uid").is_null() && plan.planned != *plan.prior {
        plan.unknown("uid");
    }
}

fn rules(prefix: &str, plan: &mut Plan<'_>) {
    let parsed = Isolation::parse(&model::input(prefix, &plan.planned));
    plan.diagnostics.extend(model::errors(&parsed.problems));
    plan.diagnostics.extend(model::warnings(&parsed.warnings));
    let Some(isolation) = parsed.isolation else { return };
    match isolation.rules() {
        Some(rules) => {
            let rules = rules.into_iter().map(|(name, text)| (name, text.map_or(Value::Unknown, Value::from)));
            plan.set("rules", Value::Map(rules.collect()));
        }
        None => plan.unknown("rules"),
    }
    match isolation.ruleset() {
        Some(ruleset) => plan.set("ruleset", ruleset),
        None => plan.unknown("ruleset"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::schema;
    use super::*;
    use crate::plugin::Private;
    use serde_json::json;

    fn config() -> Value {
        let mut value = Value::object();
        for attribute in schema().attributes() {
            value.set(attribute.name(), Value::Null);
        }
        let policy = json!({"from": "perso", "to": "pro", "ports": ["443"], "protocol": "tcp", "bidirectional": null, "description": null});
        value.set("domains", Value::from_json(&json!({"pro": "net-pro", "perso": null})));
        value.set("policies", Value::from_json(&json!({"intranet": policy})));
        value
    }

    /// `config` with an endpoint `web` at `address`, and a policy to it.
    fn with_endpoint(address: Value) -> Value {
        let mut config = config();
        let mut endpoint = Value::from_json(&json!({"domain": "pro"}));
        endpoint.set("address", address);
        config.set("endpoints", Value::Map([("web".to_owned(), endpoint)].into()));
        let mut policies = config.get("policies").clone();
        let mut policy = policies.get("intranet").clone();
        policy.set("to", "web");
        policies.set("to web", policy);
        config.set("policies", policies);
        config
    }

    fn planned(config: &Value, prior: &Value, prefix: &str) -> (Value, Diagnostics) {
        let mut plan = Plan::start(&schema(), config, prior, &Value::object(), Private::default());
        alone(prefix, &mut plan);
        (plan.planned.clone(), plan.diagnostics)
    }

    /// The state after an apply of what was planned.
    fn applied(mut planned: Value) -> Value {
        planned.set("uid", "0".repeat(32));
        planned
    }

    fn keys(value: &Value) -> Vec<String> {
        value.as_map().unwrap().keys().cloned().collect()
    }

    #[test]
    fn every_rule_is_known_before_anything_exists() {
        let (plan, told) = planned(&config(), &Value::Null, "");
        assert!(told.is_empty(), "{told:?}");
        assert_eq!(keys(plan.get("rules")), ["domain/perso", "domain/pro", "policy/intranet"]);
        let unknown = |name: &&String| plan.get(name).has_unknown();
        assert_eq!(plan.as_map().unwrap().keys().filter(unknown).collect::<Vec<_>>(), ["uid"]);
        assert!(plan.get("ruleset").as_str().unwrap().contains("net-perso"));
        assert_eq!(plan.get("id").as_str(), Some(ID));
    }

    #[test]
    fn an_address_known_only_after_apply_leaves_its_own_rule_unknown_and_no_other() {
        let (plan, _) = planned(&with_endpoint(Value::Unknown), &Value::Null, "");
        let rules = plan.get("rules");
        let unknown = keys(rules).into_iter().filter(|name| rules.get(name).is_unknown()).collect::<Vec<_>>();
        assert_eq!(unknown, ["policy/to web"]);
        assert!(plan.get("ruleset").is_unknown());
    }

    #[test]
    fn a_changed_policy_is_one_changed_line() {
        let (before, _) = planned(&with_endpoint("10.110.4.10".into()), &Value::Null, "");
        let mut config = with_endpoint("10.110.4.10".into());
        let mut policies = config.get("policies").clone();
        let mut policy = policies.get("intranet").clone();
        policy.set("ports", Value::from_json(&json!(["443", "8443"])));
        policies.set("intranet", policy);
        config.set("policies", policies);
        let before = applied(before);
        let (after, _) = planned(&config, &before, "");
        let changed = |name: &&String| before.get("rules").get(name) != after.get("rules").get(name);
        let names = keys(after.get("rules"));
        assert_eq!(names.iter().filter(changed).collect::<Vec<_>>(), ["policy/intranet"]);
        assert_eq!(planned(&config, &after, "").0, after, "a second plan is empty");
    }

    #[test]
    fn what_was_read_differently_is_planned_as_it_was() {
        let before = applied(planned(&config(), &Value::Null, "").0);
        let mut drifted = before.clone();
        drifted.set("rules", Value::Map([("domain/pro".to_owned(), "something".into())].into()));
        assert_eq!(planned(&config(), &drifted, "").0, before);
    }

    #[test]
    fn a_state_without_uid_gets_it_with_the_next_change_and_every_other_keeps_its_own() {
        let state = applied(planned(&config(), &Value::Null, "").0);
        let mut old = state.clone();
        old.set("uid", Value::Null);
        let changed = with_endpoint("10.110.4.10".into());
        assert_eq!(planned(&config(), &old, "").0, old);
        assert!(planned(&changed, &old, "").0.get("uid").is_unknown());
        assert_eq!(planned(&changed, &state, "").0.get("uid"), state.get("uid"));
    }

    #[test]
    fn an_imported_table_is_planned_with_all_rules() {
        let mut imported = config();
        for name in ["domains", "policies"] {
            imported.set(name, Value::Null);
        }
        let imported = applied(imported);
        let (plan, told) = planned(&config(), &imported, "");
        assert!(told.is_empty() && !plan.has_unknown(), "{told:?}");
        assert_eq!(keys(plan.get("rules")), ["domain/perso", "domain/pro", "policy/intranet"]);
        assert_eq!(plan.get("uid"), imported.get("uid"));
    }

    #[test]
    fn all_problems_are_told_at_once_at_their_attributes() {
        let mut config = config();
        let policy = |json: serde_json::Value| json;
        config.set("policies", Value::from_json(&json!({
            "a": policy(json!({"from": "perso", "to": "host", "ports": null, "protocol": null, "bidirectional": null, "description": null})),
            "b": policy(json!({"from": "perso", "to": "pro", "ports": ["443"], "protocol": null, "bidirectional": null, "description": null})),
            "c": policy(json!({"from": "nobody", "to": "pro", "ports": ["x"], "protocol": "tcp", "bidirectional": null, "description": null})),
        })));
        let mut problems = Diagnostics::default();
        validate(&config, &mut problems);
        let mut paths: Vec<_> = problems.iter().map(|problem| problem.path.to_string()).collect();
        paths.sort();
        assert_eq!(
            paths,
            ["policies[\"a\"].to", "policies[\"b\"].ports", "policies[\"c\"].from", "policies[\"c\"].ports[0]"]
        );
    }

    #[test]
    fn what_a_bridge_of_null_collides_with_is_told_once_the_prefix_is_known() {
        let mut config = config();
        config.set("domains", Value::from_json(&json!({"pro": null, "perso": "net-pro"})));
        let mut problems = Diagnostics::default();
        validate(&config, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        assert!(planned(&config, &Value::Null, "").1.has_errors());
        assert!(!planned(&config, &Value::Null, "001-").1.has_errors());
    }

    #[test]
    fn the_bridge_of_null_has_the_nesting_prefix() {
        let (plan, told) = planned(&config(), &Value::Null, "001-");
        assert!(told.is_empty(), "{told:?}");
        assert!(plan.get("rules").get("domain/perso").as_str().unwrap().contains("001-net-perso"));
    }

    #[test]
    fn a_policy_that_another_makes_needless_is_a_warning_with_both_names() {
        let mut config = config();
        let mut policies = config.get("policies").clone();
        let twin = policies.get("intranet").clone();
        policies.set("twin", twin);
        config.set("policies", policies);
        let (_, told) = planned(&config, &Value::Null, "");
        let told: Vec<_> = told.iter().map(|one| one.detail.clone()).collect();
        assert!(told.len() == 1 && told[0].contains("intranet") && told[0].contains("twin"), "{told:?}");
    }

    #[test]
    fn unknown_maps_are_no_problem() {
        for name in ["domains", "endpoints", "policies"] {
            let mut config = config();
            config.set(name, Value::Unknown);
            let (plan, told) = planned(&config, &Value::Null, "");
            assert!(!told.has_errors() && plan.get("ruleset").is_unknown(), "{name}: {told:?}");
        }
    }
}
