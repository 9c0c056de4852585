//! A domain as three Incus objects: project, bridge, and the project's `default` profile.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::schema::{NETWORK_KEYS, PROJECT_KEYS};
use super::subnet::{Subnet, Trust};
use crate::incus::{Config, Devices, network::Network, profile::Profile, project::Project};
use crate::plugin::{DecodeError, Value};
use crate::resources::timeouts::{self, Timeouts};
use crate::resources::{keys, marks};

/// The attributes of a domain that are written to Incus.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Domain {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) trust_level: String,
    pub(super) subnet: Option<String>,
    pub(super) subnet_id: Option<u8>,
    pub(super) nat: bool,
    pub(super) ipv6: String,
    pub(super) nic_filtering: bool,
    pub(super) storage_pool: Option<String>,
    pub(super) config: Option<BTreeMap<String, String>>,
    pub(super) network_config: Option<BTreeMap<String, String>>,
    pub(super) force_destroy: bool,
    pub(super) project: String,
    pub(super) bridge: String,
    pub(super) timeouts: Timeouts,
    /// What `auto` has chosen, so that it is put back after a change by hand.
    #[serde(skip)]
    pub(super) chosen_ipv6: Option<String>,
}

/// Features that make a project a compartment: own profiles and volumes, shared images and networks.
const FEATURES: [(&str, &str); 5] = [
    ("features.images", "false"),
    ("features.networks", "false"),
    ("features.profiles", "true"),
    ("features.storage.buckets", "true"),
    ("features.storage.volumes", "true"),
];

impl Domain {
    pub(super) fn from_value(value: &Value) -> Result<Self, DecodeError> {
        value.decode()
    }

    pub(super) fn trust(&self) -> Trust {
        Trust::parse(&self.trust_level).unwrap_or(Trust::SemiTrusted)
    }

    pub(super) fn description(&self) -> String {
        self.description.clone().unwrap_or_default()
    }

    /// Writes everything but the marks into a project; returns whether anything changed.
    pub(super) fn apply_project(&self, project: &mut Project, subnet: Subnet, id: Option<u8>) -> bool {
        let before = (project.description.clone(), project.config.clone());
        project.description = self.description();
        let config = &mut project.config;
        keys::bring(config, &self.config.clone().unwrap_or_default(), PROJECT_KEYS);
        timeouts::store(config, &self.timeouts);
        let mut store = |name: &str, value: Option<String>| keys::put(config, &marks::stored(name), value);
        store("trust_level", Some(self.trust_level.clone()));
        store("force_destroy", self.force_destroy.then(|| "true".to_owned()));
        store("subnet", Some(subnet.to_string()));
        store("subnet_id", id.map(|id| id.to_string()));
        store("ipv6", (self.ipv6 == "auto").then(|| "auto".to_owned()));
        before != (project.description.clone(), project.config.clone())
    }

