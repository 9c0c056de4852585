//! Every refusal that a user can cause, word for word.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Once;

use crate::Case;
use crate::cli::{APPLY, Workspace};
use crate::golden;

pub(crate) const CASES: &[Case] = &[
    ("no_daemon_says_how_to_start_it", no_daemon),
    ("no_permission_names_the_group", no_permission),
    ("an_unknown_remote_lists_the_known_ones", unknown_remote),
    ("a_wrong_certificate_names_the_pin", wrong_certificate),
    ("an_untrusted_client_is_told_to_ask_for_a_token", untrusted),
    ("a_trust_token_lets_a_client_in_once", token),
    ("an_unknown_image_lists_similar_aliases", unknown_image),
    ("an_unknown_pool_lists_the_pools", unknown_pool),
    ("what_an_instance_refers_to_in_vain_is_told_apart", missing),
    ("an_override_without_anything_to_override_is_refused", nothing_to_override),
    ("a_taken_name_shows_the_import_block", taken_name),
    ("an_address_outside_the_subnet_names_the_range", outside),
    ("a_taken_address_is_refused", address_taken),
    ("too_long_names_are_refused_together", too_long),
    ("a_protected_instance_says_how_to_destroy_it", protected),
    ("a_domain_that_is_not_empty_lists_what_it_holds", not_empty),
];

const PLAN: &[&str] = &["plan", "-input=false", "-no-color"];
const DESTROY: &[&str] = &["destroy", "-auto-approve", "-input=false", "-no-color"];
const HTTPS: &str = "127.0.0.1:8443";

fn domain(name: &str, rest: &str) -> String {
    format!("resource \"anklume_domain\" \"d\" {{\n  name = \"{name}\"\n{rest}}}\n")
}

fn pooled(name: &str) -> String {
    domain(name, "  storage_pool = \"default\"\n")
}

fn instance(label: &str, rest: &str) -> String {
    format!(
        "resource \"anklume_instance\" \"{label}\" {{\n  name = \"{label}\"\n  domain = anklume_domain.d.name\n  running = false\n{rest}}}\n"
    )
}

const OPEN: &str = "  image = \"busybox\"\n  delete_protection = false\n";

/// The daemon answers on the loopback interface of its namespace, too.
fn listen(run: &Workspace) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        run.incus().run(&["config", "set", &format!("core.https_address={HTTPS}")]);
    });
}

/// A directory of the `incus` command in which nothing is.
fn stranger(run: &Workspace) -> String {
    let dir = run.dir().join("stranger");
    fs::create_dir_all(&dir).unwrap();
    dir.to_str().unwrap().to_owned()
}

fn no_daemon(run: &Workspace) {
    run.configure_provider("  address = \"unix:///nonexistent/unix.socket\"\n", &pooled("nobody"));
    golden::holds("no_daemon", &run.fail_in_full(APPLY), &[]);
}

/// The provider alone runs as `nobody`: the client is root, as is everything of its directory.
fn no_permission(run: &Workspace) {
    let dir = run.dir().join("nobody");
    fs::create_dir_all(&dir).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_terraform-provider-anklume"), dir.join("provider")).unwrap();
    let script = dir.join("terraform-provider-anklume");
    let setpriv = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    fs::write(&script, format!("#!/bin/sh\nexec {setpriv} {:?}\n", dir.join("provider"))).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    run.install_from(&format!("  dev_overrides {{ \"anklume/anklume\" = {dir:?} }}\n  direct {{}}"));
    run.configure(&pooled("nobody"));
    let socket = run.socket().display().to_string();
    golden::holds("no_permission", &run.fail_in_full(APPLY), &[(&socket, "<socket>")]);
    fs::remove_dir_all(&dir).unwrap();
}

fn unknown_remote(run: &Workspace) {
    run.configure_provider("  remote = \"nowhere\"\n", &pooled("nobody"));
    let registry = [("registry.opentofu.org", "<registry>"), ("registry.terraform.io", "<registry>")];
    golden::holds("unknown_remote", &run.fail_in_full(APPLY), &registry);
}

fn wrong_certificate(run: &Workspace) {
    listen(run);
    let block = format!("  address = \"https://{HTTPS}\"\n  server_fingerprint = \"{}\"\n", "ab".repeat(32));
    run.configure_provider(&block, &pooled("nobody"));
    let server = run.incus().query("/1.0")["environment"]["certificate_fingerprint"].as_str().unwrap().to_owned();
    golden::holds("wrong_certificate", &run.fail_in_full(APPLY), &[(&server, "<the server's>")]);
}

fn untrusted(run: &Workspace) {
    listen(run);
    let block = format!(
        "  address = \"https://{HTTPS}\"\n  accept_remote_certificate = true\n  config_dir = {:?}\n",
        stranger(run)
    );
    run.configure_provider(&block, &pooled("nobody"));
    golden::holds("untrusted", &run.fail_in_full(APPLY), &[]);
}

