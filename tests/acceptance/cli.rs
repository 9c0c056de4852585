//! The command line clients, run as a user runs them: a directory, a configuration, a state.

use std::cell::RefCell;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use serde_json::Value;

use crate::incus::Incus;
use crate::lab::Lab;

const HEADER: &str = r#"terraform {
  required_providers {
    anklume = { source = "anklume/anklume" }
  }
}
"#;

/// Applies without questions and colours.
pub(crate) const APPLY: &[&str] = &["apply", "-auto-approve", "-input=false", "-no-color"];
/// Destroys without questions and colours.
pub(crate) const DESTROY: &[&str] = &["destroy", "-auto-approve", "-input=false", "-no-color"];
/// Plans without questions and colours.
pub(crate) const PLAN: &[&str] = &["plan", "-input=false", "-no-color"];

/// OpenTofu or Terraform.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// `tofu` or `terraform`.
    pub(crate) name: String,
    /// What `version` prints first.
    pub(crate) version: String,
    /// The executable.
    pub(crate) path: PathBuf,
}

impl Outcome {
    /// The output without the frames and the line breaks of the client.
    pub(crate) fn words(&self) -> String {
        self.text.split_whitespace().filter(|word| !["│", "╷", "╵"].contains(word)).collect::<Vec<_>>().join(" ")
    }
}

impl Client {
    /// `$TF_CLI` alone if it is set; else `tofu` (built if need be), and `terraform` where it is installed.
    ///
    /// # Errors
    ///
    /// Why there is no first client.
    pub(crate) fn all() -> Result<Vec<Self>, String> {
        let mut clients = vec![Self::choose(&[])?];
        if std::env::var_os("TF_CLI").is_none() && clients[0].name != "terraform" {
            clients.extend(Self::choose(&["terraform"]));
        }
        Ok(clients)
    }

    fn choose(arguments: &[&str]) -> Result<Self, String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/tools.sh");
        let output = Command::new(script).arg("client").args(arguments).output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        // Warnings about a configuration file may stand before the version.
        let output = Command::new(&path).arg("version").output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (name, version) = [("tofu", "OpenTofu v"), ("terraform", "Terraform v")]
            .into_iter()
            .find_map(|(name, start)| Some((name, text.lines().find(|line| line.starts_with(start))?.to_owned())))
            .ok_or_else(|| format!("{} is neither OpenTofu nor Terraform", path.display()))?;
        Ok(Self { name: name.to_owned(), version, path })
    }
}

/// How a run of the client ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    /// Standard output, then standard error.
    pub(crate) text: String,
    stdout: String,
}

/// One directory with one configuration and one state.
#[derive(Debug)]
pub(crate) struct Workspace {
    lab: Arc<Lab>,
    client: Arc<Client>,
    dir: PathBuf,
    log: RefCell<String>,
    environment: RefCell<Vec<(String, String)>>,
}

