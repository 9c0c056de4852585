//! `anklume_instance`, `type = "lxc"`: from a request to an address, and back to nothing.

use std::net::Ipv4Addr;

use crate::Case;
use crate::cli::Workspace;

pub(crate) const CASES: &[Case] = &[
    ("a_container_has_its_lease_when_apply_ends", lives),
    ("every_updatable_attribute_changes_in_place", changes_in_place),
    ("a_static_address_comes_and_goes_in_place", static_address),
    ("drift_is_shown_and_repaired", drift),
    ("nesting_brings_its_system_calls_and_keeps_them", nesting),
    ("a_static_eth0_that_differs_is_told_and_repaired", stale),
    ("a_stopped_container_is_started_and_a_running_one_stopped", running),
    ("another_list_of_profiles_restarts_nothing", profiles),
    ("a_rename_onto_a_stranger_leaves_both_alone", renamed_onto_a_stranger),
    ("a_renamed_container_stays_the_same_object", renamed),
    ("an_ephemeral_container_may_be_destroyed", ephemeral),
    ("a_protected_container_is_not_destroyed", protected),
    ("an_unknown_image_is_refused_before_anything_is_made", unknown_image),
    ("bad_input_is_refused_when_planning", bad_input),
];

const ADDRESS: &str = "anklume_instance.it";

pub(crate) fn instance(domain: &str, rest: &str) -> String {
    format!(
        r#"resource "anklume_domain" "d" {{
  name = "{domain}"
  storage_pool = "default"
}}

resource "anklume_instance" "it" {{
  domain = anklume_domain.d.name
  stop_timeout = "5s"
{rest}
}}
"#
    )
}

/// A container named `box` that may be destroyed.
fn container(domain: &str, rest: &str) -> String {
    instance(domain, &format!("  name = \"box\"\n  image = \"busybox\"\n  delete_protection = false\n{rest}"))
}

fn address(run: &Workspace) -> Ipv4Addr {
    let state = run.attributes(ADDRESS);
    state["ipv4_address"].as_str().unwrap_or_else(|| panic!("no address in {state}")).parse().unwrap()
}

fn lives(run: &Workspace) {
    let (domain, incus) = (run.domain("ilive"), run.incus());
    run.configure(&container(&domain, ""));
    run.apply();
    let state = run.attributes(ADDRESS);
    assert_eq!(state["id"], format!("{domain}/box"));
    assert_eq!(state["status"], "Running");
    let lease = address(run);
    assert!((100..=199).contains(&lease.octets()[3]), "{lease} is not in the range of DHCP");
    let seen = incus.query(&format!("/1.0/instances/box/state?project={domain}"));
    assert_eq!(seen["network"]["eth0"]["addresses"][0]["address"], lease.to_string());
    assert_eq!(state["interfaces"]["eth0"]["mac"], seen["network"]["eth0"]["hwaddr"]);
    run.plan_is_empty();

    run.survives_import(ADDRESS, &format!("{domain}/box"));
    run.destroy();
    assert!(incus.project(&domain).is_none());
}

