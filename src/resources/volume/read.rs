//! Refresh and import.

use super::model::{self, Place};
use super::plan::SOURCE;
use super::target::{Target, names};
use crate::incus::volume::Volume;
use crate::plugin::{Call, Diagnostic, Failure, Path, Private, Stored, Value};
use crate::resources::session::{Preset, Session};
use crate::resources::{marks, refusal, timeouts};

/// What is kept beside the state.
pub(super) fn private(session: &Session, incarnation: &str) -> Private {
    let mut private = Private::default();
    marks::keep(&mut private, incarnation);
    private.set("prefix", session.prefix());
    private
}

/// The state of a volume.
pub(super) fn state(session: &Session, target: &Target<'_>, found: &Volume, prior: &Value) -> Value {
    let protected = !matches!(session.delete_protection(), Preset::To(false));
    let place = Place { domain: &target.domain, pool: &target.pool };
    model::state(found, prior, &place, protected)
}

/// Reads a volume.
pub(super) async fn read(session: &Session, call: &Call, current: Stored) -> Result<Option<Stored>, Failure> {
    refusal::same_prefix(current.private.get("prefix"), session.prefix())?;
    let client = session.client_until(&timeouts::of_read(call, &current.state)).await?;
    let (domain, pool, name) = names(&current.state);
    let target = Target::new(session, &client, domain, pool, name);
    let found = target.read().await.map_err(|error| target.failed("read", &error))?;
    // What others made under its name is not it.
    let found = found.filter(|found| marks::same_incarnation(&found.config, &current.private));
    Ok(found.map(|found| {
        let mut private = match marks::is_lost(&current.private) {
            true => found_again(session, &found),
            false => current.private,
        };
        model::keep_rigid(&found, &mut private);
        Stored::new(state(session, &target, &found, &current.state), private)
    }))
}

/// Finds a volume by `<domain>/<pool>/<name>`.
pub(super) async fn import(session: &Session, call: &Call, id: &str) -> Result<Stored, Failure> {
    let parts: Vec<_> = id.split('/').collect();
    let [domain, pool, name] = parts.as_slice() else { return Err(invalid(id).into()) };
    if parts.iter().any(|part| part.is_empty()) {
        return Err(invalid(id).into());
    }
    let client = session.client_until(&timeouts::of_read(call, &Value::Null)).await?;
    let target = Target::new(session, &client, domain, pool, name);
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
    let state = state(session, &target, &found, &prior);
    Ok(Stored::new(state, private))
}

/// What is kept beside the state, as far as the volume itself tells.
fn found_again(session: &Session, found: &Volume) -> Private {
    let mut private = private(session, marks::carried(&found.config));
    if !found.config.contains_key(marks::FINGERPRINT) {
        private.set(SOURCE, "kept");
    }
    private
}

fn invalid(id: &str) -> Diagnostic {
    let detail = format!("\"{id}\" is not `<domain>/<pool>/<name>`, such as \"pro/default/data\".");
    Diagnostic::error(Path::root(), "Invalid import id", detail)
}
