//! The whole provider.

use super::diagnostic::Diagnostics;
use super::resource::Resource;
use super::schema::Schema;
use super::value::Value;

/// A provider: its configuration and its resources.
pub trait Provider: Send + Sync + 'static {
    /// What the configuration becomes: what all resources share.
    type Session: Send + Sync + 'static;

    /// The form of the configuration; asked once, on first demand.
    fn schema(&self) -> Schema;

    /// Rules across attributes. Runs several times; unknown is never a problem.
    fn validate(&self, _config: &Value, _problems: &mut Diagnostics) {}

    /// Takes the configuration, which may hold unknowns. Contacts nobody.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    fn configure(&self, config: Value, client_version: &str) -> Result<Self::Session, Diagnostics>;

    /// Takes notice that this walk applies: the first of its changes is about to begin.
    fn applies(&self, _session: &Self::Session) {}

    /// Every kind of object; asked once, on first demand.
    fn resources(&self) -> Vec<Box<dyn Resource<Self::Session>>>;
}
