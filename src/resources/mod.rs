//! One noun each: model and schema, plan rules, create, read, update, delete. Where Terraform and Incus meet.

mod cloud_init;
mod domain;
mod duration;
mod expiry;
mod instance;
mod keys;
mod marks;
mod meanwhile;
mod name;
mod nft_isolation;
mod notes;
mod pool;
mod profile;
mod provider;
mod refusal;
mod schedule;
mod session;
mod similar;
mod size;
mod timeouts;
mod uid;
mod volume;
mod walk;

pub use provider::Anklume;
