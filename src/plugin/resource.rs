//! One kind of object that the provider keeps.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::plan::Plan;
use super::private::Private;
use super::schema::{Problem, Schema};
use super::value::Value;

/// A kind of object: its form, the rules of its plan, and how it is created, read, updated and deleted.
#[async_trait]
pub trait Resource<S: Send + Sync>: Send + Sync + 'static {
    /// Its name in configurations, with the provider's prefix.
    fn type_name(&self) -> &'static str;

    /// Its form; asked once, on first demand.
    fn schema(&self) -> Schema;

    /// Rules across attributes. Runs several times; unknown is never a problem.
    fn validate(&self, _config: &Value, _problems: &mut Diagnostics) {}

    /// Rules of the plan, after the generic planner, for destruction too. Pure: the plan runs again at apply and has to
    /// give the same answer.
    fn plan(&self, _session: &S, _plan: &mut Plan<'_>) {}

    /// Takes notice of an object of the state, which every walk passes first. What this says refuses the walk.
    fn seen(&self, _session: &S, _prior: &Value) -> Diagnostics {
        Diagnostics::default()
    }

    /// Makes the object.
    async fn create(&self, session: &S, call: &Call, input: Create) -> Result<Stored, Failure>;

    /// Reads the object; `None`, or [`Stored::gone`], when it is gone.
    async fn read(&self, session: &S, call: &Call, current: Stored) -> Result<Option<Stored>, Failure>;

    /// Changes the object in place.
    async fn update(&self, session: &S, call: &Call, input: Update) -> Result<Stored, Failure>;

    /// Deletes the object; one that is gone already is a success.
    async fn delete(&self, session: &S, call: &Call, prior: Stored) -> Result<(), Failure>;

    /// Finds the whole object by what the operator typed; the core reads it afterwards.
    async fn import(&self, session: &S, call: &Call, id: &str) -> Result<Stored, Failure>;

    /// Brings the state of an older `version` of the schema into today's form. Asked for older versions only.
    ///
    /// # Errors
    ///
    /// A [`Problem`] when the state cannot be brought forward.
    fn upgrade(&self, _version: i64, state: serde_json::Value) -> Result<serde_json::Value, Problem> {
        Ok(state)
    }
}

/// What a creation starts from.
#[derive(Clone, Debug)]
pub struct Create {
    /// As configured.
    pub config: Value,
    /// As planned; unknown where the creation decides.
    pub planned: Value,
    /// As planned.
    pub private: Private,
}

/// What an update starts from.
#[derive(Clone, Debug)]
pub struct Update {
    /// As configured.
    pub config: Value,
    /// As it was.
    pub prior: Value,
    /// As planned; unknown where the update decides.
    pub planned: Value,
    /// As planned.
    pub private: Private,
}

/// An object as it is kept in the state.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Every attribute.
    pub state: Value,
    /// What the operator does not see.
    pub private: Private,
    /// What the operator should know although it went well.
    pub warnings: Diagnostics,
}

impl Stored {
    /// An object without warnings.
    pub fn new(state: Value, private: Private) -> Stored {
        Stored { state, private, warnings: Diagnostics::default() }
    }

    /// An object that is gone, and what the operator should know of that.
    pub fn gone(warnings: impl Into<Diagnostics>) -> Stored {
        Stored { warnings: warnings.into(), ..Stored::default() }
    }
}

/// A request that failed, with what exists nevertheless.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    /// Why.
    pub diagnostics: Diagnostics,
    /// What there is now: after a failed creation saved as tainted, after a failed update saved as is.
    /// Without it, the prior state stays.
    pub partial: Option<Stored>,
}

impl Failure {
    /// The same failure, with what exists nevertheless.
    #[must_use]
    pub fn with_partial(mut self, partial: Stored) -> Failure {
        self.partial = Some(partial);
        self
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Self {
        Failure { diagnostics, partial: None }
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Failure::from(Diagnostics::from(diagnostic))
    }
}

/// The circumstances of one request.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Cancelled when the operator asks to stop; waits end early, the answer is still given.
    pub stop: CancellationToken,
}
