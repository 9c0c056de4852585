//! Virtual machines, on a machine that has them, over HTTPS with a trust token.

use std::fs;
use std::time::Instant;

use crate::Case;
use crate::cli::Workspace;

pub(crate) const CASES: &[Case] = &[("a_virtual_machine_and_a_container_side_by_side", side_by_side)];

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

/// Connects as a stranger who was given a trust token; the server's certificate is pinned.
fn connect(run: &Workspace, name: &str, hcl: &str) {
    let incus = run.incus();
    let token = incus.run(&["config", "trust", "add", name, "-q"]);
    let token = token.split_whitespace().last().unwrap();
    let server = incus.query("/1.0")["environment"]["certificate_fingerprint"].as_str().unwrap().to_owned();
    let dir = run.dir().join("stranger");
    fs::create_dir_all(&dir).unwrap();
    let block = format!(
        "  address            = \"{}\"\n  server_fingerprint = \"{server}\"\n  token              = \"{token}\"\n  \
         config_dir         = {dir:?}\n",
        run.address()
    );
    run.configure_provider(&block, hcl);
}

fn side_by_side(run: &Workspace) {
    let (name, incus) = (run.domain("mixed"), run.incus());
    let hcl = format!(
        r#"{VARIABLES}resource "anklume_domain" "d" {{
  name         = "{name}"
  storage_pool = "default"
}}

{}resource "anklume_instance" "box" {{
  name              = "box"
  domain            = anklume_domain.d.name
  image             = "busybox"
  delete_protection = false
}}
"#,
        machine("vm", "debvm", "  wait = { boot_timeout = var.timeout, agent_timeout = var.timeout }\n")
    );
    connect(run, &name, &hcl);
    let started = Instant::now();
    run.apply();
    println!("a virtual machine and a container were applied in {:.1} s", started.elapsed().as_secs_f64());

    let inside = |instance: &str, command: &[&str]| {
        incus.run(&[&["exec", instance, "--project", &name, "--"], command].concat())
    };
    assert_eq!(inside("vm", &["hostname"]), "vm");
    assert!(inside("vm", &["python3", "-c", "print(1 + 1)"]).ends_with('2'));
    assert_eq!(inside("box", &["hostname"]), "box");
    let (vm, container) = (run.attributes("anklume_instance.vm"), run.attributes("anklume_instance.box"));
    for (instance, attributes, nic) in [("vm", &vm, "enp5s0"), ("box", &container, "eth0")] {
        let address = attributes["ipv4_address"].as_str().unwrap_or_else(|| panic!("{instance} has no address"));
        assert!(inside(instance, &["ip", "-4", "addr", "show", "dev", nic]).contains(&format!("{address}/")));
        assert_eq!(attributes["status"], "Running");
        assert_eq!(attributes["interfaces"]["eth0"]["name"], nic);
    }
    assert_eq!(incus.instance(&name, "vm").unwrap()["type"], "virtual-machine");
    assert_eq!(incus.instance(&name, "box").unwrap()["type"], "container");
    run.plan_is_empty();
    run.destroy();
    assert!(incus.project(&name).is_none() && incus.network(&format!("net-{name}")).is_none());
    for certificate in incus.query("/1.0/certificates?recursion=1").as_array().unwrap() {
        if certificate["name"] == name {
            incus.run(&["config", "trust", "remove", certificate["fingerprint"].as_str().unwrap()]);
        }
    }
}
