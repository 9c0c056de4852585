//! Which instances carry a note of a volume that was taken from them: asked once by a process for each project, and told
//! by its own deletes from then on, so that fifty creates do not ask fifty times.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use super::target::{Target, pool_in_key};
use crate::incus::Error;

/// What the notes of a detached volume begin with, on the instances that it was detached from.
pub(crate) const NOTES: &str = "user.anklume.detached.";

/// The key of the note of a volume.
pub(super) fn key(target: &Target<'_>) -> String {
    format!("{NOTES}{}.{}", pool_in_key(&target.pool), target.name)
}

/// A note's key, and the instance that carries it.
type Note = (String, String);

/// The notes of one process, by project.
#[derive(Default)]
pub(crate) struct Notes(Mutex<HashMap<String, Arc<OfProject>>>);

#[derive(Default)]
struct OfProject {
    /// What stood before.
    listed: OnceCell<BTreeSet<Note>>,
    /// What this process wrote, before or after that was asked.
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

    /// A note was written on an instance.
    pub(super) fn write(&self, target: &Target<'_>, instance: &str) {
        self.of(&target.project).written().insert((key(target), instance.to_owned()));
    }

    /// The instances that may carry a note of the volume; some may have lost it since.
    ///
    /// # Errors
    ///
    /// As [`crate::incus::Client::get`].
    pub(super) async fn carriers(&self, target: &Target<'_>) -> Result<BTreeSet<String>, Error> {
        let project = self.of(&target.project);
        let listed = project.listed.get_or_try_init(|| async {
            let found = target.client.read_instances(&target.project).await?;
            let notes = found.into_iter().flat_map(|found| {
                let keys = found.config.into_keys().filter(|key| key.starts_with(NOTES));
                keys.map(move |key| (key, found.name.clone()))
            });
            Ok::<_, Error>(notes.collect())
        });
        let key = key(target);
        let listed = listed.await?;
        let written = project.written();
        let of_it = listed.iter().chain(written.iter()).filter(|(noted, _)| *noted == key);
        Ok(of_it.map(|(_, instance)| instance.clone()).collect())
    }
}
