//! What is there, by the `incus` command: never by the state, never by the provider.

use std::process::{Child, Stdio};

use serde_json::Value;

use crate::lab::Lab;

/// The `incus` command of one lab.
#[derive(Debug)]
pub(crate) struct Incus<'a> {
    lab: &'a Lab,
}

impl<'a> Incus<'a> {
    pub(crate) fn new(lab: &'a Lab) -> Self {
        Self { lab }
    }

    /// Runs `incus` and returns its output; fails the test if it does.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments).unwrap_or_else(|error| panic!("incus {}: {error}", arguments.join(" ")))
    }

    /// Runs `incus`; whether that went well.
    pub(crate) fn succeeds(&self, arguments: &[&str]) -> bool {
        self.try_run(arguments).is_ok()
    }

    /// Incus walks all links of the host when a bridge changes, and trips over one that another test takes away (6.0.4).
    pub(crate) fn try_run(&self, arguments: &[&str]) -> Result<String, String> {
        let tripped = |result: &Result<String, String>| {
            result.as_ref().is_err_and(|error| error.contains("Failed to delete bridge children interfaces"))
        };
        (0..4)
            .map(|_| self.run_once(arguments))
            .find(|result| !tripped(result))
            .unwrap_or_else(|| self.run_once(arguments))
    }

    fn run_once(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.lab.command("incus").args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Runs a line of shell in an instance; what it prints.
    ///
    /// Through a file: Incus (seen with 6.0.4) loses all that a command prints which ends at once on a busy machine, and
    /// says that it went well.
    pub(crate) fn shell(&self, project: &str, instance: &str, line: &str) -> String {
        let printed = "/tmp/printed";
        let line = format!("{{ {line}\n}} > {printed}");
        self.run(&["exec", instance, "--project", project, "--", "sh", "-c", &line]);
        self.run(&["file", "pull", &format!("{instance}{printed}"), "-", "--project", project])
    }

    /// The lifecycle events of all projects, a line of JSON each, until the process is ended.
    pub(crate) fn monitor(&self) -> Child {
        let arguments = ["monitor", "--all-projects", "--type=lifecycle", "--format=json"];
        self.lab.command("incus").args(arguments).stdout(Stdio::piped()).spawn().unwrap()
    }

    /// Whether Incus tells by an event that an agent answers: from 6.23 on.
    pub(crate) fn announces_agents(&self) -> bool {
        !self.lab.server_version().starts_with("6.0.")
    }

    /// Whether Incus leaves the content of an ISO volume behind when it renames it.
    pub(crate) fn loses_renamed_isos(&self) -> bool {
        ["6.0.0", "6.0.1", "6.0.2", "6.0.3", "6.0.4"].contains(&self.lab.server_version().as_str())
    }

    /// `GET path`: the metadata.
    pub(crate) fn query(&self, path: &str) -> Value {
        serde_json::from_str(&self.run(&["query", path])).unwrap()
    }

    /// `GET path`, [`None`] if there is no such object.
    pub(crate) fn find(&self, path: &str) -> Option<Value> {
        match self.try_run(&["query", path]) {
            Ok(text) => Some(serde_json::from_str(&text).unwrap()),
            Err(error) if error.contains("not found") => None,
            Err(error) => panic!("incus query {path}: {error}"),
        }
    }

    /// The URLs of a collection.
    pub(crate) fn list(&self, path: &str) -> Vec<String> {
        self.query(path).as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The URLs of the networks that Incus manages.
    pub(crate) fn managed_networks(&self) -> Vec<String> {
        let networks = self.query("/1.0/networks?recursion=1&all-projects=true");
        let managed = networks.as_array().into_iter().flatten().filter(|network| network["managed"] == true);
        managed.map(|network| format!("/1.0/networks/{}", network["name"].as_str().unwrap())).collect()
    }

    pub(crate) fn instance(&self, project: &str, name: &str) -> Option<Value> {
        self.find(&format!("/1.0/instances/{name}?project={project}"))
    }

    pub(crate) fn profile(&self, project: &str, name: &str) -> Option<Value> {
        self.find(&format!("/1.0/profiles/{name}?project={project}"))
    }

    pub(crate) fn project(&self, name: &str) -> Option<Value> {
        self.find(&format!("/1.0/projects/{name}"))
    }

    pub(crate) fn network(&self, name: &str) -> Option<Value> {
        self.find(&format!("/1.0/networks/{name}"))
    }

    pub(crate) fn volume(&self, project: &str, pool: &str, name: &str) -> Option<Value> {
        self.find(&format!("/1.0/storage-pools/{pool}/volumes/custom/{name}?project={project}"))
    }
}
