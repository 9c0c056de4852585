//! Virtual machines, on a machine that has them, over HTTPS with a trust token.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Child;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Case;
use crate::cli::Workspace;

pub(crate) const CASES: &[Case] = &[
    ("a_virtual_machine_and_a_container_side_by_side", side_by_side),
    ("apply_ends_when_the_agent_answers", ends_with_the_agent),
    ("a_crash_while_booting_is_noticed_at_once", crash),
    ("a_machine_stuck_at_boot_shows_its_console_and_is_no_burden", stuck),
    ("a_system_without_an_agent_is_told_by_its_address", without_an_agent),
];

/// The machine is emulated where there is no KVM, so what it may take is up to who runs it.
const VARIABLES: &str = r#"variable "csm" {
  type    = bool
  default = true
}

variable "timeout" {
  type    = string
  default = "10m"
}

"#;

/// A virtual machine in the domain `d`; `rest` is the end of its block.
fn machine(label: &str, image: &str, rest: &str) -> String {
    format!(
        r#"resource "anklume_instance" "{label}" {{
  name              = "{label}"
  domain            = anklume_domain.d.name
  type              = "vm"
  image             = "{image}"
  csm               = var.csm
  secure_boot       = !var.csm
  delete_protection = false
  config            = {{ "limits.memory" = "512MiB" }}
  timeouts          = {{ create = var.timeout, update = var.timeout }}
{rest}}}

"#
    )
}

/// The provider block of a stranger who was given a trust token; the server's certificate is pinned.
fn stranger(run: &Workspace, name: &str) -> String {
    let incus = run.incus();
    let token = incus.run(&["config", "trust", "add", name, "-q"]);
    let token = token.split_whitespace().last().unwrap();
    let server = incus.query("/1.0")["environment"]["certificate_fingerprint"].as_str().unwrap().to_owned();
    let dir = run.dir().join("stranger");
    fs::create_dir_all(&dir).unwrap();
    format!(
        "  address            = \"{}\"\n  server_fingerprint = \"{server}\"\n  token              = \"{token}\"\n  \
         config_dir         = {dir:?}\n",
        run.address()
    )
}

/// Listens for the first `instance-agent-started`.
struct Agents {
    monitor: Child,
    heard: JoinHandle<Option<Instant>>,
}

impl Agents {
    fn watch(run: &Workspace) -> Self {
        let mut monitor = run.incus().monitor();
        let lines = BufReader::new(monitor.stdout.take().unwrap()).lines();
        let heard = thread::spawn(move || {
            let mut lines = lines.map_while(Result::ok);
            lines.find(|line| line.contains("instance-agent-started")).map(|_| Instant::now())
        });
        Self { monitor, heard }
    }

    fn end(mut self) -> Option<Instant> {
        self.monitor.kill().unwrap();
        self.monitor.wait().unwrap();
        self.heard.join().unwrap()
    }
}

/// `examples/vm`, as it is documented.
fn side_by_side(run: &Workspace) {
    let incus = run.incus();
    let example = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/vm/main.tf")).unwrap();
    let (_, resources) = example.split_once("provider \"anklume\" {}\n").unwrap();
    for (name, value) in
        [("vm_image", "debvm"), ("container_image", "busybox"), ("csm", "true"), ("agent_timeout", "10m")]
    {
        run.set(&format!("TF_VAR_{name}"), value);
    }
    run.configure_provider(&stranger(run, "lab"), resources);
    let started = Instant::now();
    run.apply();
    println!("a virtual machine and a container were applied in {:.1} s", started.elapsed().as_secs_f64());

    let inside = |instance: &str, command: &[&str]| {
        incus.run(&[&["exec", instance, "--project", "lab", "--"], command].concat())
    };
    assert_eq!(inside("lab-vm", &["hostname"]), "lab-vm");
    assert_eq!(inside("lab-vm", &["cat", "/etc/motd"]), "made by cloud-init");
    assert_eq!(inside("lab-box", &["hostname"]), "lab-box");
    let (vm, container) = (run.attributes("anklume_instance.vm"), run.attributes("anklume_instance.box"));
    for (instance, attributes, nic) in [("lab-vm", &vm, "enp5s0"), ("lab-box", &container, "eth0")] {
        let address = attributes["ipv4_address"].as_str().unwrap_or_else(|| panic!("{instance} has no address"));
        assert!(inside(instance, &["ip", "-4", "addr", "show", "dev", nic]).contains(&format!("{address}/")));
        assert_eq!(attributes["status"], "Running");
        assert_eq!(attributes["interfaces"]["eth0"]["name"], nic);
    }
    assert_eq!(incus.instance("lab", "lab-vm").unwrap()["type"], "virtual-machine");
    run.plan_is_empty();
    run.survives_import("anklume_instance.vm", "lab/lab-vm");

    // What a running machine takes, it takes running.
    let pid = |run: &Workspace| run.incus().query("/1.0/instances/lab-vm/state?project=lab")["pid"].clone();
    let before = pid(run);
    run.set("TF_VAR_note", "second");
    run.apply();
    assert_eq!(pid(run), before, "it was restarted");
    assert_eq!(incus.instance("lab", "lab-vm").unwrap()["config"]["user.note"], "second");
    run.plan_is_empty();
    run.destroy();
    assert!(incus.project("lab").is_none() && incus.network("net-lab").is_none());
    disconnect(run, "lab");
}

