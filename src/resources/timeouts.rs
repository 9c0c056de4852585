//! `timeouts = { create = "10m" }`: how long each step of a resource may take.

use std::time::Duration;

use tokio::time::Instant;

use super::duration;
use crate::incus::Wait;
use crate::plugin::{Attribute, Call, Value};

/// The attribute `timeouts`, in Go durations.
#[must_use]
pub fn attribute() -> Attribute {
    let step = |name: &'static str, what: &'static str| {
        Attribute::string(name).optional().check(duration::check).describe(what)
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

/// What `timeouts` holds, for a mark.
pub const STEPS: &[&str] = &["read", "create", "update", "delete"];

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
