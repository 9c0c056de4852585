//! Nothing is destroyed by surprise: protection, taint, replacement, order of destruction.

use crate::Case;
use crate::cli::{APPLY, Workspace};

pub(crate) const CASES: &[Case] = &[
    ("a_protected_instance_whose_create_failed_is_replaced", create_failed),
    ("a_protected_instance_tainted_by_hand_is_refused_with_untaint", tainted_by_hand),
    ("replace_of_a_protected_instance_is_refused", replace),
    ("a_tainted_domain_that_create_before_destroy_was_spread_to_is_kept", tainted_domain),
    ("two_resources_of_one_name_are_refused_when_planning", twice),
    ("a_tainted_unprotected_instance_is_replaced", tainted),
    ("what_an_apply_has_adopted_is_not_destroyed_by_it", adopted_twice),
];

const ADDRESS: &str = "anklume_instance.it";

fn domain(name: &str) -> String {
    format!("resource \"anklume_domain\" \"d\" {{\n  name = \"{name}\"\n  storage_pool = \"default\"\n}}\n")
}

/// A stopped container named `box`, protected unless `rest` says otherwise.
fn instance(name: &str, rest: &str) -> String {
    format!(
        "{}resource \"anklume_instance\" \"it\" {{\n  name = \"box\"\n  domain = anklume_domain.d.name\n  image = \"busybox\"\n  \
         stop_timeout = \"0s\"\n{rest}\n}}\n",
        domain(name)
    )
}

fn unprotect(run: &Workspace, name: &str) {
    run.configure(&instance(name, "  running = false\n  delete_protection = false"));
    run.apply();
    run.destroy();
}

fn create_failed(run: &Workspace) {
    let (name, incus) = (run.domain("pfail"), run.incus());
    // LXC has no such program to start.
    run.configure(&instance(&name, "  config = { \"raw.lxc\" = \"lxc.init.cmd = /nonexistent\" }"));
    let refused = run.apply_fails();
    assert!(refused.contains("box"), "{refused}");
    let there = incus.instance(&name, "box").unwrap();
    assert!(there["config"]["security.protection.delete"].is_null(), "what failed has to be destroyable");
    run.configure(&instance(&name, ""));
    assert_eq!(run.plan(), [(ADDRESS.to_owned(), "delete/create".to_owned())]);
    run.apply();
    run.plan_is_empty();
    let there = incus.instance(&name, "box").unwrap();
    assert_eq!(there["config"]["security.protection.delete"], "true");
    assert_eq!(there["status"], "Running");
    unprotect(run, &name);
}

fn tainted_by_hand(run: &Workspace) {
    let (name, incus) = (run.domain("ptaint"), run.incus());
    run.configure(&instance(&name, "  running = false"));
    run.apply();
    let made = incus.instance(&name, "box").unwrap()["created_at"].clone();
    run.succeed(&["taint", ADDRESS]);
    let refused = run.apply_fails();
    assert!(refused.contains("untaint anklume_instance"), "{refused}");
    assert_eq!(incus.instance(&name, "box").unwrap()["created_at"], made);
    run.succeed(&["untaint", ADDRESS]);
    run.plan_is_empty();
    unprotect(run, &name);
}

fn tainted(run: &Workspace) {
    let (name, incus) = (run.domain("ptnt"), run.incus());
    run.configure(&instance(&name, "  running = false\n  delete_protection = false"));
    run.apply();
    let uuid =
        |incus: &crate::incus::Incus<'_>| incus.instance(&name, "box").unwrap()["config"]["volatile.uuid"].clone();
    let before = uuid(&incus);
    run.succeed(&["taint", ADDRESS]);
    run.apply();
    run.plan_is_empty();
    assert_ne!(uuid(&incus), before);
    run.destroy();
}

