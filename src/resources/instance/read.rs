//! Refresh and import.

use super::body::{NIC, ROOT};
use super::plan;
use super::schema;
use super::state::{self, Owned, Seen};
use super::target::{self, Target, names};
use crate::incus::Error;
use crate::incus::instance::Instance;
use crate::plugin::{Call, Diagnostic, Failure, Path, Private, Stored, Value};
use crate::resources::session::Session;
use crate::resources::{marks, refusal, timeouts};

/// The devices that `private` says belong to an attribute.
pub(super) fn owned(private: &Private) -> Owned {
    Owned { nic: private.get(plan::IPV4) == Some("static"), root: private.get(plan::ROOT_DISK) == Some("own") }
}

/// Reads an instance. Never asks a guest: addresses come from the bridge's leases.
pub(super) async fn read(session: &Session, call: &Call, mut current: Stored) -> Result<Option<Stored>, Failure> {
    refusal::same_prefix(current.private.get("prefix"), session.prefix())?;
    let client = &session.client_until(&timeouts::of_read(call, &current.state)).await?;
    let (domain, name) = names(&current.state);
    let target = Target::new(session, client, domain, name);
    let ours = async |target: &Target<'_>| {
        let found = client.read_instance(&target.project, &target.name).await;
        let found = found.map_err(|error| target.failure("read", &error))?;
        // What others made under the name of ours is not it.
        Ok::<_, Failure>(found.filter(|found| marks::same_incarnation(&found.config, &current.private)))
    };
    let (target, found) = match ours(&target).await? {
        Some(found) => (target, found),
        // A move that was interrupted before its last step: the plan shows the name that it brings back.
        None => {
            let interim = target.interim();
            let Some(found) = ours(&interim).await? else { return Ok(None) };
            let (domain, name) = &interim.shown;
            current.state.set("id", format!("{domain}/{name}"));
            current.state.set("name", name.as_str());
            (interim, found)
        }
    };
    let mut private = match marks::is_lost(&current.private) {
        true => found_again(session, &found),
        false => current.private,
    };
    let owned = owned(&private);
    let state = refreshed(&target, &found, &current.state, owned, &mut private)
        .await
        .map_err(|error| target.failure("read", &error))?;
    Ok(Some(Stored::new(state, private)))
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
    let state = refreshed(&target, &found, &prior, owned, &mut private)
        .await
        .map_err(|error| target.failure("import", &error))?;
    Ok(Stored::new(state, private))
}

/// What is kept beside the state, as far as the instance itself tells.
fn found_again(session: &Session, found: &Instance) -> Private {
    let mut private = Private::default();
    marks::keep(&mut private, marks::carried(&found.config));
    private.set("prefix", session.prefix());
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
