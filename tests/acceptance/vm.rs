//! Virtual machines, on a machine that has them, over HTTPS with a trust token.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::Case;
use crate::cli::Workspace;
use crate::watcher::{Seen, Watcher};

/// The heart of it, which every test run shows.
pub(crate) const HEART: &[Case] = &[("a_machine_beside_a_container_lives_from_apply_to_destroy", life)];

pub(crate) const CASES: &[Case] = &[
    ("two_machines_and_a_container_are_waited_for_side_by_side", two_machines),
    ("a_machine_is_provisioned_straight_after_apply", provisioned),
    ("a_crash_while_booting_is_noticed_at_once", crash),
    ("a_machine_stuck_at_boot_shows_its_console_and_is_no_burden", stuck),
    ("a_system_without_an_agent_is_told_by_its_address", without_an_agent),
];

/// How late an apply may end after the later of the agent and the address: with the event of the agent, and without.
const LATE_WITH_EVENT: Duration = Duration::from_millis(300);
const LATE_WITHOUT: Duration = Duration::from_secs(1);
/// The same where the machine is emulated: there one answer about a guest whose agent has just come up takes up to 1.4 s.
const LATE_EMULATED: Duration = Duration::from_secs(4);

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

const AT_ONCE: &str = "  wait = { boot_timeout = var.timeout, agent_timeout = var.timeout, addresses_timeout = var.timeout }\n  \
                       stop_timeout = \"1s\"\n";

/// Applies these machines and a container beside them: when apply ends all are usable, and it ends then.
fn applied(run: &Workspace, name: &str, hcl: &str, machines: &[&str]) {
    run.configure_provider(&stranger(run, name), hcl);
    let watcher = Watcher::start(run, name, machines);
    run.apply();
    let ended = Instant::now();
    let (seen, events) = watcher.end();
    for machine in &seen {
        machine.print(ended);
    }
    // Emulated side by side, machines starve each other: Incus has an answer of their agents a minute after the event.
    let starved = run.is_emulated() && machines.len() > 1;
    let usable = seen.iter().map(if starved { Seen::answered } else { Seen::usable }).max().unwrap();
    let late = ended.saturating_duration_since(usable);
    println!("apply ended {:.2} s after the later of agent and address of the last machine", late.as_secs_f64());
    let announced = seen.iter().all(|machine| machine.agent_event.is_some());
    let limit = match (run.is_emulated(), announced) {
        (true, _) => LATE_EMULATED,
        (false, true) => LATE_WITH_EVENT,
        (false, false) => LATE_WITHOUT,
    };
    assert!(late <= limit, "{late:?} is later than {limit:?}");
    let first_usable = seen.iter().map(Seen::usable).min().unwrap();
    let container = events.first("c", "instance-started").expect("the container was not started");
    let mut starts = seen.iter().map(|machine| machine.started).chain([container]);
    assert!(starts.all(|start| start < first_usable), "they were started in turn");

    for instance in machines.iter().chain(&["c"]) {
        let attributes = run.attributes(&format!("anklume_instance.{instance}"));
        let address = attributes["ipv4_address"].as_str().unwrap_or_else(|| panic!("{instance} has no address"));
        let nic = if *instance == "c" { "eth0" } else { "enp5s0" };
        let told = inside(run, name, instance, &["ip", "-4", "addr", "show", "dev", nic]);
        assert!(told.contains(&format!("{address}/")), "{told}");
        assert_eq!(attributes["status"], "Running");
        assert_eq!(attributes["interfaces"]["eth0"]["name"], nic);
    }
    run.plan_is_empty();
}

fn container() -> &'static str {
    "resource \"anklume_instance\" \"c\" {\n  name = \"c\"\n  domain = anklume_domain.d.name\n  image = \"busybox\"\n  \
     delete_protection = false\n}\n"
}

