//! The generic plan: what follows from the schema alone. Pure.

use std::collections::BTreeMap;

use super::diagnostic::Diagnostics;
use super::path::{Path, Step};
use super::plan::{Action, Plan};
use super::schema::{Attribute, Kind, Schema};
use super::value::Value;

/// Plans an object from its configuration and its prior state (null for a creation).
///
/// A configured value is kept, in the prior spelling where the meaning is the same; null becomes the default, or for a
/// computed attribute unknown in a new object and the prior value in an old one.
pub(super) fn propose(attributes: &[Attribute], config: &Value, prior: &Value) -> Value {
    let planned = attributes.iter().map(|attribute| {
        let name = &attribute.name;
        (name.clone(), propose_attribute(attribute, config.get(name), prior.get(name), prior.is_null()))
    });
    Value::Map(planned.collect())
}

fn propose_attribute(attribute: &Attribute, config: &Value, prior: &Value, new: bool) -> Value {
    if attribute.write_only {
        return Value::Null;
    }
    let wanted = match (config, &attribute.default) {
        (Value::Null, Some(default)) => default,
        (Value::Null, None) if attribute.computed && new => return Value::Unknown,
        (Value::Null, None) if attribute.computed => return prior.clone(),
        (Value::Null | Value::Unknown, _) => return config.clone(),
        (config, _) => config,
    };
    if is_same(attribute, prior, wanted) {
        return prior.clone();
    }
    match (&attribute.kind, wanted) {
        (Kind::Single(attributes), Value::Map(_)) => propose(attributes, wanted, prior),
        (Kind::Map(attributes), Value::Map(elements)) => {
            let element = |(key, element): (&String, &Value)| {
                let planned = match element {
                    Value::Map(_) => propose(attributes, element, prior.get(key)),
                    other => other.clone(),
                };
                (key.clone(), planned)
            };
            Value::Map(elements.iter().map(element).collect())
        }
        _ => wanted.clone(),
    }
}

/// Whether `other` means the same as a known prior value that is spelled differently.
pub(super) fn is_same(attribute: &Attribute, prior: &Value, other: &Value) -> bool {
    let comparable = |value: &Value| !value.is_null() && !value.has_unknown();
    attribute.canonical.is_some_and(|canonical| {
        comparable(prior) && comparable(other) && canonical(prior).is_some_and(|form| Some(form) == canonical(other))
    })
}

/// The plan as the rules of the resource find it.
pub(super) fn start<'a>(
    schema: &Schema,
    config: &'a Value,
    prior: &'a Value,
    proposed: &Value,
    private: super::Private,
) -> Plan<'a> {
    let action = match (prior.is_null(), proposed.is_null()) {
        (_, true) => Action::Destroy,
        (true, false) => Action::Create,
        (false, false) => Action::Update,
    };
    let planned = match action {
        Action::Destroy => Value::Null,
        Action::Create | Action::Update => propose(&schema.attributes, config, prior),
    };
    let mut replace = Vec::new();
    if action == Action::Update {
        replace_paths(&schema.attributes, prior, &planned, &Path::root(), &mut replace);
    }
    Plan { action, config, prior, planned, private, diagnostics: Diagnostics::default(), replace }
}

/// Where the schema calls for replacement. An element that a map gains or loses does not count by itself.
fn replace_paths(attributes: &[Attribute], prior: &Value, planned: &Value, at: &Path, paths: &mut Vec<Path>) {
    for attribute in attributes {
        let path = at.clone().attribute(&attribute.name);
        let (prior, planned) = (prior.get(&attribute.name), planned.get(&attribute.name));
        if attribute.replace {
            paths.push(path.clone());
        }
        match (&attribute.kind, planned) {
            (Kind::Single(attributes), Value::Map(_)) => replace_paths(attributes, prior, planned, &path, paths),
            (Kind::Map(attributes), Value::Map(elements)) => {
                for (key, element) in elements {
                    if !prior.get(key).is_null() {
                        replace_paths(attributes, prior.get(key), element, &path.clone().key(key), paths);
                    }
                }
            }
            _ => {}
        }
    }
}

/// What the core would refuse in a plan: each is a defect of the provider.
pub(super) fn breaches(schema: &Schema, plan: &Plan<'_>) -> Vec<(Path, &'static str)> {
    let mut found = Vec::new();
    match plan.action {
        Action::Destroy if !plan.planned.is_null() => found.push((Path::root(), "a destroyed object has a plan")),
        Action::Destroy => {}
        Action::Create | Action::Update => {
            check(&schema.attributes, plan.config, plan.prior, &plan.planned, &Path::root(), &mut found);
        }
    }
    for path in &plan.replace {
        if !declares(&schema.attributes, path.steps()) {
            found.push((path.clone(), "an attribute that does not exist calls for replacement"));
        }
    }
    found
}

