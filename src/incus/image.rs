//! Images and their aliases.

use serde::{Deserialize, Serialize};

use super::{Config, Request, Rest, null_as_default};

/// An image as Incus shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// SHA-256 in hex.
    #[serde(default)]
    pub fingerprint: String,
    /// `container` or `virtual-machine`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Names it goes by.
    #[serde(default, deserialize_with = "null_as_default")]
    pub aliases: Vec<ImageAlias>,
    /// Whether it was fetched for an instance, and not asked for.
    #[serde(default)]
    pub cached: bool,
    /// What the image says of itself.
    #[serde(default, deserialize_with = "null_as_default")]
    pub properties: Config,
    /// What no field above names.
    #[serde(flatten)]
    pub rest: Rest,
}

/// One name of an image, inside [`Image`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageAlias {
    /// The name.
    #[serde(default)]
    pub name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
}

/// An alias on its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// The name.
    #[serde(default)]
    pub name: String,
    /// Fingerprint of the image.
    #[serde(default)]
    pub target: String,
    /// `container` or `virtual-machine`.
    #[serde(default, rename = "type")]
    pub kind: String,
}

/// One image, by its whole fingerprint or a prefix.
pub fn get(project: &str, fingerprint: &str) -> Request {
    Request::get(&["images", fingerprint]).project(project)
}

/// All images of a project ([`Image`]).
pub fn list(project: &str) -> Request {
    Request::get(&["images"]).with("recursion", "1").project(project)
}

/// One alias ([`Alias`]).
pub fn alias(project: &str, name: &str) -> Request {
    Request::get(&["images", "aliases", name]).project(project)
}

/// All aliases of a project ([`Alias`]).
pub fn aliases(project: &str) -> Request {
    Request::get(&["images", "aliases"]).with("recursion", "1").project(project)
}

/// Removes an image; async.
pub fn delete(project: &str, fingerprint: &str) -> Request {
    Request::delete(&["images", fingerprint]).project(project)
}
