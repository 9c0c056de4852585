//! The root disk in another pool, by a copy of our own under an interim name. Incus' own move deletes the instance before
//! the copy has its name: of what a daemon leaves that is killed in between nobody knows which is whole (6.0 to 7.3).

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::body::PROTECTION;
use super::target::Target;
use super::update::Unconverged;
use crate::incus::instance::{self, Instance, Kind, Source, is_root};
use crate::incus::operation::Operation;
use crate::incus::{Devices, Error, Wait};
use crate::plugin::{Diagnostic, Path};
use crate::resources::uid::Uid;
use crate::resources::{keys, marks};

/// The key that Incus writes on a copy once it is whole (6.0 to 7.3); a copy that we ask for has it from nowhere else.
const WHOLE: &str = "volatile.apply_template";
/// How long taking a copy away may take: its own time, the call's may be over.
const DISCARD: Duration = Duration::from_secs(60);

/// Moves the root disk of a stopped instance; snapshots, keys and MAC addresses stay. What an interrupted move left is
/// taken up.
///
/// # Errors
///
/// Whatever Incus refuses; that somebody started or changed it meanwhile. The instance stands as it was then.
pub(super) async fn relocate(target: &Target<'_>, pool: &str, uid: &Uid, wait: &Wait) -> Result<(), Unconverged> {
    let (client, interim) = (target.client, target.interim());
    let is_ours = |found: &Instance| uid.owns(&found.config, found.uuid());
    settle(target, wait).await?;
    let found = client.get::<Instance>(instance::get(&target.project, &target.name)).await?.value;
    let copy = interim.fetch().await?.filter(|copy| uid.has_mark_of(&copy.config));
    let is_whole = |copy: &Instance| copy.config.contains_key(WHOLE) && found.last_used_at() < copy.created_at();
    if !copy.as_ref().is_some_and(is_whole) {
        if copy.is_some() {
            discard(&interim, wait).await?;
        }
        let request = instance::create(&interim.project, &copied(&found, &interim.name, pool));
        if let Err(error) = client.run(request, wait).await {
            abandon(target).await;
            return Err(error.into());
        }
    }
    let complete = |copy: &mut Instance| {
        let before = copy.config.clone();
        keys::put(&mut copy.config, PROTECTION, found.config.get(PROTECTION).cloned());
        marks::write_moved(&mut copy.config, &found.config);
        if let Some(template) = found.config.get(WHOLE) {
            copy.config.insert(WHOLE.to_owned(), template.clone());
        }
        copy.config != before
    };
    interim.modify(complete, wait).await?;
    let mut is_same = false;
    let release = |now: &mut Instance| {
        is_same = now.is_stopped()
            && now.last_used_at() == found.last_used_at()
            && (&now.config, &now.devices, &now.profiles, &now.description)
                == (&found.config, &found.devices, &found.profiles, &found.description);
        is_same && now.config.insert(PROTECTION.to_owned(), "false".to_owned()).as_deref() == Some("true")
    };
    target.modify(release, wait).await?;
    if !is_same {
        abandon(target).await;
        return Err(Unconverged::Meanwhile(meanwhile(target).into()));
    }
    if let Err(error) = client.delete_instance(&target.project, &target.name, is_ours, wait).await {
        let brief = Wait::afterwards();
        let protection = found.config.get(PROTECTION).map(String::as_str);
        if let Err(error) = target.put(PROTECTION, protection, &brief).await {
            tracing::warn!(instance = %target.name, %error, "not protected again");
        }
        return Err(error.into());
    }
    let devices = in_pool(&found, pool);
    interim.modify(|copy| std::mem::replace(&mut copy.devices, devices.clone()) != devices, wait).await?;
    client.run(instance::rename(&interim.project, &interim.name, &target.name), wait).await?;
    Ok(())
}

