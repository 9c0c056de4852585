//! `root_disk` of an instance, on an Incus with a second storage pool.

use crate::Case;
use crate::cli::Workspace;
use crate::instance::instance;

pub(crate) const CASES: &[Case] = &[
    ("a_root_disk_moves_to_another_pool_in_place", moves),
    ("a_move_of_a_root_disk_outlives_the_daemon_and_the_provider", cut),
];

const ADDRESS: &str = "anklume_instance.it";

/// Protected, as an instance is by default: a move needs no destruction.
fn container(domain: &str, rest: &str) -> String {
    instance(domain, &format!("  name = \"box\"\n  image = \"busybox\"\n{rest}"))
}

fn moves(here: &Workspace) {
    let run = here.elsewhere("pools", &["second"]);
    let (domain, incus) = (run.domain("rdisk"), run.incus());
    let there = || incus.instance(&domain, "box").unwrap();
    let pool = || there()["expanded_devices"]["root"]["pool"].clone();
    run.configure(&container(&domain, "  root_disk = { size = \"1GiB\" }"));
    run.apply();
    run.plan_is_empty();
    incus.run(&["exec", "box", "--project", &domain, "--", "touch", "/kept"]);
    incus.run(&["snapshot", "create", "box", "before", "--project", &domain]);
    let mac = there()["config"]["volatile.eth0.hwaddr"].clone();
    let known = |key: &str| there()["config"][key].clone();
    let uuid = known("volatile.uuid");

    let settled = |pool_now: &str| {
        run.plan_updates(&[ADDRESS]);
        run.apply();
        run.plan_is_empty();
        assert_eq!(pool(), pool_now);
        assert_eq!(there()["config"]["volatile.eth0.hwaddr"], mac);
        assert_eq!(known("volatile.uuid"), uuid);
        incus.run(&["query", &format!("/1.0/instances/box/snapshots/before?project={domain}")]);
    };
    run.configure(&container(&domain, "  root_disk = { size = \"1GiB\", pool = \"second\" }"));
    settled("second");
    assert_eq!(there()["status"], "Running");
    assert_eq!(there()["devices"]["root"]["size"], "1GiB");
    incus.run(&["exec", "box", "--project", &domain, "--", "test", "-e", "/kept"]);
    run.survives_import(ADDRESS, &format!("{domain}/box"));

    run.configure(&container(&domain, "  root_disk = { size = \"1GiB\", pool = \"third\" }"));
    let refused = run.apply_fails();
    assert!(refused.contains("\"third\"") && refused.contains("There are: default, second."), "{refused}");
    assert_eq!((pool(), there()["status"].clone()), ("second".into(), "Running".into()));

    // A stopped one moves and stays stopped; without `root_disk` it goes to the pool of the profile.
    run.configure(&container(&domain, "  running = false"));
    settled("default");
    assert_eq!(there()["status"], "Stopped");
    assert!(there()["devices"]["root"].is_null());
    run.configure(&container(&domain, "  delete_protection = false"));
    run.apply();
    incus.run(&["exec", "box", "--project", &domain, "--", "test", "-e", "/kept"]);
    run.destroy();
    assert_eq!(run.leftovers(), Vec::<String>::new());
}

/// Both are killed while the disk is copied, and right before the copy has its name.
fn cut(here: &Workspace) {
    let run = here.elsewhere("cutdisk", &["second"]);
    let (domain, incus) = (run.domain("rcut"), run.incus());
    let configure = |pool: &str| run.configure(&container(&domain, &format!("  root_disk = {{ pool = \"{pool}\" }}")));
    let project = format!("project={domain}");
    let of_the_box = |verb: &[&str]| incus.run(&[verb, &["--project", &domain]].concat());
    configure("default");
    run.apply();
    incus.shell(&domain, "box", "head -c 300000000 /dev/urandom > /bytes");
    let sum = || incus.shell(&domain, "box", "sha256sum /bytes");
    let (written, there) = (sum(), || incus.instance(&domain, "box").unwrap());
    let mac = there()["config"]["volatile.eth0.hwaddr"].clone();
    let interim =
        || incus.list(&format!("/1.0/instances?{project}")).into_iter().find(|name| name.contains("anklume-"));
    let mut name = String::new();
    let settled = |pool: &str| {
        run.apply();
        run.plan_is_empty();
        assert_eq!((interim(), there()["expanded_devices"]["root"]["pool"].as_str()), (None, Some(pool)));
        assert_eq!((sum(), there()["config"]["volatile.eth0.hwaddr"].clone()), (written.clone(), mac.clone()));
        assert_eq!(there()["config"]["security.protection.delete"], "true");
    };
    for (pool, ends) in [("second", "daemon"), ("default", "provider")] {
        configure(pool);
        match ends {
            "daemon" => println!("{}", run.disturbed_apply(|| interim().is_some(), || run.restart_incus())),
            _ => run.killed_apply(|| interim().is_some()),
        }
        name = interim().unwrap_or(name);
        println!("{ends} killed; the copy is there: {:?}", interim());
        settled(pool);
    }
    let name = name.rsplit('/').next().unwrap().split('?').next().unwrap();
    of_the_box(&["stop", "--force", "box"]);
    of_the_box(&["rename", "box", name]);
    run.plan_updates(&[ADDRESS]);
    settled("default");
    // One that nobody came back for goes with its domain.
    of_the_box(&["copy", "box", name, "--config", "security.protection.delete=false"]);
    run.configure(&container(&domain, "  delete_protection = false"));
    run.apply();
    run.destroy();
    assert_eq!(run.leftovers(), Vec::<String>::new());
}
