//! Refresh: what is there, rule by rule.

use super::create::Wanted;
use super::place::Place;
use super::{mark, place, told};
use crate::nft::{Fingerprint, Standing};
use crate::plugin::{Call, Diagnostics, Failure, Path, Private, Stored, Value};
use crate::resources::refusal;
use crate::resources::session::Session;

/// Reads the table. One of others counts as gone, as does none.
pub(super) async fn read(session: &Session, call: &Call, current: Stored) -> Result<Option<Stored>, Failure> {
    refusal::same_prefix(current.private.get("prefix"), session.prefix())?;
    let place = place::find(session, call, &current.state, "read", "read").await?;
    let Some(mark) = self::mark(session, &place, &current.private, &current.state, "read").await? else {
        return Ok(None);
    };
    let wanted = Wanted::of(session.prefix(), &current.state, mark.clone())?;
    let standing = place.host.read(&wanted.ruleset, wanted.file.as_ref(), &place.limit).await;
    let drift = match standing.map_err(|error| told::failed("read", session, &error))? {
        Standing::Absent | Standing::Foreign { .. } => return Ok(None),
        Standing::Ours(drift) => drift,
    };
    let mut stored = Stored::new(wanted.state(&current.state), mark::keep(session, &mark));
    if !drift.is_empty() {
        stored.state.set("rules", drift.rules());
        stored.warnings.warning(
            Path::from("rules"),
            "The isolation was changed by others",
            format!(
                "This differs from what was applied; the next apply puts it back:\n\n    {}",
                drift.lines().join("\n    ")
            ),
        );
    }
    Ok(Some(stored))
}

/// The mark that was kept; where it was lost, that of the table of the same owner, of which there is no other.
pub(super) async fn mark(
    session: &Session,
    place: &Place,
    private: &Private,
    values: &Value,
    verb: &str,
) -> Result<Option<Fingerprint>, Diagnostics> {
    if let Some(kept) = mark::kept(private)? {
        return Ok(Some(kept));
    }
    let any = mark::new(session, &Value::Null)?;
    let wanted = Wanted::of(session.prefix(), values, any.clone())?;
    let standing = place.host.read(&wanted.ruleset, None, &place.limit).await;
    match standing.map_err(|error| told::failed(verb, session, &error))? {
        Standing::Foreign { comment: Some(comment) } => Ok(mark::of_owner(&comment, &any)),
        _ => Ok(None),
    }
}
