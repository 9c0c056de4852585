//! Instances: containers and virtual machines, and their states.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::network::Address;
use super::{Config, Devices, Request, Rest, is_true, null_as_default, time_of};

/// Key of the protection from deletion.
pub const PROTECTION: &str = "security.protection.delete";

/// What an instance is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An LXC container.
    #[default]
    Container,
    /// A KVM virtual machine.
    VirtualMachine,
}

impl Kind {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::VirtualMachine => "virtual-machine",
        }
    }
}

/// An instance as Incus shows it. A `PUT` carries `config` whole, `volatile.*` and `image.*` included.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    #[serde(default, skip_serializing)]
    pub name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Container or virtual machine.
    #[serde(default, rename = "type", skip_serializing)]
    pub kind: Kind,
    /// `Running`, `Stopped`, `Ready` ...
    #[serde(default, skip_serializing)]
    pub status: String,
    /// 102 Stopped, 103 Running, 110 Frozen, 112 Error, 113 Ready.
    #[serde(default, skip_serializing)]
    pub status_code: u16,
    /// Its own keys, `volatile.*` and `image.*` too.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: Config,
    /// Its own devices.
    #[serde(default, deserialize_with = "null_as_default")]
    pub devices: Devices,
    /// Profiles in order, later ones win.
    #[serde(default, deserialize_with = "null_as_default")]
    pub profiles: Vec<String>,
    /// Whether a stop deletes it.
    #[serde(default)]
    pub ephemeral: bool,
    /// Member of the cluster, `none` without one.
    #[serde(default, skip_serializing)]
    pub location: String,
    /// Keys with those of the profiles.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing)]
    pub expanded_config: Config,
    /// Devices with those of the profiles.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing)]
    pub expanded_devices: Devices,
    /// What no field above names.
    #[serde(flatten)]
    pub rest: Rest,
}

impl Instance {
    /// Whether it runs: status Running or Ready.
    pub fn is_running(&self) -> bool {
        matches!(self.status_code, 103 | 113)
    }

    /// Whether it is paused: status Frozen.
    pub fn is_paused(&self) -> bool {
        self.status_code == 110
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.status_code == 102
    }

    /// Whether it is protected from deletion, by itself or by a profile.
    pub fn is_protected(&self) -> bool {
        self.expanded_config.get(PROTECTION).is_some_and(|value| is_true(value))
    }

    /// The uuid by which Incus tells it from its copies; kept by a rename, a move and a restored snapshot or backup (6.0.4).
    pub fn uuid(&self) -> Option<&str> {
        self.config.get("volatile.uuid").map(String::as_str)
    }

    /// When it was started last; the epoch where it never was.
    pub fn last_used_at(&self) -> Option<OffsetDateTime> {
        time_of(&self.rest, "last_used_at")
    }

    /// When Incus made it.
    pub fn created_at(&self) -> Option<OffsetDateTime> {
        time_of(&self.rest, "created_at")
    }

    /// Whether its create broke off, or is under way still: it lacks the note that Incus makes for the first start once the
    /// root disk is whole, and every key that only a start writes (6.0 to 7.3).
    pub fn is_half_made(&self) -> bool {
        const OF_A_START: [&str; 5] = [
            "volatile.apply_template",
            "volatile.last_state.power",
            "volatile.idmap.current",
            "volatile.vsock_id",
            "volatile.vm.needs_reset",
        ];
        self.last_used_at().is_some_and(|at| at.year() == 1970)
            && !self.is_running()
            && !OF_A_START.iter().any(|key| self.config.contains_key(*key))
    }

    /// The storage pool of its root disk, its own or a profile's.
    pub fn root_pool(&self) -> Option<&str> {
        let root = self.expanded_devices.values().find(|device| is_root(device))?;
        root.get("pool").map(String::as_str)
    }
}

/// Whether a device is a root disk: a disk at `/`.
pub fn is_root(device: &BTreeMap<String, String>) -> bool {
    device.get("type").is_some_and(|kind| kind == "disk") && device.get("path").is_some_and(|path| path == "/")
}

