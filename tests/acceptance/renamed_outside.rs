//! An instance that is restored, copied or renamed with the `incus` command: ours by its uuid, and a copy is not.

use serde_json::Value;

use crate::Case;
use crate::cli::{APPLY, DESTROY, PLAN, Workspace};
use crate::hcl::{domain, stopped};
use crate::wording::{NAME_IN_USE, RENAMED_OUTSIDE, REPLACED_OUTSIDE};

pub(crate) const CASES: &[Case] = &[
    ("an_instance_restored_to_a_snapshot_with_former_marks_is_ours", restored),
    ("a_copy_that_takes_the_name_of_its_original_is_not_ours", copied),
    ("a_copy_beside_its_original_changes_nothing", copied_beside),
    ("an_instance_renamed_outside_terraform_is_renamed_back", renamed),
];

const INSTANCE: &str = "anklume_instance.i";

fn applied(run: &Workspace, word: &str) -> String {
    let name = run.domain(word);
    run.configure(&(domain(&name) + &stopped("i", "i", "")));
    run.apply();
    name
}

fn uuid(run: &Workspace, project: &str, name: &str) -> Option<Value> {
    run.incus().instance(project, name).map(|found| found["config"]["volatile.uuid"].clone())
}

/// A lost state is continued under another mark, and the snapshot is older than that.
fn restored(run: &Workspace) {
    let (name, incus) = (applied(run, "rosnap"), run.incus());
    let before = uuid(run, &name, "i");
    incus.run(&["snapshot", "create", "i", "s0", "--project", &name]);
    run.forget(INSTANCE);
    run.apply();
    incus.run(&["snapshot", "restore", "i", "s0", "--project", &name]);
    let planned = run.plan();
    assert!(planned.iter().all(|change| *change == (INSTANCE.to_owned(), "update".to_owned())), "{planned:?}");
    // The next write restores the mark.
    let mark = || incus.instance(&name, "i").unwrap()["config"]["user.anklume.incarnation"].clone();
    let restored = mark();
    run.configure(&(domain(&name) + &stopped("i", "i", "  description = \"changed\"\n")));
    run.apply();
    run.plan_is_empty();
    assert_ne!(mark(), restored);
    assert!(run.attributes(INSTANCE)["uid"].as_str().unwrap().starts_with(mark().as_str().unwrap()));
    assert_eq!(uuid(run, &name, "i"), before);
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn copied(run: &Workspace) {
    let (name, incus) = (applied(run, "rocopy"), run.incus());
    let inside: &[&str] = &["--project", &name];
    incus.run(&[&["copy", "i", "copy", "-q"], inside].concat());
    incus.run(&[&["delete", "i"], inside].concat());
    incus.run(&[&["rename", "copy", "i"], inside].concat());
    let before = incus.instance(&name, "i");
    assert_eq!(run.plan(), [(INSTANCE.to_owned(), "create".to_owned())]);
    let planned = run.run(PLAN);
    assert!(planned.words().contains(REPLACED_OUTSIDE), "{}", planned.text);
    let refused = run.run(APPLY);
    assert!(refused.code == Some(1) && refused.words().contains(NAME_IN_USE), "{}", refused.text);
    run.run(DESTROY);
    assert_eq!(incus.instance(&name, "i"), before);
    incus.run(&[&["delete", "i"], inside].concat());
    run.destroy();
}

fn copied_beside(run: &Workspace) {
    let (name, incus) = (applied(run, "robesid"), run.incus());
    incus.run(&["copy", "i", "copy", "--project", &name, "-q"]);
    run.plan_is_empty();
    run.run(DESTROY);
    assert!(incus.instance(&name, "i").is_none() && incus.instance(&name, "copy").is_some());
    incus.run(&["delete", "copy", "--project", &name]);
    run.destroy();
}

fn renamed(run: &Workspace) {
    let (name, incus) = (applied(run, "roname"), run.incus());
    let before = uuid(run, &name, "i");
    incus.run(&["rename", "i", "elsewhere", "--project", &name]);
    run.plan_updates(&[INSTANCE]);
    let planned = run.run(PLAN);
    let words = planned.words();
    let names = words.contains("\"i\"") && words.contains("\"elsewhere\"");
    assert!(words.contains(RENAMED_OUTSIDE) && names, "{}", planned.text);
    run.apply();
    run.plan_is_empty();
    assert_eq!((uuid(run, &name, "i"), uuid(run, &name, "elsewhere")), (before, None));
    // It may as well be a backup that was imported under this name.
    incus.run(&["rename", "i", "elsewhere", "--project", &name]);
    for destroy in [DESTROY.to_vec(), [DESTROY, &["-refresh=false"]].concat()] {
        let refused = run.fail(&destroy);
        assert!(refused.contains("another name than the one in the state"), "{refused}");
    }
    incus.run(&["rename", "elsewhere", "i", "--project", &name]);
    run.destroy();
    assert!(incus.project(&name).is_none());
}
