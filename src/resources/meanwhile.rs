//! What somebody else changed between a plan and its apply: refused with both values, as the plan was made of the old one.

use std::collections::BTreeSet;

use crate::plugin::{Diagnostic, Diagnostics, Path, Step, Update, Value};

/// What may hold a secret: the attribute, and parts of a key of `config` or `devices`.
const SECRET: [&str; 8] =
    ["cloud_init", "environment.", "cloud-init.", "raw.", "pass", "secret", "token", "credential"];
/// How much of a value is shown, in characters.
const SHOWN: usize = 200;

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

/// The same of one attribute that stands in several `places`, of which a refresh shows the one that is not as it was.
pub(crate) fn in_places(update: &Update, attribute: &str, places: &[Value]) -> Diagnostics {
    let [prior, planned] = [&update.prior, &update.planned].map(|state| state.get(attribute));
    match places.iter().find(|place| *place != planned) {
        Some(other) if !places.contains(prior) => changed(&Path::from(attribute), prior, other, planned).into(),
        _ => Diagnostics::default(),
    }
}

fn compare(at: &Path, prior: &Value, planned: &Value, now: [&Value; 2], told: &mut Diagnostics) {
    if now[0] == prior || now[1] == planned {
        return;
    }
    let all = [prior, planned, now[0], now[1]];
    if let [Some(before), Some(after), Some(now), _] = all.map(Value::as_list) {
        // A profile that is renamed in the same apply is renamed in the lists, too.
        let taken = before.iter().filter(|item| !now.contains(item)).any(|item| after.contains(item));
        if taken || now.iter().any(|item| !before.contains(item) && !after.contains(item)) {
            told.extend(changed(at, prior, all[2], planned));
        }
        return;
    }
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
    at.steps().iter().any(|step| match step {
        Step::Attribute(name) | Step::Key(name) => {
            let low = name.to_lowercase();
            SECRET.iter().any(|part| low.contains(part))
        }
        Step::Index(_) => false,
    })
}

fn changed(at: &Path, prior: &Value, now: &Value, planned: &Value) -> Diagnostic {
    let show = |value: &Value| match value {
        Value::Null => "unset".to_owned(),
        Value::Unknown => "known after apply".to_owned(),
        _ if is_secret(at) => "a value that may be secret".to_owned(),
        value => {
            let text = value.to_json().to_string();
            let mut shown: String = text.chars().take(SHOWN).collect();
            if shown.len() < text.len() {
                shown.push_str("...");
            }
            shown
        }
    };
    Diagnostic::error(
        at.clone(),
        "Changed by others since it was planned",
        format!(
            "It was {} when this update was planned, is {} now, and would become {}. It was left as it is. Plan again: the new plan starts from what is there.",
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
    fn a_list_is_changed_by_others_where_an_item_is_in_neither() {
        let renamed = told(r#"["default","old"]"#, r#"["default","new","extra"]"#, r#"["default","new"]"#);
        assert_eq!(renamed, Vec::<String>::new());
        assert_eq!(told(r#"["a"]"#, r#"["a","b"]"#, r#"["a","c"]"#).len(), 1);
        assert_eq!(told(r#"["a","b"]"#, r#"["a","b","c"]"#, r#"["a"]"#).len(), 1);
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        for key in ["environment.DB", "user.Password", "raw.lxc"] {
            let with = |value: &str| format!("{{\"{key}\":\"{value}\"}}");
            let one = told(&with("s1"), &with("s2"), &with("s3"));
            assert_eq!(one.len(), 1);
            assert!(one.iter().all(|told| !["s1", "s2", "s3"].iter().any(|value| told.contains(value))), "{one:?}");
        }
    }

    #[test]
    fn of_two_places_one_that_is_as_it_was_is_enough() {
        let [old, new, other] = ["old", "new", "other"].map(Value::from);
        let state = |value: &Value| {
            let mut state = Value::object();
            state.set("description", value.clone());
            state
        };
        let update =
            Update { prior: state(&old), config: state(&new), planned: state(&new), private: Private::default() };
        let refused = |places: [&Value; 2]| !in_places(&update, "description", &places.map(Clone::clone)).is_empty();
        assert!(!refused([&old, &new]) && !refused([&new, &old]) && !refused([&new, &new]) && !refused([&old, &other]));
        assert!(refused([&other, &other]) && refused([&new, &other]));
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
