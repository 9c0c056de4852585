//! The root disk in another pool, by a copy of our own under an interim name. Incus' own move deletes the instance before
//! the copy has its name: of what a daemon leaves that is killed in between nobody knows which is whole (6.0 to 7.3).

use super::body::PROTECTION;
use super::target::Target;
use super::update::Unconverged;
use crate::incus::Wait;
use crate::incus::instance::{self, Instance, Source, is_root};
use crate::incus::operation::Operation;
use crate::plugin::{Diagnostics, Path, Private};
use crate::resources::marks;

/// The mark of an instance whose copy is whole: it is being deleted.
const MOVED: &str = "moved";

/// Moves the root disk of a stopped instance; snapshots, keys and MAC addresses stay. What an interrupted move left is
/// taken up.
///
/// # Errors
///
/// Whatever Incus refuses; that it was started meanwhile.
pub(super) async fn relocate(
    target: &Target<'_>,
    pool: &str,
    private: &Private,
    wait: &Wait,
) -> Result<(), Unconverged> {
    let (client, interim) = (target.client, target.interim());
    let requests = [target, &interim].map(|target| instance::get(&target.project, &target.name));
    let concerns = |operation: &Operation| requests.iter().any(|request| operation.names(request));
    client.settle(&target.project, concerns, wait).await?;
    let found = client.get::<Instance>(requests[0].clone()).await?.value;
    let copy = interim.fetch().await?.filter(|copy| marks::same_incarnation(&copy.config, private));
    let is_whole = |copy: &Instance| {
        marks::read_stored(&found.config, MOVED).is_some() && found.last_used_at() < copy.created_at()
    };
    if !copy.as_ref().is_some_and(is_whole) {
        if copy.is_some() {
            client.delete_instance(&interim.project, &interim.name, wait).await?;
        }
        client.run(instance::create(&interim.project, &copied(&found, &interim.name, pool)), wait).await?;
    }
    let mut started = false;
    let mark = |now: &mut Instance| {
        started = !now.is_stopped() || now.last_used_at() != found.last_used_at();
        if started {
            return false;
        }
        now.config.insert(PROTECTION.to_owned(), "false".to_owned());
        now.config.insert(marks::stored(MOVED), "true".to_owned());
        true
    };
    target.modify(mark, wait).await?;
    if started {
        client.delete_instance(&interim.project, &interim.name, wait).await?;
        return Err(Unconverged::Meanwhile(started_meanwhile(target)));
    }
    client.delete_instance(&target.project, &target.name, wait).await?;
    interim.put(PROTECTION, found.config.get(PROTECTION).map(String::as_str), wait).await?;
    client.run(instance::rename(&interim.project, &interim.name, &target.name), wait).await?;
    Ok(())
}

/// The instance once more, with its root disk in `pool`; unprotected, so that it can go where it is not whole.
fn copied(found: &Instance, name: &str, pool: &str) -> instance::Create {
    let mut config = found.config.clone();
    // What is left out Incus takes from the instance.
    config.insert(PROTECTION.to_owned(), "false".to_owned());
    config.remove(&marks::stored(MOVED));
    let mut devices = found.devices.clone();
    if let Some((root, device)) = found.expanded_devices.iter().find(|(_, device)| is_root(device)) {
        let mut device = device.clone();
        device.insert("pool".to_owned(), pool.to_owned());
        devices.insert(root.clone(), device);
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

fn started_meanwhile(target: &Target<'_>) -> Diagnostics {
    let mut told = Diagnostics::default();
    told.error(
        Path::from("root_disk"),
        "Unable to move the root disk: the instance was started meanwhile",
        format!(
            "Somebody started \"{}\" while its root disk was copied, so that the copy is not what it has now. It stays in its pool. \
             Apply again.",
            target.shown.1
        ),
    );
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_copy_has_everything_but_the_pool_and_the_protection() {
        let found: Instance = serde_json::from_value(json!({
            "name": "web", "type": "virtual-machine", "description": "d", "profiles": ["default"], "devices": {"eth0": {"type": "nic"}},
            "expanded_devices": {"eth0": {"type": "nic"}, "root": {"type": "disk", "path": "/", "pool": "slow", "size": "1GiB"}},
            "config": {"volatile.uuid": "u", "security.protection.delete": "true", "user.anklume.moved": "true"}
        }))
        .unwrap();
        assert_eq!(
            serde_json::to_value(copied(&found, "other", "fast")).unwrap(),
            json!({
                "name": "other", "type": "virtual-machine", "description": "d", "profiles": ["default"], "ephemeral": false,
                "source": {"type": "copy", "source": "web"}, "config": {"volatile.uuid": "u", "security.protection.delete": "false"},
                "devices": {"eth0": {"type": "nic"}, "root": {"type": "disk", "path": "/", "pool": "fast", "size": "1GiB"}}
            })
        );
    }
}
