//! Another name or another pool for a volume: its content and its snapshots stay, and its users follow.

use super::target::{MADE, Target};
use super::update::{Change, in_use};
use super::users;
use crate::incus::volume::{self, Volume};
use crate::incus::{Config, Error, Refusal, Wait};
use crate::plugin::{Diagnostic, Failure, Path};
use crate::resources::marks;

/// The mark of a volume that was copied to another pool and that nobody uses any more: it is being deleted.
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
                Some(moved) if marks::same_incarnation(&moved.config, self.kept) => self.write(new).await,
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
        let is_iso = self.model.is_iso();
        if !is_iso && old.pool != new.pool {
            return self.transfer(&found).await;
        }
        self.write(old).await?;
        if is_iso {
            let marked = old.fetch().await.map_err(|error| failed(&error))?.unwrap_or_default();
            // The marks stand under the name, whoever has it.
            if new.fetch().await.map_err(|error| failed(&error))?.is_some() {
                return Err(taken(new).into());
            }
            let mut marks = marked.config;
            // It is another one in another pool.
            marks.remove(&marks::stored(MADE));
            new.write_marks(&marks, self.wait).await.map_err(|error| failed(&error))?;
        }
        let request = match old.pool == new.pool {
            true => volume::rename(&old.project, &old.pool, &old.name, &new.name),
            false => volume::move_to_pool(&old.project, &old.pool, &old.name, &new.pool, &new.name),
        };
        if let Err(error) = old.client.run(request, self.wait).await {
            if is_iso && (error.is_already_exists() || matches!(new.look_back().await, Ok(None))) {
                let brief = Wait::afterwards();
                if let Err(error) = new.write_marks(&Config::new(), &brief).await {
                    tracing::warn!(volume = %new.id(), %error, "the marks of an ISO were not taken away");
                }
            }
            if error.is_already_exists() {
                return Err(taken(new).into());
            }
            return Err(if error.refusal() == Some(&Refusal::PoolNotFound) {
                new.explain("update", &error).await
            } else {
                failed(&error)
            }
            .into());
        }
        if is_iso {
            old.write_marks(&Config::new(), self.wait).await.map_err(|error| failed(&error))?;
            new.modify(true, |_| true, self.wait).await.map_err(|error| new.failed("update", &error))?;
        }
        Ok(())
    }

    /// Moves it by a copy of our own, whole before anybody uses it. Incus would point the users to it first, and empty the
    /// old one before its record goes: of what a daemon leaves that is killed in between nobody knows which is whole (6.0 to
    /// 7.3).
    async fn transfer(&self, found: &Volume) -> Result<(), Failure> {
        let (old, new, wait) = (self.old, self.new, self.wait);
        let failed = |error: &Error| old.failed("update", error);
        let is_whole = self.copy_is_whole(found).await?;
        if !is_whole {
            self.write(old).await?;
            let mut written = old.fetch().await.map_err(|error| failed(&error))?.unwrap_or_default();
            written.config.remove(&marks::stored(MOVED));
            let body = volume::Create {
                name: new.name.clone(),
                content_type: written.content_type,
                description: written.description,
                config: written.config,
                source: Some(volume::Source::whole(&old.project, &old.pool, &old.name)),
            };
            if let Err(error) = old.client.run(volume::create(&new.project, &new.pool, &body), wait).await {
                return Err(match error.refusal() {
                    _ if error.is_already_exists() => taken(new),
                    Some(Refusal::PoolNotFound) => new.explain("update", &error).await,
                    _ => failed(&error),
                }
                .into());
            }
        }
        for path in &found.used_by {
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
        // What was made earlier is of what was configured then.
        if is_whole { self.write(new).await } else { Ok(()) }
    }

    /// Whether a copy that an interrupted move made can be taken for the volume. One that cannot is deleted.
    async fn copy_is_whole(&self, found: &Volume) -> Result<bool, Failure> {
        let (old, new, wait) = (self.old, self.new, self.wait);
        let failed = |error: &Error| old.failed("update", error);
        new.settle(wait).await.map_err(|error| failed(&error))?;
        let Some(copy) = new.fetch().await.map_err(|error| failed(&error))? else { return Ok(false) };
        if !marks::same_incarnation(&copy.config, self.kept) {
            return Err(taken(new).into());
        }
        if marks::read_stored(&found.config, MOVED).is_some() {
            return Ok(true);
        }
        if copy.used_by.is_empty() {
            // Nobody wrote on it, and the old one is whole.
            new.delete(false, wait).await.map_err(|error| failed(&error))?;
            return Ok(false);
        }
        let users = users::users(old, &found.used_by).await.map_err(|error| failed(&error))?;
        match copy.created_at().is_some_and(|made| users.last_used.is_none_or(|used| used < made)) {
            true => Ok(true),
            false => Err(two(old, new).into()),
        }
    }
}

/// Some of the users of an interrupted move wrote on the copy, and others on the volume.
fn two(old: &Target<'_>, new: &Target<'_>) -> Diagnostic {
    let delete = |target: &Target<'_>| {
        format!("    incus storage volume delete {} {} --project {}", target.pool, target.name, target.project)
    };
    Diagnostic::error(
        Path::from("pool"),
        "Unable to move volume: an interrupted move left two",
        format!(
            "The volume stands in the pools \"{}\" and \"{}\" now, and instances ran with either since. Nothing was changed. Look into \
             both, detach and delete the one that is not to stay, and apply again:\n\n{}\n{}",
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
