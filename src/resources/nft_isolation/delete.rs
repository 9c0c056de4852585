//! Delete: the whole table and its file. A table that has another `uid` stays, and that counts as done.

use super::mark;
use super::{ID, KIND, create, import, place, read, told};
use crate::nft::{Removed, TableMark};
use crate::plugin::{Call, Failure, Stored};
use crate::resources::session::Session;
use crate::resources::{refusal, uid as identity};

pub(super) async fn delete(session: &Session, call: &Call, prior: Stored) -> Result<(), Failure> {
    refusal::same_prefix(prior.private.get("prefix"), session.prefix())?;
    if import::is_unapplied(&prior.state) {
        return Ok(());
    }
    let file = create::file(&prior.state)?;
    let place = place::find(session, call, &prior.state, "delete", "delete").await?;
    let failed = |error| told::failed("delete", session, &error);
    match read::uid(session, &place, &prior.state, &prior.private, "delete").await? {
        Some(uid) if !mark::is_incomplete(&prior.state) && session.was_taken_over(KIND, &uid.to_string()) => {
            return Err(told::not_replaced().into());
        }
        Some(uid) => {
            let removed = place.host.remove(&uid.mark()?, file.as_ref(), &place.limit).await.map_err(failed)?;
            if removed != Removed::Done {
                identity::deleted(session, &place.client, "isolation", &prior.private).await?;
            }
        }
        None => {
            if let TableMark::Marked(mark) = place.host.mark(&place.limit).await.map_err(failed)? {
                return Err(told::unknown(&mark).into());
            }
        }
    }
    session.forget(KIND, ID);
    Ok(())
}
