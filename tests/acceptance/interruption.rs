//! An interrupted apply converges: whatever dies, whenever, the next apply gets there.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::Case;
use crate::cli::{APPLY, Workspace};

pub(crate) const CASES: &[Case] = &[
    ("an_interrupted_create_ends_in_seconds_and_the_next_apply_works", interrupted),
    ("an_interrupted_create_can_be_destroyed", destroyed),
    ("a_killed_create_is_continued", killed),
    ("a_create_that_nobody_can_look_at_any_more_is_in_the_state", unseen),
    ("a_provider_whose_client_was_killed_ends_and_leaves_no_socket", orphaned),
    ("what_the_state_forgot_is_continued_with_a_warning", forgotten),
    ("an_instance_without_a_whole_root_disk_is_made_anew", half_made),
    ("what_the_client_lost_beside_the_state_is_found_again", bereft),
];

const ADDRESS: &str = "anklume_instance.it";

/// A container in a domain whose bridge hands out no address: its create waits as long as `timeout`.
fn waiting(name: &str, timeout: &str) -> String {
    format!(
        r#"resource "anklume_domain" "d" {{
  name           = "{name}"
  storage_pool   = "default"
  network_config = {{ "raw.dnsmasq" = "dhcp-ignore=tag:!nobody" }}
}}

resource "anklume_instance" "it" {{
  name         = "box"
  domain       = anklume_domain.d.name
  image        = "busybox"
  stop_timeout = "0s"
  wait         = {{ addresses_timeout = "{timeout}" }}
}}
"#
    )
}

fn quick(name: &str) -> String {
    waiting(name, "1s").replace("stop_timeout", "delete_protection = false\n  stop_timeout")
}

/// Interrupts the wait for an address; the object is in the state, or gone.
fn interrupt(run: &Workspace, name: &str, timeout: &str, signal: Signal) -> String {
    let incus = run.incus();
    run.configure(&waiting(name, timeout));
    let runs = || incus.instance(name, "box").is_some_and(|found| found["status"] == "Running");
    let (took, text) = run.interrupted_apply(signal, runs);
    assert!(took < Duration::from_secs(8), "the client took {took:?} to end");
    text
}

