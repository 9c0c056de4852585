//! Deleting an instance: gracefully, then by force, tolerant of what is gone.

use std::time::Duration;

use super::KIND;
use super::target::{self, Target, names};
use crate::plugin::{Call, Diagnostic, Failure, Path, Stored};
use crate::resources::session::Session;
use crate::resources::{marks, refusal, timeouts};

const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Deletes an instance. One of another incarnation was adopted by a replacement: it stays, and this counts as done.
pub(super) async fn delete(session: &Session, call: &Call, prior: Stored) -> Result<(), Failure> {
    refusal::same_prefix(prior.private.get("prefix"), session.prefix())?;
    let client = &session.client_until(&timeouts::of_stop(call)).await?;
    let wait = timeouts::wait(call, &prior.state, "delete", LIMIT);
    let (domain, name) = names(&prior.state);
    let target = Target::new(session, client, domain, name);
    let fail = |error: &crate::incus::Error| target.failure("delete", error);
    let Some(found) = target.fetch().await.map_err(|error| fail(&error))? else { return Ok(()) };
    if !marks::same_incarnation(&found.config, &prior.private) {
        return Ok(());
    }
    // Before the stop: a protected instance is not even stopped.
    if found.is_protected() {
        return Err(protected(domain, name).into());
    }
    if !found.is_stopped() {
        target.stop(target::stop_timeout(&prior.state), &wait).await.map_err(|error| fail(&error))?;
        // The stop takes its time, in which a replacement may have adopted it.
        let still = target.fetch().await.map_err(|error| fail(&error))?;
        if still.is_some_and(|found| !marks::same_incarnation(&found.config, &prior.private)) {
            return Ok(());
        }
    }
    client.delete_instance(&target.project, &target.name, &wait).await.map_err(|error| fail(&error))?;
    session.forget(KIND, &format!("{domain}/{name}"));
    Ok(())
}

fn protected(domain: &str, name: &str) -> Diagnostic {
    Diagnostic::error(
        Path::from("delete_protection"),
        "The instance is protected",
        format!(
            "\"{domain}/{name}\" has `delete_protection`, and was left as it is. Set `delete_protection = false` and apply; then destroy or \
             replace it. If it was tainted by hand, take that back first:\n\n    tofu untaint anklume_instance.<name>"
        ),
    )
}
