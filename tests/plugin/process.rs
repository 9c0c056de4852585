//! The life of the process: cookie, handshake line, log lines, signals, end.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;

use crate::caller::{Address, CORE, Caller, thing};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long after a shutdown the core kills.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// The toy as an executable, built where these tests were.
fn executable() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let tests = std::env::current_exe().unwrap();
        let profile = tests.ancestors().nth(2).unwrap();
        let name = match profile.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            name => name,
        };
        let built = std::process::Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--example", "toy", "--profile", name, "--target-dir"])
            .arg(profile.parent().unwrap())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.unwrap().success());
        profile.join("examples/toy")
    })
}

fn command() -> Command {
    let mut command = Command::new(executable());
    for name in ["TF_LOG", "TF_LOG_PROVIDER", "PLUGIN_CLIENT_CERT", "TF_PLUGIN_MAGIC_COOKIE"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The command as the core gives it, but for the certificate.
fn with_cookie() -> Command {
    let mut command = command();
    let cookie = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";
    command.env("TF_PLUGIN_MAGIC_COOKIE", cookie).env("PLUGIN_PROTOCOL_VERSIONS", "6,5");
    command
}

async fn outcome(mut command: Command) -> (Output, String) {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let errors = String::from_utf8(output.stderr.clone()).unwrap();
    (output, errors)
}

/// A toy that runs.
struct Process {
    child: Child,
    pid: Pid,
    /// The first line on standard output.
    line: String,
    out: Lines<BufReader<ChildStdout>>,
    errors: mpsc::UnboundedReceiver<String>,
    directory: TempDir,
}

impl Process {
    /// Starts a toy as the core does, and reads its first line.
    async fn start(log: &str) -> Process {
        let mut command = with_cookie();
        command.env("PLUGIN_CLIENT_CERT", CORE.0).env("TF_LOG_PROVIDER", log);
        Process::of(command).await
    }

    async fn of(mut command: Command) -> Process {
        let directory = tempfile::tempdir().unwrap();
        let mut child = command.env("PLUGIN_UNIX_SOCKET_DIR", directory.path()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, errors) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = sender.send(line);
            }
        });
        let line = tokio::time::timeout(PATIENCE, out.next_line()).await.unwrap().unwrap().unwrap();
        let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        Process { child, pid, line, out, errors, directory }
    }

    async fn caller(&self) -> Caller {
        let caller = Caller::connect(&Address::from_handshake(&self.line)).await;
        caller.configure().await;
        caller
    }

    /// Waits for a line on standard error.
    async fn until(&mut self, found: impl Fn(&str) -> bool) {
        let wait = async { while !found(&self.errors.recv().await.expect("the process still writes")) {} };
        tokio::time::timeout(PATIENCE, wait).await.unwrap();
    }

    /// Waits for the end: the status, what else was on standard output, and the lines on standard error not read yet.
    async fn end(mut self) -> (ExitStatus, String, Vec<String>) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        let mut out = String::new();
        self.out.into_inner().read_to_string(&mut out).await.unwrap();
        let mut errors = Vec::new();
        while let Some(line) = self.errors.recv().await {
            errors.push(line);
        }
        assert_eq!(self.directory.path().read_dir().unwrap().count(), 0, "the socket's directory is left");
        (status, out, errors)
    }
}

#[tokio::test]
async fn without_the_cookie_it_says_what_it_is_and_fails() {
    for wrong in [None, Some("guess")] {
        let mut command = command();
        command.env("PLUGIN_CLIENT_CERT", CORE.0);
        if let Some(wrong) = wrong {
            command.env("TF_PLUGIN_MAGIC_COOKIE", wrong);
        }
        let (output, errors) = outcome(command).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        assert!(errors.contains("OpenTofu and Terraform start it themselves"), "{errors}");
    }
}

