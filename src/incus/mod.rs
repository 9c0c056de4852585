//! A client of the Incus REST API: requests as values, one place that sends them.
//!
//! [`Client`] sends [`Request`]s over a unix socket or HTTPS with an exactly pinned certificate, waits for
//! operations, merges under `If-Match`, answers overlapping reads of one project from one list, and carries
//! one event stream. [`remote`] finds out which Incus is meant. The nouns (`project`, `network`, ...) hold the
//! models and the requests; nothing in them does I/O.

mod client;
mod endpoint;
pub mod error;
mod lifecycle;
mod patience;
mod pool;
pub mod ready;
pub mod request;
mod run;
mod shared;

pub mod backup;
pub mod events;
pub mod image;
pub mod instance;
pub mod network;
pub mod operation;
pub mod profile;
pub mod project;
pub mod remote;
pub mod server;
pub mod storage;
pub mod upload;
pub mod volume;

pub use client::{Client, Fetched, Limits, Response, Running};
pub use endpoint::{Endpoint, Identity, Pin};
pub use error::{ConnectFault, Error, Refusal};
pub use request::{Body, Request};
pub use run::{Modified, Wait};
pub use shared::WriteGuard;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Configuration keys and their values, as Incus keeps them: always text.
pub type Config = BTreeMap<String, String>;

/// Devices by name, each with its keys.
pub type Devices = BTreeMap<String, BTreeMap<String, String>>;

/// Whether a key's value means yes, as Incus reads it (6.0 to 7.3).
pub fn is_true(value: &str) -> bool {
    ["true", "1", "yes", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

/// Whether a key's value means no, as Incus reads it (6.0 to 7.3).
pub fn is_false(value: &str) -> bool {
    ["false", "0", "no", "off"].iter().any(|no| value.eq_ignore_ascii_case(no))
}

/// Fields that no model names, carried back unchanged by a `PUT`.
pub type Rest = serde_json::Map<String, serde_json::Value>;

/// A time among the fields that no model names (RFC 3339).
fn time_of(rest: &Rest, field: &str) -> Option<OffsetDateTime> {
    let at = rest.get(field).and_then(|at| at.as_str())?;
    OffsetDateTime::parse(at, &Rfc3339).ok()
}

/// Incus writes an empty map or list as `null` in places: read it as empty.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
