//! The plan of one object, as the rules of its resource see it.

use super::diagnostic::Diagnostics;
use super::path::Path;
use super::private::Private;
use super::schema::Schema;
use super::value::Value;

/// What the plan does to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// There is none yet, or the one there is gets replaced.
    Create,
    /// There is one, which stays.
    Update,
    /// It goes.
    Destroy,
}

/// A plan that the rules of a resource complete.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What is planned.
    pub action: Action,
    /// As configured; null for destruction.
    pub config: &'a Value,
    /// As it is; null for creation.
    pub prior: &'a Value,
    /// As it shall be; null for destruction.
    pub planned: Value,
    /// What goes on to apply; starts as the private of the prior object.
    pub private: Private,
    /// What the operator is told; an error refuses the plan.
    pub diagnostics: Diagnostics,
    pub(super) replace: Vec<Path>,
}

impl<'a> Plan<'a> {
    /// The plan as the rules of a resource find it: `proposed` is null for destruction, `prior` for creation.
    #[must_use]
    pub fn start(schema: &Schema, config: &'a Value, prior: &'a Value, proposed: &Value, private: Private) -> Plan<'a> {
        super::planner::start(schema, config, prior, proposed, private)
    }
}

impl Plan<'_> {
    /// Whether the planned value at `path` differs from the prior one, or is unknown.
    pub fn changed(&self, path: impl Into<Path>) -> bool {
        let path = path.into();
        let planned = path.lookup(&self.planned);
        planned.has_unknown() || planned != path.lookup(self.prior)
    }

    /// Whether this creation replaces an object: the core plans it a second time, with a null prior and the private
    /// of the first plan. When it plans a third time, at apply, the private is gone (Terraform 1.11), so this may
    /// refuse a plan but never decide a planned value.
    pub fn is_replacement(&self) -> bool {
        self.action == Action::Create && !self.private.is_empty()
    }

    /// Plans a value for a top-level attribute that the configuration leaves to the provider.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.planned.set(name, value);
    }

    /// Plans a top-level attribute as known after apply.
    pub fn unknown(&mut self, name: &str) {
        self.planned.set(name, Value::Unknown);
    }

    /// Replaces the object if the value at `path` changes.
    pub fn replace(&mut self, path: impl Into<Path>) {
        self.replace.push(path.into());
    }

    /// Whether the value at one of the paths that call for replacement changes.
    pub fn replaces(&self) -> bool {
        self.action == Action::Update && self.replace.iter().any(|path| self.changed(path))
    }

    /// The paths that call for replacement and whose value changes, each once.
    pub(super) fn replacing(&self) -> Vec<Path> {
        if self.action != Action::Update {
            return Vec::new();
        }
        let mut paths: Vec<Path> = self.replace.iter().filter(|path| self.changed(*path)).cloned().collect();
        paths.sort();
        paths.dedup();
        paths
    }
}
