//! One object under two resource labels: rejected while planning, so that neither label deletes what the other keeps.

use serde_json::Value;

use crate::Case;
use crate::cli::{APPLY, Workspace};
use crate::hcl::{domain, domain_of, import, instance, mount, profile, stopped, volume};
use crate::wording::TWO_FOR_ONE;

pub(crate) const CASES: &[Case] = &[
    ("a_new_label_for_an_attached_volume_is_rejected_when_planning", attached),
    ("a_new_label_for_an_instance_is_rejected_when_planning", of_an_instance),
    ("a_new_label_for_a_profile_is_rejected_when_planning", of_a_profile),
    ("a_new_label_for_an_empty_domain_is_rejected_when_planning", of_a_domain),
    ("a_moved_block_for_a_new_label_is_no_change", moved),
    ("an_import_block_for_a_new_label_is_rejected_when_planning", imported),
    ("an_import_block_for_a_new_label_of_a_profile_is_rejected_when_planning", imported_profile),
    ("an_object_imported_under_a_second_label_outlives_the_first", imported_twice),
    ("a_removed_block_and_an_import_take_an_object_to_a_new_label", removed),
    ("one_volume_written_twice_is_rejected_when_planning", written_twice),
    ("a_targeted_apply_of_a_new_label_loses_nothing", targeted),
];

/// An instance that has the volume with this label mounted.
fn used(name: &str, label: &str) -> String {
    domain(name) + &volume(label, "data", "") + &instance("i", "i", &mount(label))
}

/// A volume with a text in it, which is read through the instance that has it mounted.
struct Data<'r> {
    run: &'r Workspace,
    name: String,
    created: Value,
}

impl<'r> Data<'r> {
    /// Applies the label `old`.
    fn applied(run: &'r Workspace, word: &str) -> Self {
        let name = run.domain(word);
        run.configure(&used(&name, "old"));
        run.apply();
        run.incus().shell(&name, "i", "echo kept > /srv/text");
        let created = run.incus().volume(&name, "default", "data").unwrap()["created_at"].clone();
        Self { run, name, created }
    }

    /// The volume is the same one, is still mounted, and holds the text.
    fn is_kept(&self) {
        let found = self.run.incus().volume(&self.name, "default", "data").expect("the volume was deleted");
        assert_eq!(found["created_at"], self.created, "the volume was replaced");
        assert_eq!(self.run.incus().shell(&self.name, "i", "cat /srv/text"), "kept");
    }
}

/// Applies `hcl` and plans it: both are rejected. An apply that is not shows what it destroys by what `kept` asserts.
fn rejected(run: &Workspace, hcl: &str, kept: impl Fn()) {
    run.configure(hcl);
    let applied = run.run(APPLY);
    kept();
    assert!(applied.code == Some(1) && applied.words().contains(TWO_FOR_ONE), "{}", applied.text);
    let planned = run.plan_fails();
    assert!(planned.contains(TWO_FOR_ONE), "{planned}");
}

fn back_to(run: &Workspace, hcl: &str) {
    run.configure(hcl);
    // A label that has moved is no action, and no empty plan either.
    assert_eq!(run.plan(), []);
    run.destroy();
}

fn attached(run: &Workspace) {
    let data = Data::applied(run, "rlvol");
    rejected(run, &used(&data.name, "new"), || data.is_kept());
    back_to(run, &used(&data.name, "old"));
}

fn of_an_instance(run: &Workspace) {
    let (name, incus) = (run.domain("rlinst"), run.incus());
    let with = |label: &str| domain(&name) + &stopped(label, "i", "");
    run.configure(&with("old"));
    run.apply();
    let uuid = || incus.instance(&name, "i").map(|found| found["config"]["volatile.uuid"].clone());
    let before = uuid();
    rejected(run, &with("new"), || assert_eq!(uuid(), before));
    back_to(run, &with("old"));
}

fn of_a_profile(run: &Workspace) {
    let (name, incus) = (run.domain("rlprof"), run.incus());
    let with = |label: &str| domain(&name) + &profile(label, "p", "");
    run.configure(&with("old"));
    run.apply();
    let before = incus.profile(&name, "p");
    rejected(run, &with("new"), || assert_eq!(incus.profile(&name, "p"), before));
    back_to(run, &with("old"));
}