#[tokio::test]
async fn without_the_certificate_of_the_core_it_serves_nobody() {
    let (output, errors) = outcome(with_cookie()).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(errors.contains("PLUGIN_CLIENT_CERT is not set"), "{errors}");
    let mut command = with_cookie();
    command.env("PLUGIN_CLIENT_CERT", "no certificate");
    let (output, errors) = outcome(command).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(errors.contains("PLUGIN_CLIENT_CERT is not a certificate in PEM"), "{errors}");
}

#[tokio::test]
async fn the_socket_is_the_only_door_and_its_directory_is_closed_to_others() {
    let process = Process::start("").await;
    let socket = Address::from_handshake(&process.line).socket;
    assert!(socket.starts_with(process.directory.path()));
    assert_eq!(socket.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let own = std::fs::read_dir(format!("/proc/{}/fd", process.pid.as_raw_nonzero())).unwrap();
    let own: BTreeSet<String> = own
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    assert!(!own.is_empty());
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = std::fs::read_to_string(table).unwrap_or_default();
        let inodes = table.lines().filter_map(|line| line.split_whitespace().nth(9));
        assert!(inodes.into_iter().all(|inode| !own.contains(inode)));
    }
    process.caller().await.shutdown().await;
    assert!(process.end().await.0.success());
}

#[tokio::test]
async fn nothing_follows_the_handshake_line_on_standard_output() {
    let process = Process::start("trace").await;
    let caller = process.caller().await;
    caller.create(&thing(json!({}))).await.fine();
    assert_eq!(caller.create(&thing(json!({"note": "panic"}))).await.errors.len(), 1);
    caller.shutdown().await;
    let (status, out, _) = process.end().await;
    assert!(status.success());
    assert_eq!(out, "");
}

#[tokio::test]
async fn a_shutdown_ends_the_process_in_time_though_a_call_hangs() {
    let mut process = Process::start("trace").await;
    let caller = process.caller().await;
    let slow = tokio::spawn({
        let caller = caller.clone();
        async move {
            let config = thing(json!({"note": "slow"}));
            let planned = caller.plan(&config, &Json::Null, &[]).await.fine();
            let request = anklume::plugin::wire::tfplugin6::apply_resource_change::Request {
                type_name: crate::caller::thing_name(),
                planned_state: crate::caller::dynamic(&planned.state),
                config: crate::caller::dynamic(&config),
                ..Default::default()
            };
            caller.provider.clone().apply_resource_change(request).await
        }
    });
    process.until(|line| line.contains("ApplyResourceChange") && line.contains("request received")).await;
    let start = Instant::now();
    caller.shutdown().await;
    let (status, ..) = process.end().await;
    assert!(start.elapsed() < SHUTDOWN_LIMIT, "{:?}", start.elapsed());
    assert!(status.success());
    assert!(slow.await.unwrap().is_err());
}

#[tokio::test]
async fn an_interrupt_from_the_terminal_is_ignored() {
    let process = Process::start("").await;
    let caller = process.caller().await;
    for _ in 0..2 {
        kill_process(process.pid, Signal::INT).unwrap();
        caller.create(&thing(json!({}))).await.fine();
    }
    caller.shutdown().await;
    assert!(process.end().await.0.success());
}

#[tokio::test]
async fn a_termination_ends_the_process_and_leaves_nothing() {
    let process = Process::start("").await;
    let _caller = process.caller().await;
    kill_process(process.pid, Signal::TERM).unwrap();
    assert!(process.end().await.0.success());
}

#[tokio::test]
async fn a_process_whose_core_was_killed_stops_its_calls_and_ends() {
    let mut command = with_cookie();
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$0\" & wait"]).arg(executable());
    for (name, value) in command.as_std().get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.env("PLUGIN_CLIENT_CERT", CORE.0).env("TF_LOG_PROVIDER", "trace");
    command = shell;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut process = Process::of(command).await;
    let caller = process.caller().await;
    let slow = tokio::spawn(async move { caller.create(&thing(json!({"note": "slow"}))).await });
    process.until(|line| line.contains("ApplyResourceChange") && line.contains("request received")).await;
    kill_process(process.pid, Signal::KILL).unwrap();
    let (_, _, errors) = tokio::time::timeout(PATIENCE, process.end()).await.expect("it ends by itself");
    let served = |line: &&String| line.contains("ApplyResourceChange") && line.contains("request served");
    assert_eq!(errors.iter().filter(served).count(), 1, "the call heard the stop: {errors:?}");
    slow.await.unwrap();
}

