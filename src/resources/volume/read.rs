//! Refresh and import.

use super::model::{self, Place};
use super::plan::SOURCE;
use super::target::{Target, UPLOADING, is_of, names, witness};
use crate::incus::volume::Volume;
use crate::plugin::{Call, Diagnostic, Failure, Path, Private, Stored, Value};
use crate::resources::session::{Preset, Session};
use crate::resources::uid::{self, Uid};
use crate::resources::{marks, timeouts};

/// The state of a volume.
pub(super) fn state(session: &Session, target: &Target<'_>, found: &Volume, prior: &Value) -> Value {
    let protected = !matches!(session.delete_protection(), Preset::To(false));
    let place = Place { domain: &target.domain, pool: &target.pool };
    model::state(found, prior, &place, protected)
}

/// Reads a volume.
pub(super) async fn read(session: &Session, call: &Call, current: Stored) -> Result<Option<Stored>, Failure> {
    let uid = uid::find(session, &current.state, &current.private)?;
    let client = session.client_until(&timeouts::of_read(call, &current.state)).await?;
    let target = Target::new(session, &client, names(&current.state), &current.private);
    let found = target.read().await.map_err(|error| target.failed("read", &error))?;
    let is_ours = |found: &&Volume| uid.as_ref().is_none_or(|uid| is_of(uid, found));
    let Some(ours) = found.as_ref().filter(is_ours) else {
        return uid::absent(session, &client, "volume", current, found.as_ref().map(|found| &found.config)).await;
    };
    let mut private = match marks::is_lost(&current.private) {
        true => found_again(session, ours),
        false => current.private,
    };
    model::keep_rigid(ours, &mut private);
    session.found_here(&client, &mut private).await;
    let mut state = state(session, &target, ours, &current.state);
    let confirmed = uid.map(|uid| {
        let witness = witness(ours).filter(|_| uid.is_unmarked());
        uid.confirmed(&ours.config, witness.as_deref())
    });
    let is_usable = marks::read_stored(&ours.config, UPLOADING).is_none();
    state.set(uid::NAME, confirmed.map(|uid| if is_usable { uid.complete() } else { uid }.to_string()));
    Ok(Some(Stored::new(state, private)))
}

/// Finds a volume by `<domain>/<pool>/<name>`.
pub(super) async fn import(session: &Session, call: &Call, id: &str) -> Result<Stored, Failure> {
    let parts: Vec<_> = id.split('/').collect();
    let [domain, pool, name] = parts.as_slice() else { return Err(invalid(id).into()) };
    if parts.iter().any(|part| part.is_empty()) {
        return Err(invalid(id).into());
    }
    let client = session.client_until(&timeouts::of_read(call, &Value::Null)).await?;
    let target = Target::new(session, &client, [domain, pool, name], &Private::default());
    let found = match target.fetch().await {
        Ok(found) => found,
        Err(error) => return Err(target.explain("import", &error).await.into()),
    };
    let Some(found) = found else {
        let detail = format!(
            "There is no volume \"{name}\" in the pool \"{pool}\" of the domain \"{domain}\". List them:\n\n    incus storage volume list {pool} --project {}",
            target.project
        );
        return Err(Diagnostic::error(Path::root(), "Unable to import volume: it does not exist", detail).into());
    };
    let mut private = found_again(session, &found);
    model::keep_rigid(&found, &mut private);
    let mut prior = Value::object();
    prior.set("timeouts", timeouts::stored(&found.config));
    let mut state = state(session, &target, &found, &prior);
    let uid = Uid::new(session.prefix(), marks::carried(&found.config));
    let witness = witness(&found).filter(|_| uid.is_unmarked());
    state.set(uid::NAME, &uid.confirmed(&found.config, witness.as_deref()));
    Ok(Stored::new(state, private))
}

/// What is kept beside the state, as far as the volume itself tells.
fn found_again(session: &Session, found: &Volume) -> Private {
    let mut private = marks::private(session);
    if !found.config.contains_key(marks::FINGERPRINT) {
        private.set(SOURCE, "kept");
    }
    private
}

fn invalid(id: &str) -> Diagnostic {
    let detail = format!("\"{id}\" is not `<domain>/<pool>/<name>`, such as \"pro/default/data\".");
    Diagnostic::error(Path::root(), "Invalid import id", detail)
}
