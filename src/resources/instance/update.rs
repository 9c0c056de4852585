//! Changing an instance in place, with a stop only where one is needed.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::body::{Inherited, Model};
use super::relocate::relocate;
use super::state::{self, Owned, Seen};
use super::target::{self, Target, names};
use super::wait::{self, Up};
use super::{preflight, read, restart, unready};
use crate::incus::instance::{self, Instance};
use crate::incus::{Config, Error, Refusal, Wait};
use crate::plugin::{Call, Diagnostics, Failure, Stored, Update, Value};
use crate::resources::marks::Marks;
use crate::resources::session::Session;
use crate::resources::uid::{self, Uid};
use crate::resources::{marks, meanwhile, notes, refusal, timeouts};

const LIMIT: Duration = Duration::from_secs(10 * 60);
/// Where a root disk is copied to another pool.
const MOVE_LIMIT: Duration = Duration::from_secs(30 * 60);
/// What is written in whole, so that what others wrote there meanwhile would be lost.
const WATCHED: &[&str] = &[
    "description",
    "config",
    "devices",
    "profiles",
    "cloud_init",
    "nesting",
    "secure_boot",
    "csm",
    "boot_autostart",
    "boot_priority",
    "snapshots_schedule",
    "snapshots_expiry",
    "delete_protection",
];
/// How long starting again what was stopped for a change that failed may take: its own time, the call's may be over.
const BACK: Duration = Duration::from_secs(60);

/// Whether a change takes effect at a start only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    Yes,
    No,
}

/// What is to become of an instance.
pub(super) struct Change<'c> {
    /// As it is called now.
    pub(super) target: &'c Target<'c>,
    /// As it shall be called.
    pub(super) renamed: Option<&'c Target<'c>>,
    pub(super) model: &'c Model,
    pub(super) inherited: &'c Inherited,
    pub(super) restart: Restart,
    pub(super) stop_timeout: Duration,
    pub(super) wait: &'c Wait,
    /// The identity of the one to change.
    pub(super) uid: &'c Uid,
    /// What is planned of one that is in the state.
    pub(super) update: Option<&'c Update>,
}

/// Why an instance was not brought to what is configured.
#[derive(Debug)]
pub(super) enum Unconverged {
    /// Another instance has its name; that is left alone.
    Stranger,
    /// Somebody changed it since that was planned; that was left as it is.
    Meanwhile(Diagnostics),
    /// What Incus refused, or what ended the wait.
    Incus(Error),
}

impl From<Error> for Unconverged {
    fn from(error: Error) -> Self {
        Self::Incus(error)
    }
}

impl<'c> Change<'c> {
    fn last(&self) -> &'c Target<'c> {
        self.renamed.unwrap_or(self.target)
    }

    async fn write(&self, mark: &(dyn Fn(&mut Config) + Sync)) -> Result<(), Unconverged> {
        let mut refused = None;
        let write = |found: &mut Instance| {
            refused = self.refuse(found).err();
            if refused.is_some() {
                return false;
            }
            let before = found.config.clone();
            mark(&mut found.config);
            let marked = before != found.config;
            self.model.apply(found, self.inherited) | marked
        };
        self.target.modify(write, self.wait).await?;
        refused.map_or(Ok(()), Err)
    }

    /// Refuses another one, and one that is not as it was when this was planned.
    fn refuse(&self, found: &Instance) -> Result<(), Unconverged> {
        if !self.uid.owns(&found.config, found.uuid()) {
            return Err(Unconverged::Stranger);
        }
        let Some(update) = self.update else { return Ok(()) };
        let before = update.prior.get("profiles").as_list();
        let had = |name: &str| before.is_some_and(|all| all.iter().any(|one| one.as_str() == Some(name)));
        let found = &Instance { profiles: notes::profiles(found, had), ..found.clone() };
        let (nic, root) = (self.model.ipv4_address.is_some(), self.model.root_disk.is_some());
        let now = [
            &state::state(found, &update.prior, read::owned(&update.private), &Seen::Nothing),
            &state::state(found, &update.planned, Owned { nic, root }, &Seen::Nothing),
        ];
        let changes = meanwhile::changes(update, WATCHED, now);
        if changes.is_empty() { Ok(()) } else { Err(Unconverged::Meanwhile(changes)) }
    }