/// Where the root disk of a new instance comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Source {
    /// An image of this server.
    #[serde(rename = "image")]
    Local {
        /// Alias, resolved for the instance's type.
        #[serde(skip_serializing_if = "Option::is_none")]
        alias: Option<String>,
        /// Fingerprint, may be a prefix.
        #[serde(skip_serializing_if = "Option::is_none")]
        fingerprint: Option<String>,
    },
    /// An image of an image server, downloaded first.
    #[serde(rename = "image")]
    Remote {
        /// `pull`.
        mode: &'static str,
        /// URL of the server.
        server: String,
        /// `simplestreams`, `incus` or `oci`.
        protocol: String,
        /// Alias, resolved for the instance's type.
        #[serde(skip_serializing_if = "Option::is_none")]
        alias: Option<String>,
        /// Fingerprint.
        #[serde(skip_serializing_if = "Option::is_none")]
        fingerprint: Option<String>,
    },
    /// Another instance of this project, with its snapshots.
    Copy {
        /// Its name.
        source: String,
    },
    /// An empty root disk.
    None,
}

/// What a new instance is made of.
#[derive(Debug, Clone, Serialize)]
pub struct Create {
    /// Its name: 1 to 63 of `[a-zA-Z0-9-]`, no number, no `-` at an end.
    pub name: String,
    /// Container or virtual machine.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Free text.
    pub description: String,
    /// Where the root disk comes from.
    pub source: Source,
    /// Its own keys.
    pub config: Config,
    /// Its own devices.
    pub devices: Devices,
    /// Profiles in order; empty = none.
    pub profiles: Vec<String>,
    /// Whether a stop deletes it.
    pub ephemeral: bool,
    /// Starts it in the same operation; needs the extension `instance_create_start`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub start: bool,
}

/// A change of an instance's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Let one that is paused run on.
    Unfreeze,
}

/// How hard a stop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Ask the guest, and fail after so many seconds.
    Graceful {
        /// Seconds the guest has.
        timeout_s: u32,
    },
    /// Pull the plug.
    Now,
}

/// What an instance is doing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// `Running`, `Stopped` ...
    #[serde(default)]
    pub status: String,
    /// See [`Instance::status_code`].
    #[serde(default)]
    pub status_code: u16,
    /// Process of the host, 0 when it does not run.
    #[serde(default)]
    pub pid: i64,
    /// Processes in the guest; -1 where no agent tells.
    #[serde(default)]
    pub processes: i64,
    /// NICs: by the guest's names where the guest is asked, else by device.
    #[serde(default, deserialize_with = "null_as_default")]
    pub network: BTreeMap<String, Nic>,
    /// What the agent says of the guest's system.
    #[serde(default)]
    pub os_info: Option<serde_json::Value>,
}

impl State {
    /// Whether it runs: status Running or Ready.
    pub fn is_running(&self) -> bool {
        matches!(self.status_code, 103 | 113)
    }
}

/// One NIC of a running instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Addresses, link-local ones included.
    #[serde(default, deserialize_with = "null_as_default")]
    pub addresses: Vec<Address>,
    /// MAC address.
    #[serde(default)]
    pub hwaddr: String,
    /// Name on the host.
    #[serde(default)]
    pub host_name: String,
    /// `up` or `down`.
    #[serde(default)]
    pub state: String,
    /// `broadcast`, `loopback` ...
    #[serde(default, rename = "type")]
    pub kind: String,
}

/// One instance.
pub fn get(project: &str, name: &str) -> Request {
    Request::get(&["instances", name]).project(project)
}

/// All instances of a project, without their states ([`Instance`]).
pub fn list(project: &str) -> Request {
    Request::get(&["instances"]).with("recursion", "1").project(project)
}

/// What an instance is doing ([`State`]); asks the agent of a virtual machine.
pub fn state(project: &str, name: &str) -> Request {
    Request::get(&["instances", name, "state"]).project(project)
}

/// Makes an instance; async, a taken name fails in the operation.
pub fn create(project: &str, body: &Create) -> Request {
    Request::post(&["instances"], body).project(project)
}

