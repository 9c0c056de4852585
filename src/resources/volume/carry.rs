//! Another name or another pool for a volume: its content and its snapshots stay, and its users follow.

use super::filled::Filled;
use super::target::{MADE, Target};
use super::update::{Change, in_use};
use super::users::{self, Users};
use crate::incus::volume::{self, Volume};
use crate::incus::{Config, Error, Refusal, Wait};
use crate::plugin::{Diagnostic, Failure, Path};
use crate::resources::marks;
use crate::resources::uid::Uid;

/// The mark of a volume that is copied to another pool: where to, as `<pool>/<name>`.
const MOVING: &str = "moving";
/// The mark of its copy: where from.
const MOVED_FROM: &str = "moved_from";
/// The mark of one whose copy is whole and that nobody uses any more: it is being deleted.
const MOVED: &str = "moved";

impl Change<'_> {
    /// Renames or moves it. Nothing is written before it is known that nobody who uses it runs.
    pub(super) async fn carry(&self) -> Result<(), Failure> {
        let (old, new) = (self.old, self.new);
        let failed = |error: &Error| old.failed("update", error);
        old.settle(self.wait).await.map_err(|error| failed(&error))?;
        let found = old.fetch().await.map_err(|error| failed(&error))?;
        let Some(found) = found else {
            // The interrupted one went on to its end.
            return match new.fetch().await.map_err(|error| failed(&error))? {
                Some(moved) if self.is_ours(&moved) => self.write(new).await,
                _ => Err(Diagnostic::error(Path::root(), "Unable to update volume", "It is gone. Plan again.").into()),
            };
        };
        if self.model.is_iso() && old.pool == new.pool {
            let server = old.client.server().await.map_err(|error| failed(&error))?;
            if server.loses_renamed_isos() {
                return Err(loses(old, &server.environment.server_version).into());
            }
        }
        let users = users::users(old, &found.used_by).await.map_err(|error| failed(&error))?;
        if !users.running.is_empty() {
            let (at, what) = if old.pool == new.pool { ("name", "rename") } else { ("pool", "move") };
            return Err(in_use(at, what, &users.running).into());
        }
        match (self.model.is_iso(), old.pool == new.pool) {
            (true, _) => self.carry_iso().await,
            (false, false) => self.transfer(&found, &users).await,
            (false, true) => {
                self.write(old).await?;
                match self.rename_or_move().await {
                    Ok(()) => Ok(()),
                    Err(error) => Err(self.not_carried(&error).await.into()),
                }
            }
        }
    }

    /// Its marks stand under its name on the project: those of the new one are written first.
    async fn carry_iso(&self) -> Result<(), Failure> {
        let (old, new) = (self.old, self.new);
        let failed = |error: &Error| old.failed("update", error);
        self.write(old).await?;
        let marked = old.fetch().await.map_err(|error| failed(&error))?.unwrap_or_default();
        // They would be those of whoever has the name.
        if let Some(there) = new.fetch().await.map_err(|error| failed(&error))? {
            let is_ours = !marks::carried(&there.config).is_empty() && self.is_ours(&there);
            return Err(match is_ours {
                true => two(old, new, "and the one that Incus moved may be empty"),
                false => taken(new),
            }
            .into());
        }
        let mut marks = marked.config;
        // It is another one in another pool.
        marks.remove(&marks::stored(MADE));
        new.write_marks(&marks, self.wait).await.map_err(|error| failed(&error))?;
        if let Err(error) = self.rename_or_move().await {
            if (error.is_already_exists() || matches!(new.look_back().await, Ok(None)))
                && let Err(error) = new.write_marks(&Config::new(), &Wait::afterwards()).await
            {
                tracing::warn!(volume = %new.id(), %error, "the marks of an ISO were not taken away");
            }
            return Err(self.not_carried(&error).await.into());
        }
        old.write_marks(&Config::new(), self.wait).await.map_err(|error| failed(&error))?;
        new.modify(true, |_| true, self.wait).await.map_err(|error| new.failed("update", &error).into())
    }

    /// Lets Incus do it, which points the users to the new place.
    async fn rename_or_move(&self) -> Result<(), Error> {
        let (old, new) = (self.old, self.new);
        let request = match old.pool == new.pool {
            true => volume::rename(&old.project, &old.pool, &old.name, &new.name),
            false => volume::move_to_pool(&old.project, &old.pool, &old.name, &new.pool, &new.name),
        };
        old.client.run(request, self.wait).await.map(drop)
    }

    async fn not_carried(&self, error: &Error) -> Diagnostic {
        match error.refusal() {
            _ if error.is_already_exists() => taken(self.new),
            Some(Refusal::PoolNotFound) => self.new.explain("update", error).await,
            _ => self.old.failed("update", error),
        }
    }

    /// Moves it by a copy of our own under a temporary name, which gets its own once it is whole. Incus would point the users
    /// to the copy first, and empty the volume before its record goes: of what a daemon leaves that is killed in between
    /// nobody knows which is whole (6.0 to 7.3).
    async fn transfer(&self, found: &Volume, before: &Users) -> Result<(), Failure> {
        let (old, new, wait) = (self.old, self.new, self.wait);
        let failed = |error: &Error| old.failed("update", error);
        let used_by = match self.resume(found).await? {
            Left::Whole => {
                self.bring(new).await.map_err(|error| failed(&error))?;
                found.used_by.clone()
            }
            Left::Nothing => {
                let temporary = new.named(self.temporary);
                let copied = self.copy(&temporary, before).await;
                if copied.is_err() {
                    let brief = Wait::afterwards();
                    if let Err(error) = temporary.clear(&brief).await {
                        tracing::warn!(volume = %temporary.id(), %error, "a half-made volume was not deleted");
                    }
                }
                copied?
            }
        };
        for path in &used_by {
            users::repoint(old, new, path, wait).await.map_err(|error| failed(&error))?;
        }
        let mut users = Vec::new();
        let write = |volume: &mut Volume| {
            users.clone_from(&volume.used_by);
            users.is_empty() && volume.config.insert(marks::stored(MOVED), "true".to_owned()).is_none()
        };
        old.modify(false, write, wait).await.map_err(|error| failed(&error))?;
        if !users.is_empty() {
            let users = users::users(old, &users).await.map_err(|error| failed(&error))?;
            return Err(in_use("pool", "move", &[users.ours, users.others].concat()).into());
        }
        old.delete(false, wait).await.map_err(|error| failed(&error))?;
        // A copy that somebody makes of it must not be taken for what a later move has left.
        let forget = |volume: &mut Volume| volume.config.remove(&marks::stored(MOVED_FROM)).is_some();
        new.modify(false, forget, wait).await.map_err(|error| new.failed("update", &error).into())
    }

    /// Copies the volume, and gives the copy its name; the users that are to follow.
    async fn copy(&self, temporary: &Target<'_>, before: &Users) -> Result<Vec<String>, Failure> {
        let (old, new, wait) = (self.old, self.new, self.wait);
        let failed = |error: &Error| old.failed("update", error);
        temporary.clear(wait).await.map_err(|error| failed(&error))?;
        self.write(old).await?;
        let written = old.fetch().await.map_err(|error| failed(&error))?.unwrap_or_default();
        let mut config = written.config.clone();
        [MOVED, MOVING].into_iter().for_each(|mark| drop(config.remove(&marks::stored(mark))));
        config.insert(marks::stored(MOVED_FROM), old.place());
        let body = volume::Create {
            name: temporary.name.clone(),
            content_type: written.content_type.clone(),
            description: written.description.clone(),
            config,
            source: Some(volume::Source::whole(&old.project, &old.pool, &old.name)),
        };
        if let Err(error) = old.client.run(volume::create(&new.project, &new.pool, &body), wait).await {
            return Err(self.not_carried(&error).await.into());
        }
        self.bring(temporary).await.map_err(|error| failed(&error))?;
        let now = old.fetch().await.map_err(|error| failed(&error))?.unwrap_or_default();
        let users = users::users(old, &now.used_by).await.map_err(|error| failed(&error))?;
        if !users.running.is_empty() {
            return Err(in_use("pool", "move", &users.running).into());
        }
        if users.last_used > before.last_used
            || (&now.config, &now.description) != (&written.config, &written.description)
        {
            return Err(meanwhile(old).into());
        }
        let rename = volume::rename(&new.project, &new.pool, &temporary.name, &new.name);
        match old.client.run(rename, wait).await {
            Ok(_) => Ok(now.used_by),
            Err(error) => Err(self.not_carried(&error).await.into()),
        }
    }

    /// Brings a copy to what is configured, whatever Incus filled in.
    async fn bring(&self, copy: &Target<'_>) -> Result<(), Error> {
        let write = |volume: &mut Volume| {
            let marked = self.mark(volume);
            let filled = Filled::beside(volume, self.model);
            self.model.apply(volume, &filled) | marked
        };
        copy.modify(false, write, self.wait).await
    }

    /// What an interrupted move left under the new name. A copy that is not to be taken for the volume is deleted.
    async fn resume(&self, found: &Volume) -> Result<Left, Failure> {
        let (old, new, wait) = (self.old, self.new, self.wait);
        let failed = |error: &Error| old.failed("update", error);
        new.settle(wait).await.map_err(|error| failed(&error))?;
        let Some(copy) = new.fetch().await.map_err(|error| failed(&error))? else { return Ok(Left::Nothing) };
        if !(self.is_ours(&copy) && comes_from(&copy, old)) {
            return Err(taken(new).into());
        }
        if found.used_by.is_empty() && marks::read_stored(&found.config, MOVED).is_some() {
            return Ok(Left::Whole);
        }
        if copy.used_by.is_empty() {
            // Nobody wrote on it, and the old one is whole.
            new.delete(false, wait).await.map_err(|error| failed(&error))?;
            return Ok(Left::Nothing);
        }
        let users = users::users(old, &found.used_by).await.map_err(|error| failed(&error))?;
        match copy.created_at().is_some_and(|made| users.last_used.is_none_or(|used| used < made)) {
            true => Ok(Left::Whole),
            false => Err(two(old, new, "and instances ran with either since").into()),
        }
    }
}

