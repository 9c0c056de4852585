//! A domain as Incus has it, read as the state of its resource.

use super::body;
use super::plan::{IPV6, POOL, SUBNET};
use super::schema::{NETWORK_KEYS, PROJECT_KEYS};
use super::subnet::{Subnet, Trust};
use crate::incus::is_true;
use crate::incus::{self, Client, network, network::Network, profile, profile::Profile, project, project::Project};
use crate::plugin::{Diagnostic, Path, Private, Value};
use crate::resources::session::Session;
use crate::resources::uid::{self, Uid};
use crate::resources::{keys, marks, refusal};

/// The three objects of a domain, as far as they are there.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces {
    pub(super) project: Option<Project>,
    pub(super) network: Option<Network>,
    pub(super) profile: Option<Profile>,
}

impl Pieces {
    /// Read for a refresh: overlapping reads share lists.
    pub(super) async fn shared(client: &Client, session: &Session, domain: &str) -> Result<Self, incus::Error> {
        let (project, bridge) = (session.project(domain), session.bridge(domain));
        let (project, network, profile) = tokio::join!(
            client.read_project(&project),
            client.read_network(&bridge),
            client.read_profile(&project, "default")
        );
        Ok(Self { project: project?, network: network?, profile: profile? })
    }

    /// Read for itself, each with a GET of its own.
    pub(super) async fn fetch(client: &Client, session: &Session, domain: &str) -> Result<Self, incus::Error> {
        let (name, bridge) = (session.project(domain), session.bridge(domain));
        let (project, network, profile) = tokio::join!(
            client.find(project::get(&name)),
            client.find(network::get(&bridge)),
            client.find(profile::get(&name, "default"))
        );
        Ok(Self { project: project?, network: network?, profile: profile? })
    }

    pub(super) fn is_gone(&self) -> bool {
        self.project.is_none() && self.network.is_none()
    }

    /// The state; what is not there is taken from `prior`, and shows as a change of `project`, `bridge` or `profile`.
    pub(super) fn state(&self, session: &Session, name: &str, prior: &Value) -> Value {
        let mut state = Value::object();
        let mut keep = |names: &[&str]| names.iter().for_each(|name| state.set(name, prior.get(name).clone()));
        keep(&["timeouts", "trust_level", "subnet", "subnet_id", "nat", "ipv6", "nic_filtering", "storage_pool"]);
        keep(&["config", "network_config", "force_destroy", "gateway", "static_range", "dhcp_range", "description"]);
        state.set("id", name);
        state.set(uid::NAME, prior.get(uid::NAME).clone());
        state.set("name", name);
        state.set("project", self.project.as_ref().map(|_| session.project(name)));
        state.set("bridge", self.network.as_ref().map(|_| session.bridge(name)));
        state.set("profile", Value::Null);
        if let Some(network) = &self.network {
            network_state(&mut state, network, prior);
        }
        if let Some(project) = &self.project {
            project_state(&mut state, project, prior);
            let bridges = self.network.as_ref().map_or(&project.description, |network| &network.description);
            let before = prior.get("description");
            let described = before.is_known().then(|| before.as_str().unwrap_or_default());
            let shown = of_both(described, project.description.as_str(), bridges);
            state.set("description", keys::description(shown, before));
            self.addresses(session, &mut state, project);
        }
        if let Some(profile) = &self.profile {
            profile_state(&mut state, profile);
        }
        state
    }

