//! `anklume_domain`: project, bridge and `default` profile, as one object with one life.

use std::collections::BTreeSet;

use crate::Case;
use crate::cli::Workspace;

pub(crate) const CASES: &[Case] = &[
    ("a_domain_lives_from_apply_to_destroy", lives),
    ("every_updatable_attribute_changes_in_place", changes_in_place),
    ("drift_is_shown_and_repaired", drift),
    ("a_domain_that_holds_something_is_not_destroyed", holds_something),
    ("force_destroy_takes_what_the_domain_holds", force_destroy),
    ("a_bridge_that_others_use_is_left_alone_even_by_force", strangers),
    ("force_destroy_takes_what_a_path_has_to_encode", odd_names),
    ("a_bridge_is_destroyed_though_another_project_has_taken_the_name", foreign_project),
    ("what_the_bridge_has_twice_or_auto_has_chosen_is_shown_when_it_changes", hidden_drift),
    ("timeouts_survive_an_import", timeouts),
    ("another_name_makes_another_domain", renamed),
    ("a_project_that_is_no_compartment_is_not_imported", no_compartment),
    ("thirty_domains_at_once_have_thirty_subnets", thirty),
    ("a_taken_name_is_refused_with_the_import_block", taken_name),
    ("bad_input_is_refused_when_planning", bad_input),
];

const ADDRESS: &str = "anklume_domain.it";

fn domain(name: &str, rest: &str) -> String {
    format!("resource \"anklume_domain\" \"it\" {{\n  name = \"{name}\"\n  storage_pool = \"default\"\n{rest}\n}}\n")
}

fn lives(run: &Workspace) {
    let (name, incus) = (run.domain("live"), run.incus());
    run.configure(&domain(&name, "  trust_level = \"trusted\"\n  description = \"a life\""));
    run.apply();
    run.plan_is_empty();

    let state = run.attributes(ADDRESS);
    assert_eq!(state["bridge"], format!("net-{name}"));
    assert_eq!(state["project"], name);
    let gateway = state["gateway"].as_str().unwrap();
    assert!(gateway.starts_with("10.110.") && gateway.ends_with(".254"), "{gateway}");

    let bridge = incus.network(&format!("net-{name}")).unwrap();
    assert_eq!(bridge["config"]["ipv4.address"], format!("{gateway}/24"));
    assert_eq!(bridge["config"]["ipv6.address"], "none");
    let project = incus.project(&name).unwrap();
    assert_eq!(project["config"]["features.profiles"], "true");
    assert_eq!(project["description"], "a life");
    let profile = incus.profile(&name, "default").unwrap();
    assert_eq!(profile["devices"]["root"]["pool"], "default");
    assert!(profile["devices"]["eth0"].to_string().contains(&format!("net-{name}")));

    run.survives_import(ADDRESS, &name);
    run.destroy();
    assert!(incus.project(&name).is_none());
    assert!(incus.network(&format!("net-{name}")).is_none());
}

fn changes_in_place(run: &Workspace) {
    let (name, incus) = (run.domain("chg"), run.incus());
    run.configure(&domain(&name, ""));
    run.apply();
    let gateway = run.attributes(ADDRESS)["gateway"].clone();

    let changed = "  description = \"other\"\n  nat = false\n  config = { \"limits.instances\" = \"5\" }";
    run.configure(&domain(&name, changed));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    assert_eq!(run.attributes(ADDRESS)["gateway"], gateway);
    let project = incus.project(&name).unwrap();
    assert_eq!(project["description"], "other");
    assert_eq!(project["config"]["limits.instances"], "5");
    assert_ne!(incus.network(&format!("net-{name}")).unwrap()["config"]["ipv4.nat"], "true");

    let id = run.subnet_id(201);
    run.configure(&domain(&name, &format!("  subnet_id = {id}")));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    assert_eq!(run.attributes(ADDRESS)["gateway"], format!("10.120.{id}.254"));
    assert!(incus.project(&name).unwrap()["config"]["limits.instances"].is_null());
    run.destroy();
}

