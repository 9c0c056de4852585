//! Storage pools.

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

/// One pool.
pub fn pool(name: &str) -> Request {
    Request::get(&["storage-pools", name])
}

/// All pools ([`Pool`]).
pub fn pools() -> Request {
    Request::get(&["storage-pools"]).with("recursion", "1")
}
