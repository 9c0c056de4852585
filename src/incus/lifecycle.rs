//! Starting, stopping and deleting instances: tolerant of what is so already, and of a daemon that restarts
//! meanwhile. Where an outcome is unclear the instance is looked at, and asked again only if it is not as it should be.

use std::time::Duration;

use tokio::time::Instant;

use super::client::Client;
use super::error::{Error, Refusal};
use super::instance::{self, Action, Force, Instance};
use super::run::Wait;

/// Between looks at an instance whose outcome is unclear.
const LOOK: Duration = Duration::from_millis(200);
/// How long a daemon that restarts may give no answer.
const AWAY: Duration = Duration::from_secs(30);

impl Client {
    /// Starts an instance, or lets one that is paused run on. One that runs already is fine; whether it goes on running
    /// is not waited for.
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    pub async fn start(&self, project: &str, name: &str, wait: &Wait) -> Result<(), Error> {
        let runs = |found: Option<&Instance>| found.is_some_and(Instance::is_running);
        let mut action = Action::Start;
        loop {
            let request = instance::set_state(project, name, action, Force::Graceful { timeout_s: 0 });
            match self.run(request, wait).await {
                Ok(_) => return Ok(()),
                // Incus says so of a paused one too (6.0.4).
                Err(error) if error.refusal() == Some(&Refusal::IsRunning) => {
                    let found = self.find::<Instance>(instance::get(project, name)).await?;
                    if action == Action::Unfreeze || !found.is_some_and(|found| found.is_paused()) {
                        return Ok(());
                    }
                    action = Action::Unfreeze;
                }
                Err(error) => {
                    if self.is_done(project, name, error, runs, wait).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Asks the guest to stop, and forces it once `graceful` has passed or the guest has refused; zero forces at once.
    /// An instance that is stopped, or gone as an ephemeral one is after its stop, is fine. A restart of the daemon
    /// does not shorten `graceful`.
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    pub async fn stop(&self, project: &str, name: &str, graceful: Duration, wait: &Wait) -> Result<(), Error> {
        let until = Instant::now() + graceful;
        let mut refused = false;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let force = match refused || left.is_zero() {
                true => Force::Now,
                false => Force::Graceful { timeout_s: whole_seconds(left) },
            };
            match self.run(instance::set_state(project, name, Action::Stop, force), wait).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_not_found() || error.refusal() == Some(&Refusal::IsStopped) => return Ok(()),
                Err(error) if error.refusal().is_some() && !is_unclear(&error) && force != Force::Now => {
                    tracing::debug!(instance = %name, %error, "the guest did not stop, forcing it");
                    refused = true;
                }
                Err(error) => {
                    if self.is_done(project, name, error, is_down, wait).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Deletes a stopped instance. One that is gone is fine, and so is another one, which `is_ours` tells, where the answer
    /// was lost.
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    pub async fn delete_instance(
        &self,
        project: &str,
        name: &str,
        is_ours: impl Fn(&Instance) -> bool,
        wait: &Wait,
    ) -> Result<(), Error> {
        let is_gone = |found: Option<&Instance>| !found.is_some_and(&is_ours);
        loop {
            match self.run(instance::delete(project, name), wait).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => {
                    if self.is_done(project, name, error, is_gone, wait).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Whether the instance is as `done` says although the request ended with an unclear `error`; pauses if not.
    ///
    /// # Errors
    ///
    /// `error` itself where it is clear; whatever looking at the instance meets.
    async fn is_done(
        &self,
        project: &str,
        name: &str,
        error: Error,
        done: impl Fn(Option<&Instance>) -> bool,
        wait: &Wait,
    ) -> Result<bool, Error> {
        if !is_unclear(&error) {
            return Err(error);
        }
        let asked = Instant::now();
        loop {
            match self.find::<Instance>(instance::get(project, name)).await {
                Ok(found) if done(found.as_ref()) => return Ok(true),
                Ok(found) => {
                    let last = found.map(|found| found.status);
                    return wait.pause(LOOK, &format!("instance {name:?}"), last).await.map(|()| false);
                }
                Err(error) if is_unclear(&error) && asked.elapsed() < AWAY => {
                    wait.pause(LOOK, "Incus to answer again", Some(error.to_string())).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_down(found: Option<&Instance>) -> bool {
    found.is_none_or(Instance::is_stopped)
}

/// A restart of the daemon, at any point of a request: only the instance tells what came of it.
fn is_unclear(error: &Error) -> bool {
    error.is_operation_gone() || error.is_connection() || error.is_unavailable()
}

/// Rounded up, as a timeout of 0 means none to Incus.
fn whole_seconds(left: Duration) -> u32 {
    u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}