fn two_machines(run: &Workspace) {
    let name = run.domain("two");
    let machines = [machine("a", "debvm", AT_ONCE), machine("b", "debvm", AT_ONCE)].concat();
    applied(run, &name, &format!("{VARIABLES}{}{machines}{}", domain(&name), container()), &["a", "b"]);
    run.destroy();
    disconnect(run, &name);
}

/// A block volume, and an ISO image whose first descriptor (ECMA-119) starts with `CD001` at the byte 32769.
fn volumes(run: &Workspace) -> String {
    let mut image = vec![0; 1 << 20];
    image[32769..32774].copy_from_slice(b"CD001");
    fs::write(run.dir().join("cd.iso"), image).unwrap();
    let volume = |name: &str, rest: &str| {
        format!(
            "resource \"anklume_volume\" \"{name}\" {{\n  name = \"{name}\"\n  domain = anklume_domain.d.name\n  \
             delete_protection = false\n{rest}}}\n"
        )
    };
    volume("data", "  content_type = \"block\"\n  size = \"48MiB\"\n")
        + &volume("cd", "  content_type = \"iso\"\n  source = { file = \"cd.iso\" }\n")
}

/// What the machine reads at the start of its block volume, which is known by its size.
fn read_disk(run: &Workspace, project: &str) -> String {
    inside(
        run,
        project,
        "a",
        &["sh", "-c", "dd if=/dev/$(basename $(dirname $(grep -lx 98304 /sys/block/sd*/size))) bs=9 count=1"],
    )
}

/// A machine beside a container, with a disk and an ISO, imported; a restart for another CPU; an agent that hangs; a stop.
fn life(run: &Workspace) {
    let (incus, name) = (run.incus(), run.domain("life"));
    let rest = [volumes(run).as_str(), container()].concat();
    let hcl = |machine: &str| format!("{VARIABLES}{}{machine}{rest}", domain(&name));
    let attached = "  volumes = {\n    data = { volume = anklume_volume.data.name }\n    cd = { volume = anklume_volume.cd.name }\n  }\n";
    let first = machine("a", "debvm", &[AT_ONCE, attached].concat());
    applied(run, &name, &hcl(&first), &["a"]);
    let block = fs::read_to_string(run.dir().join("main.tf")).unwrap();
    let reconfigure = |machine: &str| {
        fs::write(run.dir().join("main.tf"), block.replace(&first, machine)).unwrap();
    };
    run.survives_import("anklume_instance.a", &format!("{name}/a"));
    let write = "echo 'the bytes' >/dev/$(basename $(dirname $(grep -lx 98304 /sys/block/sd*/size))) && sync";
    inside(run, &name, "a", &["sh", "-c", write]);
    assert_eq!(inside(run, &name, "a", &["sh", "-c", "dd if=/dev/sr0 bs=1 skip=32769 count=5"]), "CD001");

    // A set of processors is taken at a start only: stop, change, start in one apply.
    let pid = || incus.query(&format!("/1.0/instances/a/state?project={name}"))["pid"].clone();
    let before = pid();
    let pinned = first.replace("\"limits.memory\"", "\"limits.cpu\" = \"0-0\", \"limits.memory\"");
    reconfigure(&pinned);
    run.apply();
    assert_ne!(pid(), before, "it was not restarted");
    assert_eq!(incus.instance(&name, "a").unwrap()["config"]["limits.cpu"], "0-0");
    assert_eq!(read_disk(run, &name), "the bytes");
    run.plan_is_empty();

    // An agent that has the connection and says nothing.
    let agent = inside(run, &name, "a", &["pidof", "incus-agent"]);
    let hangs = format!("(sleep 1; kill -STOP {agent}) >/dev/null 2>&1 </dev/null &");
    inside(run, &name, "a", &["sh", "-c", &hangs]);
    thread::sleep(Duration::from_secs(2));
    let silent = &incus.query(&format!("/1.0/instances/a/state?project={name}"))["processes"];
    assert!(silent.as_i64().unwrap() <= 0, "its agent still answers: {silent}");
    let hanging = seconds("a refresh beside an agent that hangs", &|| run.plan_is_empty());
    reconfigure(&pinned.replace("stop_timeout", "running = false\n  stop_timeout"));
    run.apply();
    assert_eq!(run.attributes("anklume_instance.a")["status"], "Stopped");
    let quiet = seconds("the same refresh with the machine stopped", &|| run.plan_is_empty());
    assert!(hanging - quiet < 1.0, "the hanging agent cost {:.1} s", hanging - quiet);
    run.destroy();
    assert!(incus.project(&name).is_none());
    disconnect(run, &name);
}

