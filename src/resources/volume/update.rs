//! Changing a volume in place: its keys, its size, its name and its pool. Its content stays.

use super::model::{self, Filled, Model};
use super::plan::SOURCE;
use super::target::{MADE, Target, names};
use super::{LIMIT, read, users};
use crate::incus::volume::{self, Volume};
use crate::incus::{Config, Error, Refusal, Wait};
use crate::plugin::{Call, Diagnostic, Diagnostics, Failure, Path, Private, Stored, Update, Value};
use crate::resources::session::Session;
use crate::resources::{marks, meanwhile, refusal, size, timeouts};

/// What is written in whole, so that what others wrote there meanwhile would be lost.
const WATCHED: &[&str] =
    &["description", "config", "size", "snapshots_schedule", "snapshots_expiry", "delete_protection"];

/// Updates a volume in place.
pub(super) async fn update(session: &Session, call: &Call, input: Update) -> Result<Stored, Failure> {
    refusal::same_prefix(input.private.get("prefix"), session.prefix())?;
    let model = Model::of(&input.planned).map_err(|error| refusal::defect("the volume", error))?;
    let client = session.client_until(&timeouts::of_stop(call)).await?;
    let wait = timeouts::wait(call, &input.planned, "update", LIMIT);
    let (domain, pool, name) = names(&input.prior);
    let old = Target::new(session, &client, domain, pool, name);
    let new = Target::new(session, &client, &model.domain, model.pool.as_deref().unwrap_or(pool), &model.name);
    let filled = Filled::of(&input.private);
    let mut private = input.private.clone();
    private.remove(SOURCE);
    let fingerprint = model::fingerprint(session.owner(), &new.id(), &input.config);
    let kept = &input.private;
    let now = |found: &Volume, like: &Value| {
        let mut state = read::state(session, &old, found, like, &filled);
        if size::same(state.get("size"), like.get("size")) {
            state.set("size", like.get("size").clone());
        }
        state
    };
    let changes =
        |found: &Volume| meanwhile::changes(&input, WATCHED, [&now(found, &input.prior), &now(found, &input.planned)]);
    let change = Change {
        old: &old,
        new: &new,
        model: &model,
        filled: &filled,
        kept,
        changes: &changes,
        fingerprint,
        wait: &wait,
    };
    let changed = match change.moves() {
        true => change.carry().await,
        false => change.write(&old).await,
    };
    let changed = match changed {
        Ok(()) => new.fetch().await.map_err(|error| new.failed("read", &error).into()),
        Err(told) => Err(told),
    };
    match changed {
        Ok(Some(found)) => {
            model::keep_rigid(&found, &mut private);
            Ok(Stored::new(read::state(session, &new, &found, &input.planned, &filled), private))
        }
        Ok(None) => Err(Diagnostic::error(Path::root(), "Unable to update volume", "It is gone. Plan again.").into()),
        Err(told) => Err(partial(session, told, &input, &old, &new).await),
    }
}

struct Change<'c> {
    old: &'c Target<'c>,
    new: &'c Target<'c>,
    model: &'c Model,
    filled: &'c Filled,
    /// By which it is known to be ours.
    kept: &'c Private,
    /// What others changed since this was planned.
    changes: &'c (dyn Fn(&Volume) -> Diagnostics + Sync),
    /// That of the new configuration; written before a rename or a move only.
    fingerprint: String,
    wait: &'c Wait,
}

impl Change<'_> {
    fn moves(&self) -> bool {
        self.old.name != self.new.name || self.old.pool != self.new.pool
    }

    async fn write(&self, target: &Target<'_>) -> Result<(), Failure> {
        let mut refused = Diagnostics::default();
        let write = |volume: &mut Volume| {
            refused = match marks::same_incarnation(&volume.config, self.kept) {
                true => (self.changes)(volume),
                false => refusal::stranger("volume", &self.old.name).into(),
            };
            if !refused.is_empty() {
                return false;
            }
            let before = volume.config.clone();
            if self.moves() {
                volume.config.insert(marks::FINGERPRINT.to_owned(), self.fingerprint.clone());
            }
            self.model.apply(volume, self.filled) | (before != volume.config)
        };
        let written = target.modify(self.model.is_iso(), write, self.wait).await;
        if let Err(error) = written {
            return Err(self.not_written(&error).await.into());
        }
        if refused.is_empty() { Ok(()) } else { Err(refused.into()) }
    }

    /// Refuses to go on where an interrupted move left two: Incus empties the old one before its record goes, so that either
    /// may be the whole one.
    async fn one_only(&self) -> Result<(), Failure> {
        let (old, new) = (self.old, self.new);
        let copy = new.fetch().await.map_err(|error| old.failed("update", &error))?;
        if copy.is_none_or(|copy| !marks::same_incarnation(&copy.config, self.kept)) {
            return Ok(());
        }
        let delete = |target: &Target<'_>| {
            format!("    incus storage volume delete {} {} --project {}", target.pool, target.name, target.project)
        };
        Err(Diagnostic::error(
            Path::from("pool"),
            "Unable to move volume: an interrupted move left two",
            format!(
                "Incus was interrupted while it moved the volume, which stands in the pools \"{}\" and \"{}\" now. Which of them is whole \
                 only what they hold can tell. Nothing was changed. Look into both, delete the other one, and apply again:\n\n{}\n{}",
                old.pool,
                new.pool,
                delete(old),
                delete(new)
            ),
        )
        .into())
    }

    /// A size that changes only while nobody who uses it runs is told with those who run.
    async fn not_written(&self, error: &Error) -> Diagnostic {
        let told = self.old.failed("update", error);
        if error.refusal() != Some(&Refusal::InUse) {
            return told;
        }
        let Ok(Some(found)) = self.old.look_back().await else { return told };
        match users::users(self.old, &found.used_by).await {
            Ok(users) if !users.running.is_empty() => in_use("size", "resize", &users.running),
            _ => told,
        }
    }

    /// Renames or moves it. Nothing is written before it is known that nobody who uses it runs.
    async fn carry(&self) -> Result<(), Failure> {
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
        if old.pool != new.pool {
            self.one_only().await?;
        }
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
        self.write(old).await?;
        let is_iso = self.model.is_iso();
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

fn in_use(at: &str, what: &str, running: &[String]) -> Diagnostic {
    Diagnostic::error(
        Path::from(at),
        format!("Unable to {what} volume: it is in use"),
        format!(
            "Incus does that only while nobody who uses the volume runs. Nothing was changed. Running now:\n\n{}\n\nSet `running = false` on \
             them and apply; then make this change, and set it back.",
            running.join("\n")
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

/// What stands now, under the old name or the new one, goes into the state.
async fn partial(session: &Session, failure: Failure, input: &Update, old: &Target<'_>, new: &Target<'_>) -> Failure {
    for target in [old, new] {
        let Ok(Some(found)) = target.look_back().await else { continue };
        // Under the new name there may be somebody else's, because of which the rename failed.
        if !marks::same_incarnation(&found.config, &input.private) {
            continue;
        }
        let filled = Filled::of(&input.private);
        let state = read::state(session, target, &found, &input.prior, &filled);
        return failure.with_partial(Stored::new(state, input.private.clone()));
    }
    failure
}