/// A wait for the agent and the address alone ends with the later of the two.
fn ends_with_the_agent(run: &Workspace) {
    let name = run.domain("quick");
    let wait = "  wait = { boot_timeout = var.timeout, agent_timeout = var.timeout }\n  stop_timeout = \"1s\"\n";
    let hcl = format!("{VARIABLES}{}{}", domain(&name), machine("vm", "debvm", wait));
    run.configure_provider(&stranger(run, &name), &hcl);
    let agents = Agents::watch(run);
    run.apply();
    let ended = Instant::now();
    // Incus 6.0 has no such event.
    if let Some(up) = agents.end() {
        let late = ended.saturating_duration_since(up);
        println!("apply ended {:.2} s after the event of the agent", late.as_secs_f64());
        assert!(late < Duration::from_secs(5), "{late:?}");
    }
    run.destroy();
    disconnect(run, &name);
}

/// Takes back the trust of a [`stranger`].
fn disconnect(run: &Workspace, name: &str) {
    let incus = run.incus();
    for certificate in incus.query("/1.0/certificates?recursion=1").as_array().unwrap() {
        if certificate["name"] == name {
            incus.run(&["config", "trust", "remove", certificate["fingerprint"].as_str().unwrap()]);
        }
    }
}

fn domain(name: &str) -> String {
    format!("resource \"anklume_domain\" \"d\" {{\n  name         = \"{name}\"\n  storage_pool = \"default\"\n}}\n\n")
}

fn crash(run: &Workspace) {
    let name = run.domain("crash");
    let wait = "  wait = { boot_timeout = var.timeout, agent_timeout = var.timeout }\n  stop_timeout = \"1s\"\n";
    let hcl = format!("{VARIABLES}{}{}", domain(&name), machine("vm", "crash", wait));
    run.configure_provider(&stranger(run, &name), &hcl);
    let started = Instant::now();
    let told = run.apply_fails();
    println!("a crash was told {:.1} s after the apply began", started.elapsed().as_secs_f64());
    for part in ["stopped while it was booting", "Phase: ", "incus console vm --project"] {
        assert!(told.contains(part), "{part:?} is missing in {told}");
    }
    assert_eq!(run.attributes("anklume_instance.vm")["status"], "Stopped");
    run.destroy();
    assert!(run.incus().project(&name).is_none());
    disconnect(run, &name);
}

fn stuck(run: &Workspace) {
    let name = run.domain("stuck");
    let hcl = |wait: &str, description: &str, user: &str| {
        let rest = format!(
            "  stop_timeout = \"1s\"\n  description = \"{description}\"\n  boot_priority = {user}\n  wait = {{ boot_timeout = var.timeout, {wait} }}\n"
        );
        format!("{VARIABLES}{}{}", domain(&name), machine("vm", "stuck", &rest))
    };
    let block = stranger(run, &name);
    run.configure_provider(&block, &hcl("agent_timeout = \"30s\"", "first", "1"));
    let told = run.apply_fails();
    for part in [
        "its agent did not answer within 30s",
        "Phase: agent (created, started and running are behind it)",
        "lab: no system here",
        "agent_timeout = \"300s\"",
        "incus console vm --project",
    ] {
        assert!(told.contains(part), "{part:?} is missing in {told}");
    }
    // It is in the state, tainted; accepted as it is, it costs nothing.
    run.succeed(&["untaint", "anklume_instance.vm"]);
    let seconds = |what: &str, work: &dyn Fn()| {
        let started = Instant::now();
        work();
        println!("{what} of a machine without an agent took {:.1} s", started.elapsed().as_secs_f64());
        started.elapsed().as_secs_f64()
    };
    run.configure_provider(&block, &hcl("agent = false, addresses = false", "first", "1"));
    run.apply();
    assert!(seconds("a refresh", &|| run.plan_is_empty()) < 10.0);
    run.configure_provider(&block, &hcl("agent = false, addresses = false", "second", "2"));
    let update = seconds("an update in place", &|| {
        run.apply();
    });
    assert!(update < 15.0, "{update}");
    assert_eq!(run.incus().instance(&name, "vm").unwrap()["config"]["boot.autostart.priority"], "2");
    run.plan_is_empty();
    assert!(seconds("the destruction", &|| run.destroy()) < 30.0);
    assert!(run.incus().project(&name).is_none());
    disconnect(run, &name);
}

fn without_an_agent(run: &Workspace) {
    let name = run.domain("mute");
    let wait = "  wait = { boot_timeout = var.timeout, agent_timeout = \"200s\" }\n  stop_timeout = \"1s\"\n";
    let hcl = format!("{VARIABLES}{}{}", domain(&name), machine("vm", "debvm-noagent", wait));
    run.configure_provider(&stranger(run, &name), &hcl);
    let told = run.apply_fails();
    for part in
        ["its agent did not answer within 200s", "so its system is up", "`incus-agent`", "wait = { agent = false }"]
    {
        assert!(told.contains(part), "{part:?} is missing in {told}");
    }
    run.destroy();
    assert!(run.incus().project(&name).is_none());
    disconnect(run, &name);
}
