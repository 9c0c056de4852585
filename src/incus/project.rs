//! Projects.

use serde::{Deserialize, Serialize};

use super::{Config, Request, Rest, null_as_default};

/// A project as Incus shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Keys `features.*`, `limits.*`, `restricted.*`, `user.*`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: Config,
    /// API paths of what it holds.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing)]
    pub used_by: Vec<String>,
    /// What no field above names.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What a new project is made of.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Create {
    /// Its name: no `_`, quotes, `*`, `/`, spaces.
    pub name: String,
    /// Free text.
    pub description: String,
    /// All keys; `features.*` lock once it holds anything.
    pub config: Config,
}

/// One project.
pub fn get(name: &str) -> Request {
    Request::get(&["projects", name])
}

/// All projects ([`Project`]).
pub fn list() -> Request {
    Request::get(&["projects"]).with("recursion", "1")
}

/// Makes a project; sync.
pub fn create(body: &Create) -> Request {
    Request::post(&["projects"], body)
}

/// Renames an empty project; async.
pub fn rename(name: &str, new: &str) -> Request {
    Request::post(&["projects", name], &serde_json::json!({ "name": new }))
}

/// Removes an empty project; sync.
pub fn delete(name: &str) -> Request {
    Request::delete(&["projects", name])
}
