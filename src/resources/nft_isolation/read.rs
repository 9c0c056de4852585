//! Refresh: what is there, rule by rule.

use super::create::Wanted;
use super::{mark, place, told};
use crate::nft::Standing;
use crate::plugin::{Call, Failure, Path, Stored};
use crate::resources::refusal;
use crate::resources::session::Session;

/// Reads the table. One of others counts as gone, as does none.
pub(super) async fn read(session: &Session, call: &Call, current: Stored) -> Result<Option<Stored>, Failure> {
    refusal::same_prefix(current.private.get("prefix"), session.prefix())?;
    let mark = mark::kept(&current.private)?;
    let wanted = Wanted::of(session.prefix(), &current.state, mark)?;
    let place = place::find(session, call, &current.state, "read", "read").await?;
    let standing = place.host.read(&wanted.ruleset, wanted.file.as_ref(), &place.limit).await;
    let drift = match standing.map_err(|error| told::failed("read", session, &error))? {
        Standing::Absent | Standing::Foreign { .. } => return Ok(None),
        Standing::Ours(drift) => drift,
    };
    let mut stored = Stored::new(wanted.state(&current.state), current.private);
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