fn token(run: &Workspace) {
    listen(run);
    let (name, incus) = (run.domain("etok"), run.incus());
    let token = incus.run(&["config", "trust", "add", &name, "-q"]);
    let token = token.split_whitespace().last().unwrap();
    let block = |token: &str, dir: &str| format!("  token = \"{token}\"\n  config_dir = {dir:?}\n");
    let dir = stranger(run);
    run.configure_provider(&block(token, &dir), &pooled(&name));
    // A local socket that the environment names comes before an address in a token.
    for unset in ["INCUS_DIR", "INCUS_CONF"] {
        run.set(unset, "");
    }
    run.apply();
    run.plan_is_empty();
    run.destroy();
    let other = run.dir().join("other");
    fs::create_dir_all(&other).unwrap();
    run.configure_provider(&block(token, other.to_str().unwrap()), &pooled(&name));
    let refused = run.apply_fails();
    assert!(refused.contains("incus config trust add") && !refused.contains(token), "{refused}");
    for certificate in incus.query("/1.0/certificates?recursion=1").as_array().unwrap() {
        if certificate["name"] == name {
            incus.run(&["config", "trust", "remove", certificate["fingerprint"].as_str().unwrap()]);
        }
    }
}

fn unknown_image(run: &Workspace) {
    let (name, incus) = (run.domain("eimg"), run.incus());
    run.configure(&format!("{}{}", pooled(&name), instance("box", "  image = \"busybix\"\n")));
    golden::holds("unknown_image", &run.fail_in_full(APPLY), &[(&name, "<domain>")]);
    assert!(incus.instance(&name, "box").is_none());
    run.destroy();
}

fn unknown_pool(run: &Workspace) {
    let (name, incus) = (run.domain("epool"), run.incus());
    run.configure(&domain(&name, "  storage_pool = \"fast\"\n"));
    golden::holds("unknown_pool", &run.fail_in_full(APPLY), &[(&name, "<domain>")]);
    assert!(incus.project(&name).is_none() && incus.network(&format!("net-{name}")).is_none());

    let disk = format!("{OPEN}  root_disk = {{ pool = \"fast\" }}\n");
    run.configure(&format!("{}{}", pooled(&name), instance("box", &disk)));
    golden::holds("unknown_pool_of_an_instance", &run.fail_in_full(APPLY), &[(&name, "<domain>")]);
    assert!(incus.instance(&name, "box").is_none());
    run.destroy();
}

fn missing(run: &Workspace) {
    let (name, incus) = (run.domain("emiss"), run.incus());
    let names: &[(&str, &str)] = &[(&name, "<domain>")];
    run.configure(&format!(
        "resource \"anklume_instance\" \"box\" {{\n  name = \"box\"\n  domain = \"{name}\"\n{OPEN}}}\n"
    ));
    golden::holds("missing_domain", &run.fail_in_full(APPLY), names);
    run.configure(&pooled(&name));
    run.apply();
    incus.run(&["profile", "create", "small", "--project", &name, "-q"]);
    for (text, rest) in [
        ("missing_profile", "  profiles = [\"default\", \"smal\"]\n"),
        ("missing_network", "  devices = { eth1 = { type = \"nic\", network = \"nowhere\" } }\n"),
        (
            "missing_volume",
            "  devices = { d = { type = \"disk\", pool = \"default\", source = \"no\", path = \"/d\" } }\n",
        ),
        ("missing_pool", "  devices = { d = { type = \"disk\", pool = \"slow\", source = \"no\", path = \"/d\" } }\n"),
    ] {
        run.configure(&format!("{}{}", pooled(&name), instance("box", &format!("{OPEN}{rest}"))));
        golden::holds(text, &run.fail_in_full(APPLY), names);
        assert!(incus.instance(&name, "box").is_none(), "{text}");
    }
    run.configure(&format!("{}{}", pooled(&name), instance("box", OPEN)));
    run.apply();
    let later = format!("{OPEN}  profiles = [\"default\", \"smal\"]\n");
    run.configure(&format!("{}{}", pooled(&name), instance("box", &later)));
    golden::holds("missing_profile_of_an_update", &run.fail_in_full(APPLY), names);
    incus.run(&["profile", "delete", "small", "--project", &name]);
    run.configure(&format!("{}{}", pooled(&name), instance("box", OPEN)));
    run.destroy();
}

fn nothing_to_override(run: &Workspace) {
    let (name, incus) = (run.domain("eover"), run.incus());
    run.configure(&pooled(&name));
    run.apply();
    incus.run(&["profile", "create", "bare", "--project", &name, "-q"]);
    for (text, rest) in [
        ("address_without_eth0", "  ipv4_address = \"192.0.2.7\"\n"),
        ("root_disk_without_a_pool", "  root_disk = { size = \"1GiB\" }\n"),
    ] {
        let bare = format!("{OPEN}  profiles = [\"bare\"]\n{rest}");
        run.configure(&format!("{}{}", pooled(&name), instance("box", &bare)));
        golden::holds(text, &run.fail_in_full(APPLY), &[(&name, "<domain>")]);
        assert!(incus.instance(&name, "box").is_none(), "{text}");
    }
    incus.run(&["profile", "delete", "bare", "--project", &name]);
    run.destroy();
}