fn check(
    attributes: &[Attribute],
    config: &Value,
    prior: &Value,
    planned: &Value,
    at: &Path,
    found: &mut Vec<(Path, &'static str)>,
) {
    for attribute in attributes {
        let path = at.clone().attribute(&attribute.name);
        let name = &attribute.name;
        let (config, prior, planned) = (config.get(name), prior.get(name), planned.get(name));
        if attribute.write_only {
            if !planned.is_null() {
                found.push((path, "a write-only value is planned"));
            }
            continue;
        }
        if config.is_null() {
            if !attribute.computed && !planned.is_null() {
                found.push((path, "a value is planned that the configuration leaves null and nothing computes"));
            }
            continue;
        }
        if planned == config || (planned == prior && !prior.is_null()) {
            continue;
        }
        check_configured(attribute, config, prior, planned, path, found);
    }
}

fn check_configured(
    attribute: &Attribute,
    config: &Value,
    prior: &Value,
    planned: &Value,
    path: Path,
    found: &mut Vec<(Path, &'static str)>,
) {
    match (&attribute.kind, config, planned) {
        (Kind::Single(attributes), Value::Map(_), Value::Map(_)) => {
            check(attributes, config, prior, planned, &path, found);
        }
        (Kind::Map(attributes), Value::Map(wanted), Value::Map(given)) => {
            if !wanted.keys().eq(given.keys()) {
                found.push((path, "a configured map is planned with other keys"));
                return;
            }
            for (key, element) in wanted {
                let path = path.clone().key(key);
                match (element, &given[key]) {
                    (Value::Map(_), planned @ Value::Map(_)) => {
                        check(attributes, element, prior.get(key), planned, &path, found);
                    }
                    (element, planned) if element == planned => {}
                    _ => found.push((path, "a configured element is planned as something else")),
                }
            }
        }
        (_, Value::List(wanted), Value::List(given)) if wanted.len() != given.len() => {
            found.push((path, "a configured list is planned with another number of elements"));
        }
        (_, Value::Map(wanted), Value::Map(given)) if !wanted.keys().eq(given.keys()) => {
            found.push((path, "a configured map is planned with other keys"));
        }
        _ => found.push((path, "a configured value is planned as something else")),
    }
}

/// Whether a path leads to something that the schema declares.
fn declares(attributes: &[Attribute], steps: &[Step]) -> bool {
    let Some((Step::Attribute(name), rest)) = steps.split_first() else { return false };
    let Some(attribute) = attributes.iter().find(|attribute| attribute.name == *name) else { return false };
    match (&attribute.kind, rest) {
        (_, []) => true,
        (Kind::Single(attributes), rest) => declares(attributes, rest),
        (Kind::Map(attributes), [Step::Key(_), rest @ ..]) => rest.is_empty() || declares(attributes, rest),
        (Kind::Map(_), _) => false,
        (Kind::Plain(_), [Step::Key(_) | Step::Index(_)]) => true,
        (Kind::Plain(_), _) => false,
    }
}

/// Asks the rules of the attributes for the values that are known throughout.
pub(super) fn validate(attributes: &[Attribute], config: &Value, at: &Path, problems: &mut Diagnostics) {
    for attribute in attributes {
        let path = at.clone().attribute(&attribute.name);
        let value = config.get(&attribute.name);
        if let (Some(rule), false) = (attribute.check, value.is_null() || value.has_unknown())
            && let Err(problem) = rule(value)
        {
            problems.error(&path, problem.summary, problem.detail);
        }
        match (&attribute.kind, value) {
            (Kind::Single(attributes), Value::Map(_)) => validate(attributes, value, &path, problems),
            (Kind::Map(attributes), Value::Map(elements)) => {
                for (key, element) in elements {
                    validate(attributes, element, &path.clone().key(key), problems);
                }
            }
            _ => {}
        }
    }
}

/// An object with every attribute of the schema and no other, nothing unknown, nothing write-only.
pub(super) fn conform(attributes: &[Attribute], value: &Value) -> Value {
    let Value::Map(_) = value else { return super::settle::known(value) };
    let member = |attribute: &Attribute| {
        let value = value.get(&attribute.name);
        let value = match &attribute.kind {
            _ if attribute.write_only => Value::Null,
            Kind::Plain(_) => super::settle::known(value),
            Kind::Single(attributes) => conform(attributes, value),
            Kind::Map(attributes) => match value {
                Value::Map(elements) => Value::Map(
                    elements.iter().map(|(key, element)| (key.clone(), conform(attributes, element))).collect(),
                ),
                other => super::settle::known(other),
            },
        };
        (attribute.name.clone(), value)
    };
    Value::Map(attributes.iter().map(member).collect::<BTreeMap<_, _>>())
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
