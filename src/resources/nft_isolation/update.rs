//! Update: the whole table anew, in one transaction.

use super::create::{self, Table, Wanted};
use super::{mark, neighbours, place, read, told};
use crate::plugin::{Call, Diagnostics, Failure, Stored, Update};
use crate::resources::refusal;
use crate::resources::session::Session;

pub(super) async fn update(session: &Session, call: &Call, input: Update) -> Result<Stored, Failure> {
    refusal::same_prefix(input.private.get("prefix"), session.prefix())?;
    let place = place::find(session, call, &input.planned, "update", "update").await?;
    let mark = match read::mark(session, &place, &input.private, &input.planned, "update").await? {
        Some(mark) => mark,
        None => mark::new(session, &input.config)?,
    };
    let wanted = Wanted::of(session.prefix(), &input.planned, mark.clone())?;
    let failed = |error| told::failed("update", session, &error);
    wanted.bring(&place, Table::Own).await.map_err(failed)?;
    if let Some(old) = create::file(&input.prior)?.filter(|old| Some(old) != wanted.file.as_ref()) {
        place.host.remove_file(&mark, &old, &place.limit).await.map_err(failed)?;
    }
    let mut warnings = Diagnostics::default();
    neighbours::warn(session, &place.client, &input.planned, &mut warnings).await;
    let stored = Stored::new(wanted.state(&input.planned), mark::keep(session, &mark));
    Ok(Stored { warnings, ..stored })
}
