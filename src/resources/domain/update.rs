//! Changing a domain in place; a piece that is missing is made again.

use super::body::Domain;
use super::create::{Maker, fingerprint, overlaps, pool};
use super::neighbours;
use super::plan::{IPV6, POOL, SUBNET};
use super::state::Pieces;
use super::subnet::{self, Subnet};
use super::{LIMIT, failed};
use crate::incus::{self, Client, instance, network, network::Network, project, project::Project};
use crate::plugin::{Call, Diagnostic, Diagnostics, Failure, Path, Stored, Update};
use crate::resources::marks::{self, Marks};
use crate::resources::session::Session;
use crate::resources::uid::{self, Uid};
use crate::resources::{meanwhile, refusal, timeouts};

/// What is written in whole, so that what others wrote there meanwhile would be lost.
const WATCHED: &[&str] = &["config", "network_config", "subnet", "force_destroy"];

pub(super) async fn update(session: &Session, call: &Call, input: Update) -> Result<Stored, Failure> {
    let uid = uid::expect(session, "domain", &input.prior, &input.private)?;
    let mut domain = Domain::from_value(&input.planned).map_err(|error| refusal::defect("the domain", error))?;
    domain.chosen_ipv6 = input.private.get(IPV6).map(str::to_owned);
    let domain = domain;
    let name = domain.name.as_str();
    let client = &session.client_until(&timeouts::of_stop(call)).await?;
    let wait = timeouts::wait(call, &input.planned, "update", LIMIT);
    let failure = |error: &incus::Error| Failure::from(failed("update", name, error));
    let there = Pieces::fetch(client, session, name).await.map_err(|error| failure(&error))?;
    there.refuse_strangers(&domain.name, &uid)?;
    if there.configs().any(|config| !uid.owns(config, None)) {
        return Err(refusal::stranger("domain", name).into());
    }
    let changes = |pieces: &Pieces| {
        let now = [&input.prior, &input.planned].map(|like| pieces.state(session, name, like));
        let mut changes = meanwhile::changes(&input, WATCHED, [&now[0], &now[1]]);
        for (attribute, places) in pieces.places(&input.prior) {
            changes.extend(meanwhile::in_places(&input, attribute, &places));
        }
        changes
    };
    let refused = changes(&there);
    if !refused.is_empty() {
        return Err(refused.into());
    }
    let marks = Marks::new(fingerprint(session, name, &input.planned, &input.prior)).of(&uid);
    let written = Uid::new(session.prefix(), &marks.incarnation);
    let maker = Maker { client, domain: &domain, marks: &marks, before: &there, wait: &wait };
    let pool = match &domain.storage_pool {
        Some(wanted) if input.prior.get("storage_pool").as_str() == Some(wanted) => wanted.clone(),
        wanted => pool(client, wanted.as_deref()).await?,
    };

    let (subnet, id) = match (&there.network, domain.subnet.as_deref().map(Subnet::parse)) {
        (Some(network), Some(Ok(subnet))) => {
            let current = network.config.get("ipv4.address").and_then(|address| Subnet::of_bridge(address));
            if current != Some(subnet) {
                clear_of_neighbours(client, &domain, subnet).await?;
            }
            if network.config.get("ipv4.address") != Some(&format!("{}/24", subnet.gateway())) {
                clear_of_instances(client, &domain, subnet).await?;
            }
            let mut refused = Diagnostics::default();
            let write = |network: &mut Network| {
                refused = match uid.owns(&network.config, None) {
                    true => changes(&Pieces { network: Some(network.clone()), ..there.clone() }),
                    false => refusal::stranger("bridge", &domain.bridge).into(),
                };
                let before = network.config.clone();
                if refused.is_empty() {
                    marks.write(&mut network.config);
                }
                refused.is_empty() && (domain.apply_network(network, subnet) | (before != network.config))
            };
            client.modify(network::get(&domain.bridge), write, &wait).await.map_err(|error| failure(&error))?;
            if !refused.is_empty() {
                return Err(refused.into());
            }
            (subnet, domain.subnet_id)
        }
        _ => {
            let _turn = session.domains.lock().await;
            let there = maker.bridge_there().await.map_err(|error| failure(&error))?;
            if there.as_ref().is_some_and(|bridge| !uid.owns(&bridge.config, None)) {
                return Err(refusal::stranger("bridge", &domain.bridge).into());
            }
            maker.bridge(session, there.as_ref()).await?
        }
    };
    let changed = async {
        if there.project.is_some() {
            let mut refused = Diagnostics::default();
            let write = |project: &mut Project| {
                refused = match uid.owns(&project.config, None) {
                    true => changes(&Pieces { project: Some(project.clone()), ..there.clone() }),
                    false => refusal::stranger("project", &domain.project).into(),
                };
                let before = project.config.clone();
                if refused.is_empty() {
                    marks.write(&mut project.config);
                }
                refused.is_empty() && (domain.apply_project(project, subnet, id) | (before != project.config))
            };
            client.modify(project::get(&domain.project), write, &wait).await.map_err(|error| failure(&error))?;
            if !refused.is_empty() {
                return Err(refused.into());
            }
        } else {
            maker.project(subnet, id).await?;
        }
        maker.profile(&pool).await.map_err(|error| failure(&error))?;
        Pieces::fetch(client, session, name).await.map_err(|error| failure(&error))
    };
    let pieces: Pieces = changed.await?;
    let mut state = pieces.state(session, name, &input.planned);
    state.set(uid::NAME, &written);
    let mut private = input.private;
    marks::written(session, &mut private);
    private.set(SUBNET, subnet.to_string());
    private.set(POOL, pool);
    match pieces.chosen_ipv6().filter(|_| domain.ipv6 == "auto") {
        Some(address) => private.set(IPV6, address),
        None => private.remove(IPV6),
    }
    Ok(Stored::new(state, private))
}

