//! Profiles.

use serde::{Deserialize, Serialize};

use super::{Config, Devices, Request, Rest, null_as_default};

/// A profile as Incus shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// All keys.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: Config,
    /// Devices by name.
    #[serde(default, deserialize_with = "null_as_default")]
    pub devices: Devices,
    /// API paths of its users.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing)]
    pub used_by: Vec<String>,
    /// What no field above names.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What a new profile is made of.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Create {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// All keys.
    pub config: Config,
    /// Devices by name.
    pub devices: Devices,
}

/// One profile.
pub fn get(project: &str, name: &str) -> Request {
    Request::get(&["profiles", name]).project(project)
}

/// All profiles of a project ([`Profile`]).
pub fn list(project: &str) -> Request {
    Request::get(&["profiles"]).with("recursion", "1").project(project)
}

/// Makes a profile; sync.
pub fn create(project: &str, body: &Create) -> Request {
    Request::post(&["profiles"], body).project(project)
}

/// Renames a profile; sync. Its users follow.
pub fn rename(project: &str, name: &str, new: &str) -> Request {
    Request::post(&["profiles", name], &serde_json::json!({ "name": new })).project(project)
}

/// Removes an unused profile; sync.
pub fn delete(project: &str, name: &str) -> Request {
    Request::delete(&["profiles", name]).project(project)
}
