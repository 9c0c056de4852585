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