    /// Stops it. An ephemeral one is made lasting before, as Incus deletes it otherwise.
    async fn stop(&self, found: &Instance) -> Result<(), Error> {
        if found.ephemeral {
            self.target.modify(|found| std::mem::replace(&mut found.ephemeral, false), self.wait).await?;
        }
        self.target.stop(self.stop_timeout, self.wait).await
    }
}

/// Brings an instance to what is configured: stop where needed, move, write, rename, and back to what it shall be.
///
/// # Errors
///
/// Whatever Incus refuses; an instance that was stopped for it is started again first. A stranger under its name, and
/// what others changed meanwhile.
pub(super) async fn converge(change: &Change<'_>, mark: &(dyn Fn(&mut Config) + Sync)) -> Result<(), Unconverged> {
    let found =
        change.target.client.get::<Instance>(instance::get(&change.target.project, &change.target.name)).await?.value;
    change.refuse(&found)?;
    let mut up = !found.is_stopped() && !found.is_paused();
    let pool = change.model.root_pool(change.inherited).filter(|pool| found.root_pool().is_some_and(|now| now != pool));
    let leaves = change.restart == Restart::Yes || change.renamed.is_some() || pool.is_some() || !change.model.running;
    let stops = !found.is_stopped() && leaves;
    if stops {
        change.stop(&found).await?;
        up = false;
    }
    let back = async |stopped_for_it: bool, error: Unconverged| {
        if found.ephemeral
            && stopped_for_it
            && let Err(error) =
                change.target.modify(|found| !std::mem::replace(&mut found.ephemeral, true), change.wait).await
        {
            tracing::warn!(instance = %change.target.name, %error, "not ephemeral again");
        }
        if stopped_for_it
            && change.model.running
            && let Err(error) = change.target.start(&Wait::within(BACK, CancellationToken::new())).await
        {
            tracing::warn!(instance = %change.target.name, %error, "not started again");
        }
        Err(error)
    };
    // Before the write, which Incus refuses where the pool of the root disk is another one.
    if let Some(pool) = pool
        && let Err(error) = relocate(change.target, &pool, change.uid, change.wait).await
    {
        return back(stops, error).await;
    }
    match change.write(mark).await {
        Err(Unconverged::Incus(error))
            if up
                && change.model.restart_on_update
                && matches!(error.refusal(), Some(Refusal::VmKeyNotLive(_) | Refusal::MemoryNotLive)) =>
        {
            change.stop(&found).await?;
            up = false;
            if let Err(error) = change.write(mark).await {
                return back(true, error).await;
            }
        }
        Err(error) if !up => return back(stops, error).await,
        result => result?,
    }
    if let Some(renamed) = change.renamed {
        let request = instance::rename(&change.target.project, &change.target.name, &renamed.name);
        if let Err(error) = change.target.client.run(request, change.wait).await {
            return back(stops, error.into()).await;
        }
    }
    if change.model.running && !up {
        change.last().start(change.wait).await?;
    }
    Ok(())
}

