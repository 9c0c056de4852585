//! The instances that use a profile: detached from those of this state when it is deleted, attached again when one of its
//! name is created.

use super::KIND;
use crate::incus::instance::{self, Instance, Kind, is_root};
use crate::incus::profile::Profile;
use crate::incus::{Client, Error, Wait};
use crate::plugin::{Diagnostic, Diagnostics, Path};
use crate::resources::notes::{self, Notes};
use crate::resources::{keys, marks, refusal};

/// A profile, and the owners of which instances are of this state.
pub(super) struct Used<'p> {
    pub(super) client: &'p Client,
    pub(super) notes: &'p Notes,
    pub(super) project: &'p str,
    pub(super) domain: &'p str,
    pub(super) name: &'p str,
    pub(super) owners: &'p [String],
    pub(super) wait: &'p Wait,
}

impl Used<'_> {
    fn note(&self) -> String {
        format!("{}{}", notes::PROFILE, self.name)
    }

    fn is_ours(&self, found: &Instance) -> bool {
        marks::is_owned(&found.config, self.owners)
    }

    /// Detaches the profile from its users. Nothing is changed unless all of them allow it.
    ///
    /// # Errors
    ///
    /// Users of others; virtual machines that run, as Incus plugs nothing back into them; instances with their root disk
    /// from the profile; what Incus refuses, after which the profile is attached again.
    pub(super) async fn detach(&self, profile: &Profile) -> Result<(), Diagnostics> {
        let failed = |error: &Error| super::failed("delete", self.name, self.domain, error);
        let mut ours = Vec::new();
        let mut refused = Vec::new();
        for path in &profile.used_by {
            let line = format!("    {}", keys::short_user(path));
            let Some(("instances", name)) = keys::in_project(path, self.project) else {
                refused.push(line);
                continue;
            };
            let found = self.client.find::<Instance>(instance::get(self.project, name)).await;
            let Some(found) = found.map_err(|error| failed(&error))? else { continue };
            let root = found.expanded_devices.iter().find(|(_, device)| is_root(device));
            let has_root = |(device, keys): (&String, _)| {
                !found.devices.contains_key(device) && profile.devices.get(device) == Some(keys)
            };
            if !self.is_ours(&found) {
                refused.push(format!("{line}, which is not of this state"));
            } else if root.is_some_and(has_root) {
                refused.push(format!("{line}, which has its root disk from it"));
            } else if found.kind == Kind::VirtualMachine && !found.is_stopped() {
                refused.push(format!("{line}, a virtual machine that runs"));
            } else {
                ours.push(name);
            }
        }
        if !refused.is_empty() {
            return Err(in_use(self.name, self.domain, &refused).into());
        }
        for name in ours {
            if let Err(error) = self.detach_from(name).await {
                self.attach(&Wait::afterwards()).await;
                return Err(failed(&error).into());
            }
        }
        Ok(())
    }

    async fn detach_from(&self, name: &str) -> Result<(), Error> {
        self.notes.write(self.project, &self.note(), name);
        let detach = |found: &mut Instance| {
            let Some(position) = found.profiles.iter().position(|profile| profile == self.name) else { return false };
            found.profiles.remove(position);
            found.config.insert(self.note(), position.to_string());
            true
        };
        match self.client.modify(instance::get(self.project, name), detach, self.wait).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Attaches the profile, which was just created or could not be deleted, to the instances that a delete took it from.
    /// Where that fails the next plan of the instance shows it: a warning.
    pub(super) async fn attach(&self, wait: &Wait) -> Diagnostics {
        let mut warnings = Diagnostics::default();
        let noted = match self.notes.carriers(self.client, self.project, &self.note()).await {
            Ok(noted) => noted,
            Err(error) => {
                warnings.warning(Path::root(), "Unable to look for users of the profile", refusal::causes(&error));
                return warnings;
            }
        };
        for name in noted {
            let attach = |found: &mut Instance| {
                if !self.is_ours(found) {
                    return false;
                }
                let profiles = notes::profiles(found, |name| name == self.name);
                let Some(_) = found.config.remove(&self.note()) else { return false };
                found.profiles = profiles;
                true
            };
            match self.client.modify(instance::get(self.project, &name), attach, wait).await {
                Err(error) if !error.is_not_found() => warnings.warning(
                    Path::root(),
                    "The profile was not attached again",
                    format!(
                        "The instance \"{name}\" had the profile \"{}/{}\" before that was replaced. The next plan of the instance \
                         attaches it.\n\n{}",
                        self.domain,
                        self.name,
                        refusal::causes(&error)
                    ),
                ),
                _ => {}
            }
        }
        warnings
    }
}

fn in_use(name: &str, domain: &str, users: &[String]) -> Diagnostic {
    Diagnostic::error(
        Path::root(),
        "Unable to delete profile: it is in use",
        format!(
            "The profile \"{name}\" of domain \"{domain}\" was not changed. It is used by:\n\n{}\n\nRemove it from their `profiles` and \
             apply, or stop the virtual machines (`running = false`); then destroy or replace the `{KIND}`. If an instance is in this state under \
             another `owner`, apply once with the profile still in the configuration: the plan shows `owner` of the instance as an update.",
            users.join("\n")
        ),
    )
}