/// `2006-01-02T15:04:05.000000Z`, with exactly six digits of a second.
fn is_timestamp(text: &str) -> bool {
    let form = "0000-00-00T00:00:00.000000Z";
    let fits = |(a, b): (u8, u8)| if b == b'0' { a.is_ascii_digit() } else { a == b };
    text.len() == form.len() && text.bytes().zip(form.bytes()).all(fits)
}

#[tokio::test]
async fn every_log_line_is_an_object_of_texts_with_microseconds() {
    let process = Process::start("TRACE").await;
    let caller = process.caller().await;
    caller.create(&thing(json!({}))).await.fine();
    caller.shutdown().await;
    let (_, _, lines) = process.end().await;
    let mut served = Vec::new();
    for line in &lines {
        let line: serde_json::Map<String, Json> = serde_json::from_str(line).expect(line);
        assert!(line.values().all(Json::is_string), "{line:?}");
        assert!(is_timestamp(line["@timestamp"].as_str().unwrap()), "{line:?}");
        assert!(["trace", "debug", "info", "warn", "error"].contains(&line["@level"].as_str().unwrap()), "{line:?}");
        assert!(line.contains_key("@message") && line.contains_key("@module"), "{line:?}");
        if line["@message"] == "request served" {
            assert!(line["tf_req_duration_ms"].as_str().unwrap().parse::<u64>().is_ok(), "{line:?}");
            served.push((line["tf_rpc"].clone(), line["tf_resource_type"].clone()));
        }
    }
    assert!(served.contains(&(json!("PlanResourceChange"), json!("toy_thing"))), "{served:?}");
    assert!(served.contains(&(json!("ApplyResourceChange"), json!("toy_thing"))), "{served:?}");
}

#[tokio::test]
async fn a_process_that_is_not_asked_to_logs_nothing() {
    let process = Process::start("").await;
    let caller = process.caller().await;
    caller.create(&thing(json!({}))).await.fine();
    caller.shutdown().await;
    assert_eq!(process.end().await.2, [""; 0]);
}

#[tokio::test]
async fn a_panic_is_reported_on_standard_error_and_the_next_call_works() {
    let mut process = Process::start("").await;
    let caller = process.caller().await;
    assert_eq!(caller.create(&thing(json!({"note": "panic"}))).await.errors.len(), 1);
    process.until(|line| line.starts_with("panic: ")).await;
    caller.create(&thing(json!({}))).await.fine();
    caller.shutdown().await;
    assert!(process.end().await.0.success());
}

#[tokio::test]
async fn in_debug_mode_it_prints_how_to_reattach_and_serves_without_tls() {
    let mut command = command();
    command.arg("--debug");
    let process = Process::of(command).await;
    let reattach = process.line.strip_prefix("TF_REATTACH_PROVIDERS='").unwrap().strip_suffix('\'').unwrap();
    let reattach: Json = serde_json::from_str(reattach).unwrap();
    let toy = &reattach["test/toy"];
    assert_eq!(toy["Protocol"], "grpc");
    assert_eq!(toy["ProtocolVersion"], 6);
    assert_eq!(toy["Pid"], process.child.id().unwrap());
    assert_eq!(toy["Test"], true);
    assert_eq!(toy["Addr"]["Network"], "unix");
    let socket = Path::new(toy["Addr"]["String"].as_str().unwrap());
    assert_eq!(socket.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let caller = Caller::connect(&Address::plain(socket)).await;
    caller.configure().await;
    caller.create(&thing(json!({}))).await.fine();
    drop(caller);
    kill_process(process.pid, Signal::INT).unwrap();
    let (status, out, _) = process.end().await;
    assert!(status.success());
    assert_eq!(out, "");
}