/// Starts, stops or restarts an instance; async.
pub fn set_state(project: &str, name: &str, action: Action, force: Force) -> Request {
    let (timeout, force) = match force {
        Force::Graceful { timeout_s } => (i64::from(timeout_s), false),
        Force::Now => (-1, true),
    };
    let body = serde_json::json!({ "action": action, "timeout": timeout, "force": force });
    Request::put(&["instances", name, "state"], &body).project(project)
}

/// Renames a stopped instance; async.
pub fn rename(project: &str, name: &str, new: &str) -> Request {
    Request::post(&["instances", name], &serde_json::json!({ "name": new })).project(project)
}

/// Removes a stopped instance; async.
pub fn delete(project: &str, name: &str) -> Request {
    Request::delete(&["instances", name]).project(project)
}

/// What the guest wrote to its console: plain text, for [`super::Client::text`]. Empty is normal.
pub fn console_log(project: &str, name: &str) -> Request {
    Request::get(&["instances", name, "console"]).project(project)
}

/// What becomes of what a command writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// It is lost. In a virtual machine the command is killed soon after it has begun, with -1 (6.0.4).
    Lost,
    /// Incus keeps it, in the files that `output` in the operation's metadata names, until [`delete_output`].
    Kept,
}

/// Runs a command in the guest without websockets; the exit code is `return` in the operation's metadata. Async.
pub fn exec(project: &str, name: &str, command: &[&str], output: Output) -> Request {
    let body = serde_json::json!({
        "command": command, "wait-for-websocket": false, "record-output": output == Output::Kept, "interactive": false,
    });
    Request::post(&["instances", name, "exec"], &body).project(project)
}

/// Deletes a file of [`Output::Kept`].
pub fn delete_output(project: &str, name: &str, file: &str) -> Request {
    Request::delete(&["instances", name, "logs", "exec-output", file]).project(project)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_never_was_ready_to_start_is_half_made() {
        let instance = |last_used_at: &str, key: &str| {
            let config = serde_json::json!({"volatile.uuid": "u", key: "x"});
            serde_json::from_value::<Instance>(serde_json::json!({
                "status_code": 102, "last_used_at": last_used_at, "config": config
            }))
            .unwrap()
        };
        assert!(instance("1970-01-01T00:00:00Z", "limits.cpu").is_half_made());
        assert!(!instance("2026-01-01T00:00:00Z", "limits.cpu").is_half_made());
        for key in
            ["volatile.apply_template", "volatile.last_state.power", "volatile.idmap.current", "volatile.vsock_id"]
        {
            assert!(!instance("1970-01-01T00:00:00Z", key).is_half_made(), "{key}");
        }
    }

    #[test]
    fn a_put_carries_volatile_keys_and_unknown_fields_and_no_read_only_ones() {
        let shown = r#"{"name":"a","status":"Running","status_code":103,"config":{"volatile.x":"1"},"devices":null,
            "profiles":null,"architecture":"x86_64","stateful":false,"expanded_config":{"a":"b"}}"#;
        let instance: Instance = serde_json::from_str(shown).unwrap();
        assert!(instance.is_running());
        let put = serde_json::to_value(&instance).unwrap();
        assert_eq!(put["config"]["volatile.x"], "1");
        assert_eq!(put["architecture"], "x86_64");
        assert_eq!(put.get("expanded_config"), None);
        assert_eq!(put.get("status"), None);
    }

    #[test]
    fn sources_are_written_as_incus_reads_them() {
        let local = Source::Local { alias: Some("a".into()), fingerprint: None };
        assert_eq!(serde_json::to_value(local).unwrap(), serde_json::json!({"type": "image", "alias": "a"}));
        assert_eq!(serde_json::to_value(Source::None).unwrap(), serde_json::json!({"type": "none"}));
    }

    #[test]
    fn a_graceful_stop_carries_its_timeout() {
        let request = set_state("p", "a", Action::Stop, Force::Graceful { timeout_s: 30 });
        let super::super::Body::Json(Ok(body)) = request.body else { panic!("no body") };
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body, serde_json::json!({"action": "stop", "timeout": 30, "force": false}));
    }
}
