//! Refresh and import.

use super::body::{NIC, ROOT};
use super::plan;
use super::schema;
use super::state::{self, Owned, Seen};
use super::target::{self, Target, names};
use crate::incus::Error;
use crate::incus::instance::Instance;
use crate::plugin::{Call, Diagnostic, Diagnostics, Failure, Path, Private, Stored, Value};
use crate::resources::session::Session;
use crate::resources::uid::{self, Uid};
use crate::resources::{marks, notes, timeouts};

/// The devices that `private` says belong to an attribute.
pub(super) fn owned(private: &Private) -> Owned {
    Owned { nic: private.get(plan::IPV4) == Some("static"), root: private.get(plan::ROOT_DISK) == Some("own") }
}

/// Reads an instance. Never asks a guest: addresses come from the bridge's leases.
pub(super) async fn read(session: &Session, call: &Call, mut current: Stored) -> Result<Option<Stored>, Failure> {
    let uid = uid::find(session, &current.state, &current.private)?;
    let client = &session.client_until(&timeouts::of_read(call, &current.state)).await?;
    let (domain, name) = names(&current.state);
    let target = Target::new(session, client, domain, name);
    let is_ours = |found: &Instance| uid.as_ref().is_none_or(|uid| uid.owns(&found.config, found.uuid()));
    let named = async |target: &Target<'_>| {
        let found = client.read_instance(&target.project, &target.name).await;
        found.map_err(|error| target.failure("read", &error))
    };
    let mut warnings = Diagnostics::default();
    let mut renamed_from = None;
    let mut there = named(&target).await?;
    // Incus may not have begun with what an interrupted create asked for, or have just ended.
    if there.is_none() && uid.as_ref().is_some_and(Uid::is_incomplete) {
        if target.is_busy().await.map_err(|error| target.failure("read", &error))? {
            return Ok(Some(current));
        }
        there = target.fetch().await.map_err(|error| target.failure("read", &error))?;
    }
    let (target, found) = match there {
        Some(found) if is_ours(&found) => (target, found),
        there => {
            // A move that was interrupted before its last step: the plan shows the name that it brings back.
            let interim = target.interim();
            let has_mark = |found: &Instance| uid.as_ref().is_none_or(|uid| uid.has_mark_of(&found.config));
            let moved = named(&interim).await?.filter(has_mark).map(|found| (interim, found));
            let elsewhere = match (moved, &uid) {
                (None, Some(uid)) => renamed(session, &target, uid, &mut warnings).await?,
                (moved, _) => moved,
            };
            let Some((target, found)) = elsewhere else {
                let config = there.as_ref().map(|found| &found.config);
                return uid::absent(session, client, "instance", current, config).await;
            };
            let (domain, name) = &target.shown;
            // The interim name of a move is one of ours.
            renamed_from =
                (!warnings.is_empty()).then(|| current.state.get("name").as_str().unwrap_or_default().to_owned());
            current.state.set("id", format!("{domain}/{name}"));
            current.state.set("name", name.as_str());
            (target, found)
        }
    };
    let mut private = match marks::is_lost(&current.private) {
        true => found_again(session, &found),
        false => current.private,
    };
    note_owner(session, &found, &mut private);
    // A restored snapshot has brought an older mark back.
    if let Some(uid) = uid.as_ref().filter(|uid| !uid.marks().iter().any(|mark| mark == marks::carried(&found.config)))
    {
        private.set(plan::OWNER, uid.to_string());
    }
    match &renamed_from {
        Some(name) => private.set(plan::RENAMED, name.as_str()),
        None => private.remove(plan::RENAMED),
    }
    let owned = owned(&private);
    let read = async {
        session.found_here(client, &mut private).await;
        refreshed(&target, &found, &current.state, owned, &mut private).await
    };
    let mut state = read.await.map_err(|error| target.failure("read", &error))?;
    let confirmed = uid.map(|uid| uid.confirmed(&found.config, found.uuid()));
    let is_usable =
        found.is_running() || (!found.is_half_made() && current.state.get("running").as_bool() == Some(false));
    state.set(uid::NAME, confirmed.map(|uid| if is_usable { uid.complete() } else { uid }.to_string()));
    Ok(Some(Stored { state, private, warnings }))
}

/// Notes for the plan whether the instance carries the hash of another owner, or the note of a profile that an interrupted
/// apply has left: both are written by an update.
fn note_owner(session: &Session, found: &Instance, private: &mut Private) {
    let ours = marks::of_owner(session.owner());
    let has_note = found.config.keys().any(|key| key.starts_with(notes::PROFILE));
    match found.config.get(marks::OWNER) {
        Some(owner) if *owner != ours || has_note => private.set(plan::OWNER, owner.as_str()),
        _ => private.remove(plan::OWNER),
    }
}

/// Finds the instance of `uid` under another name, by its uuid. Costs one request.
pub(super) async fn by_uuid(target: &Target<'_>, uid: &Uid) -> Result<Option<Instance>, Error> {
    if uid.witness().is_none() {
        return Ok(None);
    }
    let all = match target.client.read_instances(&target.project).await {
        Err(error) if error.is_not_found() => Vec::new(),
        all => all?,
    };
    Ok(all.into_iter().find(|found| found.uuid() == uid.witness() && uid.owns(&found.config, found.uuid())))
}

