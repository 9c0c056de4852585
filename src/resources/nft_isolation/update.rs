//! Update: the whole table anew, in one transaction, under the mark of the present owner and configuration.

use super::create::{self, Wanted};
use super::mark::{self, Uid};
use super::{neighbours, place, read, told};
use crate::plugin::{Call, Diagnostics, Failure, Stored, Update};
use crate::resources::refusal;
use crate::resources::session::Session;

pub(super) async fn update(session: &Session, call: &Call, input: Update) -> Result<Stored, Failure> {
    refusal::same_prefix(input.private.get("prefix"), session.prefix())?;
    let place = place::find(session, call, &input.planned, "update", "update").await?;
    let uid = read::uid(session, &place, &input.prior, &input.private, "update").await?.unwrap_or_else(Uid::new);
    let mark = mark::of_planned(session, &input.planned, &uid)?;
    let wanted = Wanted::of(session.prefix(), &input.planned, mark.clone())?;
    let failed = |error| told::failed("update", session, &error);
    wanted.bring(session, &place, |_| false).await.map_err(failed)?;
    if let Some(old) = create::file(&input.prior)?.filter(|old| Some(old) != wanted.file.as_ref()) {
        place.host.remove_file(&mark, &old, &place.limit).await.map_err(failed)?;
    }
    let mut warnings = Diagnostics::default();
    neighbours::warn(session, &place.client, &input.planned, &mut warnings).await;
    let mut private = mark::keep(session);
    session.carry_server(&input.private, &mut private);
    let stored = Stored::new(wanted.state(&input.planned, &uid), private);
    Ok(Stored { warnings, ..stored })
}
