//! `anklume_volume`: data that outlives the instances that use it.

use crate::Case;
use crate::cli::{APPLY, Workspace};

pub(crate) const CASES: &[Case] = &[
    ("a_volume_lives_from_apply_to_destroy", lives),
    ("drift_is_shown_and_repaired", drift),
    ("a_protected_volume_is_not_destroyed", protected),
    ("a_volume_of_others_is_taken_over", adopted),
    ("a_block_volume_grows_and_does_not_shrink", block),
    ("a_volume_is_renamed_in_place", renamed),
    ("a_copy_has_the_bytes_of_its_snapshot", copied),
    ("a_backup_and_an_iso_are_uploaded_whole_or_not_at_all", uploaded),
];

pub(crate) const ADDRESS: &str = "anklume_volume.it";

pub(crate) fn domain(name: &str) -> String {
    format!("resource \"anklume_domain\" \"d\" {{\n  name = \"{name}\"\n  storage_pool = \"default\"\n}}\n\n")
}

/// An unprotected volume `data` unless `rest` says otherwise.
pub(crate) fn volume(name: &str, rest: &str) -> String {
    let named = if rest.contains("name = ") { "" } else { "  name = \"data\"\n" };
    let protection = if rest.contains("delete_protection") { "" } else { "  delete_protection = false\n" };
    format!(
        "{}resource \"anklume_volume\" \"it\" {{\n  domain = anklume_domain.d.name\n{named}{protection}{rest}\n}}\n\n",
        domain(name)
    )
}

