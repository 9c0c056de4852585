//! Changing a volume in place: its keys and its size. Its content stays.

use super::carry;
use super::filled::Filled;
use super::model::{self, Model};
use super::plan::SOURCE;
use super::target::{Target, is_of, names};
use super::{LIMIT, read, users};
use crate::incus::volume::Volume;
use crate::incus::{Error, Refusal, Wait};
use crate::plugin::{Call, Diagnostic, Diagnostics, Failure, Path, Stored, Update, Value};
use crate::resources::marks::Marks;
use crate::resources::session::Session;
use crate::resources::uid::{self, Uid};
use crate::resources::{marks, meanwhile, refusal, size, timeouts};

/// What is written in whole, so that what others wrote there meanwhile would be lost.
const WATCHED: &[&str] =
    &["description", "config", "size", "snapshots_schedule", "snapshots_expiry", "delete_protection"];

/// Updates a volume in place.
pub(super) async fn update(session: &Session, call: &Call, input: Update) -> Result<Stored, Failure> {
    let uid = uid::expect(session, "volume", &input.prior, &input.private)?;
    let model = Model::of(&input.planned).map_err(|error| refusal::defect("the volume", error))?;
    let client = session.client_until(&timeouts::of_stop(call)).await?;
    let wait = timeouts::wait(call, &input.planned, "update", LIMIT);
    let [domain, pool, name] = names(&input.prior);
    let old = Target::new(session, &client, [domain, pool, name], &input.private);
    let new = [&model.domain, model.pool.as_deref().unwrap_or(pool), &model.name];
    let new = Target::new(session, &client, new, &input.private);
    let mut private = input.private.clone();
    private.remove(SOURCE);
    marks::written(session, &mut private);
    let fingerprint = model::fingerprint(session, &new.id(), &input.config, &input.planned, &input.prior);
    let marks = Marks::new(fingerprint).of(&uid);
    let written = Uid::new(session.prefix(), &marks.incarnation);
    let now = |found: &Volume, like: &Value| {
        let mut state = read::state(session, &old, found, like);
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
        prior: &input.prior,
        uid: &uid,
        changes: &changes,
        marks,
        temporary: &model::temporary(session.owner(), &new.id()),
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
            let mut state = read::state(session, &new, &found, &input.planned);
            state.set(uid::NAME, &written);
            Ok(Stored::new(state, private))
        }
        Ok(None) => Err(Diagnostic::error(Path::root(), "Unable to update volume", "It is gone. Plan again.").into()),
        Err(told) => Err(partial(session, told, &input, [&old, &new], [&uid, &written]).await),
    }
}

/// One update.
pub(super) struct Change<'c> {
    pub(super) old: &'c Target<'c>,
    pub(super) new: &'c Target<'c>,
    pub(super) model: &'c Model,
    prior: &'c Value,
    /// Its identity.
    uid: &'c Uid,
    /// What others changed since this was planned.
    changes: &'c (dyn Fn(&Volume) -> Diagnostics + Sync),
    /// Those that it carries once it is written.
    marks: Marks,
    /// The name of a copy until it is whole.
    pub(super) temporary: &'c str,
    pub(super) wait: &'c Wait,
}

impl Change<'_> {
    /// Whether a volume is the one to change, before its marks are written and after.
    pub(super) fn is_ours(&self, found: &Volume) -> bool {
        is_of(self.uid, found) || marks::carried(&found.config) == self.marks.incarnation
    }

    /// Writes the marks; returns whether one of them changed.
    pub(super) fn mark(&self, volume: &mut Volume) -> bool {
        let before = volume.config.clone();
        self.marks.write(&mut volume.config);
        before != volume.config
    }

    fn moves(&self) -> bool {
        self.old.name != self.new.name || self.old.pool != self.new.pool
    }

    pub(super) async fn write(&self, target: &Target<'_>) -> Result<(), Failure> {
        let mut refused = Diagnostics::default();
        let write = |volume: &mut Volume| {
            refused = match self.is_ours(volume) {
                true => (self.changes)(volume),
                false => refusal::stranger("volume", &self.old.name).into(),
            };
            if !refused.is_empty() {
                return false;
            }
            let before = volume.config.clone();
            if !self.model.is_iso() {
                carry::mark(
                    volume,
                    (self.old.pool != self.new.pool && target.pool == self.old.pool).then_some(self.new),
                );
            }
            self.mark(volume);
            let filled = Filled::of(&volume.config).unless_shown(self.prior);
            self.model.apply(volume, &filled) | (before != volume.config)
        };
        let written = target.modify(self.model.is_iso(), write, self.wait).await;
        if let Err(error) = written {
            return Err(self.not_written(&error).await.into());
        }
        if refused.is_empty() { Ok(()) } else { Err(refused.into()) }
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
}

pub(super) fn in_use(at: &str, what: &str, running: &[String]) -> Diagnostic {
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

/// What stands now, under the old name or the new one, goes into the state.
async fn partial(
    session: &Session,
    failure: Failure,
    input: &Update,
    targets: [&Target<'_>; 2],
    uids: [&Uid; 2],
) -> Failure {
    for target in targets {
        let Ok(Some(found)) = target.look_back().await else { continue };
        // Under the new name there may be somebody else's, because of which the rename failed.
        let Some(uid) = uids.into_iter().find(|uid| is_of(uid, &found)) else { continue };
        let mut state = read::state(session, target, &found, &input.prior);
        state.set(uid::NAME, uid);
        return failure.with_partial(Stored::new(state, input.private.clone()));
    }
    failure
}