/// Finds an instance that was renamed outside Terraform.
async fn renamed<'c>(
    session: &Session,
    target: &Target<'c>,
    uid: &Uid,
    warnings: &mut Diagnostics,
) -> Result<Option<(Target<'c>, Instance)>, Failure> {
    let found = by_uuid(target, uid).await.map_err(|error| target.failure("read", &error))?;
    let Some(found) = found else { return Ok(None) };
    let (domain, old) = &target.shown;
    let Some(new) = found.name.strip_prefix(session.prefix()) else {
        return Err(Diagnostic::error(
            Path::from("name"),
            "The instance was renamed outside Terraform",
            format!(
                "\"{domain}/{old}\" is named \"{}\" now, without the nesting prefix. Nothing was changed. Rename it back:\n\n    incus rename \
                 {} {} --project {}",
                found.name, found.name, target.name, target.project
            ),
        )
        .into());
    };
    warnings.warning(
        Path::from("name"),
        "The instance was renamed outside Terraform",
        format!(
            "\"{domain}/{old}\" is named \"{domain}/{new}\" now. The plan renames it back, with a stop and a start if it runs. To keep the new \
             name, write `name = \"{new}\"`."
        ),
    );
    Ok(Some((Target::new(session, target.client, domain, new), found)))
}

async fn refreshed(
    target: &Target<'_>,
    found: &Instance,
    prior: &Value,
    owned: Owned,
    private: &mut Private,
) -> Result<Value, Error> {
    let seen = leased(target, found, owned).await?;
    let mut state = state::state(found, prior, owned, &seen);
    [plan::STALE, plan::REPLUG, plan::ROOT_STALE].into_iter().for_each(|name| private.remove(name));
    let nic = owned.nic && found.devices.contains_key(NIC);
    let root = owned.root && found.devices.contains_key(ROOT);
    if !nic && !root {
        return Ok(state);
    }
    let inherited = target.inherited(&found.profiles).await?;
    if root && let Some(differences) = state::show_changed_root(&mut state, found, inherited.devices.get(ROOT)) {
        private.set(plan::ROOT_STALE, differences);
    }
    if nic && let Some(stale) = state::show_stale(&mut state, found, inherited.devices.get(NIC)) {
        private.set(plan::STALE, stale.differences);
        if stale.replugs {
            private.set(plan::REPLUG, "true");
        }
    }
    Ok(state)
}

/// The addresses that DHCP gave, which ask no guest.
pub(super) async fn leased(target: &Target<'_>, found: &Instance, owned: Owned) -> Result<Seen, Error> {
    match state::network(found) {
        Some(network) if found.is_running() && !owned.nic => leases(target, network).await,
        _ => Ok(Seen::Nothing),
    }
}

/// A client that may not see the network, or a network that has no leases, leaves the addresses as they are.
async fn leases(target: &Target<'_>, network: &str) -> Result<Seen, Error> {
    match target.client.leases(network, &target.project).await {
        Ok(leases) => Ok(Seen::Leases(leases)),
        Err(error) if error.refusal().is_some() => Ok(Seen::Nothing),
        Err(error) => Err(error),
    }
}

/// Finds an instance by `<domain>/<name>`.
pub(super) async fn import(session: &Session, call: &Call, id: &str) -> Result<Stored, Failure> {
    let Some((domain, name)) = id.split_once('/').filter(|(domain, name)| !domain.is_empty() && !name.is_empty())
    else {
        let detail = format!("\"{id}\" is not `<domain>/<name>`, such as \"pro/pro-dev\".");
        return Err(Diagnostic::error(Path::root(), "Invalid import id", detail).into());
    };
    let client = &session.client_until(&timeouts::of_read(call, &Value::Null)).await?;
    let target = Target::new(session, client, domain, name);
    let Some(found) = target.fetch().await.map_err(|error| target.failure("import", &error))? else {
        let detail = format!(
            "There is no instance \"{name}\" in the domain \"{domain}\". List them:\n\n    incus list --project {}",
            target.project
        );
        return Err(Diagnostic::error(Path::root(), "Unable to import instance: it does not exist", detail).into());
    };
    let mut private = found_again(session, &found);
    let prior = kept(&found, domain, name);
    let owned = owned(&private);
    note_owner(session, &found, &mut private);
    let mut state = refreshed(&target, &found, &prior, owned, &mut private)
        .await
        .map_err(|error| target.failure("import", &error))?;
    let uid = Uid::new(session.prefix(), marks::carried(&found.config));
    state.set(uid::NAME, &uid.confirmed(&found.config, found.uuid()));
    Ok(Stored::new(state, private))
}

/// What is kept beside the state, as far as the instance itself tells.
fn found_again(session: &Session, found: &Instance) -> Private {
    let mut private = marks::private(session);
    let (nic, root) = target::stored_overrides(found);
    target::overrides(&mut private, nic, root);
    if marks::read_stored(&found.config, "image").is_none() {
        private.set(plan::IMAGE, "kept");
    }
    private
}

/// What was written on the instance because Incus has no place for it, and the defaults of the rest.
fn kept(found: &Instance, domain: &str, name: &str) -> Value {
    let stored = |name: &str| marks::read_stored(&found.config, name);
    let object = |name: &str, members: &[&str]| {
        let json = stored(name).and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        json.filter(serde_json::Value::is_object).map_or(Value::Null, |json| {
            let json = Value::from_json(&json);
            Value::Map(members.iter().map(|member| ((*member).to_owned(), json.get(member).clone())).collect())
        })
    };
    let mut prior = Value::object();
    prior.set("id", format!("{domain}/{name}"));
    prior.set("domain", domain);
    prior.set("name", name);
    prior.set("wait", object("wait", &schema::WAIT));
    prior.set("timeouts", object("timeouts", timeouts::STEPS));
    prior.set("stop_timeout", stored("stop_timeout").unwrap_or("30s"));
    prior.set("restart_on_update", stored("restart_on_update") != Some("false"));
    prior
}
