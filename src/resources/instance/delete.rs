//! Deleting an instance: gracefully, then by force, tolerant of what is gone.

use std::time::Duration;

use super::KIND;
use super::read;
use super::target::{self, Target, names};
use crate::incus::instance::Instance;
use crate::incus::volume::{self, Volume};
use crate::incus::{Error, Refusal, is_true};
use crate::plugin::{Call, Diagnostic, Failure, Path, Stored};
use crate::resources::session::Session;
use crate::resources::{keys, marks, refusal, timeouts, uid};

const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Deletes an instance, and no other one of its name.
pub(super) async fn delete(session: &Session, call: &Call, prior: Stored) -> Result<(), Failure> {
    let uid = uid::expect(session, "instance", &prior.state, &prior.private)?;
    let client = &session.client_until(&timeouts::of_stop(call)).await?;
    let wait = timeouts::wait(call, &prior.state, "delete", LIMIT);
    let (domain, name) = names(&prior.state);
    let (id, target) = (format!("{domain}/{name}"), Target::new(session, client, domain, name));
    let is_ours = |found: &Instance| uid.owns(&found.config, found.uuid());
    let fail = |error: &Error| target.failure("delete", error);
    // Incus may still carry out the create, which starts the instance at its end.
    let mut settles = uid.is_incomplete();
    let mut is_first = true;
    loop {
        if std::mem::take(&mut settles) {
            target.settle(&wait).await.map_err(|error| fail(&error))?;
        }
        let found = target.fetch().await.map_err(|error| fail(&error))?;
        let Some(found) = found.filter(is_ours) else {
            session.replaced(KIND, "instance", &id, &uid)?;
            if !is_first {
                return Ok(());
            }
            if let Some(found) = read::by_uuid(&target, &uid).await.map_err(|error| fail(&error))? {
                return Err(renamed(&target, &found.name).into());
            }
            return uid::deleted(session, client, "instance", &prior.private).await;
        };
        // Before the stop: a protected instance is not even stopped.
        if is_first {
            if uid.is_indistinct(&found.config) {
                return Err(refusal::unmarked("instance", &id).into());
            }
            if found.is_protected() {
                return Err(protected(domain, name).into());
            }
            keep_dependents(&target, &found).await?;
        }
        is_first = false;
        if !found.is_stopped() {
            target.stop(target::stop_timeout(&prior.state), &wait).await.map_err(|error| fail(&error))?;
            continue;
        }
        match client.delete_instance(&target.project, &target.name, is_ours, &wait).await {
            Err(error) if matches!(error.refusal(), Some(Refusal::IsRunning | Refusal::Busy)) => settles = true,
            Err(error) => return Err(fail(&error)),
            Ok(()) => break,
        }
    }
    session.forget(KIND, &id);
    Ok(())
}

/// Refuses to delete an instance with which Incus (from 7.0 on) would delete a protected volume: that of a disk with
/// `dependent`.
async fn keep_dependents(target: &Target<'_>, found: &Instance) -> Result<(), Failure> {
    let dependent =
        found.expanded_devices.iter().filter(|(_, device)| device.get(keys::DEPENDENT).is_some_and(|yes| is_true(yes)));
    for (device, keys) in dependent {
        let (Some(pool), Some(name)) = (keys.get("pool"), keys.get("source")) else { continue };
        let volume = target.client.find::<Volume>(volume::get(&target.project, pool, name)).await;
        let volume = volume.map_err(|error| target.failure("delete", &error))?;
        let mark = volume.as_ref().and_then(|volume| marks::read_stored(&volume.config, "delete_protection"));
        if mark.is_some_and(is_true) {
            return Err(Diagnostic::error(
                Path::from("devices").key(device.as_str()),
                "Unable to delete instance: a protected volume would go with it",
                format!(
                    "The device \"{device}\" has `dependent = true`, so that Incus deletes the volume \"{name}\" of the pool \"{pool}\" together \
                     with the instance, and that volume has `delete_protection`. Nothing was changed. Take the key off the device, then \
                     destroy:\n\n    incus config device unset {} {device} dependent --project {}",
                    target.name, target.project
                ),
            )
            .into());
        }
    }
    Ok(())
}

fn renamed(target: &Target<'_>, now: &str) -> Diagnostic {
    let (domain, name) = &target.shown;
    Diagnostic::error(
        Path::from("name"),
        "The instance has another name than the one in the state",
        format!(
            "\"{domain}/{name}\" is named \"{now}\" in Incus, or that is a backup of it which was imported. Nothing was deleted. Rename it back, \
             then destroy it; or keep it and remove the resource from the state:\n\n    incus rename {now} {} --project {}",
            target.name, target.project
        ),
    )
}

fn protected(domain: &str, name: &str) -> Diagnostic {
    Diagnostic::error(
        Path::from("delete_protection"),
        "The instance is protected",
        format!(
            "\"{domain}/{name}\" has `delete_protection`, and was left as it is. Set `delete_protection = false` and apply; then destroy or \
             replace it. If you tainted it manually, untaint it first:\n\n    tofu untaint anklume_instance.<name>"
        ),
    )
}
