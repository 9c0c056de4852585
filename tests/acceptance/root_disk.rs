//! `root_disk` of an instance, on an Incus with a second storage pool.

use crate::Case;
use crate::cli::Workspace;
use crate::instance::instance;

pub(crate) const CASES: &[Case] = &[("a_root_disk_moves_to_another_pool_in_place", moves)];

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

    let settled = |pool_now: &str| {
        run.plan_updates(&[ADDRESS]);
        run.apply();
        run.plan_is_empty();
        assert_eq!(pool(), pool_now);
        assert_eq!(there()["config"]["volatile.eth0.hwaddr"], mac);
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