fn interrupted(run: &Workspace) {
    let (name, incus) = (run.domain("cint"), run.incus());
    let text = interrupt(run, &name, "10m", Signal::INT);
    assert!(text.contains("interrupted"), "{text}");
    run.configure(&quick(&name));
    let in_state = run.succeed(&["state", "list"]).text.contains(ADDRESS);
    assert_eq!(in_state, incus.instance(&name, "box").is_some(), "in the state, or gone");
    run.apply();
    run.plan_is_empty();
    assert_eq!(run.attributes(ADDRESS)["status"], "Running");
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn destroyed(run: &Workspace) {
    let (name, incus) = (run.domain("cdel"), run.incus());
    interrupt(run, &name, "10m", Signal::INT);
    run.destroy();
    assert!(incus.project(&name).is_none());
}

/// The daemon answers nothing from the interrupt on.
fn unseen(here: &Workspace) {
    let run = here.elsewhere("unseen", &[]);
    let (name, incus) = (run.domain("cunseen"), run.incus());
    run.configure(&waiting(&name, "10m"));
    let log = format!("--logfile={}", run.lab().join("incusd.log").display());
    let is_daemon = |line: Vec<u8>| line.split(|byte| *byte == 0).any(|word| word == log.as_bytes());
    let daemon = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .find(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(is_daemon))
        .and_then(Pid::from_raw)
        .unwrap();
    let ready = || {
        let runs = incus.instance(&name, "box").is_some_and(|found| found["status"] == "Running");
        if runs {
            kill_process(daemon, Signal::STOP).unwrap();
        }
        runs
    };
    let (took, text) = run.interrupted_apply(Signal::INT, ready);
    kill_process(daemon, Signal::CONT).unwrap();
    assert!(took < Duration::from_secs(20), "the client took {took:?} to end\n{text}");
    assert!(run.succeed(&["state", "list"]).text.contains(ADDRESS), "{text}");
    assert!(incus.instance(&name, "box").is_some());
    run.configure(&quick(&name));
    incus.run(&["config", "unset", "box", "security.protection.delete", "--project", &name]);
    run.apply();
    run.plan_is_empty();
    run.destroy();
}

fn killed(run: &Workspace) {
    let (name, incus) = (run.domain("ckill"), run.incus());
    interrupt(run, &name, "4s", Signal::KILL);
    let made = incus.instance(&name, "box").unwrap()["config"]["volatile.uuid"].clone();
    let text = run.apply();
    assert!(text.contains("Continued an interrupted create"), "{text}");
    assert_eq!(incus.instance(&name, "box").unwrap()["config"]["volatile.uuid"], made);
    run.configure(&quick(&name));
    run.apply();
    run.plan_is_empty();
    run.destroy();
}

fn orphaned(run: &Workspace) {
    let (name, incus) = (run.domain("corph"), run.incus());
    let sockets = run.dir().join("t");
    fs::create_dir(&sockets).unwrap();
    run.set("TMPDIR", sockets.to_str().unwrap());
    run.configure(&waiting(&name, "10m"));
    run.killed_apply(|| incus.instance(&name, "box").is_some_and(|found| found["status"] == "Running"));
    let killed = Instant::now();
    while !run.processes().is_empty() {
        assert!(killed.elapsed() < Duration::from_secs(15), "the provider goes on: {:?}", run.processes());
        std::thread::sleep(Duration::from_millis(50));
    }
    let left = fs::read_dir(&sockets).unwrap().flatten().map(|entry| entry.file_name().display().to_string());
    let left: Vec<_> = left.filter(|name| name.starts_with("anklume-")).collect();
    assert!(left.is_empty(), "{left:?}");
    run.configure(&waiting(&name, "1s"));
    run.apply();
    run.configure(&quick(&name));
    run.apply();
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn forgotten(run: &Workspace) {
    let (name, incus) = (run.domain("cforg"), run.incus());
    let profile = "resource \"anklume_profile\" \"p\" {\n  name = \"small\"\n  domain = anklume_domain.d.name\n  \
                   config = { \"limits.cpu\" = \"1\" }\n}\n";
    let stopped = "  running      = false\n  delete_protection = false\n  stop_timeout";
    run.configure(&format!("{}{profile}", waiting(&name, "1s").replace("  stop_timeout", stopped)));
    run.apply();
    let uuid = incus.instance(&name, "box").unwrap()["config"]["volatile.uuid"].clone();
    for (address, noun) in
        [(ADDRESS, "The instance"), ("anklume_profile.p", "The profile"), ("anklume_domain.d", "The domain")]
    {
        run.forget(address);
        let text = run.apply();
        assert!(text.contains("Continued an interrupted create") && text.contains(noun), "{text}");
        run.plan_is_empty();
    }
    assert_eq!(incus.instance(&name, "box").unwrap()["config"]["volatile.uuid"], uuid);
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn half_made(run: &Workspace) {
    let (name, incus) = (run.domain("chalf"), run.incus());
    let hcl = waiting(&name, "1s").replace("  stop_timeout", "  running      = false\n  stop_timeout");
    run.configure(&hcl);
    run.apply();
    let created = || incus.instance(&name, "box").unwrap()["created_at"].clone();
    let first = created();
    // As Incus leaves it that is killed while it unpacks.
    run.forget(ADDRESS);
    incus.run(&["config", "unset", "box", "volatile.apply_template", "--project", &name]);
    run.apply();
    assert_ne!(created(), first);
    run.plan_is_empty();
    run.configure(&hcl.replace("  running      = false\n", "  running      = false\n  delete_protection = false\n"));
    run.apply();
    run.destroy();
    assert!(incus.project(&name).is_none());
}

/// A provider that ends in the middle of an update takes what was kept beside the state with it.
fn bereft(here: &Workspace) {
    let run = here.elsewhere("bereft", &[]);
    let (name, incus) = (run.domain("clost"), run.incus());
    let configured = |description: &str| {
        format!(
            r#"resource "anklume_domain" "d" {{
  name         = "{name}"
  storage_pool = "default"
  subnet_id    = 7
  description  = "{description}"
}}

resource "anklume_profile" "p" {{
  name        = "small"
  domain      = anklume_domain.d.name
  description = "{description}"
}}

resource "anklume_volume" "v" {{
  name              = "data"
  domain            = anklume_domain.d.name
  size              = "16MiB"
  description       = "{description}"
  delete_protection = false
}}

resource "anklume_volume" "copy" {{
  name              = "copy"
  domain            = anklume_domain.d.name
  source            = {{ volume = anklume_volume.v.name }}
  description       = "{description}"
  delete_protection = false
}}

resource "anklume_instance" "it" {{
  name              = "box"
  domain            = anklume_domain.d.name
  image             = "busybox"
  description       = "{description}"
  profiles          = ["default", anklume_profile.p.name]
  ipv4_address      = "10.120.7.9"
  root_disk         = {{ pool = "default" }}
  volumes           = {{ data = {{ volume = anklume_volume.v.name, mount = "/srv" }} }}
  stop_timeout      = "0s"
  delete_protection = false
}}

resource "anklume_nft_isolation" "host" {{
  domains  = {{ {name} = null, far = null }}
  policies = {{ ping = {{ from = "far", to = "{name}", protocol = "icmp", description = "{description}" }} }}
}}
"#
        )
    };
    let lose = || {
        let file = run.dir().join("terraform.tfstate");
        let mut state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        for resource in state["resources"].as_array_mut().unwrap() {
            for instance in resource["instances"].as_array_mut().unwrap() {
                instance.as_object_mut().unwrap().remove("private");
            }
        }
        fs::write(file, state.to_string()).unwrap();
    };
    run.configure(&configured("first"));
    run.apply();
    let pid = || incus.query(&format!("/1.0/instances/box/state?project={name}"))["pid"].clone();
    let started = pid();
    lose();
    run.plan_is_empty();
    run.configure(&configured("second"));
    run.apply();
    run.plan_is_empty();
    assert_eq!(pid(), started, "it was not restarted");
    lose();
    run.configure(&configured("third"));
    run.succeed(&[APPLY, &["-refresh=false"]].concat());
    run.plan_is_empty();
    assert_eq!(pid(), started, "it was not restarted");
    // What others made since under such a name is not taken for ours.
    lose();
    run.succeed(&["apply", "-refresh-only", "-auto-approve", "-input=false", "-no-color"]);
    incus.run(&["storage", "volume", "delete", "default", "copy", "--project", &name]);
    incus.run(&["storage", "volume", "create", "default", "copy", "--project", &name, "-q"]);
    let planned = run.plan();
    assert_eq!(planned, [("anklume_volume.copy".to_owned(), "create".to_owned())]);
    incus.run(&["storage", "volume", "delete", "default", "copy", "--project", &name]);
    lose();
    run.destroy();
    assert_eq!(run.leftovers(), Vec::<String>::new());
}
