//! The plugin protocol: handshake, mutual TLS, values, schema, planner. Knows nothing of Incus.

mod convert;
mod diagnostic;
mod log;
mod msgpack;
mod number;
mod path;
mod plan;
mod planner;
mod private;
mod provider;
mod resource;
mod schema;
mod schema_problems;
mod serve;
mod server;
mod service;
mod settle;
mod socket;
mod state_json;
mod tls;
mod type_json;
mod value;
#[doc(hidden)]
pub mod wire;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use msgpack::{WireError, decode as from_msgpack, encode as to_msgpack};
pub use number::Number;
pub use path::{Path, Step};
pub use plan::{Action, Plan};
pub use private::Private;
pub use provider::Provider;
pub use resource::{Call, Create, Failure, Resource, Stored, Update};
pub use schema::{Attribute, Canonical, Check, Problem, Schema, Type};
pub use serve::{Listening, ServeError, serve};
pub use value::{DecodeError, Value};
