//! Networks, their leases and states.

use serde::{Deserialize, Serialize};

use super::{Config, Request, Rest, null_as_default};

/// A network as Incus shows it; unmanaged interfaces of the host too.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Its name; of a bridge also the interface's.
    #[serde(default)]
    pub name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// `bridge`, `physical`, `loopback` ...
    #[serde(default, rename = "type", skip_serializing)]
    pub kind: String,
    /// Whether Incus made it.
    #[serde(default, skip_serializing)]
    pub managed: bool,
    /// `Created`, `Pending`, `Errored`, `Unavailable` or empty.
    #[serde(default, skip_serializing)]
    pub status: String,
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

/// What a new network is made of. Every address key must be set: unset ones are chosen at random.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Create {
    /// Its name, 2 to 15 characters for a bridge.
    pub name: String,
    /// Free text.
    pub description: String,
    /// `bridge`.
    #[serde(rename = "type")]
    pub kind: String,
    /// All keys.
    pub config: Config,
}

/// One lease of a bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Name that the client gave.
    #[serde(default)]
    pub hostname: String,
    /// MAC address, lower case.
    #[serde(default)]
    pub hwaddr: String,
    /// IPv4 or IPv6 address.
    #[serde(default)]
    pub address: String,
    /// `static`, `dynamic`, `gateway` or `uplink`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Member of the cluster that holds it.
    #[serde(default)]
    pub location: String,
}

/// What the host sees of a network's interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Addresses of the interface.
    #[serde(default, deserialize_with = "null_as_default")]
    pub addresses: Vec<Address>,
    /// MAC address.
    #[serde(default)]
    pub hwaddr: String,
    /// `up` or `down`.
    #[serde(default)]
    pub state: String,
}

/// One address of an interface, of a host or of a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// `inet` or `inet6`.
    #[serde(default)]
    pub family: String,
    /// The address without its prefix.
    #[serde(default)]
    pub address: String,
    /// Length of the prefix, in decimal.
    #[serde(default)]
    pub netmask: String,
    /// `global`, `link` or `local`.
    #[serde(default)]
    pub scope: String,
}

/// One network.
pub fn get(name: &str) -> Request {
    Request::get(&["networks", name])
}

/// All networks, unmanaged interfaces included ([`Network`]).
pub fn list() -> Request {
    Request::get(&["networks"]).with("recursion", "1")
}

/// The interface of a network ([`State`]).
pub fn state(name: &str) -> Request {
    Request::get(&["networks", name, "state"])
}

/// Every address of a bridge by MAC ([`Lease`]); only of the project in the query.
pub fn leases(name: &str) -> Request {
    Request::get(&["networks", name, "leases"])
}

/// Makes a network; sync.
pub fn create(body: &Create) -> Request {
    Request::post(&["networks"], body)
}

/// Removes an unused network; sync.
pub fn delete(name: &str) -> Request {
    Request::delete(&["networks", name])
}
