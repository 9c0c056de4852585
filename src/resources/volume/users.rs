//! Who uses a volume, and how it is taken from instances of ours and given back.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::target::Target;
use crate::incus::instance::{self, Instance};
use crate::incus::profile::{self, Profile};
use crate::incus::{Devices, Error, Wait};
use crate::plugin::{Diagnostics, Path};
use crate::resources::notes::Notes;
use crate::resources::{keys, marks, refusal};

/// What of an instance is on the volume.
fn on_it(found: &Instance, target: &Target<'_>) -> Devices {
    let on_it = found.devices.iter().filter(|(_, device)| is_of(device, target));
    on_it.map(|(name, device)| (name.clone(), device.clone())).collect()
}

/// Whether a device is of the volume.
fn is_of(device: &BTreeMap<String, String>, target: &Target<'_>) -> bool {
    let has = |key: &str, value: &str| device.get(key).is_some_and(|found| found == value);
    has("type", "disk") && has("pool", &target.pool) && has("source", &target.name)
}

/// Whether the instance is of this state.
fn is_ours(found: &Instance, target: &Target<'_>) -> bool {
    marks::is_owned(&found.config, &target.owners)
}

/// The users of a volume.
#[derive(Debug, Default)]
pub(super) struct Users {
    /// Instances of ours that have it by `sv-` devices alone.
    pub(super) ours: Vec<String>,
    /// Everybody else, a line each.
    pub(super) others: Vec<String>,
    /// Instances that run, a line each.
    pub(super) running: Vec<String>,
    /// When one of these instances was started last.
    pub(super) last_used: Option<OffsetDateTime>,
}

impl Users {
    /// Looks at an instance; `None` when it is gone.
    async fn look(&mut self, target: &Target<'_>, name: &str, line: String) -> Result<Option<Instance>, Error> {
        let found = target.client.find::<Instance>(instance::get(&target.project, name)).await?;
        if let Some(found) = &found {
            self.last_used = self.last_used.max(found.last_used_at());
            if !found.is_stopped() && !self.running.contains(&line) {
                self.running.push(line);
            }
        }
        Ok(found)
    }
}

/// Looks at each user, and through a profile at those who have the volume by it.
pub(super) async fn users(target: &Target<'_>, used_by: &[String]) -> Result<Users, Error> {
    let mut users = Users::default();
    for path in used_by {
        let line = |path: &str| format!("    {}", keys::short_user(path));
        let name = match keys::in_project(path, &target.project) {
            Some(("instances", name)) => name,
            of_project => {
                users.others.push(line(path));
                if let Some(("profiles", name)) = of_project
                    && let Some(found) = target.client.find::<Profile>(profile::get(&target.project, name)).await?
                {
                    for path in &found.used_by {
                        if let Some(("instances", name)) = keys::in_project(path, &target.project) {
                            users.look(target, name, line(path)).await?;
                        }
                    }
                }
                continue;
            }
        };
        let Some(found) = users.look(target, name, line(path)).await? else { continue };
        let devices = on_it(&found, target);
        if is_ours(&found, target) && !devices.is_empty() && devices.keys().all(|device| device.starts_with("sv-")) {
            users.ours.push(name.to_owned());
        } else {
            users.others.push(line(path));
        }
    }
    Ok(users)
}

/// Makes the user at `path` one of the volume `new` instead of `old`.
pub(super) async fn repoint(old: &Target<'_>, new: &Target<'_>, path: &str, wait: &Wait) -> Result<(), Error> {
    let repoint = |devices: &mut Devices| {
        let before = devices.clone();
        for device in devices.values_mut().filter(|device| is_of(device, old)) {
            device.insert("pool".to_owned(), new.pool.clone());
            device.insert("source".to_owned(), new.name.clone());
        }
        *devices != before
    };
    let written = match keys::in_project(path, &old.project) {
        Some(("instances", name)) => {
            let change = |found: &mut Instance| repoint(&mut found.devices);
            old.client.modify(instance::get(&old.project, name), change, wait).await.map(drop)
        }
        Some(("profiles", name)) => {
            let change = |found: &mut Profile| repoint(&mut found.devices);
            old.client.modify(profile::get(&old.project, name), change, wait).await.map(drop)
        }
        _ => Ok(()),
    };
    written.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
}

/// Takes the volume from the instance `name`, and leaves a note there by which [`attach`] gives it back.
pub(super) async fn detach(notes: &Notes, target: &Target<'_>, name: &str, wait: &Wait) -> Result<(), Error> {
    notes.write(&target.project, &target.note(), name);
    let detach = |found: &mut Instance| {
        let devices = on_it(found, target);
        found.devices.retain(|device, _| !devices.contains_key(device));
        if let Ok(text) = serde_json::to_string(&devices) {
            found.config.insert(target.note(), text);
        }
        !devices.is_empty()
    };
    match target.client.modify(instance::get(&target.project, name), detach, wait).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Gives a volume back to the instance `name`, as its note says.
async fn give_back(target: &Target<'_>, name: &str, wait: &Wait) -> Result<(), Error> {
    let attach = |found: &mut Instance| {
        if !is_ours(found, target) {
            return false;
        }
        let Some(text) = found.config.remove(&target.note()) else { return false };
        for (device, keys) in serde_json::from_str::<Devices>(&text).unwrap_or_default() {
            if device.starts_with("sv-") && is_of(&keys, target) {
                found.devices.entry(device).or_insert(keys);
            }
        }
        true
    };
    match target.client.modify(instance::get(&target.project, name), attach, wait).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Gives a volume that was just made, or could not be deleted, back to the instances that a delete took it from. Where
/// that fails the next plan of the instance shows it: a warning.
pub(super) async fn attach(notes: &Notes, target: &Target<'_>, wait: &Wait) -> Diagnostics {
    let reader = target.client.reading(&Wait { deadline: None, stop: wait.stop.clone() });
    let target = &target.by(&reader);
    let mut warnings = Diagnostics::default();
    let noted = match notes.carriers(target.client, &target.project, &target.note()).await {
        Ok(noted) => noted,
        Err(error) => {
            warnings.warning(Path::root(), "Unable to look for instances of the volume", refusal::causes(&error));
            return warnings;
        }
    };
    for name in noted {
        if let Err(error) = give_back(target, &name, wait).await {
            warnings.warning(
                Path::root(),
                "The volume was not attached again",
                format!(
                    "The instance \"{name}\" had the volume \"{}\" before it was replaced. Its next plan attaches it.\n\n{}",
                    target.id(),
                    refusal::causes(&error)
                ),
            );
        }
    }
    warnings
}