fn taken_name(run: &Workspace) {
    let (name, incus) = (run.domain("ename"), run.incus());
    let names: &[(&str, &str)] = &[(&name, "<domain>")];
    incus.run(&["project", "create", &name, "-q"]);
    run.configure(&pooled(&name));
    golden::holds("taken_domain", &run.fail_in_full(APPLY), names);
    incus.run(&["project", "delete", &name]);

    run.apply();
    incus.run(&["init", "busybox", "box", "--project", &name, "-q"]);
    incus.run(&["profile", "create", "small", "--project", &name, "-q"]);
    run.configure(&format!("{}{}", pooled(&name), instance("box", OPEN)));
    golden::holds("taken_instance", &run.fail_in_full(APPLY), names);
    run.configure(&format!(
        "{}resource \"anklume_profile\" \"p\" {{\n  name = \"small\"\n  domain = anklume_domain.d.name\n}}\n",
        pooled(&name)
    ));
    golden::holds("taken_profile", &run.fail_in_full(APPLY), names);
    assert!(incus.instance(&name, "box").is_some() && incus.profile(&name, "small").is_some());
    incus.run(&["delete", "box", "--project", &name]);
    incus.run(&["profile", "delete", "small", "--project", &name]);
    run.destroy();
}

/// A domain whose subnet is known, and what stands for it in a text.
fn placed(run: &Workspace, word: &str, from: u8) -> (String, String, String) {
    let (name, id) = (run.domain(word), run.subnet_id(from));
    let text = domain(&name, &format!("  storage_pool = \"default\"\n  subnet_id = {id}\n"));
    (name, text, format!("10.120.{id}."))
}

fn outside(run: &Workspace) {
    let (name, domain, subnet) = placed(run, "eout", 210);
    run.configure(&format!("{domain}{}", instance("box", &format!("{OPEN}  ipv4_address = \"192.0.2.7\"\n"))));
    golden::holds("address_outside_the_subnet", &run.fail_in_full(APPLY), &[(&name, "<domain>"), (&subnet, "10.x.y.")]);
    assert!(run.incus().instance(&name, "box").is_none());
    run.destroy();
}

fn address_taken(run: &Workspace) {
    let (name, domain, subnet) = placed(run, "eaddr", 212);
    let placed = |label: &str| instance(label, &format!("{OPEN}  ipv4_address = \"{subnet}10\"\n"));
    run.configure(&format!("{domain}{}", placed("first")));
    run.apply();
    run.configure(&format!("{domain}{}{}", placed("first"), placed("second")));
    golden::holds("address_taken", &run.fail_in_full(APPLY), &[(&name, "<domain>"), (&subnet, "10.x.y.")]);
    assert!(run.incus().instance(&name, "second").is_none());
    let gateway = instance("third", &format!("{OPEN}  ipv4_address = \"{subnet}254\"\n"));
    run.configure(&format!("{domain}{gateway}"));
    golden::holds("address_of_the_gateway", &run.fail_in_full(APPLY), &[(&name, "<domain>"), (&subnet, "10.x.y.")]);
    run.destroy();
}

fn too_long(run: &Workspace) {
    let long = "a".repeat(64);
    run.configure(&format!(
        "{}resource \"anklume_instance\" \"i\" {{\n  name = \"{long}\"\n  domain = \"pro\"\n  image = \"busybox\"\n}}\n",
        pooled("far-too-long-a-name")
    ));
    golden::holds("name_too_long", &run.fail_in_full(PLAN), &[]);
    let prefixed = domain("eleven-long", "");
    run.configure_provider("  nesting_prefix = \"001\"\n", &prefixed);
    golden::holds("name_too_long_with_a_prefix", &run.fail_in_full(PLAN), &[]);
}

fn protected(run: &Workspace) {
    let name = run.domain("eprot");
    let names: &[(&str, &str)] = &[(&name, "<domain>")];
    run.configure(&format!("{}{}", pooled(&name), instance("box", "  image = \"busybox\"\n")));
    run.apply();
    golden::holds("protected", &run.fail_in_full(DESTROY), names);
    run.succeed(&["taint", "anklume_instance.box"]);
    golden::holds("protected_and_tainted", &run.fail_in_full(APPLY), names);
    run.succeed(&["untaint", "anklume_instance.box"]);
    run.configure(&format!("{}{}", pooled(&name), instance("box", OPEN)));
    run.apply();
    run.destroy();
}

fn not_empty(run: &Workspace) {
    let (name, incus) = (run.domain("efull"), run.incus());
    run.configure(&pooled(&name));
    run.apply();
    incus.run(&["init", "busybox", "stranger", "--project", &name, "-q"]);
    incus.run(&["profile", "create", "strange", "--project", &name, "-q"]);
    incus.run(&["storage", "volume", "create", "default", "data", "--project", &name, "-q"]);
    golden::holds("domain_not_empty", &run.fail_in_full(DESTROY), &[(&name, "<domain>")]);
    assert!(incus.instance(&name, "stranger").is_some());
    incus.run(&["delete", "stranger", "--project", &name]);
    incus.run(&["profile", "delete", "strange", "--project", &name]);
    incus.run(&["storage", "volume", "delete", "default", "data", "--project", &name]);
    run.destroy();
}