/// Waits until nothing is copied any more.
async fn settle(target: &Target<'_>, wait: &Wait) -> Result<(), Error> {
    let requests = [&target.name, &target.interim().name].map(|name| instance::get(&target.project, name));
    let concerns = |operation: &Operation| requests.iter().any(|request| operation.names(request));
    target.client.settle(&target.project, concerns, wait).await
}

/// Takes away the copy that is not needed, whatever ended the call: while it stands the instance does not start, as both
/// have one MAC address.
async fn abandon(target: &Target<'_>) {
    let brief = Wait::within(DISCARD, CancellationToken::new());
    let gone = async {
        settle(target, &brief).await?;
        discard(&target.interim(), &brief).await
    };
    if let Err(error) = gone.await {
        tracing::warn!(instance = %target.name, %error, "the copy for a move was not deleted");
    }
}

async fn discard(interim: &Target<'_>, wait: &Wait) -> Result<(), Error> {
    match interim.put(PROTECTION, Some("false"), wait).await {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    interim.client.delete_instance(&interim.project, &interim.name, |_| true, wait).await
}

/// The devices of the instance with its root disk in `pool`.
fn in_pool(found: &Instance, pool: &str) -> Devices {
    let mut devices = found.devices.clone();
    if let Some((root, device)) = found.expanded_devices.iter().find(|(_, device)| is_root(device)) {
        let mut device = device.clone();
        device.insert("pool".to_owned(), pool.to_owned());
        devices.insert(root.clone(), device);
    }
    devices
}

/// The instance once more, with its root disk in `pool`; unprotected, so that it can go where it is not whole. A block
/// volume is of one machine at a time.
fn copied(found: &Instance, name: &str, pool: &str) -> instance::Create {
    let mut config = found.config.clone();
    config.remove(WHOLE);
    // What is left out Incus takes from the instance.
    config.insert(PROTECTION.to_owned(), "false".to_owned());
    let mut devices = in_pool(found, pool);
    for (name, device) in &found.expanded_devices {
        let is_volume = device.get("type").is_some_and(|kind| kind == "disk") && device.contains_key("pool");
        if found.kind == Kind::VirtualMachine && is_volume && !is_root(device) {
            devices.insert(name.clone(), [("type".to_owned(), "none".to_owned())].into());
        }
    }
    instance::Create {
        name: name.to_owned(),
        kind: found.kind,
        description: found.description.clone(),
        source: Source::Copy { source: found.name.clone() },
        config,
        devices,
        profiles: found.profiles.clone(),
        ephemeral: found.ephemeral,
        start: false,
    }
}

fn meanwhile(target: &Target<'_>) -> Diagnostic {
    Diagnostic::error(
        Path::from("root_disk"),
        "Unable to move the root disk: the instance was changed meanwhile",
        format!(
            "Somebody started or changed \"{}\" while its root disk was copied, so that the copy is not what it has now. It stays in \
             its pool. Plan again.",
            target.shown.1
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_copy_has_everything_but_the_pool_the_protection_and_block_volumes() {
        let found: Instance = serde_json::from_value(json!({
            "name": "web", "type": "virtual-machine", "description": "d", "profiles": ["default"], "devices": {"eth0": {"type": "nic"}},
            "expanded_devices": {"eth0": {"type": "nic"}, "root": {"type": "disk", "path": "/", "pool": "slow", "size": "1GiB"},
                "disk": {"type": "disk", "pool": "slow", "source": "block"}},
            "config": {"volatile.uuid": "u", "security.protection.delete": "true", "volatile.apply_template": "create"}
        }))
        .unwrap();
        assert_eq!(
            serde_json::to_value(copied(&found, "other", "fast")).unwrap(),
            json!({
                "name": "other", "type": "virtual-machine", "description": "d", "profiles": ["default"], "ephemeral": false,
                "source": {"type": "copy", "source": "web"}, "config": {"volatile.uuid": "u", "security.protection.delete": "false"},
                "devices": {"eth0": {"type": "nic"}, "root": {"type": "disk", "path": "/", "pool": "fast", "size": "1GiB"},
                    "disk": {"type": "none"}}
            })
        );
    }
}
