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
];

const ADDRESS: &str = "anklume_volume.it";

fn domain(name: &str) -> String {
    format!("resource \"anklume_domain\" \"d\" {{\n  name = \"{name}\"\n  storage_pool = \"default\"\n}}\n\n")
}

/// An unprotected volume `data` unless `rest` says otherwise.
fn volume(name: &str, rest: &str) -> String {
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
    run.configure(&volume(&name, "  size = \"32MiB\"\n  name = \"other\""));
    run.apply();
    run.destroy();
    assert!(incus.project(&name).is_none());
}
