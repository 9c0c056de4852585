//! The Incus client against a scripted server on a unix socket or loopback TLS. Time is paused.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod connect;
mod creates;
mod failing;
mod fake;
mod lifecycle;
mod machines;
mod operations;
mod shared;
mod sources;
mod stopped;
mod volumes;
#[path = "../web/server.rs"]
#[allow(dead_code, reason = "shared with the tests of the web layer, which use other parts of it")]
mod web_server;
