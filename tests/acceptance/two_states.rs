//! Two states that describe the same names: the second one is refused, and its destroy deletes nothing.

use std::fs;

use serde_json::Value;

use crate::Case;
use crate::cli::{APPLY, DESTROY, Workspace};
use crate::hcl::{domain, instance, mount, profile, volume};
use crate::wording::NAME_IN_USE;

pub(crate) const CASES: &[Case] = &[
    ("a_second_backend_in_one_directory_is_another_owner", backends),
    ("one_path_in_two_mount_namespaces_is_two_owners", mounts),
    ("the_test_command_beside_a_running_environment_changes_nothing", test_command),
];

/// A domain with a profile, a running instance and a volume that the instance has mounted.
fn environment(name: &str) -> String {
    domain(name) + &profile("p", "p", "") + &volume("v", "v", "") + &instance("i", "i", &mount("v"))
}

/// What tells the objects of an [`environment`] from others under the same names, and the text in the volume.
fn identity(run: &Workspace, name: &str) -> (Value, Value, String) {
    let incus = run.incus();
    let found = incus.instance(name, "i").expect("the instance was deleted");
    assert_eq!(found["status"], "Running");
    let volume = incus.volume(name, "default", "v").expect("the volume was deleted");
    assert!(incus.profile(name, "p").is_some());
    (found["config"]["volatile.uuid"].clone(), volume["created_at"].clone(), incus.shell(name, "i", "cat /srv/text"))
}

fn backends(run: &Workspace) {
    let name = run.domain("twoback");
    run.offer_to_init();
    run.configure(&format!("terraform {{\n  backend \"local\" {{}}\n}}\n\n{}", environment(&name)));
    let init = |state: &str| {
        let path = format!("-backend-config=path={state}.tfstate");
        run.succeed(&["init", "-reconfigure", "-input=false", "-no-color", &path]);
    };
    init("prod");
    run.apply();
    run.incus().shell(&name, "i", "echo prod > /srv/text");
    let before = identity(run, &name);
    init("staging");
    let second = run.run(APPLY);
    let destroyed = run.run(DESTROY);
    assert_eq!(identity(run, &name), before);
    assert!(second.code == Some(1) && second.words().contains(NAME_IN_USE), "{}", second.text);
    assert_eq!(destroyed.code, Some(0));
    init("prod");
    run.plan_is_empty();
    run.destroy();
}

fn mounts(run: &Workspace) {
    let (name, other) = (run.domain("twomnt"), run.beside());
    let place = run.dir().join("place");
    fs::create_dir(&place).unwrap();
    for one in [run, &other] {
        one.configure(&environment(&name));
    }
    let first = run.run_mounted(&place, APPLY);
    assert_eq!(first.code, Some(0));
    run.incus().shell(&name, "i", "echo first > /srv/text");
    let before = identity(run, &name);
    let second = other.run_mounted(&place, APPLY);
    let destroyed = other.run_mounted(&place, DESTROY);
    assert_eq!(identity(run, &name), before);
    assert!(second.code == Some(1) && second.words().contains(NAME_IN_USE), "{}", second.text);
    assert_eq!(destroyed.code, Some(0));
    assert_eq!(run.run_mounted(&place, DESTROY).code, Some(0));
    assert!(run.incus().project(&name).is_none());
}

fn test_command(run: &Workspace) {
    let name = run.domain("twotest");
    run.configure(&environment(&name));
    fs::create_dir(run.dir().join("tests")).unwrap();
    let trivial = "run \"trivial\" {\n  command = apply\n}\n";
    fs::write(run.dir().join("tests/trivial.tftest.hcl"), trivial).unwrap();
    run.apply();
    run.incus().shell(&name, "i", "echo kept > /srv/text");
    let before = identity(run, &name);
    let tested = run.run(&["test", "-no-color"]);
    assert_eq!(identity(run, &name), before);
    assert!(tested.code == Some(1) && tested.words().contains(NAME_IN_USE), "{}", tested.text);
    run.plan_is_empty();
    run.destroy();
}
