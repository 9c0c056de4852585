//! Changing a domain in place; a piece that is missing is made again.

use super::body::Domain;
use super::create::{Maker, overlaps, pool};
use super::neighbours;
use super::plan::{POOL, SUBNET};
use super::state::Pieces;
use super::subnet::{self, Subnet};
use super::{KIND, LIMIT, failed};
use crate::incus::{self, Client, instance, network, network::Network, project, project::Project};
use crate::plugin::{Call, Diagnostic, Failure, Path, Stored, Update};
use crate::resources::marks::{self, Marks};
use crate::resources::session::Session;
use crate::resources::{refusal, timeouts};

pub(super) async fn update(session: &Session, call: &Call, input: Update) -> Result<Stored, Failure> {
    refusal::same_prefix(input.private.get("prefix"), session.prefix())?;
    let domain = Domain::from_value(&input.planned).map_err(|error| refusal::defect("the domain", error))?;
    let name = domain.name.as_str();
    let client = &session.client_until(&timeouts::of_stop(call)).await?;
    let wait = timeouts::wait(call, &input.planned, "update", LIMIT);
    let failure = |error: &incus::Error| Failure::from(failed("update", name, error));
    let there = Pieces::fetch(client, session, name).await.map_err(|error| failure(&error))?;
    let marks = kept_marks(session, &there, &input);
    let maker = Maker { client, domain: &domain, marks: &marks, wait: &wait };
    let pool = match &domain.storage_pool {
        Some(wanted) if input.prior.get("storage_pool").as_str() == Some(wanted) => wanted.clone(),
        wanted => pool(client, wanted.as_deref()).await?,
    };

    let (subnet, id) = match (&there.network, domain.subnet.as_deref().map(Subnet::parse)) {
        (Some(network), Some(Ok(subnet))) => {
            let current = network.config.get("ipv4.address").and_then(|address| Subnet::of_bridge(address));
            if current != Some(subnet) {
                may_move(client, &domain, subnet).await?;
            }
            let write = |network: &mut Network| domain.apply_network(network, subnet);
            client.modify(network::get(&domain.bridge), write, &wait).await.map_err(|error| failure(&error))?;
            (subnet, domain.subnet_id)
        }
        _ => {
            let _turn = session.domains.lock().await;
            let there = maker.bridge_there().await.map_err(|error| failure(&error))?;
            maker.bridge(session, there.as_ref()).await?
        }
    };
    let changed = async {
        if there.project.is_some() {
            let write = |project: &mut Project| domain.apply_project(project, subnet, id);
            client.modify(project::get(&domain.project), write, &wait).await?;
        } else {
            maker.project(false, subnet, id).await?;
        }
        maker.profile(&pool).await?;
        Pieces::fetch(client, session, name).await
    };
    let pieces = changed.await.map_err(|error| failure(&error))?;
    let state = pieces.state(session, name, &input.planned);
    let mut private = input.private;
    private.set(SUBNET, subnet.to_string());
    private.set(POOL, pool);
    Ok(Stored::new(state, private))
}

/// The marks of what is there; new ones only where a piece has to be made again.
fn kept_marks(session: &Session, there: &Pieces, input: &Update) -> Marks {
    let config =
        there.project.as_ref().map(|project| &project.config).or(there.network.as_ref().map(|network| &network.config));
    let kept = |key: &str| config.and_then(|config| config.get(key)).cloned();
    let name = input.planned.get("name").as_str().unwrap_or_default();
    let mut marks = Marks::new(
        kept(marks::FINGERPRINT).unwrap_or_else(|| marks::fingerprint(session.owner(), KIND, name, &input.config, &[])),
    );
    if let Some(incarnation) = input.private.get("incarnation").filter(|text| !text.is_empty()) {
        marks.incarnation = incarnation.to_owned();
    }
    marks
}

/// Refuses a subnet that overlaps with another network, or that leaves static addresses outside.
async fn may_move(client: &Client, domain: &Domain, to: Subnet) -> Result<(), Failure> {
    let failure = |error: &incus::Error| Failure::from(failed("update", &domain.name, error));
    let taken = neighbours::taken(client, &domain.bridge).await.map_err(|error| failure(&error))?;
    if let Some(other) = subnet::overlap(to, &taken) {
        return Err(overlaps(to, other).into());
    }
    let instances = client
        .get::<Vec<instance::Instance>>(instance::list(&domain.project))
        .await
        .map_err(|error| failure(&error))?
        .value;
    let outside: Vec<_> = instances
        .iter()
        .flat_map(|instance| {
            instance.expanded_devices.values().filter_map(|device| {
                let on_bridge = device.get("network") == Some(&domain.bridge);
                let address = device.get("ipv4.address").filter(|_| on_bridge)?;
                let outside = address.parse().is_ok_and(|address: std::net::Ipv4Addr| !to.net().contains(&address));
                outside.then(|| format!("    {} has {address}", instance.name))
            })
        })
        .collect();
    if outside.is_empty() {
        return Ok(());
    }
    Err(Diagnostic::error(
        Path::from("subnet"),
        "Static addresses outside of the new subnet",
        format!(
            "The domain would move to {to}, and these instances could not start any more:\n\n{}\n\nUnset their `ipv4_address` and apply, then change the subnet and apply, then set addresses of the new subnet.",
            outside.join("\n")
        ),
    )
    .into())
}
