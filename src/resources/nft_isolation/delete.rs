//! Delete: the whole table and its file. One of others stays, and that counts as done.

use super::{ID, KIND, create, place, read, told};
use crate::plugin::{Call, Failure, Stored};
use crate::resources::refusal;
use crate::resources::session::Session;

pub(super) async fn delete(session: &Session, call: &Call, prior: Stored) -> Result<(), Failure> {
    refusal::same_prefix(prior.private.get("prefix"), session.prefix())?;
    let file = create::file(&prior.state)?;
    let place = place::find(session, call, &prior.state, "delete", "delete").await?;
    if let Some(mark) = read::mark(session, &place, &prior.private, &prior.state, "delete").await? {
        let removed = place.host.remove(&mark, file.as_ref(), &place.limit).await;
        removed.map_err(|error| told::failed("delete", session, &error))?;
    }
    session.forget(KIND, ID);
    Ok(())
}
