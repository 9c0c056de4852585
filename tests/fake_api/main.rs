//! The Incus client against a scripted server on a unix socket or loopback TLS. Time is paused.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod connect;
mod creates;
mod fake;
mod lifecycle;
mod machines;
mod operations;
mod shared;
