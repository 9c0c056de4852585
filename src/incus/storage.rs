//! Storage pools and custom volumes.

use serde::{Deserialize, Serialize};

use super::{Config, Request, Rest, null_as_default};

/// A storage pool as Incus shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// `dir`, `btrfs`, `zfs`, `lvm`, `ceph` ...
    #[serde(default, skip_serializing)]
    pub driver: String,
    /// `Created`, `Pending`, `Errored`, `Unavailable`.
    #[serde(default, skip_serializing)]
    pub status: String,
    /// All keys.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: Config,
    /// What no field above names.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A custom volume as Incus shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// `filesystem`, `block` or `iso`.
    #[serde(default, skip_serializing)]
    pub content_type: String,
    /// All keys.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: Config,
    /// API paths of its users.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing)]
    pub used_by: Vec<String>,
    /// What no field above names.
    #[serde(flatten)]
    pub rest: Rest,
}

/// One pool.
pub fn pool(name: &str) -> Request {
    Request::get(&["storage-pools", name])
}

/// All pools ([`Pool`]).
pub fn pools() -> Request {
    Request::get(&["storage-pools"]).with("recursion", "1")
}

/// One custom volume.
pub fn volume(project: &str, pool: &str, name: &str) -> Request {
    Request::get(&["storage-pools", pool, "volumes", "custom", name]).project(project)
}

/// All custom volumes of a pool in a project ([`Volume`]).
pub fn volumes(project: &str, pool: &str) -> Request {
    Request::get(&["storage-pools", pool, "volumes", "custom"]).with("recursion", "1").project(project)
}

/// Removes an unused custom volume; sync.
pub fn delete_volume(project: &str, pool: &str, name: &str) -> Request {
    Request::delete(&["storage-pools", pool, "volumes", "custom", name]).project(project)
}