    pub(super) fn features() -> Config {
        FEATURES.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// Writes everything but the marks into a bridge; returns whether anything changed.
    pub(super) fn apply_network(&self, network: &mut Network, subnet: Subnet) -> bool {
        let before = (network.description.clone(), network.config.clone());
        network.description = self.description();
        let config = &mut network.config;
        keys::bring(config, &self.network_config.clone().unwrap_or_default(), NETWORK_KEYS);
        let mut set = |key: &str, value: Option<String>| keys::put(config, key, value);
        set("ipv4.address", Some(format!("{}/24", subnet.gateway())));
        set("ipv4.dhcp", Some("true".to_owned()));
        set("ipv4.dhcp.ranges", Some(subnet.dhcp_range()));
        set("ipv4.nat", Some(self.nat.to_string()));
        let there = before.1.get("ipv6.address").filter(|found| *found != "none");
        let ipv6 = match (self.ipv6.as_str(), &self.chosen_ipv6, there) {
            ("auto", Some(chosen), _) => chosen,
            ("auto", None, Some(there)) => there,
            _ => &self.ipv6,
        };
        set("ipv6.address", Some(ipv6.clone()));
        set("ipv6.nat", (self.ipv6 != "none").then(|| self.nat.to_string()));
        before != (network.description.clone(), network.config.clone())
    }

    /// Makes `eth0` and `root` all that the `default` profile holds; returns whether anything changed.
    pub(super) fn apply_profile(&self, profile: &mut Profile, pool: &str, filtering: Filtering) -> bool {
        let before = (profile.devices.clone(), profile.config.clone());
        let size = profile.devices.get("root").and_then(|root| root.get("size")).cloned();
        profile.devices = self.devices(pool, filtering);
        profile.config.retain(|key, _| marks::is_hidden(key));
        if let (Some(root), Some(size)) = (profile.devices.get_mut("root"), size) {
            root.insert("size".to_owned(), size);
        }
        before != (profile.devices.clone(), profile.config.clone())
    }

    fn devices(&self, pool: &str, filtering: Filtering) -> Devices {
        let mut devices = bare_devices(&self.bridge);
        if let (Some(eth0), true) = (devices.get_mut("eth0"), self.nic_filtering) {
            eth0.extend(device(&[("security.mac_filtering", "true"), ("security.ipv4_filtering", "true")]));
            if filtering == Filtering::WithIpv6 {
                eth0.extend(device(&[("security.ipv6_filtering", "true")]));
            }
        }
        if let Some(root) = devices.get_mut("root") {
            root.extend(device(&[("pool", pool)]));
        }
        devices
    }
}

/// Keys of a NIC that `nic_filtering` sets.
const FILTERS: [&str; 3] = ["security.mac_filtering", "security.ipv4_filtering", "security.ipv6_filtering"];

fn device(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn bare_devices(bridge: &str) -> Devices {
    let eth0 = device(&[("type", "nic"), ("network", bridge), ("name", "eth0")]);
    [("eth0".to_owned(), eth0), ("root".to_owned(), device(&[("type", "disk"), ("path", "/")]))].into()
}

/// Which devices of a `default` profile are not as a domain has them, those that it should not have included; and
/// `config` where it has keys.
pub(super) fn changed(bridge: &str, profile: &Profile) -> Vec<String> {
    let shape = |name: &str, device: &BTreeMap<String, String>| {
        let mut shape = device.clone();
        // Shown by `storage_pool` and `nic_filtering`; a root size is the operator's.
        shape.retain(|key, _| match name {
            "eth0" => !FILTERS.contains(&key.as_str()),
            _ => !matches!(key.as_str(), "pool" | "size"),
        });
        shape
    };
    let wanted = bare_devices(bridge);
    let names: BTreeSet<&String> = wanted.keys().chain(profile.devices.keys()).collect();
    let differs = |name: &str| profile.devices.get(name).map(|device| shape(name, device)) != wanted.get(name).cloned();
    let mut changed: Vec<String> = names.into_iter().filter(|name| differs(name)).cloned().collect();
    if profile.config.keys().any(|key| !marks::is_hidden(key)) {
        changed.push("config".to_owned());
    }
    changed
}

/// Whether instances can start with IPv6 filtering: it needs `br_netfilter` on the Incus host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filtering {
    WithIpv6,
    WithoutIpv6,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> Domain {
        Domain {
            name: "pro".into(),
            description: None,
            trust_level: "trusted".into(),
            subnet: None,
            subnet_id: None,
            nat: true,
            ipv6: "none".into(),
            nic_filtering: false,
            storage_pool: None,
            config: None,
            network_config: None,
            force_destroy: false,
            project: "pro".into(),
            bridge: "net-pro".into(),
            timeouts: None,
            chosen_ipv6: None,
        }
    }

    fn subnet() -> Subnet {
        Subnet::parse("10.110.0.0/24").unwrap()
    }

    #[test]
    fn writing_twice_changes_nothing() {
        let (mut project, mut network, mut profile) = (Project::default(), Network::default(), Profile::default());
        assert!(domain().apply_project(&mut project, subnet(), Some(0)));
        assert!(domain().apply_network(&mut network, subnet()));
        assert!(domain().apply_profile(&mut profile, "default", Filtering::WithoutIpv6));
        assert!(!domain().apply_project(&mut project, subnet(), Some(0)));
        assert!(!domain().apply_network(&mut network, subnet()));
        assert!(!domain().apply_profile(&mut profile, "default", Filtering::WithoutIpv6));
    }

    #[test]
    fn every_address_key_is_set_at_creation() {
        let mut network = Network::default();
        domain().apply_network(&mut network, subnet());
        for key in ["ipv4.address", "ipv4.dhcp.ranges", "ipv4.nat", "ipv6.address"] {
            assert!(network.config.contains_key(key), "{key}");
        }
    }

    #[test]
    fn an_address_that_auto_has_chosen_stays() {
        let mut network = Network::default();
        network.config.insert("ipv6.address".into(), "fd42::1/64".into());
        let auto = Domain { ipv6: "auto".into(), ..domain() };
        auto.apply_network(&mut network, subnet());
        assert_eq!(network.config["ipv6.address"], "fd42::1/64");
        network.config.insert("ipv6.address".into(), "fd66::1/64".into());
        Domain { chosen_ipv6: Some("fd42::1/64".into()), ..auto }.apply_network(&mut network, subnet());
        assert_eq!(network.config["ipv6.address"], "fd42::1/64", "changed by hand");
        domain().apply_network(&mut network, subnet());
        assert_eq!(network.config["ipv6.address"], "none");
    }

    #[test]
    fn a_changed_device_of_the_profile_is_named() {
        let mut profile = Profile::default();
        domain().apply_profile(&mut profile, "default", Filtering::WithoutIpv6);
        assert!(changed("net-pro", &profile).is_empty());
        profile.devices.get_mut("eth0").unwrap().insert("network".into(), "net-other".into());
        assert_eq!(changed("net-pro", &profile), ["eth0"]);
        profile.devices.insert("host".into(), device(&[("type", "disk"), ("source", "/")]));
        profile.config.insert("security.privileged".into(), "true".into());
        assert_eq!(changed("net-pro", &profile), ["eth0", "host", "config"]);
        domain().apply_profile(&mut profile, "default", Filtering::WithoutIpv6);
        assert!(changed("net-pro", &profile).is_empty());
    }
}
