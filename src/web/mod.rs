//! A file on a web server, read as a stream that goes on where it broke off. Knows neither Incus nor Terraform.
//!
//! [`Location`] and [`Headers`] are parsed, [`Client`] connects, [`Body`] is the file. Nothing is kept on disk, and in
//! memory only what the connection has read ahead.

mod body;
mod client;
mod headers;
mod location;

pub use body::{Body, Error};
pub use client::{Client, Patience};
pub use headers::{BadHeader, Headers};
pub use location::{BadLocation, Location};
