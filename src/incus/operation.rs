//! Operations: what an `async` answer starts.

use serde::{Deserialize, Serialize};

use super::{Request, null_as_default};

/// An operation as Incus shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// UUID.
    #[serde(default)]
    pub id: String,
    /// `task`, `websocket` or `token`.
    #[serde(default)]
    pub class: String,
    /// What it does, in words.
    #[serde(default)]
    pub description: String,
    /// `Running`, `Success`, `Failure` ...
    #[serde(default)]
    pub status: String,
    /// 103 Running, 105 Pending, 200 Success, 400 Failure, 401 Cancelled; 200 and above are final.
    #[serde(default)]
    pub status_code: u16,
    /// Whether `DELETE` would stop it.
    #[serde(default)]
    pub may_cancel: bool,
    /// Why it failed, empty when it did not.
    #[serde(default)]
    pub err: String,
    /// What it has to tell, progress or a result.
    #[serde(default)]
    pub metadata: Option<serde_json::Value>,
    /// API paths by kind of what it works on.
    #[serde(default, deserialize_with = "null_as_default")]
    pub resources: serde_json::Map<String, serde_json::Value>,
}

impl Operation {
    /// Whether it has ended.
    pub fn is_final(&self) -> bool {
        self.status_code >= 200
    }

    /// Whether it says that it works on the object that `request` is about. A copy of a volume says nothing of what it
    /// works on (6.0 to 7.3).
    pub fn names(&self, request: &Request) -> bool {
        let paths = self.resources.values().filter_map(|paths| paths.as_array()).flatten();
        let path = |text: &str| decoded(text.split_once('?').map_or(text, |(path, _)| path));
        paths.filter_map(|path| path.as_str()).any(|text| path(text) == decoded(&request.path))
    }

    /// Whether it may copy a volume, of which Incus says no more than the kind.
    pub fn may_copy_a_volume(&self) -> bool {
        self.resources.is_empty() && self.description.to_lowercase().contains("volume")
    }
}

fn decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}

/// Those of a project, ended ones too for some seconds: lists of [`Operation`] by status.
pub fn list(project: &str) -> Request {
    Request::get(&["operations"]).with("recursion", "1").project(project)
}

/// One operation.
pub fn get(id: &str) -> Request {
    Request::get(&["operations", id])
}

/// Waits until the operation ends, at most `timeout_s` seconds; a timeout answers with the operation as it stands.
pub fn wait(id: &str, timeout_s: u64) -> Request {
    Request::get(&["operations", id, "wait"]).with("timeout", &timeout_s.to_string())
}

/// Cancels an operation that may be cancelled.
pub fn cancel(id: &str) -> Request {
    Request::delete(&["operations", id])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_names_what_it_works_on() {
        let operation: Operation = serde_json::from_value(serde_json::json!({
            "resources": { "storage_volumes": ["/1.0/storage-pools/a%20b/volumes/custom/data?project=pro"] }
        }))
        .unwrap();
        assert!(operation.names(&super::super::volume::get("pro", "a b", "data")));
        assert!(!operation.names(&super::super::volume::get("pro", "a b", "data2")));
    }
}