fn drift(run: &Workspace) {
    let (name, incus) = (run.domain("drift"), run.incus());
    // A subnet that no other domain is given while this one is moved away from it.
    let id = run.subnet_id(205);
    let kept = format!("  description = \"kept\"\n  config = {{ \"limits.instances\" = \"5\" }}\n  subnet_id = {id}");
    run.configure(&domain(&name, &kept));
    run.apply();
    let bridge = format!("net-{name}");
    let gateway = incus.network(&bridge).unwrap()["config"]["ipv4.address"].clone();
    let meddle: [&[&str]; 6] = [
        &["profile", "device", "add", "default", "host", "disk", "source=/srv", "path=/host", "--project", &name],
        &["profile", "set", "default", "security.privileged=true", "--project", &name],
        &["project", "set", &name, "limits.instances=9"],
        &["project", "set", &name, "description=meddled", "--property"],
        &["network", "set", &bridge, "ipv4.nat=false"],
        &["network", "set", &bridge, &format!("ipv4.address=10.119.{}.254/24", run.subnet_id(250))],
    ];
    for arguments in meddle {
        incus.run(arguments);
        run.plan_updates(&[ADDRESS]);
        run.apply();
        run.plan_is_empty();
    }
    assert_eq!(incus.network(&bridge).unwrap()["config"]["ipv4.address"], gateway);
    assert_eq!(incus.project(&name).unwrap()["config"]["limits.instances"], "5");
    run.destroy();
}

fn renamed(run: &Workspace) {
    let (before, after, incus) = (run.domain("from"), run.domain("to"), run.incus());
    // Without a pool in the configuration: what the plan says must be what it says again at apply.
    let named = |name: &str| {
        format!(
            "resource \"anklume_domain\" \"it\" {{\n  name = \"{name}\"\n  subnet_id = {}\n}}\n",
            run.subnet_id(251)
        )
    };
    run.configure(&named(&before));
    run.apply();
    run.configure(&named(&after));
    run.apply();
    run.plan_is_empty();
    assert!(incus.project(&before).is_none() && incus.project(&after).is_some());
    run.destroy();
}

fn no_compartment(run: &Workspace) {
    let (name, incus) = (run.domain("shared"), run.incus());
    let bridge = format!("net-{name}");
    incus.run(&["project", "create", &name, "-c", "features.profiles=false", "-q"]);
    incus.run(&[
        "network",
        "create",
        &bridge,
        &format!("ipv4.address=10.119.{}.254/24", run.subnet_id(252)),
        "ipv6.address=none",
        "-q",
    ]);
    run.configure(&domain(&name, ""));
    let refused = run.fail(&["import", "-input=false", ADDRESS, &name]);
    assert!(refused.contains("features.profiles"), "{refused}");
    incus.run(&["network", "delete", &bridge, "-q"]);
    incus.run(&["project", "delete", &name, "-q"]);
}

fn holds_something(run: &Workspace) {
    let (name, incus) = (run.domain("held"), run.incus());
    run.configure(&domain(&name, ""));
    run.apply();
    incus.run(&["init", "busybox", "stranger", "--project", &name, "-q"]);
    let refused = run.destroy_fails();
    assert!(refused.contains("stranger"), "{refused}");
    assert!(incus.instance(&name, "stranger").is_some());
    assert!(incus.network(&format!("net-{name}")).is_some());
    incus.run(&["delete", "stranger", "--project", &name]);
    run.destroy();
}

