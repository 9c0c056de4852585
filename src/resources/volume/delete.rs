//! Deleting a volume: detached from instances of ours, refused while anybody else uses it.

use super::target::{Target, is_of, names};
use super::{KIND, LIMIT, carry, model, users};
use crate::incus::volume::Volume;
use crate::incus::{Error, Wait};
use crate::plugin::{Call, Diagnostic, Failure, Path, Stored};
use crate::resources::session::Session;
use crate::resources::uid::{self, Uid};
use crate::resources::{refusal, timeouts};

/// Deletes a volume. One of another incarnation was adopted by a replacement: it stays, and this counts as done.
pub(super) async fn delete(session: &Session, call: &Call, prior: Stored) -> Result<(), Failure> {
    let uid = uid::expect(session, "volume", &prior.state, &prior.private)?;
    let client = session.client_until(&timeouts::of_stop(call)).await?;
    let wait = timeouts::wait(call, &prior.state, "delete", LIMIT);
    let target = Target::new(session, &client, names(&prior.state), &prior.private);
    let failed = |error: &Error| target.failed("delete", error);
    let found = target.fetch().await.map_err(|error| failed(&error))?;
    let Some(found) = found.filter(|found| is_of(&uid, found)) else {
        session.replaced(KIND, "volume", &target.id(), &uid)?;
        uid::deleted(session, &client, "volume", &prior.private).await?;
        if prior.state.get("content_type").as_str() == Some("iso") {
            target.sweep(&uid, &wait).await.map_err(|error| failed(&error))?;
        }
        return Ok(());
    };
    if uid.is_indistinct(&found.config) {
        return Err(refusal::unmarked("volume", &target.id()).into());
    }
    let kept = prior.state.get("delete_protection").as_bool() == Some(true);
    if model::protection(&found.config).unwrap_or(kept) {
        return Err(protected(&target.id()).into());
    }
    let copy = carry::left_by(&target, &found, &uid).await.map_err(|error| failed(&error))?;
    for (target, found) in copy.iter().map(|(target, found)| (target, found)).chain([(&target, &found)]) {
        take_away(session, target, found, &uid, &wait).await?;
    }
    session.forget(KIND, &target.id());
    Ok(())
}

async fn take_away(
    session: &Session,
    target: &Target<'_>,
    found: &Volume,
    uid: &Uid,
    wait: &Wait,
) -> Result<(), Failure> {
    let failed = |error: &Error| target.failed("delete", error);
    let users = users::users(target, &found.used_by).await.map_err(|error| failed(&error))?;
    if !users.others.is_empty() {
        return Err(in_use(target, &users.others).into());
    }
    let result = async {
        for name in &users.ours {
            users::detach(&session.notes, target, name, wait).await?;
        }
        // Detaching takes its time, in which another one may have got the name.
        if !users.ours.is_empty() {
            let still = target.fetch().await?;
            if still.is_none_or(|still| !is_of(uid, &still)) {
                return Ok(());
            }
        }
        target.delete(found.content_type == "iso", wait).await
    };
    if let Err(error) = result.await {
        // What stays is attached as it was, as far as that can be done.
        users::attach(&session.notes, target, &Wait::afterwards()).await;
        return Err(failed(&error).into());
    }
    Ok(())
}

fn protected(id: &str) -> Diagnostic {
    Diagnostic::error(
        Path::from("delete_protection"),
        "The volume is protected",
        format!(
            "\"{id}\" has `delete_protection`, and was left as it is. Set `delete_protection = false` and apply; then destroy or replace it. \
             If you tainted it manually, untaint it first:\n\n    tofu untaint anklume_volume.<name>"
        ),
    )
}

fn in_use(target: &Target<'_>, others: &[String]) -> Diagnostic {
    Diagnostic::error(
        Path::root(),
        "Unable to delete volume: it is in use",
        format!(
            "Nothing was changed. Besides instances of this state that have it by `volumes`, \"{}\" is used by:\n\n{}\n\nDetach it from them \
             first. If one of them is in this state under another `owner`, apply once with the volume still in the configuration: the \
             plan shows `owner` of the instance as an update. Then remove the volume.",
            target.id(),
            others.join("\n")
        ),
    )
}