fn changes_in_place(run: &Workspace) {
    let (domain, incus) = (run.domain("ichg"), run.incus());
    run.configure(&container(&domain, ""));
    run.apply();
    let pid = |incus: &crate::incus::Incus<'_>| {
        incus.query(&format!("/1.0/instances/box/state?project={domain}"))["pid"].as_i64().unwrap()
    };
    let before = pid(&incus);
    let changed = r#"  description = "changed"
  config = { "limits.memory" = "64MiB", "user.note" = "n" }
  devices = { tmp = { type = "disk", source = "/srv", path = "/scratch" } }
  boot_autostart = true
  boot_priority = 7
  snapshots_schedule = "@daily"
  snapshots_expiry = "2w"
  "#;
    run.configure(&container(&domain, changed));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    assert_eq!(pid(&incus), before, "nothing here needs a restart");
    let there = incus.instance(&domain, "box").unwrap();
    assert_eq!(there["description"], "changed");
    for (key, value) in [
        ("limits.memory", "64MiB"),
        ("user.note", "n"),
        ("boot.autostart", "true"),
        ("boot.autostart.priority", "7"),
        ("snapshots.schedule", "@daily"),
        ("snapshots.expiry", "2w"),
    ] {
        assert_eq!(there["config"][key], value, "{key}");
    }
    assert_eq!(there["devices"]["tmp"]["path"], "/scratch");

    run.survives_import(ADDRESS, &format!("{domain}/box"));
    run.configure(&container(&domain, "  nesting = true\n  root_disk = { size = \"1GiB\" }"));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    let there = incus.instance(&domain, "box").unwrap();
    assert_eq!(there["config"]["security.nesting"], "true");
    assert_eq!(there["devices"]["root"]["size"], "1GiB");
    assert!(there["config"]["limits.memory"].is_null() && there["devices"]["tmp"].is_null());
    run.destroy();
}

fn static_address(run: &Workspace) {
    let (domain, incus) = (run.domain("iaddr"), run.incus());
    let wish = |last: u8| {
        container(&domain, &format!("  ipv4_address = cidrhost(\"${{anklume_domain.d.gateway}}/24\", {last})"))
    };
    run.configure(&wish(11));
    run.apply();
    run.plan_is_empty();
    assert_eq!(address(run).octets()[3], 11);
    run.configure(&wish(12));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    let seen = incus.query(&format!("/1.0/instances/box/state?project={domain}"));
    assert_eq!(seen["network"]["eth0"]["addresses"][0]["address"], address(run).to_string());
    assert_eq!(address(run).octets()[3], 12);
    run.survives_import(ADDRESS, &format!("{domain}/box"));

    run.configure(&container(&domain, ""));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    assert!(address(run).octets()[3] >= 100, "back to DHCP");
    assert!(incus.instance(&domain, "box").unwrap()["devices"]["eth0"].is_null());

    run.configure(&container(&domain, "  ipv4_address = \"192.0.2.7\""));
    let refused = run.apply_fails();
    assert!(refused.contains("192.0.2.7"), "{refused}");
    run.configure(&container(&domain, ""));
    run.destroy();
}

fn drift(run: &Workspace) {
    let (domain, incus) = (run.domain("idrift"), run.incus());
    run.configure(&container(&domain, "  description = \"kept\"\n  config = { \"limits.cpu\" = \"1\" }"));
    run.apply();
    incus.run(&["profile", "create", "other", "--project", &domain, "-q"]);
    let meddle: [&[&str]; 7] = [
        &["config", "set", "box", "limits.cpu=2"],
        &["config", "set", "box", "user.note=meddled"],
        &["config", "set", "box", "description=meddled", "--property"],
        &["config", "set", "box", "boot.autostart=true"],
        &["config", "device", "add", "box", "tmp", "disk", "source=/srv", "path=/scratch"],
        &["profile", "add", "box", "other"],
        &["stop", "box", "--force"],
    ];
    for arguments in meddle {
        incus.run(&[arguments, &["--project", &domain]].concat());
        run.plan_updates(&[ADDRESS]);
        run.apply();
        run.plan_is_empty();
    }
    incus.run(&["delete", "box", "--force", "--project", &domain]);
    assert_eq!(run.plan(), [(ADDRESS.to_owned(), "create".to_owned())]);
    run.apply();
    run.plan_is_empty();
    incus.run(&["profile", "delete", "other", "--project", &domain]);
    run.destroy();
}

