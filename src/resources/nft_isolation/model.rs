//! What the attributes say, in the words of the nft layer.

use std::collections::BTreeMap;

use crate::nft::{EndpointField, EndpointInput, Given, Input, Place, PolicyField, PolicyInput, Problem};
use crate::plugin::{Diagnostic, Diagnostics, Path, Value};

/// The attributes of a configuration, a plan or a state.
pub(super) fn input(prefix: &str, values: &Value) -> Input {
    Input {
        prefix: prefix.to_owned(),
        domains: map(values.get("domains"), |bridge| given(bridge, |bridge| bridge.as_str().map(str::to_owned))),
        endpoints: map(values.get("endpoints"), |endpoint| EndpointInput {
            domain: text(endpoint, "domain"),
            address: text(endpoint, "address"),
        }),
        policies: map(values.get("policies"), policy),
    }
}

fn policy(policy: &Value) -> PolicyInput {
    PolicyInput {
        from: text(policy, "from"),
        to: text(policy, "to"),
        ports: given(member(policy, "ports"), |ports| {
            Some(ports.as_list()?.iter().map(|port| given(port, owned)).collect())
        }),
        protocol: given(member(policy, "protocol"), |protocol| protocol.as_str().map(str::to_owned)),
        bidirectional: given(member(policy, "bidirectional"), |both| both.as_bool().unwrap_or_default()),
    }
}

/// The elements of a map; null has none.
fn map<T>(value: &Value, read: impl Fn(&Value) -> T) -> Given<BTreeMap<String, T>> {
    given(value, |value| {
        value.as_map().into_iter().flatten().map(|(name, element)| (name.clone(), read(element))).collect()
    })
}

fn text(object: &Value, name: &str) -> Given<String> {
    given(member(object, name), owned)
}

fn owned(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Of what is unknown as a whole, every member is.
fn member<'v>(object: &'v Value, name: &str) -> &'v Value {
    if object.is_unknown() { object } else { object.get(name) }
}

fn given<T>(value: &Value, read: impl Fn(&Value) -> T) -> Given<T> {
    if value.is_unknown() { Given::Unknown } else { Given::Known(read(value)) }
}

/// The attribute that a problem is about.
pub(super) fn path(place: &Place) -> Path {
    let element = |map: &str, name: &str| Path::from(map).key(name);
    match place {
        Place::Prefix => Path::root(),
        Place::Domain { name } => element("domains", name),
        Place::Endpoint { name, field } => {
            let endpoint = element("endpoints", name);
            match field {
                EndpointField::Itself => endpoint,
                EndpointField::Domain => endpoint.attribute("domain"),
                EndpointField::Address => endpoint.attribute("address"),
            }
        }
        Place::Policy { name, field } => {
            let policy = element("policies", name);
            match field {
                PolicyField::Itself => policy,
                PolicyField::From => policy.attribute("from"),
                PolicyField::To => policy.attribute("to"),
                PolicyField::Ports => policy.attribute("ports"),
                PolicyField::Port(index) => policy.attribute("ports").index(i64::try_from(*index).unwrap_or_default()),
                PolicyField::Protocol => policy.attribute("protocol"),
            }
        }
    }
}

/// What makes an isolation impossible, each at its attribute.
pub(super) fn errors(problems: &[Problem]) -> Diagnostics {
    told(problems, Diagnostic::error)
}

/// What an isolation does not need or cannot mean, each at its attribute.
pub(super) fn warnings(problems: &[Problem]) -> Diagnostics {
    told(problems, Diagnostic::warning)
}

fn told(problems: &[Problem], tell: impl Fn(Path, String, String) -> Diagnostic) -> Diagnostics {
    let mut all = Diagnostics::default();
    for problem in problems {
        all.extend(tell(path(&problem.place), problem.summary.clone(), problem.detail.clone()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_unknown_stays_unknown_where_it_is() {
        let mut values = Value::from_json(&json!({
            "domains": {"pro": "net-pro", "perso": null},
            "endpoints": {"web": {"domain": "pro", "address": "10.0.0.1"}},
            "policies": null,
        }));
        let read = input("", &values);
        let Given::Known(domains) = read.domains else { panic!() };
        assert_eq!(domains["perso"], Given::Known(None));
        assert_eq!(domains["pro"], Given::Known(Some("net-pro".to_owned())));
        assert!(matches!(read.policies, Given::Known(policies) if policies.is_empty()));

        let mut endpoint = values.get("endpoints").get("web").clone();
        endpoint.set("address", Value::Unknown);
        values.set("endpoints", Value::Map([("web".to_owned(), endpoint), ("all".to_owned(), Value::Unknown)].into()));
        values.set("domains", Value::Unknown);
        let read = input("", &values);
        assert!(matches!(read.domains, Given::Unknown));
        let Given::Known(endpoints) = read.endpoints else { panic!() };
        assert_eq!(
            (&endpoints["web"].domain, &endpoints["web"].address),
            (&Given::Known("pro".into()), &Given::Unknown)
        );
        assert_eq!(endpoints["all"].domain, Given::Unknown);
    }

    #[test]
    fn a_problem_stands_at_the_attribute_that_it_is_about() {
        let at = |place: Place| path(&place).to_string();
        let policy = |field| Place::Policy { name: "intra net".into(), field };
        assert_eq!(at(Place::Domain { name: "pro".into() }), "domains[\"pro\"]");
        assert_eq!(at(policy(PolicyField::Port(1))), "policies[\"intra net\"].ports[1]");
        assert_eq!(at(policy(PolicyField::Itself)), "policies[\"intra net\"]");
    }
}
