//! Which networks there are already: Incus' own, and those of the host.

use futures_util::future::try_join_all;
use ipnet::Ipv4Net;

use super::subnet::Taken;
use crate::incus::{self, Client, network, network::Network};
use crate::resources::marks;

/// Networks that may hold an address of the host's; loopback does not. `unknown` is what Incus calls tunnels (WireGuard,
/// tun) and the ends of containers' pairs.
const HOST_KINDS: [&str; 6] = ["physical", "bridge", "bond", "vlan", "infiniband", "unknown"];

/// The IPv4 networks on the Incus host but for `own`: managed ones from their configuration, the host's from their
/// interfaces. Costs one request, and one per interface of the host.
///
/// # Errors
///
/// As [`Client::get`].
pub(super) async fn taken(client: &Client, own: &str) -> Result<Vec<Taken>, incus::Error> {
    let networks = client.get::<Vec<Network>>(network::list()).await?.value;
    let mut taken = managed(&networks, own);
    let host = networks.iter().filter(|network| {
        !network.managed && HOST_KINDS.contains(&network.kind.as_str()) && !network.name.starts_with("veth")
    });
    let states = try_join_all(host.map(|interface| async move {
        match client.get::<network::State>(network::state(&interface.name)).await {
            Ok(state) => Ok((interface.name.clone(), state.value)),
            // An interface may go between the list and this.
            Err(error) if error.is_not_found() => Ok((interface.name.clone(), network::State::default())),
            Err(error) => Err(error),
        }
    }))
    .await?;
    for (holder, state) in states {
        taken.extend(state.addresses.iter().filter(|address| address.family == "inet").filter_map(|address| {
            let net: Ipv4Net = format!("{}/{}", address.address, address.netmask).parse().ok()?;
            Some(Taken { holder: holder.clone(), net: net.trunc(), is_marked: false })
        }));
    }
    Ok(taken)
}

/// The IPv4 networks of managed networks but for `own`.
pub(super) fn managed(networks: &[Network], own: &str) -> Vec<Taken> {
    networks
        .iter()
        .filter(|network| network.managed && network.name != own)
        .filter_map(|network| {
            let net: Ipv4Net = network.config.get("ipv4.address")?.parse().ok()?;
            let is_marked = !marks::carried(&network.config).is_empty();
            Some(Taken { holder: network.name.clone(), net: net.trunc(), is_marked })
        })
        .collect()
}
