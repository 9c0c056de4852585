//! ISO volumes, whose marks stand on their project.

use crate::Case;
use crate::cli::{APPLY, Workspace};
use crate::volume::{ADDRESS, domain, volume};

pub(crate) const CASES: &[Case] = &[
    ("a_protected_iso_stops_a_forced_destruction", protected),
    ("an_iso_that_was_deleted_by_hand_is_made_anew_and_another_one_is_left_alone", by_hand),
    ("a_copy_of_an_iso_that_was_killed_is_made_anew", copied),
    ("an_iso_moves_and_is_copied_to_another_pool_with_its_marks", moved),
];

/// An ISO `data` of the file `cd.iso`, which is written.
fn iso(run: &Workspace, name: &str, rest: &str) -> String {
    std::fs::write(run.dir().join("cd.iso"), vec![7; 1 << 20]).unwrap();
    volume(name, &format!("  content_type = \"iso\"\n  source = {{ file = \"cd.iso\" }}\n{rest}"))
}

fn protected(run: &Workspace) {
    let (name, incus) = (run.domain("viso"), run.incus());
    run.configure(&iso(run, &name, "  delete_protection = true"));
    run.apply();
    run.plan_is_empty();
    let refused = run.destroy_fails();
    assert!(refused.contains("delete_protection = false"), "{refused}");
    let forced = domain(&name).replace("}\n", "  force_destroy = true\n}\n");
    run.configure(&format!("{forced}removed {{\n  from = {ADDRESS}\n  lifecycle {{\n    destroy = false\n  }}\n}}\n"));
    run.apply();
    let refused = run.destroy_fails();
    assert!(refused.contains("volume data"), "{refused}");
    assert!(incus.volume(&name, "default", "data").is_some());
    run.configure(&iso(run, &name, ""));
    run.import(ADDRESS, &format!("{name}/default/data"));
    run.apply();
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn by_hand(run: &Workspace) {
    let (name, incus) = (run.domain("visoh"), run.incus());
    run.configure(&iso(run, &name, ""));
    run.apply();
    let delete = || incus.run(&["storage", "volume", "delete", "default", "data", "--project", &name]);
    let marks = || incus.project(&name).unwrap()["config"].to_string().contains("user.anklume.iso.");
    delete();
    let other = run.dir().join("other.iso");
    std::fs::write(&other, vec![9; 2 << 20]).unwrap();
    let other = other.to_str().unwrap();
    incus.run(&["storage", "volume", "import", "default", other, "data", "--type=iso", "--project", &name, "-q"]);
    assert_eq!(run.plan(), [(ADDRESS.to_owned(), "create".to_owned())]);
    let refused = run.apply_fails();
    assert!(refused.contains(&format!("id = \"{name}/default/data\"")), "{refused}");
    assert_eq!(incus.volume(&name, "default", "data").unwrap()["config"]["size"], (2 << 20).to_string());
    delete();
    run.apply();
    run.plan_is_empty();

    delete();
    assert!(marks());
    run.succeed(&[APPLY, &["-destroy", "-refresh=false", "-target", ADDRESS]].concat());
    assert!(!marks());
    run.destroy();
    assert!(incus.project(&name).is_none());
}

const COPY: &str = "anklume_volume.copy";

/// The ISO of [`iso`], and a copy of it.
fn with_copy(run: &Workspace, name: &str, rest: &str) -> String {
    format!(
        "{}resource \"anklume_volume\" \"copy\" {{\n  name = \"copy\"\n  domain = anklume_domain.d.name\n  \
         delete_protection = false\n  content_type = \"iso\"\n  source = {{ volume = {ADDRESS}.name, pool = {ADDRESS}.pool }}\n{rest}\n}}\n",
        iso(run, name, "")
    )
}

fn copied(run: &Workspace) {
    let (name, incus) = (run.domain("visoc"), run.incus());
    run.configure(&with_copy(run, &name, ""));
    run.apply();
    run.plan_is_empty();
    let copy = || incus.volume(&name, "default", "copy").unwrap();
    assert_eq!(copy()["config"]["size"], (1 << 20).to_string());
    let made = copy()["created_at"].clone();
    // As a provider leaves it that was killed before it heard of the end.
    run.forget(COPY);
    incus.run(&["project", "set", &name, "user.anklume.iso.default.copy.uploading=true"]);
    run.apply();
    run.plan_is_empty();
    assert_ne!(copy()["created_at"], made);
    run.survives_import(COPY, &format!("{name}/default/copy"));
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn moved(here: &Workspace) {
    let run = &here.elsewhere("isomoves", &["second"]);
    let (name, incus) = (run.domain("visom"), run.incus());
    run.configure(&iso(run, &name, ""));
    run.apply();
    run.configure(&iso(run, &name, "  pool = \"second\"\n  description = \"moved\""));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    assert_eq!(incus.volume(&name, "second", "data").unwrap()["config"]["size"], (1 << 20).to_string());
    let marks = incus.project(&name).unwrap()["config"].to_string();
    assert!(marks.contains("iso.second.data.made") && !marks.contains("iso.default."), "{marks}");
    run.survives_import(ADDRESS, &format!("{name}/second/data"));
    if incus.succeeds(&["storage", "create", "tree", "btrfs", "size=512MiB"]) {
        println!("an ISO is copied within btrfs");
        run.configure(
            &with_copy(run, &name, "  pool = \"tree\"")
                .replace("  source = { file", "  pool = \"tree\"\n  source = { file"),
        );
        run.apply();
        run.plan_is_empty();
    }
    run.destroy();
    assert_eq!(run.leftovers(), Vec::<String>::new());
}
