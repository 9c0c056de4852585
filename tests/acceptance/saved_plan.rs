//! A saved plan that is applied in an empty directory, as the second job of a pipeline does.

use std::fs;

use crate::Case;
use crate::cli::{PLAN, Workspace};
use crate::hcl::{domain, instance, mount, volume};

pub(crate) const CASES: &[Case] = &[("a_saved_plan_is_applied_in_an_empty_directory", elsewhere)];

fn elsewhere(run: &Workspace) {
    let (name, incus) = (run.domain("spempty"), run.incus());
    let empty = run.dir().join("empty");
    let plan = run.dir().join("p");
    // A state that is in neither directory, as that of a remote backend.
    let state = run.dir().join("states").join("one.tfstate");
    let backend = format!("terraform {{\n  backend \"local\" {{\n    path = {state:?}\n  }}\n}}\n\n");
    let with_volume = |description: &str| {
        let rest = format!("{}\n  description = {description:?}", mount("v"));
        backend.clone() + &domain(&name) + &volume("v", "v", "") + &instance("i", "i", &rest)
    };
    let apply_in_empty = || {
        run.succeed(&[PLAN, &["-out=p"]].concat());
        fs::create_dir(&empty).unwrap();
        let applied = run.run_in(&empty, &["apply", "-input=false", "-no-color", plan.to_str().unwrap()]);
        assert_eq!(applied.code, Some(0), "{}", applied.text);
        fs::remove_dir_all(&empty).unwrap();
    };
    run.offer_to_init();
    run.configure(&with_volume("first"));
    run.succeed(&["init", "-input=false", "-no-color"]);
    // A plan is bound to the lock file; the provider under test has no released version to lock.
    fs::remove_file(run.dir().join(".terraform.lock.hcl")).unwrap();
    apply_in_empty();
    let uuid = || incus.instance(&name, "i").unwrap()["config"]["volatile.uuid"].clone();
    let before = uuid();
    run.configure(&with_volume("second"));
    apply_in_empty();
    assert_eq!(incus.instance(&name, "i").unwrap()["description"], "second");
    run.apply();
    run.plan_is_empty();
    run.configure(&(backend.clone() + &domain(&name) + &instance("i", "i", "")));
    run.apply();
    run.plan_is_empty();
    assert!(incus.volume(&name, "default", "v").is_none());
    assert_eq!(uuid(), before);
    run.destroy();
    assert!(incus.project(&name).is_none());
}