fn nesting(run: &Workspace) {
    let (domain, incus) = (run.domain("inest"), run.incus());
    let mknod = "security.syscalls.intercept.mknod";
    let keys = || incus.instance(&domain, "box").unwrap()["config"].clone();
    run.configure(&container(&domain, "  nesting = true"));
    run.apply();
    run.plan_is_empty();
    assert_eq!(run.attributes(ADDRESS)["status"], "Running");
    for key in ["security.nesting", mknod, "security.syscalls.intercept.setxattr"] {
        assert_eq!(keys()[key], "true", "{key}");
    }
    run.survives_import(ADDRESS, &format!("{domain}/box"));
    incus.run(&["config", "unset", "box", mknod, "--project", &domain]);
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    assert_eq!(keys()[mknod], "true");
    run.configure(&container(&domain, ""));
    run.apply();
    run.plan_is_empty();
    assert!(keys()["security.nesting"].is_null() && keys()[mknod].is_null());
    run.destroy();
}

fn stale(run: &Workspace) {
    let (domain, incus) = (run.domain("istale"), run.incus());
    let address = "  ipv4_address = cidrhost(\"${anklume_domain.d.gateway}/24\", 11)";
    let wish = |filtered: bool| {
        let pool = "  storage_pool = \"default\"\n";
        container(&domain, address).replace(pool, &format!("{pool}  nic_filtering = {filtered}\n"))
    };
    let eth0 = || incus.instance(&domain, "box").unwrap()["devices"]["eth0"].clone();
    let repaired = |told: &str| {
        run.plan_updates(&[ADDRESS]);
        assert!(run.apply().contains(told));
        run.plan_is_empty();
    };
    run.configure(&wish(false));
    run.apply();
    run.plan_is_empty();
    let made = eth0();
    incus.run(&["config", "device", "set", "box", "eth0", "boot.priority=1", "--project", &domain]);
    repaired("`boot.priority` is \"1\" here and not set there");
    assert_eq!(eth0(), made);

    // The profile has changed; the copy follows with the next apply.
    run.configure(&wish(true));
    run.plan_updates(&["anklume_domain.d"]);
    run.apply();
    assert!(eth0()["security.mac_filtering"].is_null());
    repaired("`security.mac_filtering`");
    assert_eq!(eth0()["security.mac_filtering"], "true");
    run.destroy();
}

fn running(run: &Workspace) {
    let (domain, incus) = (run.domain("irun"), run.incus());
    let status = || incus.instance(&domain, "box").unwrap()["status"].clone();
    for (running, expected) in [(false, "Stopped"), (true, "Running"), (false, "Stopped")] {
        run.configure(&container(&domain, &format!("  running = {running}")));
        run.apply();
        run.plan_is_empty();
        assert_eq!(status(), expected);
        assert_eq!(run.attributes(ADDRESS)["status"], expected);
    }
    run.survives_import(ADDRESS, &format!("{domain}/box"));
    run.destroy();
}

fn profiles(run: &Workspace) {
    let (domain, incus) = (run.domain("iprof"), run.incus());
    run.configure(&container(&domain, ""));
    run.apply();
    incus.run(&["profile", "create", "more", "--project", &domain, "-q"]);
    let pid = || incus.query(&format!("/1.0/instances/box/state?project={domain}"))["pid"].as_i64().unwrap();
    let before = pid();
    run.configure(&container(&domain, "  profiles = [\"default\", \"more\"]"));
    run.apply();
    run.plan_is_empty();
    assert_eq!(pid(), before);
    run.configure(&container(&domain, ""));
    run.apply();
    assert_eq!(pid(), before);
    incus.run(&["profile", "delete", "more", "--project", &domain, "-q"]);
    run.destroy();
}

fn renamed_onto_a_stranger(run: &Workspace) {
    let (domain, incus) = (run.domain("itaken"), run.incus());
    let named = |name: &str| {
        instance(&domain, &format!("  name = \"{name}\"\n  image = \"busybox\"\n  delete_protection = false"))
    };
    run.configure(&named("ours"));
    run.apply();
    incus.run(&["init", "busybox", "theirs", "--project", &domain, "-q"]);
    let stranger = incus.instance(&domain, "theirs").unwrap();
    run.configure(&named("theirs"));
    run.apply_fails();
    assert_eq!(run.attributes(ADDRESS)["name"], "ours");
    assert_eq!(incus.instance(&domain, "theirs").unwrap()["config"], stranger["config"]);
    assert_eq!(incus.instance(&domain, "ours").unwrap()["status"], "Running");
    incus.run(&["delete", "theirs", "--project", &domain]);
    run.destroy();
}

