//! The default `owner`, a text that names the state that a configuration is applied to.
//!
//! Two states have two owners. A remote state has one owner wherever it is applied from: the location in the backend record
//! and the workspace. A local state is identified by its directory, so it has another owner after a move or a restore, or
//! in a new container.

mod address;
mod backend;
mod fields;

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::{env, fs};

use rustix::process::{geteuid, getppid};
use serde_json::{Value as Json, json};

use self::backend::{Location, Record, Scope, Variables};
use crate::resources::marks;

/// The facts that the default owner depends on.
pub(super) struct Environment {
    /// Working directory, which the provider inherits from the client (after `-chdir`), without symbolic links.
    pub directory: PathBuf,
    /// Inode of the directory. The number of its device may change at a boot, so it has no part.
    pub inode: Option<u64>,
    /// Numeric id of the user.
    pub user: u32,
    /// Contents of `/etc/machine-id`; containers often have none.
    pub machine: Option<String>,
    /// The process that started the provider.
    pub client: Client,
    /// The variables of the process.
    pub variables: Box<Variables>,
}

/// The client's process.
pub(super) struct Client {
    /// Its command line; empty where that is not readable.
    pub command: Vec<String>,
    /// A text that no other process has.
    pub identity: String,
}

impl Environment {
    /// The environment of this process.
    pub(super) fn of_process() -> Self {
        let directory = env::current_dir().unwrap_or_default();
        let directory = directory.canonicalize().unwrap_or(directory);
        let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned();
        Self {
            inode: fs::metadata(&directory).ok().map(|metadata| metadata.ino()),
            directory,
            user: geteuid().as_raw(),
            machine: Some(machine).filter(|id| !id.is_empty()),
            client: Client::of_process(),
            variables: Box::new(|name| env::var_os(name)),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        backend::variable(&self.variables, name)
    }

    fn data_directory(&self) -> PathBuf {
        let data = (self.variables)("TF_DATA_DIR").filter(|path| !path.is_empty());
        self.directory.join(data.unwrap_or_else(|| ".terraform".into()))
    }

    /// The workspace, as the client chooses it (OpenTofu 1.12, Terraform 1.11): `TF_WORKSPACE`, else the contents of
    /// `environment` in the data directory; an empty variable counts as unset.
    fn workspace(&self) -> String {
        let selected = || fs::read_to_string(self.data_directory().join("environment")).ok();
        let name = self.variable("TF_WORKSPACE").or_else(selected);
        name.as_deref().map(str::trim).filter(|name| !name.is_empty()).unwrap_or("default").to_owned()
    }

    /// The part of an owner that differs between directories, users, machines and containers.
    fn local(&self) -> Json {
        json!([self.directory.display().to_string(), self.inode, self.user, self.machine])
    }
}

impl Client {
    /// The parent of this process: clients start providers themselves.
    fn of_process() -> Self {
        let process = getppid().map(|id| id.as_raw_nonzero().get()).unwrap_or_default();
        let command = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let command = command.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok();
        let identity =
            boot.zip(stat.as_deref().and_then(start_time)).map(|(boot, start)| format!("{boot}{process} {start}"));
        Self { command, identity: identity.unwrap_or_else(marks::random) }
    }

    /// Whether it runs `test`, which keeps its states in memory. Options may precede the command (`-chdir=...`).
    fn is_test(&self) -> bool {
        self.command.iter().skip(1).find(|argument| !argument.starts_with('-')).is_some_and(|command| command == "test")
    }
}

/// The start time in a `stat` file of `/proc`: the 22nd field. The name in parentheses may hold blanks.
fn start_time(stat: &str) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)
}

