//! What only the server knows, told in words that help: an address that is taken, a pool or an image that is not there.

use super::body::{Device, Inherited, Model, NIC};
use super::target::Target;
use crate::incus::instance::Source;
use crate::incus::{Error, image, storage};
use crate::plugin::{Diagnostic, Path};
use crate::resources::{refusal, similar};

/// Looks for another instance that has the static address of `model`. Incus 6.0.4 would find it at the start only, and
/// leave an instance that cannot start. One request, and only where an address is configured.
///
/// # Errors
///
/// The holder, at `ipv4_address`.
pub(super) async fn address(target: &Target<'_>, model: &Model, inherited: &Inherited) -> Result<(), Diagnostic> {
    let Some(address) = &model.ipv4_address else { return Ok(()) };
    let devices = model.devices(inherited);
    let network = devices.get(NIC).and_then(|nic: &Device| nic.get("network"));
    let Some(network) = network else { return Ok(()) };
    // A client that may not see the network learns it from Incus.
    let Ok(leases) = target.client.leases(network, &target.project).await else { return Ok(()) };
    let holder = leases
        .iter()
        .find(|lease| lease.kind == "static" && lease.address == *address && lease.hostname != target.name);
    match holder {
        None => Ok(()),
        Some(lease) => Err(Diagnostic::error(
            Path::from("ipv4_address"),
            "Unable to create instance: the address is taken",
            format!(
                "The instance \"{}\" has the address {address}. Choose a free one of the domain's `static_range`; nothing was made.",
                lease.hostname
            ),
        )),
    }
}

/// The storage pool is not there: with those that are.
pub(super) async fn no_pool(target: &Target<'_>, model: &Model, error: &Error) -> Diagnostic {
    let pools = target.client.get::<Vec<storage::Pool>>(storage::pools()).await.map(|found| found.value);
    let names: Vec<_> = pools.iter().flatten().map(|pool| pool.name.as_str()).collect();
    let wanted = model.root_disk.as_ref().and_then(|disk| disk.pool.as_deref());
    let (at, what) = match wanted {
        Some(wanted) => ("root_disk", format!("`root_disk.pool` names \"{wanted}\", which is no storage pool.")),
        None => ("devices", "A disk is on a storage pool that does not exist.".to_owned()),
    };
    Diagnostic::error(
        Path::from(at),
        "Unable to create instance: no such storage pool",
        format!("{what} There are: {}.\n\n{}", names.join(", "), refusal::causes(error)),
    )
}

/// The image is not there: with the aliases that may have been meant.
pub(super) async fn no_image(target: &Target<'_>, model: &Model, source: &Source, error: &Error) -> Diagnostic {
    let wanted = model.image.as_deref().unwrap_or_default();
    let advice = match source {
        Source::Remote { server, .. } => {
            format!("{server} has no image \"{wanted}\" for this type of instance and architecture.")
        }
        _ => {
            let aliases = target.client.get::<Vec<image::Alias>>(image::aliases(&target.project)).await;
            let aliases = aliases.map(|found| found.value).unwrap_or_default();
            let similar = similar::nearest(wanted, aliases.iter().map(|alias| alias.name.as_str()));
            let hint =
                if similar.is_empty() { String::new() } else { format!(" Did you mean {}?", similar.join(", ")) };
            format!(
                "The Incus server has no image \"{wanted}\".{hint} For the public server write \"images:{wanted}\"; these are on your own:\n\n    incus image alias list"
            )
        }
    };
    Diagnostic::error(
        Path::from("image"),
        "Unable to create instance: no such image",
        format!("{advice}\n\n{}", refusal::causes(error)),
    )
}