fn lives(run: &Workspace) {
    let (name, incus) = (run.domain("vlive"), run.incus());
    run.configure(&volume(&name, "  size = \"32MiB\""));
    run.apply();
    run.plan_is_empty();
    let there = || incus.volume(&name, "default", "data").unwrap();
    let attributes = run.attributes(ADDRESS);
    assert_eq!(attributes["id"], format!("{name}/default/data"));
    assert_eq!(
        (attributes["pool"].as_str(), attributes["content_type"].as_str()),
        (Some("default"), Some("filesystem"))
    );
    assert_eq!(there()["config"]["size"], "32MiB");
    run.configure(&volume(&name, "  size = \"32768KiB\""));
    run.plan_is_empty();

    let changed = "  size = \"64MiB\"\n  description = \"kept\"\n  config = { \"user.of\" = \"me\" }\n  snapshots_schedule = \"@daily\"\n  \
                   snapshots_expiry = \"3d\"\n  timeouts = { delete = \"2m\" }";
    run.configure(&volume(&name, changed));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    let now = there();
    assert_eq!((now["config"]["size"].as_str(), now["description"].as_str()), (Some("64MiB"), Some("kept")));
    assert_eq!(
        (now["config"]["user.of"].as_str(), now["config"]["snapshots.expiry"].as_str()),
        (Some("me"), Some("3d"))
    );
    run.survives_import(ADDRESS, &format!("{name}/default/data"));
    assert_eq!(run.attributes(ADDRESS)["timeouts"]["delete"], "2m");

    run.configure(&volume(&name, "  size = \"64MiB\""));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    assert!(there()["config"]["user.of"].is_null() && there()["config"]["snapshots.schedule"].is_null());

    // It shrinks where the driver can.
    run.configure(&volume(&name, "  size = \"48MiB\""));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    assert_eq!(there()["config"]["size"], "48MiB");
    run.configure(&volume(&name, "  size = \"64MiB\""));
    run.apply();

    for (wrong, told) in [
        ("  size = \"64MiB\"\n  pool = \"nope\"", "There are: "),
        ("  size = \"64MiB\"\n  config = { \"nope.x\" = \"1\" }", "nope.x"),
        ("", "needs a size"),
        ("  size = \"64Mi\"", "64MiB"),
    ] {
        run.configure(&volume(&name, wrong));
        let refused = run.apply_fails();
        assert!(refused.contains(told), "{refused}");
    }
    run.configure(&volume(&name, "  size = \"64MiB\""));
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn drift(run: &Workspace) {
    let (name, incus) = (run.domain("vdrift"), run.incus());
    run.configure(&volume(&name, "  size = \"32MiB\"\n  description = \"kept\"\n  config = { \"user.a\" = \"1\" }"));
    run.apply();
    let meddle: [&[&str]; 4] = [
        &["storage", "volume", "set", "default", "data", "user.a=2"],
        &["storage", "volume", "set", "default", "data", "user.b=1"],
        &["storage", "volume", "set", "default", "data", "size=40MiB"],
        &["storage", "volume", "set", "default", "data", "description=meddled", "--property"],
    ];
    for arguments in meddle {
        incus.run(&[arguments, &["--project", &name]].concat());
        run.plan_updates(&[ADDRESS]);
        run.apply();
        run.plan_is_empty();
    }
    incus.run(&["storage", "volume", "delete", "default", "data", "--project", &name]);
    assert_eq!(run.plan(), [(ADDRESS.to_owned(), "create".to_owned())]);
    run.apply();
    run.plan_is_empty();
    run.destroy();
}

fn protected(run: &Workspace) {
    let (name, incus) = (run.domain("vprot"), run.incus());
    run.configure(&volume(&name, "  size = \"32MiB\"\n  delete_protection = null"));
    run.apply();
    run.plan_is_empty();
    assert_eq!(run.attributes(ADDRESS)["delete_protection"], true);
    let refused = run.destroy_fails();
    assert!(refused.contains("delete_protection = false"), "{refused}");
    let refused = run.fail(&[APPLY, &["-replace", ADDRESS]].concat());
    assert!(refused.contains("delete_protection"), "{refused}");
    run.configure(&volume(&name, "  size = \"32MiB\"\n  content_type = \"block\"\n  delete_protection = null"));
    let refused = run.plan_fails();
    assert!(refused.contains("would be replaced with its content"), "{refused}");
    run.succeed(&["taint", ADDRESS]);
    let refused = run.apply_fails();
    assert!(refused.contains("untaint anklume_volume"), "{refused}");
    run.succeed(&["untaint", ADDRESS]);

    // `force_destroy` of the domain stops at it, too.
    let forced = domain(&name).replace("}\n", "  force_destroy = true\n}\n");
    run.configure(&format!("{forced}removed {{\n  from = {ADDRESS}\n  lifecycle {{\n    destroy = false\n  }}\n}}\n"));
    run.apply();
    let refused = run.destroy_fails();
    assert!(refused.contains("volume data"), "{refused}");
    assert!(incus.volume(&name, "default", "data").is_some());

    run.configure(&volume(&name, "  size = \"32MiB\""));
    run.import(ADDRESS, &format!("{name}/default/data"));
    run.apply();
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn adopted(run: &Workspace) {
    let (name, incus) = (run.domain("vadopt"), run.incus());
    run.configure(&domain(&name));
    run.apply();
    incus.run(&[
        "storage",
        "volume",
        "create",
        "default",
        "data",
        "size=32MiB",
        "user.mine=1",
        "--project",
        &name,
        "-q",
    ]);
    run.configure(&volume(&name, "  size = \"32MiB\""));
    let refused = run.apply_fails();
    assert!(refused.contains(&format!("id = \"{name}/default/data\"")), "{refused}");

    run.configure(&volume(&name, "  size = \"32MiB\"\n  config = { \"user.mine\" = \"1\" }\n  delete_protection = true\n  source = { volume = \"gone\" }"));
    run.import(ADDRESS, &format!("{name}/default/data"));
    // Its source is taken as it is written: what is there is not filled anew.
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    run.configure(&volume(&name, "  size = \"32MiB\""));
    run.apply();
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn block(run: &Workspace) {
    let (name, incus) = (run.domain("vblock"), run.incus());
    let sized = |size: &str| volume(&name, &format!("  content_type = \"block\"\n  size = \"{size}\""));
    run.configure(&sized("32MiB"));
    run.apply();
    run.plan_is_empty();
    run.configure(&sized("48MiB"));
    run.apply();
    run.plan_is_empty();
    assert_eq!(incus.volume(&name, "default", "data").unwrap()["config"]["size"], "48MiB");
    run.configure(&sized("16MiB"));
    let refused = run.plan_fails();
    assert!(refused.contains("only grows"), "{refused}");
    run.configure(&sized("48MiB"));
    run.survives_import(ADDRESS, &format!("{name}/default/data"));
    run.destroy();
}

fn renamed(run: &Workspace) {
    let (name, incus) = (run.domain("vname"), run.incus());
    run.configure(&volume(&name, "  size = \"32MiB\"\n  delete_protection = true"));
    run.apply();
    let made = incus.volume(&name, "default", "data").unwrap()["created_at"].clone();
    run.configure(&volume(&name, "  size = \"32MiB\"\n  name = \"other\"\n  delete_protection = true"));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    assert!(incus.volume(&name, "default", "data").is_none());
    assert_eq!(incus.volume(&name, "default", "other").unwrap()["created_at"], made);
    // Onto a name that somebody has: both stay.
    incus.run(&["storage", "volume", "create", "default", "taken", "size=16MiB", "--project", &name, "-q"]);
    run.configure(&volume(&name, "  size = \"32MiB\"\n  name = \"taken\"\n  delete_protection = true"));
    let refused = run.apply_fails();
    assert!(refused.contains("Choose another name"), "{refused}");
    assert_eq!(incus.volume(&name, "default", "taken").unwrap()["config"]["size"], "16MiB");
    assert_eq!(incus.volume(&name, "default", "other").unwrap()["created_at"], made);
    incus.run(&["storage", "volume", "delete", "default", "taken", "--project", &name]);
    run.configure(&volume(&name, "  size = \"32MiB\"\n  name = \"other\""));
    run.apply();
    run.destroy();
    assert!(incus.project(&name).is_none());
}

/// A running container `box` with the volume `source` at `/srv`.
const BOX: &str = r#"resource "anklume_instance" "box" {
  name              = "box"
  domain            = anklume_domain.d.name
  image             = "busybox"
  stop_timeout      = "0s"
  delete_protection = false
  wait              = { addresses = false }
  volumes           = { data = { volume = anklume_volume.source.name, mount = "/srv" } }
}

resource "anklume_volume" "source" {
  name              = "source"
  domain            = anklume_domain.d.name
  size              = "32MiB"
  delete_protection = false
}

"#;

fn write(run: &Workspace, domain: &str, text: &str) {
    run.incus().shell(domain, "box", &format!("echo {text} > /srv/text && sync"));
}

fn copied(run: &Workspace) {
    let (name, incus) = (run.domain("vcopy"), run.incus());
    let other = run.domain("vcopy2");
    let base = format!("{}{BOX}", domain(&name));
    run.configure(&base);
    run.apply();
    write(run, &name, "first");
    incus.run(&["storage", "volume", "snapshot", "create", "default", "source", "s0", "--project", &name]);
    write(run, &name, "second");

    let copy = |what: &str, size: &str| {
        format!(
            "{base}resource \"anklume_domain\" \"o\" {{\n  name = \"{other}\"\n  storage_pool = \"default\"\n}}\n\n\
             resource \"anklume_volume\" \"it\" {{\n  name = \"copy\"\n  domain = anklume_domain.o.name\n  \
             delete_protection = false\n{size}  source = {{ volume = anklume_volume.source.name, domain = anklume_domain.d.name{what} }}\n}}\n"
        )
    };
    for (what, size, told) in [
        (", snapshot = \"nope\"", "", "There is no snapshot \"nope\""),
        ("", "  size = \"16MiB\"\n", "The source has 32MiB"),
        ("", "  size = \"64MiB\"\n  content_type = \"block\"\n", "is a filesystem volume"),
    ] {
        run.configure(&copy(what, size));
        let refused = run.apply_fails();
        assert!(refused.contains(told), "{refused}");
    }
    let left = incus.list(&format!("/1.0/storage-pools/default/volumes/custom?project={other}"));
    assert_eq!(left, Vec::<String>::new());
    run.configure(&copy(", snapshot = \"s0\"", ""));
    run.apply();
    run.plan_is_empty();
    assert_eq!(run.attributes(ADDRESS)["size"], "32MiB");
    assert_eq!(text_of(run, &other, "copy"), "first");
    run.survives_import(ADDRESS, &format!("{other}/default/copy"));
    run.configure(&copy("", "  size = \"48MiB\"\n"));
    assert_eq!(run.plan(), [(ADDRESS.to_owned(), "delete/create".to_owned())]);
    run.apply();
    run.plan_is_empty();
    assert_eq!(text_of(run, &other, "copy"), "second");
    run.destroy();
    assert!(incus.project(&name).is_none() && incus.project(&other).is_none());
}

/// What `/srv/text` of a volume holds, by a container that is made and taken away for it.
fn text_of(run: &Workspace, domain: &str, volume: &str) -> String {
    let incus = run.incus();
    incus.run(&["launch", "busybox", "reader", "--project", domain, "-q"]);
    incus.run(&["storage", "volume", "attach", "default", volume, "reader", "/srv", "--project", domain]);
    let text = incus.shell(domain, "reader", "cat /srv/text");
    incus.run(&["delete", "-f", "reader", "--project", domain]);
    text
}

fn uploaded(run: &Workspace) {
    let (name, incus) = (run.domain("vfile"), run.incus());
    let base = format!("{}{BOX}", domain(&name));
    run.configure(&base);
    run.apply();
    write(run, &name, "saved");
    let file = |name: &str| run.dir().join(name).to_str().unwrap().to_owned();
    let (backup, iso) = (file("backup.tar.gz"), file("cd.iso"));
    let (junk, qcow2) = (file("junk"), file("disk.qcow2"));
    incus.run(&["storage", "volume", "export", "default", "source", &backup, "--project", &name, "-q"]);
    std::fs::write(&iso, vec![7; 3 << 20]).unwrap();
    let made =
        std::process::Command::new("tar").args(["czf", &junk, "-C", run.dir().to_str().unwrap(), "main.tf"]).status();
    assert!(made.unwrap().success());
    std::fs::write(&qcow2, b"QFI\xfb and the rest").unwrap();

    let from = |file: &str, rest: &str| {
        format!(
            "{base}resource \"anklume_volume\" \"it\" {{\n  name = \"data\"\n  domain = anklume_domain.d.name\n  delete_protection = false\n\
             {rest}\n  source = {{ file = \"{file}\"{} }}\n}}\n",
            if rest.contains("# checked") {
                format!(", sha256 = \"sha256:{}\"", "0".repeat(64))
            } else {
                String::new()
            }
        )
    };
    let volumes = || incus.list(&format!("/1.0/storage-pools/default/volumes/custom?project={name}"));
    for (file, rest, told) in [
        (backup.as_str(), "  # checked", "not the one that is written"),
        (&backup, "  size = \"16MiB\"", "The source has 32MiB"),
        (&backup, "  content_type = \"block\"\n  size = \"64MiB\"", "is a filesystem volume"),
        (&iso, "  # checked\n  content_type = \"iso\"", "not the one that is written"),
        (&junk, "", "is no whole backup"),
        (&qcow2, "", "qemu-img convert"),
        ("missing.iso", "  content_type = \"iso\"", "has to be a file on this machine"),
    ] {
        run.configure(&from(file, rest));
        let refused = run.apply_fails();
        assert!(refused.contains(told), "{refused}");
        assert_eq!(volumes().len(), 1, "{told}");
    }
    let marks = || incus.project(&name).unwrap()["config"].to_string().contains("user.anklume.iso.");
    assert!(!marks());

    run.configure(&from(&backup, "  size = \"48MiB\""));
    run.apply();
    run.plan_is_empty();
    assert_eq!(text_of(run, &name, "data"), "saved");
    run.survives_import(ADDRESS, &format!("{name}/default/data"));

    run.configure(&from(&iso, "  content_type = \"iso\"\n  description = \"a disk\""));
    assert_eq!(run.plan(), [(ADDRESS.to_owned(), "delete/create".to_owned())]);
    run.apply();
    run.plan_is_empty();
    let there = incus.volume(&name, "default", "data").unwrap();
    assert_eq!((there["content_type"].as_str(), there["description"].as_str()), (Some("iso"), Some("a disk")));
    assert_eq!(run.attributes(ADDRESS)["size"], (3 << 20).to_string());
    run.survives_import(ADDRESS, &format!("{name}/default/data"));
    let pool = run.lab().join("incus/storage-pools/default/custom");
    let content = |volume: &str| std::fs::read(pool.join(format!("{name}_{volume}.iso/root.img"))).unwrap();
    assert_eq!(content("data"), vec![7; 3 << 20]);
    run.configure(
        &from(&iso, "  content_type = \"iso\"\n  description = \"the same\"").replace("\"data\"", "\"other\""),
    );
    run.plan_updates(&[ADDRESS]);
    // 6.0.4 would leave the content behind.
    if incus.loses_renamed_isos() {
        let told = run.apply_fails();
        assert!(told.contains("Incus would lose its content"), "{told}");
        assert_eq!(content("data"), vec![7; 3 << 20]);
    } else {
        run.apply();
        run.plan_is_empty();
        assert_eq!(content("other"), vec![7; 3 << 20]);
    }
    let left = std::fs::read_dir(&pool).unwrap().flatten().map(|entry| entry.file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().contains("anklume-")));
    // A raw disk of this machine is wrapped on its way; a gap at its end is filled up.
    let raw = file("disk.raw");
    std::fs::write(&raw, vec![5; (1 << 20) + 1]).unwrap();
    run.configure(&from(&raw, "  content_type = \"block\"\n  size = \"2MiB\""));
    run.apply();
    run.plan_is_empty();
    let image =
        std::fs::read(run.lab().join(format!("incus/storage-pools/default/custom/{name}_data/root.img"))).unwrap();
    assert_eq!((image.len(), image.iter().filter(|byte| **byte == 5).count()), (2 << 20, (1 << 20) + 1));
    run.configure(&base);
    run.apply();
    assert!(!marks(), "the marks of an ISO go with it");
    run.destroy();
}
