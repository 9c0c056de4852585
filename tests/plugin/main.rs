//! The plugin layer from outside: a caller with the core's certificate, the real socket, a toy provider.
//!
//! Values are written and read here by code of these tests, so that a mistake of the layer cannot hide itself.
//! Each test of a rule of the core is in a section headed by its number in the order schema, wire, plan, apply, read.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod apply;
mod caller;
mod connection;
mod msgpack;
mod plan;
mod process;
mod read;
mod schema;
mod toy;
mod wire;
