//! Seeded mutations of what comes from outside: answers of Incus, messages of the core, texts that are parsed.
//!
//! `ROUNDS` says how many each test makes, `SEED` from which number on: a failure names the seed that repeats it alone.
//! `corpus/` holds what is mutated: answers of Incus 6.0.4, and the configurations that messages are made from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod answers;
#[path = "../plugin/caller.rs"]
#[allow(dead_code, reason = "shared with the tests of the plugin layer, which use other parts of it")]
mod caller;
mod incus;
mod messages;
#[path = "../plugin/msgpack.rs"]
#[allow(dead_code, reason = "shared with the tests of the plugin layer, which use other parts of it")]
mod msgpack;
mod mutate;
mod rounds;
mod texts;
#[path = "../plugin/toy.rs"]
#[allow(dead_code, reason = "shared with the tests of the plugin layer, which use other parts of it")]
mod toy;