/// What stands under the new name of a volume that moves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Nothing, or nothing any more.
    Nothing,
    /// The whole volume.
    Whole,
}

/// Whether `copy` was created by a move of the volume `old`. A copy that somebody makes of a volume has its marks, but names
/// no place that it comes from.
fn comes_from(copy: &Volume, old: &Target<'_>) -> bool {
    marks::read_stored(&copy.config, MOVED_FROM) == Some(old.place().as_str())
}

/// What an interrupted move left of a volume in another pool; to be deleted with it.
pub(super) async fn left_by<'c>(
    target: &Target<'c>,
    found: &Volume,
    uid: &Uid,
) -> Result<Option<(Target<'c>, Volume)>, Error> {
    let Some((pool, name)) = marks::read_stored(&found.config, MOVING).and_then(|place| place.split_once('/')) else {
        return Ok(None);
    };
    let copy = Target { pool: pool.to_owned(), ..target.named(name) };
    let there = copy.fetch().await?.filter(|there| uid.owns(&there.config, None) && comes_from(there, target));
    Ok(there.map(|there| (copy, there)))
}

/// Notes where a volume moves to, and that it is not being deleted.
pub(super) fn mark(volume: &mut Volume, to: Option<&Target<'_>>) {
    if let Some(to) = to {
        volume.config.insert(marks::stored(MOVING), to.place());
    }
    [MOVED, MOVED_FROM].into_iter().for_each(|mark| drop(volume.config.remove(&marks::stored(mark))));
}

