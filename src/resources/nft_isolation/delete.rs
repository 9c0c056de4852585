//! Delete: the whole table and its file. One of others stays, and that counts as done.

use super::create::{self, Wanted};
use super::place::Place;
use super::{ID, KIND, mark, place, told};
use crate::nft::{Fingerprint, Standing};
use crate::plugin::{Call, Diagnostics, Failure, Stored, Value};
use crate::resources::refusal;
use crate::resources::session::Session;

pub(super) async fn delete(session: &Session, call: &Call, prior: Stored) -> Result<(), Failure> {
    refusal::same_prefix(prior.private.get("prefix"), session.prefix())?;
    let file = create::file(&prior.state)?;
    let place = place::find(session, call, &prior.state, "delete", "delete").await?;
    let failed = |error| told::failed("delete", session, &error);
    if mark::is_kept(&prior.private) {
        let mark = mark::kept(&prior.private)?;
        place.host.remove(&mark, file.as_ref(), &place.limit).await.map_err(failed)?;
    } else {
        let any = mark::new(session, &Value::Null)?;
        if let Some(path) = &file {
            let comment = place.host.comment_of_file(path, &place.limit).await.map_err(failed)?;
            if let Some(mark) = comment.and_then(|comment| mark::of_owner(&comment, &any)) {
                place.host.remove_file(&mark, path, &place.limit).await.map_err(failed)?;
            }
        }
        if let Some(mark) = of_tainted(session, &place, &prior.state, any).await? {
            place.host.remove(&mark, None, &place.limit).await.map_err(failed)?;
        }
    }
    session.forget(KIND, ID);
    Ok(())
}

/// The mark of the table of a tainted object: it goes before another is made, so a table of the same owner is its.
async fn of_tainted(
    session: &Session,
    place: &Place,
    state: &Value,
    any: Fingerprint,
) -> Result<Option<Fingerprint>, Diagnostics> {
    let wanted = Wanted::of(session.prefix(), state, any.clone())?;
    let standing = place.host.read(&wanted.ruleset, None, &place.limit).await;
    match standing.map_err(|error| told::failed("delete", session, &error))? {
        Standing::Foreign { comment: Some(comment) } => Ok(mark::of_owner(&comment, &any)),
        _ => Ok(None),
    }
}
