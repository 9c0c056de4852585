//! What only the server knows, told in words that help: an address that is taken, a pool or an image that is not there.

use super::body::{Device, Inherited, Model, NIC, ROOT};
use super::target::Target;
use crate::incus::instance::Source;
use crate::incus::project::{self, Project};
use crate::incus::volume::{self, Volume};
use crate::incus::{Error, Refusal, image, storage};
use crate::plugin::{Diagnostic, Path};
use crate::resources::{pool, refusal, similar};

/// Looks for another instance that has the static address of `model`. Incus 6.0.4 would find it at the start only, and
/// leave an instance that cannot start. One request, and only where an address is configured.
///
/// # Errors
///
/// The holder, at `ipv4_address`.
pub(super) async fn address(
    verb: &str,
    target: &Target<'_>,
    model: &Model,
    inherited: &Inherited,
) -> Result<(), Diagnostic> {
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
            format!("Unable to {verb} instance: the address is taken"),
            format!(
                "The instance \"{}\" has the address {address}. Choose a free one of the domain's `static_range`; nothing was {}.",
                lease.hostname,
                if verb == "create" { "made" } else { "changed" }
            ),
        )),
    }
}

/// The devices of the profiles, of which an overridden one is a copy. Asked only where one is.
///
/// # Errors
///
/// Profiles that do not exist; no `eth0` for a static address; nothing that says where the root disk shall be.
pub(super) async fn inherited(verb: &str, target: &Target<'_>, model: &Model) -> Result<Inherited, Diagnostic> {
    let inherited = match target.inherited(&model.profiles()).await {
        Ok(inherited) => inherited,
        Err(error) => return Err(explain(verb, target, model, &error).await),
    };
    if !inherited.missing.is_empty() {
        return Err(missing(verb, target, model, &inherited.missing, None).await);
    }
    if model.ipv4_address.is_some() && !inherited.has_nic() {
        return Err(no_nic(verb, model));
    }
    if let Some(disk) = &model.root_disk {
        match inherited.root() {
            Some((ROOT, _)) => {}
            Some((other, _)) => return Err(other_root(verb, other)),
            None if disk.pool.is_some() => {}
            None => return Err(no_root(verb, target, model).await),
        }
    }
    Ok(inherited)
}

/// Says for each volume without a pool that it is in the domain's.
///
/// # Errors
///
/// At `volumes`: where that cannot be told.
pub(super) async fn place(target: &Target<'_>, model: &mut Model) -> Result<(), Diagnostic> {
    let mut unplaced = model.volumes.iter_mut().flatten().map(|(_, attached)| attached);
    let mut unplaced: Vec<_> =
        unplaced.by_ref().filter(|attached| attached.volume.is_some() && attached.pool.is_none()).collect();
    if unplaced.is_empty() {
        return Ok(());
    }
    let pool = pool::choose(target.client, &target.project, "volumes".into()).await?;
    unplaced.iter_mut().for_each(|attached| attached.pool = Some(pool.clone()));
    Ok(())
}

/// The first of `volumes` that is not there, with those that may have been meant.
async fn no_volume(verb: &str, target: &Target<'_>, model: &Model, error: &Error) -> Option<Diagnostic> {
    for (key, attached) in model.volumes.iter().flatten() {
        let (Some(name), Some(pool)) = (&attached.volume, &attached.pool) else { continue };
        let Ok(None) = target.client.find::<Volume>(volume::get(&target.project, pool, name)).await else { continue };
        let known = target.client.get::<Vec<Volume>>(volume::list(&target.project, pool)).await;
        let known = known.map(|found| found.value).unwrap_or_default();
        let similar = similar::nearest(name, known.iter().map(|volume| volume.name.as_str()));
        let hint = if similar.is_empty() { String::new() } else { format!(" Did you mean {}?", quoted(similar)) };
        return Some(Diagnostic::error(
            Path::from("volumes").key(key.as_str()).attribute("volume"),
            format!("Unable to {verb} instance: no such volume"),
            format!(
                "The domain \"{}\" has no volume \"{name}\" in the pool \"{pool}\".{hint} Refer to a volume of this configuration as \
                 `anklume_volume.<name>.name`, so that it is made first.\n\n{}",
                model.domain,
                refusal::causes(error)
            ),
        ));
    }
    None
}

fn no_nic(verb: &str, model: &Model) -> Diagnostic {
    Diagnostic::error(
        Path::from("ipv4_address"),
        format!("Unable to {verb} instance: no `eth0` for the address"),
        format!(
            "No profile of the list ({}) has a network interface `eth0`. Add one that has, such as \"default\"; or remove \
             `ipv4_address` and write the device, with the address in it:\n\n    \
             devices = {{ eth0 = {{ type = \"nic\", network = \"...\", name = \"eth0\", \"ipv4.address\" = \"{}\" }} }}",
            quoted(model.profiles().iter().map(String::as_str)),
            model.ipv4_address.as_deref().unwrap_or_default()
        ),
    )
}

