//! Starting and stopping instances, tolerant of what is so already.

use std::time::Duration;

use super::client::Client;
use super::error::{Error, Refusal};
use super::instance::{self, Action, Force, Instance, State};
use super::run::Wait;

/// Between looks at an instance whose start has ended but which is not seen running yet.
const LOOK: Duration = Duration::from_millis(200);

impl Client {
    /// What an instance is doing. Asks the agent of a virtual machine, which may take 3 s.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub async fn state(&self, project: &str, name: &str) -> Result<State, Error> {
        Ok(self.get(instance::state(project, name)).await?.value)
    }

    /// Changes the state of an instance and waits for the operation.
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    pub async fn set_state(
        &self,
        project: &str,
        name: &str,
        action: Action,
        force: Force,
        wait: &Wait,
    ) -> Result<(), Error> {
        self.run(instance::set_state(project, name, action, force), wait).await.map(|_| ())
    }

    /// Starts an instance and returns it as it runs. One that runs already is fine.
    ///
    /// # Errors
    ///
    /// As [`Client::run`]; the deadline names the last status.
    pub async fn start(&self, project: &str, name: &str, wait: &Wait) -> Result<Instance, Error> {
        match self.set_state(project, name, Action::Start, Force::Graceful { timeout_s: 0 }, wait).await {
            Err(error) if error.refusal() == Some(&Refusal::IsRunning) || error.is_operation_gone() => {}
            result => result?,
        }
        loop {
            let instance: Instance = self.get(instance::get(project, name)).await?.value;
            if instance.is_running() {
                return Ok(instance);
            }
            wait.pause(LOOK, &format!("instance {name:?} to run"), Some(instance.status)).await?;
        }
    }

    /// Stops an instance. One that is stopped, or gone as an ephemeral one is after its stop, is fine.
    ///
    /// # Errors
    ///
    /// As [`Client::run`]; [`Error::OperationGone`] only where the instance is seen running after it.
    pub async fn stop(&self, project: &str, name: &str, force: Force, wait: &Wait) -> Result<(), Error> {
        let error = match self.set_state(project, name, Action::Stop, force, wait).await {
            Err(error) => error,
            Ok(()) => return Ok(()),
        };
        if error.is_not_found() || error.refusal() == Some(&Refusal::IsStopped) {
            return Ok(());
        }
        if !error.is_operation_gone() {
            return Err(error);
        }
        match self.get::<Instance>(instance::get(project, name)).await {
            Ok(fetched) if fetched.value.is_running() => Err(error),
            Ok(_) => Ok(()),
            Err(gone) if gone.is_not_found() => Ok(()),
            Err(other) => Err(other),
        }
    }
}