/// The owner of a provider block that sets none.
///
/// A state that ends with the client (`test`, the backend `inmem`) has an owner that no other process has. The owner is the
/// same in all walks of that process, each of which starts the provider again, because a later `run` block updates and
/// destroys what an earlier one created.
pub(super) fn default(environment: &Environment) -> String {
    let in_memory = || json!(["memory", environment.client.identity, environment.local()]).to_string();
    if environment.client.is_test() {
        return in_memory();
    }
    let record = Record::read(&environment.data_directory());
    let workspace = environment.workspace();
    match backend::locate(record.as_ref(), &workspace, &environment.variables) {
        Location::Hosted(name) => name,
        Location::Memory => in_memory(),
        Location::Fields { kind, fields, scope } => {
            let place = match scope {
                Scope::World => Json::Null,
                Scope::Machine => json!(environment.machine),
                Scope::Directory => environment.local(),
            };
            json!([kind, fields, place, workspace]).to_string()
        }
    }
}

/// The default owner of earlier versions: working directory and workspace. Different states may share it.
pub(super) fn legacy(environment: &Environment) -> String {
    format!("{}:{}", environment.directory.display(), environment.workspace())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;

    const APPLY: &[&str] = &["tofu", "apply"];

    fn environment(directory: &Path, set: &[(&str, &str)]) -> Environment {
        let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Environment {
            directory: directory.to_owned(),
            inode: Some(7),
            user: 1000,
            machine: Some("5e9c".to_owned()),
            client: client(APPLY, "1"),
            variables: Box::new(move |name| set.iter().find(|(set, _)| set == name).map(|(_, value)| value.into())),
        }
    }

    fn client(command: &[&str], identity: &str) -> Client {
        Client { command: command.iter().map(|part| (*part).to_owned()).collect(), identity: identity.to_owned() }
    }

    fn owner(directory: &Path, set: &[(&str, &str)]) -> String {
        default(&environment(directory, set))
    }

    /// Writes the record that `init` writes into a data directory.
    fn record(directory: &Path, data: &str, kind: &str, config: &Json) {
        let data = directory.join(data);
        fs::create_dir_all(&data).unwrap();
        let text = json!({"version": 3, "backend": {"type": kind, "config": config, "hash": 1}}).to_string();
        fs::write(data.join("terraform.tfstate"), text).unwrap();
    }

    fn initialised(kind: &str, config: &Json) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        record(directory.path(), ".terraform", kind, config);
        directory
    }

    fn s3(key: &str) -> Json {
        json!({"bucket": "acme", "key": key, "region": "eu-west-1"})
    }

    /// The environment of an apply somewhere else: directory, user, machine and process are others.
    fn elsewhere(directory: &Path) -> Environment {
        let client = client(&["terraform", "-chdir=x", "apply"], "2");
        Environment { inode: Some(8), user: 0, machine: None, client, ..environment(directory, &[]) }
    }

    #[test]
    fn a_local_state_has_the_same_owner_at_every_apply() {
        let directory = tempfile::tempdir().unwrap();
        let first = owner(directory.path(), &[]);
        let second = Environment { client: client(&["terraform", "plan"], "2"), ..environment(directory.path(), &[]) };
        assert_eq!(default(&second), first);
        record(directory.path(), ".terraform", "local", &json!({"path": null, "workspace_dir": null}));
        assert_eq!(owner(directory.path(), &[]), first);
    }

    #[test]
    fn local_states_of_two_directories_machines_containers_users_or_workspaces_have_two_owners() {
        let here = tempfile::tempdir().unwrap();
        let there = tempfile::tempdir().unwrap();
        let base = || environment(here.path(), &[]);
        let cases = [
            ("the first", base()),
            ("another directory, or the same one after a move", environment(there.path(), &[])),
            ("a restored copy, or the same path in another container", Environment { inode: Some(8), ..base() }),
            ("the same path on another machine", Environment { machine: Some("77aa".to_owned()), ..base() }),
            ("the same path in a container without a machine id", Environment { machine: None, ..base() }),
            ("another user", Environment { user: 1001, ..base() }),
            ("another workspace", environment(here.path(), &[("TF_WORKSPACE", "prod")])),
        ];
        let owners: HashSet<_> = cases.iter().map(|(_, environment)| default(environment)).collect();
        assert_eq!(owners.len(), cases.len(), "{owners:#?}");
    }

    #[test]
    fn local_states_at_two_paths_of_one_directory_have_two_owners() {
        let directory = tempfile::tempdir().unwrap();
        let mut owners = HashSet::from([owner(directory.path(), &[])]);
        for config in [json!({"path": "a"}), json!({"path": "b"}), json!({"workspace_dir": "a"})] {
            record(directory.path(), ".terraform", "local", &config);
            owners.insert(owner(directory.path(), &[]));
        }
        assert_eq!(owners.len(), 4);
    }

    #[test]
    fn a_remote_state_has_one_owner_in_all_checkouts() {
        for (kind, config) in [
            ("s3", s3("prod")),
            ("http", json!({"address": "https://states.example/prod"})),
            ("pg", json!({"conn_str": "postgres://db.example/prod"})),
            ("cloud", json!({"organization": "acme", "workspaces": {"name": "prod"}})),
        ] {
            let (here, there) = (initialised(kind, &config), initialised(kind, &config));
            assert_eq!(owner(here.path(), &[]), default(&elsewhere(there.path())), "{kind}");
        }
    }

    #[test]
    fn a_remote_state_whose_location_is_not_known_has_an_owner_for_each_directory() {
        let config = json!({"address": null});
        let (here, there) = (initialised("http", &config), initialised("http", &config));
        assert_ne!(owner(here.path(), &[]), owner(there.path(), &[]));
        let set = [("TF_HTTP_ADDRESS", "https://states.example/prod")];
        assert_eq!(owner(here.path(), &set), owner(there.path(), &set));
    }

    #[test]
    fn a_state_behind_a_loopback_address_has_one_owner_on_each_machine() {
        let config = json!({"address": "http://localhost:8080/prod"});
        let (here, there) = (initialised("http", &config), initialised("http", &config));
        let first = owner(here.path(), &[]);
        assert_eq!(owner(there.path(), &[]), first);
        assert_ne!(default(&elsewhere(there.path())), first);
    }

    #[test]
    fn two_backend_configurations_of_one_directory_have_two_owners() {
        let directory = initialised("s3", &s3("prod"));
        let prod = owner(directory.path(), &[]);
        record(directory.path(), ".terraform", "s3", &s3("staging"));
        let staging = owner(directory.path(), &[]);
        record(directory.path(), ".terraform", "gcs", &s3("prod"));
        assert_eq!(HashSet::from([prod, staging, owner(directory.path(), &[])]).len(), 3);
    }

    #[test]
    fn two_workspaces_of_one_backend_have_two_owners() {
        let directory = initialised("s3", &s3("prod"));
        assert_ne!(
            owner(directory.path(), &[("TF_WORKSPACE", "a")]),
            owner(directory.path(), &[("TF_WORKSPACE", "b")])
        );
    }

    #[test]
    fn the_record_and_the_workspace_are_those_of_the_data_directory() {
        let directory = initialised("s3", &s3("prod"));
        record(directory.path(), "staging", "s3", &s3("staging"));
        record(directory.path(), "copy", "s3", &s3("prod"));
        let prod = owner(directory.path(), &[]);
        assert_ne!(owner(directory.path(), &[("TF_DATA_DIR", "staging")]), prod);
        assert_eq!(owner(directory.path(), &[("TF_DATA_DIR", "copy")]), prod);
        let absolute = directory.path().join("copy");
        assert_eq!(owner(Path::new("/nonexistent"), &[("TF_DATA_DIR", absolute.to_str().unwrap())]), prod);
        fs::write(absolute.join("environment"), "other").unwrap();
        assert_ne!(owner(directory.path(), &[("TF_DATA_DIR", "copy")]), prod);
    }

    #[test]
    fn the_workspace_is_the_one_that_the_client_has_chosen() {
        let directory = tempfile::tempdir().unwrap();
        for (data, name) in [(".terraform", "plain\n"), ("elsewhere", "moved")] {
            fs::create_dir(directory.path().join(data)).unwrap();
            fs::write(directory.path().join(data).join("environment"), name).unwrap();
        }
        let chosen = |set: &[(&str, &str)]| environment(directory.path(), set).workspace();
        assert_eq!(chosen(&[]), "plain");
        assert_eq!(chosen(&[("TF_WORKSPACE", ""), ("TF_DATA_DIR", "")]), "plain");
        assert_eq!(chosen(&[("TF_DATA_DIR", "elsewhere")]), "moved");
        assert_eq!(chosen(&[("TF_DATA_DIR", "elsewhere"), ("TF_WORKSPACE", "named")]), "named");
        assert_eq!(chosen(&[("TF_DATA_DIR", "absent")]), "default");
    }

    #[test]
    fn a_worker_of_hcp_terraform_has_the_owner_of_a_run_on_the_command_line() {
        let cloud = initialised("cloud", &json!({"organization": "acme", "workspaces": {"name": "prod"}}));
        let worker = tempfile::tempdir().unwrap();
        assert_eq!(owner(cloud.path(), &[]), "acme/prod");
        assert_eq!(owner(worker.path(), &[("TFC_WORKSPACE_SLUG", "acme/prod")]), "acme/prod");
    }

    #[test]
    fn an_owner_holds_no_credentials() {
        let config = json!({"conn_str": "postgres://me:hunter2@db.example/s?sslkey=hunter2", "password": "hunter2"});
        for kind in ["pg", "unheard-of"] {
            let directory = initialised(kind, &config);
            assert!(!owner(directory.path(), &[]).contains("hunter2"), "{kind}");
        }
    }

    #[test]
    fn each_run_of_test_has_an_owner_of_its_own() {
        let directory = initialised("s3", &s3("prod"));
        let run = |command: &[&str], identity: &str| {
            default(&Environment { client: client(command, identity), ..environment(directory.path(), &[]) })
        };
        let apply = run(APPLY, "1");
        for command in
            [&["tofu", "test"][..], &["terraform", "-chdir=a b", "test", "-verbose"], &["/x/tofu-1.12", "test"]]
        {
            assert_ne!(run(command, "1"), apply, "{command:?}");
            assert_ne!(run(command, "1"), run(command, "2"), "{command:?}");
            assert_eq!(run(command, "1"), run(command, "1"), "{command:?}: walks of one run share their objects");
        }
        for command in
            [&["tofu", "apply", "test"][..], &["test", "plan"], &["tofu", "-chdir=test", "plan"], &["tofu"], &[]]
        {
            assert_eq!(run(command, "2"), apply, "{command:?}");
        }
    }

    #[test]
    fn a_state_in_memory_has_an_owner_for_each_process() {
        let directory = initialised("inmem", &json!({"lock_id": null}));
        let second = Environment { client: client(APPLY, "2"), ..environment(directory.path(), &[]) };
        assert_ne!(default(&second), owner(directory.path(), &[]));
    }

    #[test]
    fn the_start_time_is_read_whatever_the_name_of_the_process() {
        let stat = "17 (a b) c) S 1 17 17 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 8345 10 11";
        assert_eq!(start_time(stat), Some("8345"));
        assert_eq!(start_time("17 (tofu) S 1"), None);
        assert_eq!(start_time(""), None);
    }

    #[test]
    fn the_environment_of_the_process_is_that_of_its_client() {
        let (first, second) = (Environment::of_process(), Environment::of_process());
        assert_eq!(first.directory, env::current_dir().unwrap());
        assert_eq!(first.client.identity, second.client.identity);
        assert!(!first.client.command.is_empty());
        assert_eq!(default(&first), default(&second));
    }

    #[test]
    fn the_earlier_default_is_the_directory_and_the_workspace() {
        let environment = environment(Path::new("/srv/web"), &[("TF_WORKSPACE", "prod")]);
        assert_eq!(legacy(&environment), "/srv/web:prod");
    }
}