fn renamed(run: &Workspace) {
    let (domain, incus) = (run.domain("iname"), run.incus());
    let named = |name: &str| {
        instance(&domain, &format!("  name = \"{name}\"\n  image = \"busybox\"\n  delete_protection = false"))
    };
    run.configure(&named("before"));
    run.apply();
    let made = incus.instance(&domain, "before").unwrap()["created_at"].clone();
    run.configure(&named("after"));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    assert!(incus.instance(&domain, "before").is_none());
    let after = incus.instance(&domain, "after").unwrap();
    assert_eq!((&after["created_at"], after["status"].as_str()), (&made, Some("Running")));
    run.destroy();
}

fn ephemeral(run: &Workspace) {
    let (domain, incus) = (run.domain("ieph"), run.incus());
    run.configure(&instance(&domain, "  name = \"box\"\n  image = \"busybox\"\n  ephemeral = true"));
    run.apply();
    run.plan_is_empty();
    assert_eq!(run.attributes(ADDRESS)["delete_protection"], false);
    assert_eq!(incus.instance(&domain, "box").unwrap()["ephemeral"], true);
    run.survives_import(ADDRESS, &format!("{domain}/box"));
    run.destroy();
}

fn protected(run: &Workspace) {
    let (domain, incus) = (run.domain("iprot"), run.incus());
    run.configure(&instance(&domain, "  name = \"box\"\n  image = \"busybox\""));
    run.apply();
    run.plan_is_empty();
    assert_eq!(incus.instance(&domain, "box").unwrap()["config"]["security.protection.delete"], "true");
    let refused = run.destroy_fails();
    assert!(refused.contains("delete_protection = false"), "{refused}");
    assert!(incus.instance(&domain, "box").is_some());
    run.configure(&instance(&domain, "  name = \"box\"\n  image = \"busybox\"\n  type = \"vm\""));
    let refused = run.plan_fails();
    assert!(refused.contains("delete_protection"), "{refused}");
    run.configure(&container(&domain, ""));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.destroy();
}

fn unknown_image(run: &Workspace) {
    let (domain, incus) = (run.domain("iimg"), run.incus());
    run.configure(&instance(&domain, "  name = \"box\"\n  image = \"busybix\"\n  delete_protection = false"));
    let refused = run.apply_fails();
    assert!(refused.contains("busybix") && refused.contains("busybox"), "{refused}");
    assert!(incus.instance(&domain, "box").is_none());
    run.destroy();
}

fn bad_input(run: &Workspace) {
    let domain = run.domain("ibad");
    for (bad, hint) in [
        ("root_disk = { size = \"20Gi\" }", "20GiB"),
        ("config = { \"boot.autostart\" = \"true\" }", "boot_autostart"),
        ("secure_boot = false", "type = \"vm\""),
        ("boot_priority = 101", "100"),
        ("stop_timeout = \"soon\"", "90s"),
        ("ipv4_address = \"10.0.0.300\"", "ipv4_address"),
        ("snapshots_schedule = \"sometimes\"", "snapshots_schedule"),
        ("ephemeral = true\n  running = false", "ephemeral"),
        ("type = \"jail\"", "lxc"),
    ] {
        let name = "  name = \"box\"\n  image = \"busybox\"";
        let rest = format!("resource \"anklume_instance\" \"it\" {{\n  domain = \"{domain}\"\n{name}\n  {bad}\n}}\n");
        run.configure(&rest);
        let refused = run.plan_fails();
        assert!(refused.contains(hint), "{bad}: {refused}");
    }
}
