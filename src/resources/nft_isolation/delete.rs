//! Delete: the whole table and its file. One of others stays, and that counts as done.

use super::{ID, KIND, create, mark, place, read, told};
use crate::plugin::{Call, Failure, Stored, Value};
use crate::resources::refusal;
use crate::resources::session::Session;

pub(super) async fn delete(session: &Session, call: &Call, prior: Stored) -> Result<(), Failure> {
    refusal::same_prefix(prior.private.get("prefix"), session.prefix())?;
    let file = create::file(&prior.state)?;
    let place = place::find(session, call, &prior.state, "delete", "delete").await?;
    let failed = |error| told::failed("delete", session, &error);
    match mark::kept(&prior.private)? {
        Some(mark) => {
            place.host.remove(&mark, file.as_ref(), &place.limit).await.map_err(failed)?;
        }
        None => {
            let any = mark::new(session, &Value::Null)?;
            if let Some(path) = &file {
                let comment = place.host.comment_of_file(path, &place.limit).await.map_err(failed)?;
                if let Some(mark) = comment.and_then(|comment| mark::of_owner(&comment, &any)) {
                    place.host.remove_file(&mark, path, &place.limit).await.map_err(failed)?;
                }
            }
            if let Some(mark) = read::mark(session, &place, &prior.private, &prior.state, "delete").await? {
                place.host.remove(&mark, None, &place.limit).await.map_err(failed)?;
            }
        }
    }
    session.forget(KIND, ID);
    Ok(())
}
