//! `volumes` of an instance, and what becomes of them when the volume goes.

use crate::Case;
use crate::cli::{APPLY, Workspace};

pub(crate) const CASES: &[Case] = &[
    ("volumes_are_attached_and_detached_while_the_instance_runs", attached),
    ("a_replaced_volume_is_attached_again_and_a_deleted_one_is_detached", replaced),
    ("a_volume_moves_to_another_pool_with_its_users_stopped", moved),
    ("what_an_interrupted_move_of_a_volume_left_is_told_apart", left_two),
    ("a_move_of_a_volume_outlives_the_daemon_and_the_provider", cut),
    ("what_a_pool_gives_its_volumes_is_no_drift", defaults),
    ("what_a_volume_holds_survives_with_every_driver_of_the_kernel", drivers),
];

const BOX: &str = "anklume_instance.box";
const DATA: &str = "anklume_volume.data";

fn instance(label: &str, rest: &str) -> String {
    format!(
        "resource \"anklume_instance\" \"{label}\" {{\n  name = \"{label}\"\n  domain = anklume_domain.d.name\n  image = \"busybox\"\n  \
         stop_timeout = \"0s\"\n  delete_protection = false\n  wait = {{ addresses = false }}\n{rest}\n}}\n\n"
    )
}

/// A domain, a volume `data` of `size` and what else it has, and instances.
fn configuration(domain: &str, volume: &str, instances: &str) -> String {
    format!(
        "resource \"anklume_domain\" \"d\" {{\n  name = \"{domain}\"\n  storage_pool = \"default\"\n}}\n\n\
         resource \"anklume_volume\" \"data\" {{\n  domain = anklume_domain.d.name\n  delete_protection = false\n{volume}\n}}\n\n{instances}"
    )
}

const VOLUMES: &str = "  volumes = { data = { volume = anklume_volume.data.name, mount = \"/srv/data\" } }";

fn shell(run: &Workspace, domain: &str, name: &str, line: &str) -> String {
    run.incus().shell(domain, name, line)
}

