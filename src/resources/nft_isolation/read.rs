//! Refresh: what is there, rule by rule.

use super::create::{self, Wanted};
use super::mark::{self, Uid};
use super::place::Place;
use super::{import, place, told};
use crate::nft::{Fingerprint, Standing, TableMark};
use crate::plugin::{Call, Diagnostics, Failure, Path, Private, Stored, Value};
use crate::resources::session::Session;
use crate::resources::{refusal, uid as identity};

/// Reads the table. One that has another `uid` counts as gone, with a warning.
pub(super) async fn read(session: &Session, call: &Call, current: Stored) -> Result<Option<Stored>, Failure> {
    refusal::same_prefix(current.private.get("prefix"), session.prefix())?;
    let place = place::find(session, call, &current.state, "read", "read").await?;
    // No table has a new one.
    let uid = uid(session, &place, &current.state, &current.private, "read").await?.unwrap_or_else(Uid::new);
    let wanted = Wanted::of(session.prefix(), &current.state, uid.mark()?)?;
    let standing = place.host.read(&wanted.ruleset, wanted.file.as_ref(), &place.limit).await;
    let drift = match standing.map_err(|error| told::failed("read", session, &error))? {
        Standing::Absent => return identity::absent(session, &place.client, "isolation", current, None).await,
        Standing::Foreign { comment } => {
            let elsewhere = identity::absent(session, &place.client, "isolation", current, None).await?;
            if elsewhere.is_some() {
                return Ok(elsewhere);
            }
            let warnings = told::replaced(session, comment.as_deref()).into();
            return Ok(Some(Stored { warnings, ..Stored::default() }));
        }
        Standing::Ours(drift) => drift,
    };
    let mut private = mark::keep(session);
    session.carry_server(&current.private, &mut private);
    if import::is_unapplied(&current.state) {
        return Ok(Some(Stored::new(current.state, private)));
    }
    let mut stored = Stored::new(wanted.state(&current.state, &uid), private);
    if !drift.is_empty() {
        if mark::is_incomplete(&current.state) {
            stored.state.set("uid", uid.incomplete());
        }
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

/// The name of the table of this state: `uid`. A state that was written before there was `uid` has it in private state; where
/// the client lost that, the table or the file has it that carries the mark of the same owner.
pub(super) async fn uid(
    session: &Session,
    place: &Place,
    state: &Value,
    private: &Private,
    verb: &str,
) -> Result<Option<Uid>, Diagnostics> {
    if let Some(uid) = Uid::of_state(state)? {
        return Ok(Some(uid));
    }
    if let Some(kept) = mark::kept(private)? {
        return Ok(Uid::of(&kept));
    }
    let failed = |error| told::failed(verb, session, &error);
    let is_ours = |mark: &Fingerprint| mark::is_of_owner(session, mark);
    if let TableMark::Marked(mark) = place.host.mark(&place.limit).await.map_err(failed)?
        && is_ours(&mark)
    {
        return Ok(Uid::of(&mark));
    }
    let Some(file) = create::file(state)? else { return Ok(None) };
    let comment = place.host.comment_of_file(&file, &place.limit).await.map_err(failed)?;
    let mark = comment.and_then(|comment| Fingerprint::of_comment(&comment)).filter(is_ours);
    Ok(mark.and_then(|mark| Uid::of(&mark)))
}
