//! Whether a neighbour can take the address of an endpoint.

use std::collections::BTreeSet;

use crate::incus::Client;
use crate::plugin::{Diagnostics, Path, Value};
use crate::resources::session::Session;

/// What keeps an instance at its own IPv4 address.
const FILTERS: [&str; 2] = ["security.mac_filtering", "security.ipv4_filtering"];

/// Warns of endpoints in domains that are there and let their instances take any address. What cannot be read says
/// nothing. Costs one request for each domain with endpoints.
pub(super) async fn warn(session: &Session, client: &Client, values: &Value, warnings: &mut Diagnostics) {
    let endpoints = || values.get("endpoints").as_map().into_iter().flatten();
    let domains: BTreeSet<_> = endpoints().filter_map(|(_, endpoint)| endpoint.get("domain").as_str()).collect();
    for domain in domains {
        let Ok(Some(profile)) = client.read_profile(&session.project(domain), "default").await else { continue };
        let Some(eth0) = profile.devices.get("eth0") else { continue };
        if FILTERS.iter().all(|key| eth0.get(*key).is_some_and(|value| value == "true")) {
            continue;
        }
        let names = endpoints().filter(|(_, endpoint)| endpoint.get("domain").as_str() == Some(domain));
        let names: Vec<_> = names.map(|(name, _)| format!("{name:?}")).collect();
        warnings.warning(
            Path::from("endpoints"),
            "A neighbour can take the address of an endpoint",
            format!(
                "The domain \"{domain}\" has no `nic_filtering`, so each of its instances can take the address of {} and what policies \
                 allow it. Set `nic_filtering = true` in the domain.",
                names.join(", ")
            ),
        );
    }
}