fn attached(run: &Workspace) {
    let (name, incus) = (run.domain("vatt"), run.incus());
    let volume = |size: &str| format!("  name = \"data\"\n  size = \"{size}\"");
    run.configure(&configuration(&name, &volume("32MiB"), &instance("box", "")));
    run.apply();
    let pid = || incus.query(&format!("/1.0/instances/box/state?project={name}"))["pid"].clone();
    let device = |of: &str| incus.instance(&name, "box").unwrap()["devices"][of].clone();
    let before = pid();
    run.configure(&configuration(&name, &volume("32MiB"), &instance("box", VOLUMES)));
    run.plan_updates(&[BOX]);
    run.apply();
    run.plan_is_empty();
    assert_eq!(
        (device("sv-data")["source"].as_str(), device("sv-data")["pool"].as_str()),
        (Some("data"), Some("default"))
    );
    assert_eq!(run.attributes(BOX)["volumes"]["data"]["pool"], "default");
    shell(run, &name, "box", "echo kept > /srv/data/text");

    // A second user, a directory of the host and a larger volume, all while it runs.
    let host = format!(
        "  volumes = {{\n    data = {{ volume = anklume_volume.data.name, mount = \"/srv/data\" }}\n    \
                        host = {{ path = {:?}, mount = \"/mnt/host\", read_only = true }}\n  }}",
        run.dir()
    );
    let two = format!("{}{}", instance("box", &host), instance("second", VOLUMES));
    run.configure(&configuration(&name, &volume("64MiB"), &two));
    run.apply();
    run.plan_is_empty();
    assert_eq!(shell(run, &name, "second", "cat /srv/data/text"), "kept");
    shell(run, &name, "box", "test -e /mnt/host/main.tf && ! touch /mnt/host/x");
    assert_eq!(pid(), before, "it was not restarted");

    run.configure(&configuration(&name, &volume("64MiB").replace("data", "other"), &two));
    let refused = run.apply_fails();
    assert!(refused.contains("instance box") && refused.contains("instance second"), "{refused}");
    run.configure(&configuration(&name, &volume("64MiB"), &two));
    run.plan_is_empty();

    for meddle in [
        ["config", "device", "remove", "box", "sv-data"].as_slice(),
        &["config", "device", "set", "box", "sv-data", "limits.read=10MB"],
        &["config", "device", "set", "box", "sv-data", "readonly=true"],
        &["config", "device", "add", "box", "pd-more", "disk", "source=/srv", "path=/more"],
    ] {
        incus.run(&[meddle, &["--project", &name]].concat());
        run.plan_updates(&[BOX]);
        run.apply();
        run.plan_is_empty();
    }
    run.survives_import(BOX, &format!("{name}/box"));

    run.succeed(&[APPLY, &["-replace", BOX]].concat());
    run.plan_is_empty();
    assert_eq!(shell(run, &name, "box", "cat /srv/data/text"), "kept");
    let before = pid();
    run.configure(&configuration(&name, &volume("64MiB"), &instance("box", "")));
    run.apply();
    run.plan_is_empty();
    assert!(device("sv-data").is_null());
    assert_eq!(pid(), before, "it was not restarted");

    let missing = "  volumes = { data = { volume = \"dato\", mount = \"/srv/data\" } }";
    run.configure(&configuration(&name, &volume("64MiB"), &instance("box", missing)));
    let refused = run.apply_fails();
    assert!(refused.contains("Did you mean \"data\"?"), "{refused}");
    run.configure(&configuration(&name, &volume("64MiB"), ""));
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn replaced(run: &Workspace) {
    let (name, incus) = (run.domain("vrepl"), run.incus());
    let volume = "  name = \"data\"\n  size = \"32MiB\"";
    let used = configuration(&name, volume, &instance("box", VOLUMES));
    run.configure(&used);
    run.apply();
    shell(run, &name, "box", "echo old > /srv/data/text");
    let instance_now = || incus.instance(&name, "box").unwrap();
    let noted = || instance_now()["config"].to_string().contains("user.anklume.detached.");

    run.succeed(&[APPLY, &["-replace", DATA]].concat());
    run.plan_is_empty();
    assert_eq!(instance_now()["devices"]["sv-data"]["source"], "data");
    assert!(!noted());
    assert_eq!(shell(run, &name, "box", "ls /srv/data; echo new > /srv/data/text"), "");

    run.succeed(&[APPLY, &["-replace", DATA, "-replace", BOX]].concat());
    run.plan_is_empty();
    assert_eq!(shell(run, &name, "box", "ls /srv/data"), "");

    // Anybody else's use is told before anything is changed.
    incus.run(&["launch", "busybox", "stranger", "--project", &name, "-q"]);
    incus.run(&["storage", "volume", "attach", "default", "data", "stranger", "/srv", "--project", &name]);
    let refused = run.fail(&[APPLY, &["-replace", DATA]].concat());
    assert!(refused.contains("instance stranger") && !refused.contains("instance box"), "{refused}");
    assert_eq!(instance_now()["devices"]["sv-data"]["source"], "data");
    incus.run(&["delete", "-f", "stranger", "--project", &name]);
    run.plan_is_empty();

    // The volume goes before the instance that drops it is updated.
    let without = configuration(&name, volume, &instance("box", ""));
    let gone = without.replace(
        &without[without.find("resource \"anklume_volume\"").unwrap()
            ..without.find("resource \"anklume_instance\"").unwrap()],
        "",
    );
    run.configure(&gone);
    run.apply();
    run.plan_is_empty();
    assert!(instance_now()["devices"]["sv-data"].is_null() && !noted());
    assert!(incus.volume(&name, "default", "data").is_none());
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn moved(here: &Workspace) {
    let run = here.elsewhere("moves", &["second"]);
    let (name, incus) = (run.domain("vmove"), run.incus());
    let pool = match incus.succeeds(&["storage", "create", "tree", "btrfs", "size=512MiB"]) {
        true => "tree",
        false => "second",
    };
    println!("a volume moves from dir to the pool {pool}");
    let volume = |pool: &str, size: &str| format!("  name = \"data\"\n  size = \"{size}\"\n  pool = \"{pool}\"");
    let running = |running: bool| instance("box", &format!("  running = {running}\n{VOLUMES}"));
    run.configure(&configuration(&name, &volume("default", "32MiB"), &running(true)));
    run.apply();
    shell(&run, &name, "box", "echo kept > /srv/data/text");

    run.configure(&configuration(&name, &volume(pool, "32MiB"), &running(true)));
    let refused = run.apply_fails();
    assert!(refused.contains("instance box") && refused.contains("running = false"), "{refused}");
    assert!(incus.volume(&name, "default", "data").is_some());
    run.configure(&configuration(&name, &volume("default", "32MiB"), &running(false)));
    run.apply();
    run.configure(&configuration(&name, &volume(pool, "32MiB"), &running(false)));
    run.plan_updates(&[DATA]);
    run.apply();
    run.plan_is_empty();
    assert!(incus.volume(&name, "default", "data").is_none());
    run.configure(&configuration(&name, &volume(pool, "64MiB"), &running(true)));
    run.apply();
    run.plan_is_empty();
    assert_eq!(run.attributes(BOX)["volumes"]["data"]["pool"], pool);
    assert_eq!(shell(&run, &name, "box", "cat /srv/data/text"), "kept");
    run.configure(&configuration(&name, &volume(pool, "96MiB"), &running(true)));
    run.apply();
    run.plan_is_empty();
    run.survives_import(DATA, &format!("{name}/{pool}/data"));
    run.destroy();
    assert_eq!(run.leftovers(), Vec::<String>::new());
}

/// A copy as an interrupted move leaves it, each step on.
fn left_two(here: &Workspace) {
    let run = here.elsewhere("two", &["second"]);
    let (name, incus) = (run.domain("vtwo"), run.incus());
    let configure = |pool: &str| {
        let volume = format!("  name = \"data\"\n  size = \"32MiB\"\n  pool = \"{pool}\"");
        let boxes = ["box", "other"].map(|label| instance(label, &format!("  running = false\n{VOLUMES}")));
        run.configure(&configuration(&name, &volume, &boxes.concat()));
    };
    let of_the_volume = |verb: &[&str]| incus.run(&[&["storage", "volume"], verb, &["--project", &name]].concat());
    let points = |instance: &str, pool: &str| {
        incus.run(&["config", "device", "set", instance, "sv-data", &format!("pool={pool}"), "--project", &name]);
    };
    let made = |pool: &str| incus.volume(&name, pool, "data").unwrap()["created_at"].clone();
    let moves = |from: &str, to: &str| {
        run.apply();
        run.plan_is_empty();
        assert!(incus.volume(&name, from, "data").is_none());
        for instance in ["box", "other"] {
            assert_eq!(incus.instance(&name, instance).unwrap()["devices"]["sv-data"]["pool"], to);
        }
    };
    configure("default");
    run.apply();

    // A copy that somebody made has the same marks, and is somebody's.
    let copied = |from: &str, to: &str| {
        of_the_volume(&["copy", &format!("{from}/data"), &format!("{to}/data")]);
        of_the_volume(&["set", to, "data", &format!("user.anklume.moved_from={from}/data")]);
    };
    of_the_volume(&["copy", "default/data", "second/data"]);
    let copy = made("second");
    configure("second");
    let refused = run.apply_fails();
    assert!(refused.contains("the name is taken"), "{refused}");
    assert_eq!(made("second"), copy);
    of_the_volume(&["delete", "second", "data"]);

    // Nobody uses the copy: what stands is the volume.
    copied("default", "second");
    let copy = made("second");
    moves("default", "second");
    assert_ne!(made("second"), copy);

    // Some use it, so that it is whole, and nobody wrote on either since.
    copied("second", "default");
    points("box", "default");
    let copy = made("default");
    configure("default");
    moves("second", "default");
    assert_eq!(made("default"), copy);

    // One wrote on the volume since.
    copied("default", "second");
    points("box", "second");
    incus.run(&["start", "other", "--project", &name]);
    incus.run(&["stop", "--force", "other", "--project", &name]);
    configure("second");
    let refused = run.apply_fails();
    for part in ["an interrupted move left two", "volume delete second data", "volume delete default data"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    points("box", "default");
    of_the_volume(&["delete", "second", "data"]);
    moves("default", "second");

    // The one that is left was being deleted.
    copied("second", "default");
    ["box", "other"].into_iter().for_each(|instance| points(instance, "default"));
    of_the_volume(&["set", "second", "data", "user.anklume.moved=true"]);
    let copy = made("default");
    configure("default");
    moves("second", "default");
    assert_eq!(made("default"), copy);

    // A copy that nobody came back for goes with the volume.
    copied("default", "second");
    of_the_volume(&["set", "default", "data", "user.anklume.moving=second/data"]);
    run.destroy();
    assert_eq!(run.leftovers(), Vec::<String>::new());
}

/// The daemon is killed while it copies, and the provider.
fn cut(here: &Workspace) {
    let run = here.elsewhere("cut", &["second"]);
    let (name, incus) = (run.domain("vcut"), run.incus());
    let configure = |pool: &str, running: bool| {
        let volume = format!("  name = \"data\"\n  size = \"1GiB\"\n  pool = \"{pool}\"");
        let boxed = instance("box", &format!("  running = {running}\n{VOLUMES}"));
        run.configure(&configuration(&name, &volume, &boxed));
    };
    configure("default", true);
    run.apply();
    shell(&run, &name, "box", "head -c 300000000 /dev/urandom > /srv/data/bytes");
    let sum = || shell(&run, &name, "box", "sha256sum /srv/data/bytes");
    let written = sum();
    configure("default", false);
    run.apply();
    // Somebody uses it while it is copied.
    configure("second", false);
    let begun = || !incus.list(&format!("/1.0/storage-pools/second/volumes?project={name}")).is_empty();
    let refused = run.disturbed_apply(begun, || drop(incus.run(&["start", "box", "--project", &name])));
    assert!(refused.contains("it is in use") && refused.contains("instance box"), "{refused}");
    assert_eq!(sum(), written);
    assert!(incus.volume(&name, "second", "data").is_none() && !begun());
    configure("default", false);
    run.apply();
    for (from, to, ends) in [("default", "second", "daemon"), ("second", "default", "provider")] {
        configure(to, false);
        let there = || incus.list(&format!("/1.0/storage-pools/{to}/volumes?project={name}"));
        let begun = || there().iter().any(|url| url.contains("/custom/"));
        match ends {
            "daemon" => println!("{}", run.disturbed_apply(begun, || run.restart_incus())),
            _ => run.killed_apply(begun),
        }
        println!("{ends} killed; the old one is there: {}", incus.volume(&name, from, "data").is_some());
        run.apply();
        run.plan_is_empty();
        assert!(incus.volume(&name, from, "data").is_none());
        configure(to, true);
        run.apply();
        assert_eq!(sum(), written);
        configure(to, false);
        run.apply();
    }
    run.destroy();
    assert_eq!(run.leftovers(), Vec::<String>::new());
}

/// What a pool gives to its volumes by itself, and a disk whose size the driver rounds.
fn defaults(here: &Workspace) {
    let run = here.elsewhere("defaults", &["second"]);
    let (name, incus) = (run.domain("vdef"), run.incus());
    incus.run(&["storage", "set", "second", "volume.snapshots.expiry=3d", "volume.security.unmapped=true"]);
    let configure = |pool: &str, rest: &str| {
        let more = format!("  name = \"data\"\n  size = \"32MiB\"\n  pool = \"{pool}\"\n{rest}");
        let disk = format!(
            "resource \"anklume_volume\" \"disk\" {{\n  name = \"disk\"\n  domain = anklume_domain.d.name\n  content_type = \"block\"\n  \
             size = \"20MB\"\n  pool = \"{pool}\"\n  delete_protection = false\n}}\n"
        );
        run.configure(&configuration(&name, &more, &disk));
        run.apply();
        run.plan_is_empty();
    };
    let expiry = |pool: &str| incus.volume(&name, pool, "data").unwrap()["config"]["snapshots.expiry"].clone();
    configure("second", "");
    assert_eq!(expiry("second"), "3d");
    run.survives_import(DATA, &format!("{name}/second/data"));
    configure("second", "  snapshots_expiry = \"5d\"");
    assert_eq!(expiry("second"), "5d");
    configure("second", "");
    assert!(expiry("second").is_null(), "{}", expiry("second"));
    configure("default", "");
    configure("second", "");
    assert_eq!(expiry("second"), "3d");
    incus.run(&["storage", "volume", "set", "second", "data", "snapshots.expiry=9d", "--project", &name]);
    run.plan_updates(&[DATA]);
    run.destroy();
    assert_eq!(run.leftovers(), Vec::<String>::new());
}

fn drivers(here: &Workspace) {
    let run = here.elsewhere("drivers", &[]);
    let incus = run.incus();
    let mut ran = vec!["dir"];
    for driver in ["btrfs", "lvm", "zfs"] {
        if incus.succeeds(&["storage", "create", driver, driver, "size=1GiB"]) {
            ran.push(driver);
        }
    }
    println!("drivers of this kernel: {}", ran.join(", "));
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap();
    assert!(ran.contains(&"btrfs") || !filesystems.contains("btrfs"), "btrfs is there and was not tried");
    for driver in ran {
        let name = run.domain(driver);
        let pool = if driver == "dir" { "default" } else { driver };
        let attached = VOLUMES.replace("name,", "name, pool = anklume_volume.data.pool,");
        let volume = |size: &str| format!("  name = \"data\"\n  size = \"{size}\"\n  pool = \"{pool}\"");
        let copy = format!(
            "resource \"anklume_volume\" \"copy\" {{\n  name = \"copy\"\n  domain = anklume_domain.d.name\n  \
             delete_protection = false\n  pool = \"{pool}\"\n  source = {{ volume = {DATA}.name, pool = {DATA}.pool, snapshot = \"s0\" }}\n}}\n\n{}",
            instance(
                "reader",
                "  volumes = { copy = { volume = anklume_volume.copy.name, pool = anklume_volume.copy.pool, mount = \"/srv/copy\" } }"
            )
        );
        let with = |size: &str, rest: &str| configuration(&name, &volume(size), &(instance("box", &attached) + rest));
        run.configure(&with("32MiB", ""));
        run.apply();
        shell(&run, &name, "box", "echo first > /srv/data/text && sync");
        run.configure(&with("64MiB", ""));
        run.plan_updates(&[DATA]);
        run.apply();
        run.plan_is_empty();
        assert_eq!(
            shell(
                &run,
                &name,
                "box",
                "dd if=/dev/zero of=/srv/data/large bs=1M count=40 2>/dev/null; cat /srv/data/text"
            ),
            "first"
        );
        run.succeed(&[APPLY, &["-replace", BOX]].concat());
        assert_eq!(
            shell(&run, &name, "box", "cat /srv/data/text; wc -c < /srv/data/large"),
            format!("first\n{}", 40 << 20)
        );
        incus.run(&["storage", "volume", "snapshot", "create", pool, "data", "s0", "--project", &name]);
        shell(&run, &name, "box", "echo second > /srv/data/text && sync");
        run.configure(&with("64MiB", &copy));
        run.apply();
        run.plan_is_empty();
        assert_eq!(shell(&run, &name, "reader", "cat /srv/copy/text"), "first");
        assert_eq!(shell(&run, &name, "box", "cat /srv/data/text"), "second");
        run.destroy();
    }
    assert_eq!(run.leftovers(), Vec::<String>::new());
}