fn seconds(what: &str, work: &dyn Fn()) -> f64 {
    let started = Instant::now();
    work();
    println!("{what} took {:.1} s", started.elapsed().as_secs_f64());
    started.elapsed().as_secs_f64()
}

fn inside(run: &Workspace, project: &str, instance: &str, command: &[&str]) -> String {
    run.incus().run(&[&["exec", instance, "--project", project, "--"], command].concat())
}

/// `examples/vm`, as it is documented, and Ansible straight after it.
fn provisioned(run: &Workspace) {
    let incus = run.incus();
    let example = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/vm/main.tf")).unwrap();
    let (_, resources) = example.split_once("provider \"anklume\" {}\n").unwrap();
    for (name, value) in [
        ("vm_image", "debvm"),
        ("container_image", "busybox"),
        ("csm", "true"),
        ("cpu", "1"),
        ("memory", "512MiB"),
        ("agent_timeout", "10m"),
    ] {
        run.set(&format!("TF_VAR_{name}"), value);
    }
    run.configure_provider(&stranger(run, "sandbox"), resources);
    seconds("the example with its two machines", &|| drop(run.apply()));
    for (project, instance, told) in
        [("secure", "secure-sandbox", "made by cloud-init"), ("work", "work-sandbox", ""), ("work", "work-dev", "")]
    {
        let by_ansible = run.ansible(project, instance, "cat /etc/motd 2>/dev/null; echo; hostname");
        assert!(by_ansible.contains(told) && by_ansible.contains(&format!("\n{instance}")), "{by_ansible}");
    }
    run.plan_is_empty();
    run.survives_import("anklume_instance.sandbox", "secure/secure-sandbox");

    // What a running machine takes, it takes running.
    let pid = || incus.query("/1.0/instances/secure-sandbox/state?project=secure")["pid"].clone();
    let before = pid();
    run.set("TF_VAR_note", "second");
    run.apply();
    assert_eq!(pid(), before, "it was restarted");
    assert_eq!(incus.instance("secure", "secure-sandbox").unwrap()["config"]["user.note"], "second");
    run.plan_is_empty();
    run.destroy();
    assert!(incus.project("secure").is_none() && incus.network("net-work").is_none());
    disconnect(run, "sandbox");
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
    let watcher = Watcher::start(run, &name, &[]);
    let told = run.apply_fails();
    let ended = Instant::now();
    // Before the start is over there is no event: the start itself fails.
    let event = watcher.end().1.first("vm", "instance-shutdown");
    let late = event.map(|event| ended.saturating_duration_since(event));
    println!("apply ended {late:?} after the event of the crash");
    let limit = if run.is_emulated() { LATE_EMULATED } else { LATE_WITHOUT };
    assert!(late.is_none_or(|late| late <= limit), "{late:?} is later than {limit:?}");
    // Incus 6.0 has no console of a machine that is stopped, and 7.0 not always as soon as it announces the end.
    println!("the console of the crash was there: {}", told.contains("not a kernel"));
    for part in
        ["stopped while it was booting", "Phase: ", "Its console and its log say why", "incus console vm --project"]
    {
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
        "no system here",
        "agent_timeout = \"300s\"",
        "incus console vm --project",
    ] {
        assert!(told.contains(part), "{part:?} is missing in {told}");
    }
    // It is in the state, tainted. A warning does for the one that replaces it, which costs nothing from then on.
    run.configure_provider(&block, &hcl("agent_timeout = \"5s\", on_failure = \"warn\"", "first", "1"));
    let told = run.apply();
    assert!(told.contains("1 destroyed") && told.contains("The instance is not usable"), "{told}");
    run.configure_provider(&block, &hcl("agent = false, addresses = false", "first", "1"));
    run.apply();
    assert!(seconds("a refresh of a machine without an agent", &|| run.plan_is_empty()) < 10.0);
    run.configure_provider(&block, &hcl("agent = false, addresses = false", "second", "2"));
    let update = seconds("an update in place of it", &|| drop(run.apply()));
    assert!(update < 15.0, "{update}");
    assert_eq!(run.incus().instance(&name, "vm").unwrap()["config"]["boot.autostart.priority"], "2");
    run.plan_is_empty();
    // It takes a second processor while it runs.
    let pid = || run.incus().query(&format!("/1.0/instances/vm/state?project={name}"))["pid"].clone();
    let before = pid();
    let processors = "{ \"limits.memory\" = \"512MiB\", \"limits.cpu\" = \"2\" }";
    let faster = hcl("agent = false, addresses = false", "second", "2")
        .replace("{ \"limits.memory\" = \"512MiB\" }", processors);
    run.configure_provider(&block, &faster);
    let told = run.apply();
    assert!(!told.contains("will be restarted") && pid() == before, "{told}");
    assert_eq!(run.incus().instance(&name, "vm").unwrap()["config"]["limits.cpu"], "2");
    run.plan_is_empty();
    let renamed = faster.replace("= \"vm\"\n  domain", "= \"other\"\n  domain");
    run.configure_provider(&block, &renamed);
    let rename = seconds("its rename", &|| drop(run.apply()));
    assert!(rename < 30.0, "{rename}");
    assert_eq!(run.incus().instance(&name, "other").unwrap()["status"], "Running");
    run.plan_is_empty();

    // A block volume grows only while its machine is stopped.
    let with_disk = |running: bool, size: &str| {
        let disk = format!(
            "  running = {running}\n  volumes = {{ disk = {{ volume = anklume_volume.disk.name }} }}\n  boot_priority"
        );
        let volume = format!(
            "resource \"anklume_volume\" \"disk\" {{\n  name = \"disk\"\n  domain = anklume_domain.d.name\n  content_type = \"block\"\n  \
             size = \"{size}\"\n  delete_protection = false\n}}\n"
        );
        renamed.replacen("  boot_priority", &disk, 1) + &volume
    };
    let status = || run.incus().instance(&name, "other").unwrap()["status"].clone();
    let step = |running: bool, size: &str| {
        run.configure_provider(&block, &with_disk(running, size));
        run.apply();
        run.plan_is_empty();
        assert_eq!(status(), if running { "Running" } else { "Stopped" });
    };
    step(true, "64MiB");
    run.configure_provider(&block, &with_disk(true, "96MiB"));
    let refused = run.apply_fails();
    assert!(refused.contains("Unable to resize volume") && refused.contains("instance other"), "{refused}");
    step(false, "64MiB");
    step(false, "96MiB");
    step(true, "96MiB");
    assert!(seconds("its destruction", &|| run.destroy()) < 30.0);
    assert!(run.incus().project(&name).is_none());
    disconnect(run, &name);
}

fn without_an_agent(run: &Workspace) {
    let name = run.domain("mute");
    let wait = "  wait = { boot_timeout = var.timeout, agent_timeout = \"90s\" }\n  stop_timeout = \"1s\"\n";
    let hcl = format!("{VARIABLES}{}{}", domain(&name), machine("vm", "debvm-noagent", wait));
    run.configure_provider(&stranger(run, &name), &hcl);
    let told = run.apply_fails();
    for part in
        ["its agent did not answer within 90s", "so its system is up", "`incus-agent`", "wait = { agent = false }"]
    {
        assert!(told.contains(part), "{part:?} is missing in {told}");
    }
    run.destroy();
    assert!(run.incus().project(&name).is_none());
    disconnect(run, &name);
}