/// Updates an instance in place.
pub(super) async fn update(session: &Session, call: &Call, input: Update) -> Result<Stored, Failure> {
    let uid = uid::expect(session, "instance", &input.prior, &input.private)?;
    let mut model = Model::of(&input.config, &input.planned).map_err(|error| refusal::defect("the instance", error))?;
    let client = &session.client_until(&timeouts::of_stop(call)).await?;
    let limit = if restart::moves(&input.prior, &input.planned).is_some() { MOVE_LIMIT } else { LIMIT };
    let wait = timeouts::wait(call, &input.planned, "update", limit);
    let (_, old) = names(&input.prior);
    let target = Target::new(session, client, &model.domain, old);
    let new = Target::new(session, client, &model.domain, &model.name);
    let renamed = (old != model.name).then_some(&new);

    preflight::place(&target, &mut model).await?;
    // A root disk without an attribute of its own any more goes back to the pool of the profiles.
    let inherited = match model.inherits() || input.private.get(super::plan::ROOT_DISK) == Some("own") {
        true => preflight::inherited("update", &target, &model).await?,
        false => Inherited::default(),
    };
    if input.prior.get("ipv4_address") != input.planned.get("ipv4_address")
        || restart::pins(&input.config, &input.private)
    {
        preflight::address("update", &target, &model, &inherited).await?;
    }
    let fingerprint = target::fingerprint(session, &model.id(), &input.config, &input.planned, &input.prior);
    let marks = Marks::new(fingerprint).of(&uid);
    let written = Uid::new(session.prefix(), &marks.incarnation).with_witness(uid.witness());
    let mut private = input.private.clone();
    marks::written(session, &mut private);
    [super::plan::OWNER, super::plan::RENAMED].into_iter().for_each(|note| private.remove(note));
    target::overrides(&mut private, model.ipv4_address.is_some(), model.root_disk.is_some());
    let reasons = restart::reasons(&input.config, &input.prior, &input.planned, &input.private);
    let needs = model.running && model.restart_on_update && !reasons.is_empty();
    let change = Change {
        target: &target,
        renamed,
        model: &model,
        inherited: &inherited,
        restart: if needs { Restart::Yes } else { Restart::No },
        stop_timeout: target::stop_timeout(&input.planned),
        wait: &wait,
        uid: &uid,
        update: Some(&input),
    };
    let owner = marks::of_owner(session.owner());
    let mark = |config: &mut Config| {
        marks.write(config);
        marks::write_uuid(config);
        marks::forget_moved(config, uid.witness());
        // An apply from another directory does not change an owner that the plan has kept.
        if input.planned.get("owner").is_unknown() || !config.contains_key(marks::OWNER) {
            target::write_all(config, &[(marks::OWNER, &owner)]);
        }
    };
    let changed = match converge(&change, &mark).await {
        Ok(()) => settled(&change, &input.planned, Instant::now()).await,
        Err(Unconverged::Stranger) => return Err(refusal::stranger("instance", old).into()),
        Err(Unconverged::Meanwhile(changes)) => {
            return Err(partial(changes.into(), &input, [&target, &new], [&uid, &written]).await);
        }
        Err(Unconverged::Incus(error)) => Err(error),
    };
    let owned = read::owned(&private);
    match changed {
        Ok(up) => {
            let mut state = state::state(&up.found, &input.planned, owned, &up.seen);
            state.set(uid::NAME, &written.with_witness(up.found.uuid()));
            Ok(Stored { state, private, warnings: up.warnings })
        }
        Err(Error::Unready(unready)) => {
            let Ok(Some(found)) = new.look_back().await else {
                return Err(unready::error("update", &new, &model, &unready).into());
            };
            let seen = read::leased(&new, &found, owned).await.unwrap_or(Seen::Nothing);
            let mut state = state::state(&found, &input.planned, owned, &seen);
            state.set(uid::NAME, &written.clone().with_witness(found.uuid()));
            if model.warns() {
                let warnings = unready::warning("update", &new, &model, &unready).into();
                return Ok(Stored { state, private, warnings });
            }
            Err(Failure::from(unready::error("update", &new, &model, &unready))
                .with_partial(Stored::new(state, private)))
        }
        Err(error) => {
            let told = preflight::explain("update", &target, &model, &error).await;
            Err(partial(told.into(), &input, [&target, &new], [&uid, &written]).await)
        }
    }
}

/// Waits only where the plan lets addresses change; otherwise one GET.
async fn settled(change: &Change<'_>, planned: &Value, started: Instant) -> Result<Up, Error> {
    let target = change.last();
    if planned.get("interfaces").is_unknown() && change.model.running {
        return wait::until_up(target, change.model, started, change.wait).await;
    }
    let found = target.client.get::<Instance>(instance::get(&target.project, &target.name)).await?.value;
    Ok(Up { found, seen: Seen::Nothing, warnings: Diagnostics::default() })
}

/// What stands now, under the old name or the new one, goes into the state.
async fn partial(failure: Failure, input: &Update, targets: [&Target<'_>; 2], uids: [&Uid; 2]) -> Failure {
    let [_, new] = targets;
    for target in targets {
        let Ok(Some(found)) = target.look_back().await else { continue };
        // Under the new name there may be somebody else's, because of which the rename failed.
        let is_ours = |uid: &&Uid| uid.owns(&found.config, found.uuid());
        let Some(uid) = uids.into_iter().find(is_ours) else { continue };
        let mut prior = input.prior.clone();
        if target.name == new.name {
            prior.set("name", input.planned.get("name").clone());
            prior.set("id", input.planned.get("id").clone());
        }
        let mut private = input.private.clone();
        let (nic, root) = target::stored_overrides(&found);
        target::overrides(&mut private, nic, root);
        let mut state = state::state(&found, &prior, read::owned(&private), &Seen::Nothing);
        state.set(uid::NAME, &uid.clone().with_witness(found.uuid()));
        return failure.with_partial(Stored::new(state, private));
    }
    failure
}
