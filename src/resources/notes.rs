//! Notes that a deleted volume or profile leaves on the instances that it was detached from, by which a create of its name
//! attaches it again. A process asks for them once for each project and adds its own, so that fifty creates do not ask
//! fifty times.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use crate::incus::instance::Instance;
use crate::incus::{Client, Error};

/// The start of the notes of detached volumes; `<pool>.<name>` follows, and the devices as JSON are the value.
pub const VOLUME: &str = "user.anklume.detached.";
/// The start of the notes of detached profiles; the name follows, and the position in the list is the value.
pub const PROFILE: &str = "user.anklume.profile.";

/// Whether `key` is that of a note.
#[must_use]
pub fn is_note(key: &str) -> bool {
    key.starts_with(VOLUME) || key.starts_with(PROFILE)
}

/// The profiles of an instance with those that were detached and left a note, as far as `counts` says so.
#[must_use]
pub fn profiles(found: &Instance, counts: impl Fn(&str) -> bool) -> Vec<String> {
    let mut profiles = found.profiles.clone();
    let noted = found.config.iter().filter_map(|(key, position)| Some((key.strip_prefix(PROFILE)?, position)));
    let mut noted: Vec<_> = noted.map(|(name, position)| (position.parse().unwrap_or(usize::MAX), name)).collect();
    noted.sort_unstable();
    let is_missing = |name: &str| counts(name) && !found.profiles.iter().any(|one| one == name);
    for (position, name) in noted.into_iter().filter(|(_, name)| is_missing(name)) {
        profiles.insert(position.min(profiles.len()), name.to_owned());
    }
    profiles
}

/// A note's key, and the instance that carries it.
type Note = (String, String);

/// The notes that one process knows, by project.
#[derive(Default)]
pub struct Notes(Mutex<HashMap<String, Arc<OfProject>>>);

#[derive(Default)]
struct OfProject {
    /// Those that were there before.
    listed: OnceCell<BTreeSet<Note>>,
    /// Those that this process wrote, before or after it asked.
    written: Mutex<BTreeSet<Note>>,
}

impl OfProject {
    fn written(&self) -> MutexGuard<'_, BTreeSet<Note>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    fn of(&self, project: &str) -> Arc<OfProject> {
        let mut projects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(projects.entry(project.to_owned()).or_default())
    }

    /// A note is about to be written on an instance.
    pub fn write(&self, project: &str, key: &str, instance: &str) {
        self.of(project).written().insert((key.to_owned(), instance.to_owned()));
    }

    /// The instances that may carry a note; some may have lost it since.
    ///
    /// # Errors
    ///
    /// As [`crate::incus::Client::get`].
    pub async fn carriers(&self, client: &Client, project: &str, key: &str) -> Result<BTreeSet<String>, Error> {
        let of_project = self.of(project);
        let listed = of_project.listed.get_or_try_init(|| async {
            let found = client.read_instances(project).await?;
            let notes = found.into_iter().flat_map(|found| {
                let keys = found.config.into_keys().filter(|key| is_note(key));
                keys.map(move |key| (key, found.name.clone()))
            });
            Ok::<_, Error>(notes.collect())
        });
        let listed = listed.await?;
        let written = of_project.written();
        let of_it = listed.iter().chain(written.iter()).filter(|(noted, _)| noted == key);
        Ok(of_it.map(|(_, instance)| instance.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noted_profile_counts_in_its_place() {
        let mut found = Instance { profiles: vec!["default".into(), "last".into()], ..Instance::default() };
        found.config.insert(format!("{PROFILE}small"), "1".into());
        found.config.insert(format!("{PROFILE}last"), "0".into());
        found.config.insert(format!("{PROFILE}far"), "9".into());
        assert_eq!(profiles(&found, |_| true), ["default", "small", "last", "far"]);
        assert_eq!(profiles(&found, |name| name == "small"), ["default", "small", "last"]);
    }
}