impl Workspace {
    pub(crate) fn new(lab: Arc<Lab>, client: Arc<Client>) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let dir = lab.workspace(&format!("{}-{}", client.name, NEXT.fetch_add(1, Ordering::Relaxed)));
        let provider = Path::new(env!("CARGO_BIN_EXE_terraform-provider-anklume")).parent().unwrap();
        let overrides = format!(
            "provider_installation {{\n  dev_overrides {{ \"anklume/anklume\" = {provider:?} }}\n  direct {{}}\n}}\n"
        );
        fs::write(dir.join("cli.tfrc"), overrides).unwrap();
        Self { lab, client, dir, log: RefCell::default(), environment: RefCell::default() }
    }

    /// The same client on an Incus of its own, which ends with the value.
    pub(crate) fn elsewhere(&self, word: &str, pools: &[&str]) -> Self {
        let lab = Lab::another(&format!("{word}-{}", self.client.name), pools);
        Self::new(Arc::new(lab), Arc::clone(&self.client))
    }

    /// Another configuration with a state of its own, on the same Incus.
    pub(crate) fn beside(&self) -> Self {
        Self::new(Arc::clone(&self.lab), Arc::clone(&self.client))
    }

    /// `program`, to be run where this run's Incus is the local one.
    pub(crate) fn inside(&self, program: &str) -> Command {
        self.lab.command(program)
    }

    /// Where the configuration and the state are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// `tofu` or `terraform`.
    pub(crate) fn client(&self) -> &str {
        &self.client.name
    }

    /// The directory of this run's Incus.
    pub(crate) fn lab(&self) -> &Path {
        self.lab.dir()
    }

    /// The socket of this run's Incus.
    pub(crate) fn socket(&self) -> PathBuf {
        self.lab.socket()
    }

    /// Whether this run's Incus is in a machine that is emulated.
    pub(crate) fn is_emulated(&self) -> bool {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/vm.sh");
        !Command::new(script).arg("quick").output().unwrap().status.success()
    }

    /// Where this run's Incus answers over HTTPS.
    pub(crate) fn address(&self) -> &'static str {
        self.lab.address()
    }

    /// The file of the network that the client and its provider see.
    pub(crate) fn network(&self) -> PathBuf {
        self.lab.network()
    }

    /// What this run's Incus holds that it did not hold at first.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        self.lab.leftovers().into_iter().filter(|left| !left.starts_with("process ")).collect()
    }

    /// Sets a variable of the client's environment from now on.
    pub(crate) fn set(&self, name: &str, value: &str) {
        self.environment.borrow_mut().push((name.to_owned(), value.to_owned()));
    }

    /// What the client may install providers from, in the words of its configuration.
    pub(crate) fn install_from(&self, methods: &str) {
        fs::write(self.dir.join("cli.tfrc"), format!("provider_installation {{\n{methods}\n}}\n")).unwrap();
    }

    /// The `incus` command beside this client.
    pub(crate) fn incus(&self) -> Incus<'_> {
        Incus::new(&self.lab)
    }

    /// Runs a command by Ansible's connection to an instance, which needs no Python there: what it printed.
    pub(crate) fn ansible(&self, project: &str, instance: &str, command: &str) -> String {
        let tool =
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/tools.sh")).arg("ansible").output();
        let tool = tool.unwrap();
        assert!(tool.status.success(), "{}", String::from_utf8_lossy(&tool.stderr));
        let mut ansible = self.lab.command(String::from_utf8_lossy(&tool.stdout).trim());
        let where_it_is = format!("ansible_incus_remote=lab ansible_incus_project={project}");
        ansible.args(["all", "-i", &format!("{instance},"), "-c", "community.general.incus", "-e", &where_it_is]);
        let output = ansible.args(["-m", "raw", "-a", command]).env("ANSIBLE_HOME", &self.dir).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// A domain name that no other test and no other client uses.
    pub(crate) fn domain(&self, name: &str) -> String {
        format!("{}-{name}", if self.client.name == "tofu" { "o" } else { "t" })
    }

    /// A `subnet_id` that no other client uses at the same time.
    pub(crate) fn subnet_id(&self, from: u8) -> u8 {
        from + u8::from(self.client.name == "terraform")
    }

    /// Makes `hcl` the configuration; an empty provider block stands before it.
    pub(crate) fn configure(&self, hcl: &str) {
        self.configure_provider("", hcl);
    }

    /// Makes `hcl` the configuration, with `block` in the provider block before it.
    pub(crate) fn configure_provider(&self, block: &str, hcl: &str) {
        self.configure_all(&format!("provider \"anklume\" {{\n{block}}}\n\n{hcl}"));
    }

    /// Makes `hcl`, which has a provider block, the configuration.
    pub(crate) fn configure_all(&self, hcl: &str) {
        fs::write(self.dir.join("main.tf"), format!("{HEADER}\n{hcl}")).unwrap();
    }

    /// The client, to be run on this configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.lab.command(&self.client.path);
        command
            .args(arguments)
            .current_dir(&self.dir)
            .env("TF_CLI_CONFIG_FILE", self.dir.join("cli.tfrc"))
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .envs(self.environment.borrow().iter().map(|(name, value)| (name, value)));
        command
    }

    /// Applies, sends `signal` to the client's process group (as a terminal does) once `ready`, and returns how long the
    /// client took to end after it, with its output.
    pub(crate) fn interrupted_apply(&self, signal: Signal, ready: impl Fn() -> bool) -> (Duration, String) {
        self.apply_until(ready, |client| kill_process_group(client, signal).unwrap())
    }

    /// Applies, and kills the client alone once `ready`: the provider hears nothing of it.
    pub(crate) fn killed_apply(&self, ready: impl Fn() -> bool) {
        self.apply_until(ready, |client| kill_process(client, Signal::KILL).unwrap());
    }

    /// Applies, and does something else once `ready`: the output of the client, which goes on.
    pub(crate) fn disturbed_apply(&self, ready: impl Fn() -> bool, disturb: impl Fn()) -> String {
        self.apply_until(ready, |_| disturb()).1
    }

    /// Kills the daemon of this run's Incus, and waits until another answers; instances go on.
    pub(crate) fn restart_incus(&self) {
        self.lab.restart();
    }

    /// Applies, and kills the client and the provider after `time`, unless they have ended.
    pub(crate) fn apply_and_kill_within(&self, time: Duration) {
        let mut child = self
            .command(APPLY)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while started.elapsed() < time && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        if child.try_wait().unwrap().is_none() {
            kill_process_group(Pid::from_child(&child), Signal::KILL).unwrap();
        }
        child.wait().unwrap();
    }

    fn apply_until(&self, ready: impl Fn() -> bool, end: impl Fn(Pid)) -> (Duration, String) {
        let log = self.dir.join("interrupted.log");
        let output = fs::File::create(&log).unwrap();
        let mut child = self
            .command(APPLY)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let started = Instant::now();
        while !ready() {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "ended before it was interrupted: {}", fs::read_to_string(&log).unwrap());
            assert!(started.elapsed() < Duration::from_secs(60), "there was nothing to interrupt");
            std::thread::sleep(Duration::from_millis(50));
        }
        let sent = Instant::now();
        end(Pid::from_child(&child));
        child.wait().unwrap();
        let text = fs::read_to_string(&log).unwrap();
        *self.log.borrow_mut() += &format!("$ {} apply, interrupted\n{text}\n", self.client.name);
        (sent.elapsed(), text)
    }

    /// The processes that run in this directory.
    pub(crate) fn processes(&self) -> Vec<String> {
        let here = |entry: &fs::DirEntry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == self.dir);
        let entries = fs::read_dir("/proc").unwrap().flatten().filter(here);
        entries.map(|entry| entry.file_name().display().to_string()).collect()
    }

    /// Runs the client; any exit code is an answer.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        self.finish(self.command(arguments), arguments)
    }

    fn finish(&self, mut command: Command, arguments: &[&str]) -> Outcome {
        let line = format!("{} {}", self.client.name, arguments.join(" "));
        self.ended(&command.output().unwrap(), &line)
    }

    fn ended(&self, output: &Output, line: &str) -> Outcome {
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
        *self.log.borrow_mut() += &format!("$ {line}\n{text}\n");
        Outcome { code: output.status.code(), text, stdout }
    }

    /// Runs the client, which has to succeed.
    pub(crate) fn succeed(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, Some(0), "{} {} failed", self.client.name, arguments[0]);
        outcome
    }

    /// Runs the client, which the provider has to refuse: the diagnostics, on one line.
    pub(crate) fn fail(&self, arguments: &[&str]) -> String {
        diagnostics(&self.fail_in_full(arguments))
    }

    /// Runs the client, which the provider has to refuse: the whole output.
    pub(crate) fn fail_in_full(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, Some(1), "{} {} should have failed", self.client.name, arguments[0]);
        // A provider that does not start, or dies, refuses nothing.
        let died = ["failed to instantiate provider", "Failed to load plugin", "Plugin did not respond", "Unsupported"];
        assert!(!died.iter().any(|sign| outcome.text.contains(sign)), "the refusal is not the provider's");
        outcome.text
    }

    pub(crate) fn apply(&self) -> String {
        self.succeed(APPLY).text
    }

    /// Applies what has to be refused: the diagnostics, on one line.
    pub(crate) fn apply_fails(&self) -> String {
        self.fail(APPLY)
    }

    /// Plans what has to be refused: the diagnostics, on one line.
    pub(crate) fn plan_fails(&self) -> String {
        self.fail(&["plan", "-input=false", "-no-color"])
    }

    pub(crate) fn destroy(&self) {
        self.succeed(&["destroy", "-auto-approve", "-input=false", "-no-color"]);
    }

    /// Destroys what has to be refused: the diagnostics, on one line.
    pub(crate) fn destroy_fails(&self) -> String {
        self.fail(&["destroy", "-auto-approve", "-input=false", "-no-color"])
    }

    pub(crate) fn import(&self, address: &str, id: &str) {
        self.succeed(&["import", "-input=false", "-no-color", address, id]);
    }

    /// Takes `address` out of the state; the object stays.
    pub(crate) fn forget(&self, address: &str) {
        self.succeed(&["state", "rm", address]);
    }

    /// The plan is empty, and nothing was read that differs from the state.
    pub(crate) fn plan_is_empty(&self) {
        let outcome = self.run(&["plan", "-detailed-exitcode", "-input=false", "-no-color"]);
        assert_eq!(outcome.code, Some(0), "the plan is not empty");
    }

    /// The planned actions by address, no-ops left out, as `update`, `create`, `delete/create`.
    pub(crate) fn plan(&self) -> Vec<(String, String)> {
        self.succeed(&["plan", "-input=false", "-no-color", "-out=tfplan"]);
        let plan: Value = serde_json::from_str(&self.succeed(&["show", "-json", "tfplan"]).stdout).unwrap();
        let changes = plan["resource_changes"].as_array().cloned().unwrap_or_default();
        let action = |change: &Value| {
            let actions = change["change"]["actions"].as_array().unwrap();
            actions.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("/")
        };
        let all = changes.iter().map(|change| (change["address"].as_str().unwrap().to_owned(), action(change)));
        all.filter(|(_, action)| action != "no-op").collect()
    }

    /// Plans, and holds that exactly these addresses are updated in place.
    pub(crate) fn plan_updates(&self, addresses: &[&str]) {
        let expected: Vec<_> = addresses.iter().map(|address| ((*address).to_owned(), "update".to_owned())).collect();
        assert_eq!(self.plan(), expected);
    }

    /// The state, in the client's own form.
    pub(crate) fn show_json(&self) -> Value {
        serde_json::from_str(&self.succeed(&["show", "-json"]).stdout).unwrap()
    }

    /// The attributes that the state holds for `address`.
    pub(crate) fn attributes(&self, address: &str) -> Value {
        let state = self.show_json();
        let resources = state["values"]["root_module"]["resources"].as_array().cloned().unwrap_or_default();
        let found = resources.into_iter().find(|resource| resource["address"] == address);
        found.unwrap_or_else(|| panic!("{address} is not in the state"))["values"].take()
    }

    /// Changes what the state holds of each of our resources, by type.
    pub(crate) fn each_in_state(&self, mut change: impl FnMut(&str, &mut Value)) {
        let file = self.dir.join("terraform.tfstate");
        let mut state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        for resource in state["resources"].as_array_mut().unwrap() {
            let kind = resource["type"].as_str().unwrap().to_owned();
            if kind.starts_with("anklume_") {
                resource["instances"].as_array_mut().unwrap().iter_mut().for_each(|held| change(&kind, held));
            }
        }
        fs::write(file, state.to_string()).unwrap();
    }

    /// Takes away what the client keeps beside the state.
    pub(crate) fn lose_private(&self) {
        self.each_in_state(|_, held| drop(held.as_object_mut().unwrap().remove("private")));
    }

    /// Deletes the state.
    pub(crate) fn lose_state(&self) {
        fs::remove_file(self.dir.join("terraform.tfstate")).unwrap();
    }

    /// Runs the client in another directory; any exit code is an answer.
    pub(crate) fn run_in(&self, dir: &Path, arguments: &[&str]) -> Outcome {
        let mut command = self.command(arguments);
        command.current_dir(dir);
        self.finish(command, arguments)
    }

    /// Runs the client in this directory, mounted at `place` in a mount namespace of its own.
    pub(crate) fn run_mounted(&self, place: &Path, arguments: &[&str]) -> Outcome {
        let inner = self.command(arguments);
        let mut outer = Command::new("unshare");
        outer.args(["--mount", "sh", "-c", r#"mount --bind "$0" "$1" && cd "$1" && shift && exec "$@""#]);
        outer.arg(&self.dir).arg(place).arg(inner.get_program()).args(inner.get_args());
        copy_environment(&inner, &mut outer);
        self.finish(outer, arguments)
    }

    /// Runs lines of shell, in which `tofu` is this client and asks nothing. The first line that fails ends them.
    pub(crate) fn script(&self, lines: &str) -> Outcome {
        let mut shell = self.inside("sh");
        let client = format!("{} ", self.client.path.display());
        shell.args(["-ec", &lines.replace("tofu ", &client)]).current_dir(&self.dir);
        copy_environment(&self.command(&[]), &mut shell);
        shell.env("TF_CLI_ARGS_apply", APPLY[1..].join(" ")).env("TF_CLI_ARGS_test", "-no-color");
        for command in ["plan", "import", "init"] {
            shell.env(format!("TF_CLI_ARGS_{command}"), PLAN[1..].join(" "));
        }
        self.ended(&shell.output().unwrap(), lines)
    }

    /// Kills the provider of the client that runs in this directory.
    pub(crate) fn kill_provider(&self) {
        let provider = Path::new(env!("CARGO_BIN_EXE_terraform-provider-anklume"));
        let is_it = |pid: &String| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == provider);
        let pids = self.processes().into_iter().filter(is_it).filter_map(|pid| Pid::from_raw(pid.parse().unwrap()));
        assert!(pids.map(|pid| kill_process(pid, Signal::KILL).unwrap()).count() > 0, "no provider runs");
    }

    /// A filesystem mirror that holds the provider.
    pub(crate) fn mirror(&self) -> PathBuf {
        let host = if self.client() == "tofu" { "registry.opentofu.org" } else { "registry.terraform.io" };
        let (version, system) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS);
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let mirror = self.dir.join("mirror");
        let package = mirror.join(format!("{host}/anklume/anklume/{version}/{system}_{arch}"));
        fs::create_dir_all(&package).unwrap();
        let binary = package.join(format!("terraform-provider-anklume_v{version}"));
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_terraform-provider-anklume"), binary).unwrap();
        mirror
    }

    /// Lets `init` find the provider in a mirror; the other commands take it from where it was built.
    pub(crate) fn offer_to_init(&self) {
        let built = Path::new(env!("CARGO_BIN_EXE_terraform-provider-anklume")).parent().unwrap();
        let mirror = self.mirror();
        self.install_from(&format!(
            "  dev_overrides {{ \"anklume/anklume\" = {built:?} }}\n  filesystem_mirror {{ path = {mirror:?} }}"
        ));
    }

    /// The heart of every resource's test: applied, the plan is empty; imported into a state without it, still empty.
    pub(crate) fn survives_import(&self, address: &str, id: &str) {
        self.forget(address);
        self.import(address, id);
        self.plan_is_empty();
    }
}

/// Gives `outer` the environment of `inner`.
fn copy_environment(inner: &Command, outer: &mut Command) {
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
}

/// The text from the first error on, without the frame and the line breaks of the client.
fn diagnostics(text: &str) -> String {
    let errors = text.split_once("Error: ").map_or("", |(_, errors)| errors);
    errors.split_whitespace().filter(|word| !["│", "╷", "╵"].contains(word)).collect::<Vec<_>>().join(" ")
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("in {}:\n{}", self.dir.display(), self.log.borrow());
        }
    }
}
