//! One noun each: model and schema, plan rules, create, read, update, delete. Where Terraform and Incus meet.

mod domain;
mod duration;
// mod instance;
mod keys;
mod marks;
mod name;
mod profile;
mod provider;
mod refusal;
mod session;
mod timeouts;

pub use provider::Anklume;
