//! What an answer may hold: known planned values come back identical, the same meaning comes back in the prior spelling.

use super::planner::is_same;
use super::schema::{Attribute, Kind};
use super::value::Value;

/// The result of an apply: every known planned leaf as planned, every unknown one as the result has it, or null.
pub(super) fn settle(planned: &Value, result: &Value) -> Value {
    match planned {
        Value::Unknown => known(result),
        Value::Map(members) => {
            Value::Map(members.iter().map(|(name, member)| (name.clone(), settle(member, result.get(name)))).collect())
        }
        Value::List(items) => {
            let result = result.as_list().unwrap_or_default();
            let item = |(index, item)| settle(item, result.get(index).unwrap_or(&Value::Null));
            Value::List(items.iter().enumerate().map(item).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => planned.clone(),
    }
}

/// The value with null for everything unknown.
pub(super) fn known(value: &Value) -> Value {
    match value {
        Value::Unknown => Value::Null,
        Value::Map(members) => Value::Map(members.iter().map(|(name, member)| (name.clone(), known(member))).collect()),
        Value::List(items) => Value::List(items.iter().map(known).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// What was read, in the prior spelling wherever the meaning is the same.
pub(super) fn keep_spelling(attributes: &[Attribute], prior: &Value, read: Value) -> Value {
    let Value::Map(mut members) = read else { return read };
    for attribute in attributes {
        let Some(member) = members.get_mut(&attribute.name) else { continue };
        let prior = prior.get(&attribute.name);
        if is_same(attribute, prior, member) {
            *member = prior.clone();
            continue;
        }
        match (&attribute.kind, &mut *member) {
            (Kind::Single(attributes), _) => *member = keep_spelling(attributes, prior, std::mem::take(member)),
            (Kind::Map(attributes), Value::Map(elements)) => {
                for (key, element) in elements {
                    *element = keep_spelling(attributes, prior.get(key), std::mem::take(element));
                }
            }
            (Kind::Map(_) | Kind::Plain(_), _) => {}
        }
    }
    Value::Map(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Schema;
    use serde_json::json;

    fn value(json: serde_json::Value) -> Value {
        Value::from_json(&json)
    }

    #[test]
    fn a_known_planned_leaf_comes_back_identical() {
        let mut planned = value(json!({"name": "web", "size": null, "tags": ["a"]}));
        planned.set("address", Value::Unknown);
        let result = value(json!({"name": "WEB", "size": 3, "tags": ["b", "c"], "address": "10.0.0.1", "extra": 1}));
        let settled = settle(&planned, &result);
        assert_eq!(settled, value(json!({"name": "web", "size": null, "tags": ["a"], "address": "10.0.0.1"})));
    }

    #[test]
    fn nothing_unknown_is_left() {
        let planned = Value::Map([("a".to_owned(), Value::Unknown), ("b".to_owned(), Value::Unknown)].into());
        let result = Value::Map([("a".to_owned(), Value::Unknown)].into());
        assert_eq!(settle(&planned, &result), value(json!({"a": null, "b": null})));
    }

    #[test]
    fn the_same_meaning_is_read_in_the_prior_spelling_at_any_depth() {
        let lower = |value: &Value| value.as_str().map(|text| text.to_lowercase().into());
        let schema = Schema::new(
            0,
            "",
            vec![Attribute::nested_map("nics", vec![Attribute::string("mac").optional().canonical(lower)]).optional()],
        );
        let prior = value(json!({"nics": {"eth0": {"mac": "AA"}, "eth1": {"mac": "BB"}}}));
        let read = value(json!({"nics": {"eth0": {"mac": "aa"}, "eth1": {"mac": "cc"}}}));
        let kept = keep_spelling(&schema.attributes, &prior, read);
        assert_eq!(kept, value(json!({"nics": {"eth0": {"mac": "AA"}, "eth1": {"mac": "cc"}}})));
    }
}
