//! `timeouts = { create = "10m" }`: how long each step of a resource may take.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{duration, keys, marks};
use crate::incus::Wait;
use crate::plugin::{Attribute, Call, Value};

/// The attribute `timeouts`, in Go durations.
#[must_use]
pub fn attribute() -> Attribute {
    let step = |name: &'static str, what: &'static str| {
        Attribute::string(name).optional().check(duration::check).canonical(duration::canonical).describe(what)
    };
    Attribute::single(
        "timeouts",
        vec![
            step("read", "How long a refresh or the read of an import may take; `\"60s\"` when unset."),
            step("create", "How long a create may take, the download of an image included."),
            step("update", "How long an update may take."),
            step("delete", "How long a destroy may take."),
        ],
    )
    .optional()
    .describe("How long each step may take, as Go durations such as `\"90s\"`.")
}

/// The members of `timeouts`.
pub const STEPS: &[&str] = &["read", "create", "update", "delete"];

/// `timeouts` as it is configured.
pub type Timeouts = Option<BTreeMap<String, Option<String>>>;

/// Keeps `timeouts` on an object, where an import finds it.
pub fn store(config: &mut BTreeMap<String, String>, timeouts: &Timeouts) {
    let text = timeouts.as_ref().and_then(|timeouts| serde_json::to_string(timeouts).ok());
    keys::put(config, &marks::stored("timeouts"), text);
}

/// `timeouts` as [`store`] kept it; null where there is none.
#[must_use]
pub fn stored(config: &BTreeMap<String, String>) -> Value {
    marks::read_stored(config, "timeouts")
        .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok())
        .filter(serde_json::Value::is_object)
        .map_or(Value::Null, |json| {
            let json = Value::from_json(&json);
            Value::Map(STEPS.iter().map(|step| ((*step).to_owned(), json.get(step).clone())).collect())
        })
}

/// How long a read may take where `timeouts.read` is not set.
const READ: Duration = Duration::from_secs(60);

/// What ends a refresh: `timeouts.read` of `state`, and the stop of the call.
#[must_use]
pub fn of_read(call: &Call, state: &Value) -> Wait {
    wait(call, state, "read", READ)
}

/// What ends the reads of a call that writes: its stop, and for each the limit of the client.
#[must_use]
pub fn of_stop(call: &Call) -> Wait {
    Wait { deadline: None, stop: call.stop.clone() }
}

/// The limit of one call: `timeouts.<step>` of `values`, else `default`; and the stop of the call.
#[must_use]
pub fn wait(call: &Call, values: &Value, step: &str, default: Duration) -> Wait {
    let limit =
        values.get("timeouts").get(step).as_str().and_then(|text| duration::parse(text).ok()).unwrap_or(default);
    Wait { deadline: Some(Instant::now() + limit), stop: call.stop.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_found_again() {
        let mut config = BTreeMap::new();
        assert!(stored(&config).is_null());
        store(&mut config, &Some([("read".to_owned(), Some("5m".to_owned()))].into()));
        assert_eq!(stored(&config).get("read").as_str(), Some("5m"));
        assert!(stored(&config).get("delete").is_null());
        store(&mut config, &None);
        assert!(config.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_takes_a_minute_unless_it_is_told_otherwise() {
        let call = Call::default();
        let left = |state: &Value| of_read(&call, state).deadline.unwrap() - Instant::now();
        assert_eq!(left(&Value::Null).as_secs(), 60);
        let timeouts = Value::Map([("read".to_owned(), "5m".into())].into());
        assert_eq!(left(&Value::Map([("timeouts".to_owned(), timeouts)].into())).as_secs(), 300);
    }
}