fn force_destroy(run: &Workspace) {
    let (name, incus) = (run.domain("force"), run.incus());
    run.configure(&domain(&name, "  force_destroy = true"));
    run.apply();
    run.plan_is_empty();
    incus.run(&["launch", "busybox", "stranger", "--project", &name, "-q"]);
    incus.run(&["profile", "create", "strange", "--project", &name, "-q"]);
    incus.run(&["config", "set", "stranger", "security.protection.delete=true", "--project", &name]);
    let refused = run.destroy_fails();
    assert!(refused.contains("stranger"), "{refused}");
    assert!(incus.profile(&name, "strange").is_some(), "refused before anything is deleted");
    incus.run(&["config", "unset", "stranger", "security.protection.delete", "--project", &name]);
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn odd_names(run: &Workspace) {
    let (name, incus) = (run.domain("odd"), run.incus());
    run.configure(&domain(&name, "  force_destroy = true"));
    run.apply();
    incus.run(&["init", "busybox", "own", "--project", &name, "-q"]);
    incus.run(&["profile", "create", "odd name", "--project", &name, "-q"]);
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn foreign_project(run: &Workspace) {
    let (name, incus) = (run.domain("swap"), run.incus());
    let bridge = format!("net-{name}");
    run.configure(&domain(&name, ""));
    run.apply();
    incus.run(&["project", "delete", &name, "-q"]);
    incus.run(&["project", "create", &name, "-q"]);
    run.succeed(&["destroy", "-refresh=false", "-auto-approve", "-input=false", "-no-color"]);
    assert!(incus.network(&bridge).is_none(), "the bridge is ours");
    assert!(incus.project(&name).is_some(), "the project is not");
    incus.run(&["project", "delete", &name, "-q"]);
}

fn hidden_drift(run: &Workspace) {
    let (name, incus) = (run.domain("twice"), run.incus());
    let bridge = format!("net-{name}");
    run.configure(&domain(&name, "  description = \"kept\"\n  ipv6 = \"auto\""));
    run.apply();
    run.plan_is_empty();
    let before = incus.network(&bridge).unwrap();
    assert!(before["config"]["ipv6.address"].as_str().unwrap().starts_with("fd42:"));
    let meddle: [&[&str]; 3] = [
        &["network", "set", &bridge, "ipv6.nat=false"],
        &["network", "set", &bridge, "description=meddled", "--property"],
        &["network", "set", &bridge, &format!("ipv6.address=fd66:{:x}::1/64", run.subnet_id(1))],
    ];
    for arguments in meddle {
        incus.run(arguments);
        run.plan_updates(&[ADDRESS]);
        run.apply();
        run.plan_is_empty();
        let now = incus.network(&bridge).unwrap();
        assert_eq!((&now["config"], &now["description"]), (&before["config"], &before["description"]));
    }
    run.destroy();
}

fn strangers(run: &Workspace) {
    let (name, other, incus) = (run.domain("users"), run.domain("guest"), run.incus());
    let bridge = format!("net-{name}");
    run.configure(&domain(&name, "  force_destroy = true"));
    run.apply();
    incus.run(&["init", "busybox", "own", "--project", &name, "-q"]);
    incus.run(&["project", "create", &other, "-c", "features.images=false", "-q"]);
    incus.run(&["init", "busybox", "web", "-n", &bridge, "-s", "default", "--project", &other, "-q"]);
    let refused = run.destroy_fails();
    assert!(refused.contains(&format!("instance web (project {other})")) && !refused.contains("own"), "{refused}");
    assert!(incus.instance(&name, "own").is_some() && incus.instance(&other, "web").is_some());
    assert!(incus.network(&bridge).is_some() && incus.project(&name).is_some());
    incus.run(&["delete", "web", "--project", &other]);
    incus.run(&["project", "delete", &other]);
    run.destroy();
    assert!(incus.network(&bridge).is_none());
}

fn timeouts(run: &Workspace) {
    let name = run.domain("patient");
    run.configure(&domain(&name, "  timeouts = { read = \"2m\", create = \"10m\" }"));
    run.apply();
    run.plan_is_empty();
    run.survives_import(ADDRESS, &name);
    run.configure(&domain(&name, "  timeouts = { read = \"3m\" }"));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.survives_import(ADDRESS, &name);
    run.destroy();
}

fn thirty(run: &Workspace) {
    let of = |count: usize| {
        let prefix = run.domain("t");
        format!(
            "resource \"anklume_domain\" \"it\" {{\n  for_each = toset([for i in range({count}) : format(\"{prefix}%02d\", i)])\n  \
             name = each.key\n  storage_pool = \"default\"\n  trust_level = \"disposable\"\n}}\n"
        )
    };
    let subnets = || {
        let state = run.show_json();
        let resources = state["values"]["root_module"]["resources"].as_array().unwrap().clone();
        resources
            .iter()
            .map(|resource| (resource["index"].to_string(), resource["values"]["gateway"].to_string()))
            .collect::<BTreeSet<_>>()
    };
    run.configure(&of(30));
    run.apply();
    let before = subnets();
    assert_eq!(before.iter().map(|(_, gateway)| gateway).collect::<BTreeSet<_>>().len(), 30);
    run.plan_is_empty();
    run.configure(&of(29));
    run.apply();
    run.plan_is_empty();
    assert!(subnets().is_subset(&before), "a removed domain renumbers none");
    run.destroy();
}

fn taken_name(run: &Workspace) {
    let (name, incus) = (run.domain("taken"), run.incus());
    incus.run(&["project", "create", &name, "-q"]);
    run.configure(&domain(&name, ""));
    let refused = run.apply_fails();
    assert!(refused.contains("import {") && refused.contains(&format!("\"{name}\"")), "{refused}");
    assert!(incus.project(&name).is_some(), "what is not ours is never touched");
    assert!(incus.network(&format!("net-{name}")).is_none());
    incus.run(&["project", "delete", &name]);
}

fn bad_input(run: &Workspace) {
    for (bad, hint) in [
        ("name = \"far-too-long-a-name\"", "11"),
        ("name = \"Upper\"", "lower-case"),
        ("name = \"default\"", "Incus"),
        ("name = \"ok\"\n  trust_level = \"secret\"", "semi-trusted"),
        ("name = \"ok\"\n  subnet_id = 255", "254"),
        ("name = \"ok\"\n  network_config = { \"user.e\" = \"\" }", "Remove the key"),
        ("name = \"ok\"\n  timeouts = { create = \"9999999h\" }", "ten years"),
    ] {
        run.configure(&format!("resource \"anklume_domain\" \"it\" {{\n  {bad}\n}}\n"));
        let refused = run.plan_fails();
        assert!(refused.contains(hint), "{bad}: {refused}");
    }
}