fn other_root(verb: &str, device: &str) -> Diagnostic {
    Diagnostic::error(
        Path::from("root_disk"),
        format!("Unable to {verb} instance: the root disk has another name"),
        format!(
            "`root_disk` stands for the device `root`, and the root disk of the profiles is `{device}`; an instance has one. \
             Remove `root_disk` and write the whole device in `devices.{device}`."
        ),
    )
}

async fn no_root(verb: &str, target: &Target<'_>, model: &Model) -> Diagnostic {
    Diagnostic::error(
        Path::from("root_disk"),
        format!("Unable to {verb} instance: no storage pool for the root disk"),
        format!(
            "No profile of the list ({}) has a root disk. Add one that has, such as \"default\", or set `root_disk.pool`. There are: {}.",
            quoted(model.profiles().iter().map(String::as_str)),
            pools(target).await.join(", ")
        ),
    )
}

fn quoted<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("\"{name}\"")).collect();
    if names.is_empty() { "it is empty".to_owned() } else { names.join(", ") }
}

/// The diagnostic of a request that failed: Incus answers alike whether the domain, a profile or something that a device
/// names is missing, so this looks.
pub(super) async fn explain(verb: &str, target: &Target<'_>, model: &Model, error: &Error) -> Diagnostic {
    match error.refusal() {
        Some(Refusal::NotFound | Refusal::ProfileNotFound) => {
            let missing_profiles = match target.inherited(&model.profiles()).await {
                Ok(inherited) => inherited.missing,
                Err(_) => Vec::new(),
            };
            let gone = !missing_profiles.is_empty() || no_project(target).await;
            if gone {
                missing(verb, target, model, &missing_profiles, Some(error)).await
            } else {
                target.failed(verb, error)
            }
        }
        Some(Refusal::VolumeNotFound) => {
            no_volume(verb, target, model, error).await.unwrap_or_else(|| target.failed(verb, error))
        }
        Some(Refusal::PoolNotFound) => no_pool(verb, target, model, error).await,
        _ => target.failed(verb, error),
    }
}

async fn no_project(target: &Target<'_>) -> bool {
    matches!(target.client.find::<Project>(project::get(&target.project)).await, Ok(None))
}

/// The domain is not there, or it has no such profiles: with those that may have been meant.
async fn missing(
    verb: &str,
    target: &Target<'_>,
    model: &Model,
    profiles: &[String],
    error: Option<&Error>,
) -> Diagnostic {
    let causes = error.map(|error| format!("\n\n{}", refusal::causes(error))).unwrap_or_default();
    let domain = &model.domain;
    if no_project(target).await {
        return Diagnostic::error(
            Path::from("domain"),
            format!("Unable to {verb} instance: no such domain"),
            format!(
                "There is no domain \"{domain}\" to make \"{}\" in. Refer to it as `anklume_domain.<name>.name`, so that it is made first.{causes}",
                model.name
            ),
        );
    }
    let known = target.client.read_profiles(&target.project).await.unwrap_or_default();
    let told: Vec<_> = profiles
        .iter()
        .map(|wanted| {
            let similar = similar::nearest(wanted, known.iter().map(|profile| profile.name.as_str()));
            let hint = if similar.is_empty() { String::new() } else { format!(" Did you mean {}?", quoted(similar)) };
            format!("The domain \"{domain}\" has no profile \"{wanted}\".{hint}")
        })
        .collect();
    Diagnostic::error(
        Path::from("profiles"),
        format!("Unable to {verb} instance: no such profile"),
        format!(
            "{} Refer to a profile of this configuration as `anklume_profile.<name>.name`, so that it is made first.{causes}",
            told.join(" ")
        ),
    )
}

/// The names of all storage pools; none where they cannot be read.
async fn pools(target: &Target<'_>) -> Vec<String> {
    let found = target.client.get::<Vec<storage::Pool>>(storage::pools()).await;
    found.map(|found| found.value.into_iter().map(|pool| pool.name).collect()).unwrap_or_default()
}

/// The storage pool is not there: with those that are.
async fn no_pool(verb: &str, target: &Target<'_>, model: &Model, error: &Error) -> Diagnostic {
    let names = pools(target).await;
    let wanted = model.root_disk.as_ref().and_then(|disk| disk.pool.as_deref());
    let (at, what) = match wanted.filter(|wanted| names.iter().all(|name| name != wanted)) {
        Some(wanted) => ("root_disk", format!("`root_disk.pool` names \"{wanted}\", which is no storage pool.")),
        None => ("devices", "A disk is on a storage pool that does not exist.".to_owned()),
    };
    Diagnostic::error(
        Path::from(at),
        format!("Unable to {verb} instance: no such storage pool"),
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