fn of_a_domain(run: &Workspace) {
    let (name, incus) = (run.domain("rldom"), run.incus());
    run.configure(&domain_of("old", &name, ""));
    run.apply();
    let there = || [incus.project(&name), incus.network(&format!("net-{name}"))];
    let before = there();
    rejected(run, &domain_of("new", &name, ""), || assert_eq!(there(), before));
    back_to(run, &domain_of("old", &name, ""));
}

fn moved(run: &Workspace) {
    let data = Data::applied(run, "rlmoved");
    let moved = "moved {\n  from = anklume_volume.old\n  to   = anklume_volume.new\n}\n";
    run.configure(&(used(&data.name, "new") + moved));
    assert_eq!(run.plan(), []);
    run.apply();
    data.is_kept();
    back_to(run, &used(&data.name, "new"));
}

fn imported(run: &Workspace) {
    let data = Data::applied(run, "rlimp");
    let imports = import("anklume_volume.new", &format!("{}/default/data", data.name));
    rejected(run, &(used(&data.name, "new") + &imports), || data.is_kept());
    back_to(run, &used(&data.name, "old"));
}

fn imported_profile(run: &Workspace) {
    let (name, incus) = (run.domain("rlimpp"), run.incus());
    let with = |label: &str| domain(&name) + &profile(label, "p", "");
    run.configure(&with("old"));
    run.apply();
    let before = incus.profile(&name, "p");
    let imports = import("anklume_profile.new", &format!("{name}/p"));
    rejected(run, &(with("new") + &imports), || assert_eq!(incus.profile(&name, "p"), before));
    back_to(run, &with("old"));
}

/// The label `old` stays in the state, and is dropped from the configuration only after the import.
fn imported_twice(run: &Workspace) {
    let data = Data::applied(run, "rltwice");
    run.configure(&(used(&data.name, "old") + &volume("new", "data", "")));
    run.run(&["import", "-input=false", "-no-color", "anklume_volume.new", &format!("{}/default/data", data.name)]);
    run.configure(&used(&data.name, "new"));
    run.run(APPLY);
    data.is_kept();
    let moved = "moved {\n  from = anklume_volume.old\n  to   = anklume_volume.new\n}\n";
    run.run(&["state", "rm", "anklume_volume.new"]);
    back_to(run, &(used(&data.name, "new") + moved));
}

fn removed(run: &Workspace) {
    let data = Data::applied(run, "rlrem");
    let removed = "removed {\n  from = anklume_volume.old\n  lifecycle {\n    destroy = false\n  }\n}\n\n";
    let imports = import("anklume_volume.new", &format!("{}/default/data", data.name));
    run.configure(&format!("{}{removed}{imports}", used(&data.name, "new")));
    run.apply();
    data.is_kept();
    back_to(run, &used(&data.name, "new"));
}

/// Copy and paste: a second resource of the same name beside the first.
fn written_twice(run: &Workspace) {
    let data = Data::applied(run, "rlcopy");
    let twice = used(&data.name, "old") + &volume("new", "data", "");
    run.configure(&twice);
    let applied = run.run(APPLY);
    run.configure(&used(&data.name, "old"));
    run.run(APPLY);
    data.is_kept();
    assert!(applied.code == Some(1) && applied.words().contains(TWO_FOR_ONE), "{}", applied.text);
    run.configure(&twice);
    let planned = run.plan_fails();
    assert!(planned.contains(TWO_FOR_ONE), "{planned}");
    back_to(run, &used(&data.name, "old"));
}

/// The client hides the old label from a targeted plan.
fn targeted(run: &Workspace) {
    let data = Data::applied(run, "rltarg");
    run.configure(&used(&data.name, "new"));
    run.run(&[APPLY, &["-target=anklume_volume.new"]].concat());
    data.is_kept();
    run.run(APPLY);
    data.is_kept();
    let state = run.succeed(&["state", "list"]).text;
    let label = if state.contains("anklume_volume.new") { "new" } else { "old" };
    run.configure(&used(&data.name, label));
    run.apply();
    data.is_kept();
    run.plan_is_empty();
    run.destroy();
}
