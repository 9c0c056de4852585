//! Custom storage volumes.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Config, Request, Rest, null_as_default, time_of};

/// A custom volume as Incus shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// `filesystem`, `block` or `iso`.
    #[serde(default, skip_serializing)]
    pub content_type: String,
    /// All keys. An ISO has `size` alone, and takes no other (6.0 to 7.3).
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: Config,
    /// API paths of its users.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing)]
    pub used_by: Vec<String>,
    /// What no field above names.
    #[serde(flatten)]
    pub rest: Rest,
}

impl Volume {
    /// When Incus made it.
    pub fn created_at(&self) -> Option<OffsetDateTime> {
        time_of(&self.rest, "created_at")
    }
}

/// What a new volume is made of.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Create {
    /// Its name: no `/`.
    pub name: String,
    /// `filesystem` or `block`.
    pub content_type: String,
    /// Free text.
    pub description: String,
    /// All keys.
    pub config: Config,
    /// What it is copied from; empty without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// A volume to copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// `copy`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The volume, or `<volume>/<snapshot>`.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// Its project.
    pub project: String,
    volume_only: bool,
}

impl Source {
    /// A copy of a volume, or of one of its snapshots, without the snapshots it has.
    pub fn copy(project: &str, pool: &str, name: &str, snapshot: Option<&str>) -> Self {
        let name = snapshot.map_or_else(|| name.to_owned(), |snapshot| format!("{name}/{snapshot}"));
        Self { kind: "copy", name, pool: pool.to_owned(), project: project.to_owned(), volume_only: true }
    }

    /// A copy of a volume with its snapshots.
    pub fn whole(project: &str, pool: &str, name: &str) -> Self {
        Self { volume_only: false, ..Self::copy(project, pool, name, None) }
    }
}

/// What an upload holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A tarball as `incus storage volume export` writes it: a filesystem or a block volume, with its snapshots.
    Backup,
    /// An optical disk.
    Iso,
}

const VOLUMES: [&str; 2] = ["volumes", "custom"];

fn path<'a>(pool: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    let mut segments = vec!["storage-pools", pool];
    segments.extend(VOLUMES);
    segments.extend(rest);
    segments
}

/// One volume.
pub fn get(project: &str, pool: &str, name: &str) -> Request {
    Request::get(&path(pool, &[name])).project(project)
}

/// All custom volumes of a pool in a project ([`Volume`]); snapshots too, as `<volume>/<snapshot>`.
pub fn list(project: &str, pool: &str) -> Request {
    Request::get(&path(pool, &[])).with("recursion", "1").project(project)
}

/// One snapshot of a volume ([`Volume`]).
pub fn snapshot(project: &str, pool: &str, name: &str, snapshot: &str) -> Request {
    Request::get(&path(pool, &[name, "snapshots", snapshot])).project(project)
}

/// Makes a volume; sync, but async with a source, whose absence fails in the operation.
pub fn create(project: &str, pool: &str, body: &Create) -> Request {
    Request::post(&path(pool, &[]), body).project(project)
}

/// Renames a volume; sync. Incus rewrites the devices of its users, which must not run.
pub fn rename(project: &str, pool: &str, name: &str, new: &str) -> Request {
    Request::post(&path(pool, &[name]), &serde_json::json!({ "name": new })).project(project)
}

/// Moves a volume to another pool, under the name `new`; async. Incus rewrites the devices of its users, which must not
/// run.
pub fn move_to_pool(project: &str, pool: &str, name: &str, to: &str, new: &str) -> Request {
    Request::post(&path(pool, &[name]), &serde_json::json!({ "name": new, "pool": to })).project(project)
}

/// Removes an unused volume with its snapshots; sync.
pub fn delete(project: &str, pool: &str, name: &str) -> Request {
    Request::delete(&path(pool, &[name])).project(project)
}

/// A volume from a stream, for [`super::Client::upload`]; async.
pub fn upload(project: &str, pool: &str, name: &str, content: Content) -> Request {
    let request = Request::post_empty(&path(pool, &[])).project(project).header("X-Incus-name", name);
    match content {
        Content::Iso => request.header("X-Incus-type", "iso"),
        Content::Backup => request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_a_snapshot_names_both() {
        let source = Source::copy("pro", "fast", "data", Some("s0"));
        let expected = serde_json::json!({
            "type": "copy", "name": "data/s0", "pool": "fast", "project": "pro", "volume_only": true
        });
        assert_eq!(serde_json::to_value(source).unwrap(), expected);
    }

    #[test]
    fn an_upload_says_what_it_is_in_its_headers() {
        let request = upload("pro", "fast", "cd", Content::Iso);
        assert_eq!(request.target(), "/1.0/storage-pools/fast/volumes/custom?project=pro");
        let header = |name: &str| request.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
        assert_eq!((header("X-Incus-name"), header("X-Incus-type")), (Some("cd"), Some("iso")));
    }
}