/// Refuses a subnet that overlaps with another network.
async fn clear_of_neighbours(client: &Client, domain: &Domain, to: Subnet) -> Result<(), Failure> {
    let taken =
        neighbours::taken(client, &domain.bridge).await.map_err(|error| failed("update", &domain.name, &error))?;
    match subnet::overlap(to, &taken) {
        Some(other) => Err(overlaps(to, other).into()),
        None => Ok(()),
    }
}

/// Refuses a subnet that leaves static addresses outside, or whose gateway is one of them: no such instance could start.
async fn clear_of_instances(client: &Client, domain: &Domain, to: Subnet) -> Result<(), Failure> {
    let instances = client
        .get::<Vec<instance::Instance>>(instance::list(&domain.project))
        .await
        .map_err(|error| failed("update", &domain.name, &error))?
        .value;
    let lines = in_the_way(&instances, &domain.bridge, to);
    if lines.is_empty() {
        return Ok(());
    }
    Err(Diagnostic::error(
        Path::from("subnet"),
        "Static addresses in the way of the new one",
        format!(
            "The bridge would move to {} in {to}, and these instances could not start any more:\n\n{}\n\nUnset their `ipv4_address` and apply, then apply this change, then set other addresses of the `static_range`.",
            to.gateway(),
            lines.join("\n")
        ),
    )
    .into())
}

/// Instances with a static address on `bridge` outside of `to`, or with that of its gateway; a line each.
fn in_the_way(instances: &[instance::Instance], bridge: &str, to: Subnet) -> Vec<String> {
    let lines = instances.iter().flat_map(|instance| {
        instance.expanded_devices.values().filter_map(|device| {
            let on_bridge = device.get("network").is_some_and(|network| network == bridge);
            let address = device.get("ipv4.address").filter(|_| on_bridge)?;
            let parsed: std::net::Ipv4Addr = address.parse().ok()?;
            let fits = to.net().contains(&parsed) && parsed != to.gateway();
            (!fits).then(|| format!("    {} has {address}", instance.name))
        })
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_addresses_outside_or_on_the_gateway_are_in_the_way() {
        let with = |address: &str| {
            let nic = [("network", "net-pro"), ("ipv4.address", address)];
            let nic = nic.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            instance::Instance {
                name: address.to_owned(),
                expanded_devices: [("eth0".to_owned(), nic)].into(),
                ..instance::Instance::default()
            }
        };
        let all = ["10.110.0.7", "10.110.0.254", "10.111.0.7"].map(with);
        let to = Subnet::parse("10.110.0.0/24").unwrap();
        let lines = in_the_way(&all, "net-pro", to);
        assert_eq!(lines, ["    10.110.0.254 has 10.110.0.254", "    10.111.0.7 has 10.111.0.7"]);
        assert!(in_the_way(&all, "net-other", to).is_empty());
    }
}
