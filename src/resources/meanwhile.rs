//! What somebody else changed between a plan and its apply: refused with both values, as the plan was made of the old one.

use std::collections::BTreeSet;

use crate::plugin::{Diagnostic, Diagnostics, Path, Update, Value};

/// Whose values no message shows.
const SECRET: &str = "cloud_init";

/// An error for each value of these `attributes` that is neither what it was when the update was planned nor what it
/// becomes. `now` is what is there: in the spelling of the prior state, and in that of the planned one.
pub(crate) fn changes(update: &Update, attributes: &[&str], now: [&Value; 2]) -> Diagnostics {
    let mut told = Diagnostics::default();
    for name in attributes {
        let [prior, planned] = [&update.prior, &update.planned].map(|state| state.get(name));
        compare(&Path::from(*name), prior, planned, now.map(|state| state.get(name)), &mut told);
    }
    told
}

fn compare(at: &Path, prior: &Value, planned: &Value, now: [&Value; 2], told: &mut Diagnostics) {
    if now[0] == prior || now[1] == planned {
        return;
    }
    let all = [prior, planned, now[0], now[1]];
    let maps = all.iter().filter_map(|value| value.as_map());
    let nothing = all.iter().filter(|value| value.is_null()).count();
    if is_secret(at) || maps.clone().count() + nothing < all.len() {
        told.extend(changed(at, prior, now[0], planned));
        return;
    }
    for key in maps.flat_map(|map| map.keys()).collect::<BTreeSet<_>>() {
        let [prior, planned, first, second] = all.map(|value| value.get(key));
        compare(&at.clone().key(key), prior, planned, [first, second], told);
    }
}

fn is_secret(at: &Path) -> bool {
    at.steps().first() == Path::from(SECRET).steps().first()
}

fn changed(at: &Path, prior: &Value, now: &Value, planned: &Value) -> Diagnostic {
    let show = |value: &Value| match value {
        Value::Null => "unset".to_owned(),
        Value::Unknown => "known after apply".to_owned(),
        _ if is_secret(at) => "a sensitive value".to_owned(),
        value => value.to_json().to_string(),
    };
    Diagnostic::error(
        at.clone(),
        "Changed by others since it was planned",
        format!(
            "It was {} when this update was planned, is {} now, and would become {}. Nothing was changed. Plan again: the new plan starts from what is there.",
            show(prior),
            show(now),
            show(planned)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Private;

    fn told(prior: &str, planned: &str, now: &str) -> Vec<String> {
        let [prior, planned, now] = [prior, planned, now].map(|json| {
            let mut state = Value::object();
            state.set("config", Value::from_json(&serde_json::from_str(json).unwrap()));
            state
        });
        let update = Update { prior, config: planned.clone(), planned, private: Private::default() };
        let told = changes(&update, &["config"], [&now, &now]);
        told.iter().map(|told| format!("{:?} {}", told.path, told.detail)).collect()
    }

    #[test]
    fn what_is_as_it_was_or_as_it_becomes_is_no_change_of_others() {
        assert_eq!(told(r#"{"a":"1"}"#, r#"{"a":"2"}"#, r#"{"a":"1"}"#), Vec::<String>::new());
        assert_eq!(told(r#"{"a":"1"}"#, r#"{"a":"2"}"#, r#"{"a":"2"}"#), Vec::<String>::new());
        assert_eq!(told(r#"{"a":"1","b":"1"}"#, r#"{"a":"2"}"#, r#"{"a":"2","b":"1"}"#), Vec::<String>::new());
        assert_eq!(told("null", r#"{"a":"2"}"#, "null"), Vec::<String>::new());
    }

    #[test]
    fn what_others_changed_is_told_with_all_values_at_its_key() {
        let one = told(r#"{"a":"1","b":"1"}"#, r#"{"a":"2","b":"1"}"#, r#"{"a":"3","b":"1"}"#);
        assert_eq!(one.len(), 1);
        assert!(one[0].contains("was \"1\" when") && one[0].contains("is \"3\" now"), "{one:?}");
        assert!(one[0].contains("become \"2\""), "{one:?}");
        let added = told(r#"{"a":"1"}"#, r#"{"a":"2"}"#, r#"{"a":"1","c":"3"}"#);
        assert!(added.len() == 1 && added[0].contains("was unset") && added[0].contains('c'), "{added:?}");
        let taken = told(r#"{"a":"1","b":"1"}"#, r#"{"a":"1","b":"2"}"#, r#"{"a":"1"}"#);
        assert!(taken.len() == 1 && taken[0].contains("is unset now"), "{taken:?}");
        let none = told("null", r#"{"a":"2"}"#, r#"{"b":"3"}"#);
        assert!(none.len() == 1 && none[0].contains("is \"3\" now"), "{none:?}");
    }
}
