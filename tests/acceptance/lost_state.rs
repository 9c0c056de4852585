//! A state that is lost: its objects are continued within a day, and later only when asked for.

use std::fs;

use serde_json::Value;

use crate::Case;
use crate::cli::{APPLY, Workspace};
use crate::hcl::{domain_of, instance, profile, stopped, volume};
use crate::marks;
use crate::nft_isolation::{HOST, has_table, isolation};
use crate::wording::{CONTINUED, MARKED_SINCE, NAME_IN_USE, RECOVER, UNPROVEN};

pub(crate) const CASES: &[Case] = &[
    ("a_state_lost_after_an_update_is_continued", updated),
    ("a_state_lost_after_a_default_was_written_out_is_continued", default_written),
    ("a_state_lost_after_a_size_was_respelled_is_continued", respelled),
    ("a_state_lost_a_day_ago_is_continued_only_when_asked", aged),
    ("a_lost_state_of_changed_objects_is_refused_without_a_mark_that_proves_them", changed),
    ("an_iso_whose_state_was_lost_after_an_update_is_continued", iso),
    ("an_isolation_whose_state_was_lost_is_imported", imported_isolation),
];

/// One object of each kind, described as `description`.
fn environment(name: &str, description: &str) -> String {
    let described = format!("description = {description:?}");
    domain_of("d", name, &described)
        + &profile("p", "p", &described)
        + &volume("v", "v", &described)
        + &stopped("i", "i", &described)
}

/// What tells the objects of an [`environment`] from others under the same names.
fn identity(run: &Workspace, name: &str) -> [Value; 2] {
    let incus = run.incus();
    let volume = incus.volume(name, "default", "v").expect("the volume was deleted");
    let found = incus.instance(name, "i").expect("the instance was deleted");
    [found["config"]["volatile.uuid"].clone(), volume["created_at"].clone()]
}

/// Loses the state and applies: everything is continued, and is the same as before.
fn is_continued(run: &Workspace, name: &str) {
    let before = identity(run, name);
    run.lose_state();
    let applied = run.run(APPLY);
    assert_eq!(identity(run, name), before);
    assert_eq!(applied.code, Some(0), "{}", applied.text);
    assert!(applied.text.matches(CONTINUED).count() > 0, "{}", applied.text);
    run.plan_is_empty();
    run.destroy();
    assert!(run.incus().project(name).is_none());
}

fn updated(run: &Workspace) {
    let name = run.domain("lsupd");
    for description in ["first", "second"] {
        run.configure(&environment(&name, description));
        run.apply();
    }
    is_continued(run, &name);
}

/// Defaults that are written out change nothing, so that no apply writes a mark for them.
fn default_written(run: &Workspace) {
    let name = run.domain("lsdef");
    let with =
        |domain: &str, rest: &str| domain_of("d", &name, domain) + &volume("v", "v", "") + &instance("i", "i", rest);
    run.configure(&with("", ""));
    run.apply();
    run.configure(&with("trust_level = \"semi-trusted\"", "running = true\n  profiles = [\"default\"]"));
    run.plan_is_empty();
    is_continued(run, &name);
}

fn respelled(run: &Workspace) {
    let name = run.domain("lssize");
    let with = |size: &str, time: &str| {
        let waits = format!("timeouts = {{ create = \"{time}\" }}");
        domain_of("d", &name, "") + &volume("v", "v", &format!("size = \"{size}\"")) + &stopped("i", "i", &waits)
    };
    run.configure(&with("1GiB", "60s"));
    run.apply();
    run.configure(&with("1024MiB", "1m"));
    run.apply();
    is_continued(run, &name);
}

fn aged(run: &Workspace) {
    let name = run.domain("lsaged");
    run.configure(&environment(&name, "first"));
    run.apply();
    let before = identity(run, &name);
    marks::age(run);
    run.lose_state();
    let refused = run.run(APPLY);
    let words = refused.words();
    assert!(refused.code == Some(1) && words.contains(NAME_IN_USE), "{}", refused.text);
    assert!(words.contains(MARKED_SINCE) && words.contains(&format!("{RECOVER}=1")), "{}", refused.text);
    run.set(RECOVER, "1");
    run.apply();
    assert_eq!(identity(run, &name), before);
    run.set(RECOVER, "");
    run.plan_is_empty();
    run.destroy();
    assert!(run.incus().project(&name).is_none());
}

/// The configuration changed since the state was lost: what is there is imported.
fn changed(run: &Workspace) {
    let name = run.domain("lschg");
    run.configure(&environment(&name, "first"));
    run.apply();
    let before = identity(run, &name);
    let kept = fs::read(run.dir().join("terraform.tfstate")).unwrap();
    run.lose_state();
    run.configure(&environment(&name, "second"));
    let refused = run.run(APPLY);
    let words = refused.words();
    assert!(refused.code == Some(1) && words.contains(UNPROVEN), "{}", refused.text);
    assert!(words.contains(&format!("id = \"{name}\"")), "{}", refused.text);
    assert_eq!(identity(run, &name), before);
    fs::write(run.dir().join("terraform.tfstate"), kept).unwrap();
    run.destroy();
}

/// The marks of an ISO are on the project, as Incus has no place for them on the volume.
fn iso(run: &Workspace) {
    let (name, incus) = (run.domain("lscd"), run.incus());
    fs::write(run.dir().join("cd.iso"), vec![7; 1 << 16]).unwrap();
    let with = |description: &str| {
        let block = format!(
            r#"resource "anklume_volume" "cd" {{
  name              = "cd"
  domain            = anklume_domain.d.name
  description       = "{description}"
  content_type      = "iso"
  source            = {{ file = "cd.iso" }}
  delete_protection = false
}}
"#
        );
        domain_of("d", &name, "") + &block
    };
    for description in ["first", "second"] {
        run.configure(&with(description));
        run.apply();
    }
    let created = || incus.volume(&name, "default", "cd").expect("the volume was deleted")["created_at"].clone();
    let before = created();
    run.lose_state();
    let continued = run.apply();
    assert!(continued.contains(CONTINUED), "{continued}");
    assert_eq!(created(), before);
    run.plan_is_empty();
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn imported_isolation(here: &Workspace) {
    let run = here.elsewhere("lsiso", &[]);
    run.configure(&isolation(&["far", "near"], "", ""));
    run.apply();
    let policy = r#"    ping = { from = "far", to = "near", protocol = "icmp" }"#;
    run.configure(&isolation(&["far", "near"], policy, ""));
    run.apply();
    run.lose_state();
    run.import(HOST, "inet anklume");
    run.plan_updates(&[HOST]);
    run.apply();
    run.plan_is_empty();
    run.destroy();
    assert!(!has_table(&run));
}
