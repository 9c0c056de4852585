//! Compartments on Incus, declared for OpenTofu and Terraform.
//!
//! `plugin` speaks the plugin protocol and knows nothing of Incus; `incus` speaks the Incus API and knows
//! nothing of Terraform, nor does `nft`, the rules between domains; `resources` is where they meet. See `docs/architecture.md`.

pub mod incus;
pub mod nft;
pub mod plugin;
pub mod resources;
pub mod web;