/// The adoption fails, so the instance is tainted; the next apply adopts it again, and destroys what it deposed.
fn adopted_twice(run: &Workspace) {
    let (name, incus) = (run.domain("padopt"), run.incus());
    let with = |rest: &str| {
        let silent = "  network_config = { \"raw.dnsmasq\" = \"dhcp-ignore=tag:!nobody\" }\n}\n";
        let rest = format!("  delete_protection = false\n  lifecycle {{ create_before_destroy = true }}\n{rest}");
        instance(&name, &rest).replacen("}\n", silent, 1)
    };
    let quick = with("  wait = { addresses_timeout = \"1s\" }");
    let uuid = || incus.instance(&name, "box").map(|found| found["config"]["volatile.uuid"].clone());
    run.configure(&quick);
    run.apply();
    let made = uuid();
    run.forget(ADDRESS);
    run.configure(&with("  wait = { addresses_timeout = \"10m\" }\n  timeouts = { create = \"3s\" }"));
    run.apply_fails();
    assert_eq!(uuid(), made);
    run.apply_fails();
    assert_eq!(uuid(), made, "it may be replaced, but not by what failed");
    run.configure(&quick);
    // The instance runs by now, so that its replacement under the same name replaces nothing.
    let refused = run.apply_fails();
    assert!(refused.contains("Nothing was replaced"), "{refused}");
    assert_eq!(uuid(), made);
    run.apply();
    assert_eq!(uuid(), made);
    assert_eq!(run.attributes(ADDRESS)["status"], "Running");
    run.plan_is_empty();
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn replace(run: &Workspace) {
    let (name, incus) = (run.domain("prepl"), run.incus());
    run.configure(&instance(&name, "  running = false"));
    run.apply();
    let made = incus.instance(&name, "box").unwrap()["created_at"].clone();
    let refused = run.fail(&[APPLY, &["-replace", ADDRESS]].concat());
    assert!(refused.contains("delete_protection"), "{refused}");
    assert_eq!(incus.instance(&name, "box").unwrap()["created_at"], made);
    run.plan_is_empty();
    unprotect(run, &name);
}

fn tainted_domain(run: &Workspace) {
    let (name, incus) = (run.domain("pdom"), run.incus());
    let profile = "resource \"anklume_profile\" \"p\" {\n  name = \"kept\"\n  domain = anklume_domain.d.name\n  \
                   lifecycle { create_before_destroy = true }\n}\n";
    run.configure(&format!("{}{profile}", instance(&name, "  running = false\n  delete_protection = false")));
    run.apply();
    let bridge = format!("net-{name}");
    let before = incus.network(&bridge).unwrap()["config"]["ipv4.address"].clone();
    let uuid = incus.instance(&name, "box").unwrap()["config"]["volatile.uuid"].clone();
    run.succeed(&["taint", "anklume_domain.d"]);
    // Core spreads the lifecycle of the profile to its domain.
    let refused = run.apply_fails();
    assert!(refused.contains("Nothing was replaced"), "{refused}");
    run.apply();
    run.plan_is_empty();
    assert_eq!(incus.network(&bridge).unwrap()["config"]["ipv4.address"], before);
    assert_eq!(incus.instance(&name, "box").unwrap()["config"]["volatile.uuid"], uuid);
    assert!(incus.profile(&name, "kept").is_some());
    run.destroy();
    assert!(incus.project(&name).is_none() && incus.network(&bridge).is_none());
}

fn twice(run: &Workspace) {
    let (name, incus) = (run.domain("ptwice"), run.incus());
    let again = |text: String, of: &str| format!("{text}{}", text.replace(of, "\"again\" {"));
    let domains = again(domain(&name), "\"d\" {");
    run.configure(&domains);
    let refused = run.plan_fails();
    assert!(refused.contains("Two resources") && refused.contains(&name), "{refused}");
    let other = |kind: &str, rest: &str| {
        format!("resource \"{kind}\" \"it\" {{\n  name = \"box\"\n  domain = anklume_domain.d.name\n{rest}}}\n")
    };
    for (kind, rest) in [("anklume_profile", ""), ("anklume_instance", "  image = \"busybox\"\n")] {
        run.configure(&format!("{}{}", domain(&name), again(other(kind, rest), "\"it\" {")));
        let refused = run.plan_fails();
        assert!(refused.contains("Two resources") && refused.contains(&format!("{name}/box")), "{refused}");
    }
    assert!(incus.project(&name).is_none());
}