fn meanwhile(old: &Target<'_>) -> Diagnostic {
    Diagnostic::error(
        Path::from("pool"),
        "Unable to move volume: it was used or changed meanwhile",
        format!(
            "While \"{}\" was copied, somebody changed it, or started an instance that has it, so that the copy is not what it holds \
             now. It stays in its pool. Plan again.",
            old.id()
        ),
    )
}

/// Of two nobody but a human can tell which is to stay.
fn two(old: &Target<'_>, new: &Target<'_>, why: &str) -> Diagnostic {
    let delete = |target: &Target<'_>| {
        format!("    incus storage volume delete {} {} --project {}", target.pool, target.name, target.project)
    };
    Diagnostic::error(
        Path::from("pool"),
        "Unable to move volume: an interrupted move left two",
        format!(
            "The volume stands in the pools \"{}\" and \"{}\" now, {why}. Nothing was changed. Look into both, detach and delete the one \
             that is not to stay, and apply again:\n\n{}\n{}",
            old.pool,
            new.pool,
            delete(old),
            delete(new)
        ),
    )
}

fn loses(old: &Target<'_>, version: &str) -> Diagnostic {
    Diagnostic::error(
        Path::from("name"),
        "Unable to rename volume: Incus would lose its content",
        format!(
            "Incus {version} leaves the content of an ISO volume behind when it renames it; 6.0.5 and 6.15 mended that. Nothing was \
             changed. Keep the name \"{}\", update Incus, or make a second volume and remove this one.",
            old.name
        ),
    )
}

fn taken(new: &Target<'_>) -> Diagnostic {
    Diagnostic::error(
        Path::from("name"),
        "Unable to update volume: the name is taken",
        format!("There is a volume \"{}\" in the pool \"{}\" already. Choose another name.", new.name, new.pool),
    )
}