    /// What stands in two places, in the spelling of `prior`.
    pub(super) fn places(&self, prior: &Value) -> [(&'static str, Vec<Value>); 2] {
        let descriptions = [
            self.project.as_ref().map(|project| project.description.as_str()),
            self.network.as_ref().map(|network| network.description.as_str()),
        ];
        let described = |text: &str| keys::description(text, prior.get("description"));
        let nat = self.network.iter().flat_map(nat).map(Value::from);
        [("description", descriptions.into_iter().flatten().map(described).collect()), ("nat", nat.collect())]
    }

    /// Number, trust level and IPv6 mode: from the marks on the project, else worked out from the bridge.
    fn addresses(&self, session: &Session, state: &mut Value, project: &Project) {
        let actual = state.get("subnet").as_str().and_then(|text| Subnet::parse(text).ok());
        let zones = session.addressing();
        let stored = |name: &str| marks::read_stored(&project.config, name);
        let trust = stored("trust_level").and_then(Trust::parse).unwrap_or_else(|| {
            let zone =
                actual.and_then(|subnet| Trust::ALL.into_iter().find(|level| zones.id_of(*level, subnet).is_some()));
            zone.unwrap_or(Trust::SemiTrusted)
        });
        state.set("trust_level", trust.as_str());
        let kept = stored("subnet").is_some();
        let id = if kept {
            stored("subnet_id").and_then(|text| text.parse::<u8>().ok())
        } else {
            actual.and_then(|subnet| zones.id_of(trust, subnet))
        };
        state.set("subnet_id", id.map(i64::from));
        if stored("ipv6") == Some("auto") && state.get("ipv6").as_str().is_some_and(|address| address != "none") {
            state.set("ipv6", "auto");
        }
    }

    /// The keys of project and bridge, as far as they are there.
    pub(super) fn configs(&self) -> impl Iterator<Item = &incus::Config> {
        let project = self.project.iter().map(|project| &project.config);
        project.chain(self.network.iter().map(|network| &network.config))
    }

    /// Whether one of them is the object of `uid`.
    pub(super) fn has_any(&self, uid: &Uid) -> bool {
        self.configs().any(|config| uid.owns(config, None))
    }

    /// The identity once these were found.
    pub(super) fn confirmed(&self, uid: Uid) -> Uid {
        let mut marks = self.configs().map(marks::carried);
        match (marks.next(), self.configs().next()) {
            (Some(first), Some(config)) if marks.all(|mark| mark == first) => uid.confirmed(config, None),
            _ => uid,
        }
    }

    /// Refuses a domain of which one piece is the object of `uid`, and the other somebody else's.
    pub(super) fn refuse_strangers(&self, name: &str, uid: &Uid) -> Result<(), Diagnostic> {
        let (Some(project), Some(network)) = (&self.project, &self.network) else { return Ok(()) };
        let of_project = format!("project `{}`", project.name);
        let of_network = format!("bridge `{}`", network.name);
        match (uid.owns(&project.config, None), uid.owns(&network.config, None)) {
            (true, false) => Err(refusal::stranger_piece(name, &of_project, &of_network)),
            (false, true) => Err(refusal::stranger_piece(name, &of_network, &of_project)),
            _ => Ok(()),
        }
    }

    /// What is remembered beside the state: the subnet and pool that the domain was given.
    pub(super) fn private(&self, mut private: Private, state: &Value) -> Private {
        let marked = self.project.as_ref().and_then(|project| marks::read_stored(&project.config, "subnet"));
        for (key, value) in
            [(SUBNET, marked.or(state.get("subnet").as_str())), (POOL, state.get("storage_pool").as_str())]
        {
            if let (None, Some(value)) = (private.get(key), value) {
                private.set(key, value);
            }
        }
        let address = self.chosen_ipv6().filter(|_| state.get("ipv6").as_str() == Some("auto"));
        if let (None, Some(address)) = (private.get(IPV6), address) {
            private.set(IPV6, address);
        }
        private
    }

    /// The bridge's IPv6 address.
    pub(super) fn chosen_ipv6(&self) -> Option<&str> {
        self.network.as_ref()?.config.get("ipv6.address").map(String::as_str).filter(|address| *address != "none")
    }

    /// Shows the address of the bridge in place of `auto` where it is not the one that `auto` has chosen.
    pub(super) fn show_moved(&self, state: &mut Value, private: &Private) {
        let moved = self.chosen_ipv6().filter(|now| private.get(IPV6).is_some_and(|chosen| chosen != *now));
        if let (Some("auto"), Some(now)) = (state.get("ipv6").as_str(), moved) {
            state.set("ipv6", now);
        }
    }
}

/// One value for what stands in two places, which an apply makes the same: where they differ, the one that is not as it
/// was.
fn of_both<T: PartialEq>(prior: Option<T>, first: T, second: T) -> T {
    if prior.is_some_and(|prior| prior == first) { second } else { first }
}

/// Of IPv4 and of IPv6, which is that of IPv4 where there is none.
fn nat(network: &Network) -> [bool; 2] {
    let on = |key: &str| network.config.get(key).is_some_and(|value| is_true(value));
    let has_ipv6 = network.config.get("ipv6.address").is_some_and(|address| address != "none");
    [on("ipv4.nat"), on(if has_ipv6 { "ipv6.nat" } else { "ipv4.nat" })]
}

fn network_state(state: &mut Value, network: &Network, prior: &Value) {
    let get = |key: &str| network.config.get(key).map(String::as_str);
    let subnet = get("ipv4.address").and_then(Subnet::of_bridge);
    state.set(
        "subnet",
        subnet.map_or_else(|| get("ipv4.address").unwrap_or("none").to_owned(), |subnet| subnet.to_string()),
    );
    state.set("gateway", get("ipv4.address").and_then(|address| address.split('/').next()).unwrap_or("none"));
    state.set("static_range", subnet.map(Subnet::static_range));
    state.set(
        "dhcp_range",
        match get("ipv4.dhcp") {
            Some("false") => "none",
            _ => get("ipv4.dhcp.ranges").unwrap_or("all"),
        },
    );
    let [nat, nat_of_ipv6] = nat(network);
    state.set("nat", of_both(prior.get("nat").as_bool(), nat, nat_of_ipv6));
    state.set("ipv6", get("ipv6.address").unwrap_or("none"));
    state.set(
        "network_config",
        keys::like_prior(prior.get("network_config"), keys::visible(&network.config, NETWORK_KEYS)),
    );
}

fn project_state(state: &mut Value, project: &Project, prior: &Value) {
    state.set("config", keys::like_prior(prior.get("config"), keys::visible(&project.config, PROJECT_KEYS)));
    state.set("force_destroy", marks::read_stored(&project.config, "force_destroy") == Some("true"));
}

fn profile_state(state: &mut Value, profile: &Profile) {
    let device =
        |name: &str, key: &str| profile.devices.get(name).and_then(|device| device.get(key)).map(String::as_str);
    let on = |key: &str| device("eth0", key) == Some("true");
    state.set("nic_filtering", on("security.mac_filtering") && on("security.ipv4_filtering"));
    if let Some(pool) = device("root", "pool") {
        state.set("storage_pool", pool);
    }
    let bridge = state.get("bridge").as_str().unwrap_or_default().to_owned();
    let changed = body::changed(&bridge, profile);
    state.set(
        "profile",
        if changed.is_empty() { "default".to_owned() } else { format!("default (changed: {})", changed.join(", ")) },
    );
}

/// Refuses a project and a bridge that are no compartment: the first apply would change what others share.
pub(super) fn adoptable(project: &Project, network: &Network) -> Result<(), Diagnostic> {
    let has = |feature: &str| project.config.get(feature).is_some_and(|flag| is_true(flag));
    let mut problems = Vec::new();
    for feature in ["features.profiles", "features.storage.volumes"] {
        if !has(feature) {
            problems.push(format!("    the project shares with others: {feature} is not true"));
        }
    }
    if has("features.networks") {
        problems.push("    the project has networks of its own: features.networks is true".to_owned());
    }
    if !network.managed || network.kind != "bridge" {
        problems.push(format!("    {} is not a bridge of Incus", network.name));
    }
    if network.config.get("ipv4.address").and_then(|address| Subnet::of_bridge(address)).is_none() {
        problems.push(format!("    {} has no IPv4 /24", network.name));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Diagnostic::error(
        Path::root(),
        "Unable to import domain: it is not a compartment",
        format!(
            "Nothing was changed. A domain has profiles and volumes of its own and a bridge with a /24:\n\n{}",
            problems.join("\n")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_places_the_changed_one_is_shown() {
        assert_eq!(of_both(Some("kept"), "kept", "changed"), "changed");
        assert_eq!(of_both(Some("kept"), "changed", "kept"), "changed");
        assert_eq!(of_both(Some("kept"), "kept", "kept"), "kept");
        assert_eq!(of_both(None, "first", "second"), "first");
    }

    #[test]
    fn nat_that_only_one_family_has_is_shown_as_a_change() {
        let network = |v4: &str, v6: &str, address: &str| Network {
            config: [("ipv4.nat", v4), ("ipv6.nat", v6), ("ipv6.address", address)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..Network::default()
        };
        let nat = |prior: bool, network: &Network| {
            let mut state = Value::object();
            network_state(&mut state, network, &Value::Map([("nat".to_owned(), prior.into())].into()));
            state.get("nat").as_bool()
        };
        assert_eq!(nat(true, &network("true", "false", "fd42::1/64")), Some(false));
        assert_eq!(nat(false, &network("false", "true", "fd42::1/64")), Some(true));
        assert_eq!(nat(true, &network("true", "false", "none")), Some(true));
    }
}
