//! Renames that core has no order for: rejected while planning, and nothing is renamed or deleted.

use serde_json::Value;

use crate::Case;
use crate::cli::{APPLY, Workspace};
use crate::hcl::{domain, profile, stopped, volume};
use crate::wording::NAME_STILL_IN_USE;

pub(crate) const CASES: &[Case] = &[
    ("a_list_of_volumes_by_count_that_loses_its_first_name_is_rejected", volumes_by_count),
    ("a_list_of_instances_by_count_that_loses_its_first_name_is_rejected", instances_by_count),
    ("a_list_of_profiles_by_count_that_loses_its_first_name_is_rejected", profiles_by_count),
    ("a_swap_of_two_names_is_rejected_when_planning", swapped),
    ("a_create_of_a_name_that_an_update_gives_up_is_rejected_when_planning", given_up),
];

/// What the apply of `after` would leave of the objects of `before`, which `found` names: everything, as it is rejected.
fn rejected<T: PartialEq + std::fmt::Debug>(run: &Workspace, before: &str, after: &str, found: impl Fn() -> T) {
    run.configure(before);
    run.apply();
    let first = found();
    run.configure(after);
    let applied = run.run(APPLY);
    assert_eq!(found(), first);
    assert!(applied.code == Some(1) && applied.words().contains(NAME_STILL_IN_USE), "{}", applied.text);
    let planned = run.plan_fails();
    assert!(planned.contains(NAME_STILL_IN_USE), "{planned}");
    run.configure(before);
    run.plan_is_empty();
    run.destroy();
}

/// `block` with `count` over `names`.
fn counted(block: &str, names: &[&str]) -> String {
    let list = format!("{names:?}");
    let count = format!("  count  = length({list})\n  name   = {list}[count.index]");
    block.replacen("  name   = \"NAME\"", &count, 1)
}

fn volumes(run: &Workspace, name: &str) -> Vec<Option<Value>> {
    let found = |volume: &&str| run.incus().volume(name, "default", volume).map(|found| found["created_at"].clone());
    ["one", "two", "three"].iter().map(found).collect()
}

fn volumes_by_count(run: &Workspace) {
    let name = run.domain("rnvol");
    let with = |names: &[&str]| domain(&name) + &counted(&volume("v", "NAME", ""), names);
    rejected(run, &with(&["one", "two", "three"]), &with(&["two", "three"]), || volumes(run, &name));
}

fn instances_by_count(run: &Workspace) {
    let (name, incus) = (run.domain("rninst"), run.incus());
    let with = |names: &[&str]| domain(&name) + &counted(&stopped("i", "NAME", ""), names);
    rejected(run, &with(&["one", "two", "three"]), &with(&["two", "three"]), || {
        let uuid = |one: &str| incus.instance(&name, one).map(|found| found["config"]["volatile.uuid"].clone());
        ["one", "two", "three"].map(uuid)
    });
}

fn profiles_by_count(run: &Workspace) {
    let (name, incus) = (run.domain("rnprof"), run.incus());
    let with = |names: &[&str]| domain(&name) + &counted(&profile("p", "NAME", ""), names);
    rejected(run, &with(&["one", "two", "three"]), &with(&["two", "three"]), || {
        ["one", "two", "three"].map(|one| incus.profile(&name, one))
    });
}

fn swapped(run: &Workspace) {
    let name = run.domain("rnswap");
    let with = |x: &str, y: &str| domain(&name) + &volume("x", x, "") + &volume("y", y, "");
    rejected(run, &with("one", "two"), &with("two", "one"), || volumes(run, &name));
}

fn given_up(run: &Workspace) {
    let name = run.domain("rngive");
    let before = domain(&name) + &volume("x", "one", "");
    let after = domain(&name) + &volume("x", "two", "") + &volume("z", "one", "");
    rejected(run, &before, &after, || volumes(run, &name));
}
