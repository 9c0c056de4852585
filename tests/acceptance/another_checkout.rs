//! One state, carried to another checkout, another owner or another version of the provider.

use std::fs;

use crate::Case;
use crate::cli::Workspace;
use crate::hcl::{domain, instance, mount, volume};
use crate::marks;

pub(crate) const CASES: &[Case] = &[
    ("a_changed_owner_is_one_update_after_which_a_volume_and_its_mount_go_together", owner),
    ("a_state_in_another_directory_is_one_update_after_which_a_volume_and_its_mount_go_together", directory),
    ("a_state_of_the_first_version_loses_a_volume_and_its_mount_in_one_change", first_version),
    ("a_state_of_the_first_version_is_updated_once_and_destroyed", first_version_updated),
];

const INSTANCE: &str = "anklume_instance.i";

fn with_volume(name: &str) -> String {
    domain(name) + &volume("v", "v", "") + &instance("i", "i", &mount("v"))
}

fn without_volume(name: &str) -> String {
    domain(name) + &instance("i", "i", "")
}

/// The plan is one update of the instance, in which its owner changes; the apply makes it so, without a restart.
fn owner_is_updated_once(run: &Workspace, name: &str) {
    let pid = || run.incus().query(&format!("/1.0/instances/i/state?project={name}"))["pid"].clone();
    let before = pid();
    run.plan_updates(&[INSTANCE]);
    let planned = run.succeed(&["show", "-no-color", "tfplan"]).text;
    assert!(planned.contains("~ owner"), "{planned}");
    run.apply();
    run.plan_is_empty();
    assert_eq!(pid(), before, "the instance was restarted");
}

/// Applies a configuration without the volume and its mount, and destroys the rest.
fn volume_and_mount_go(run: &Workspace, name: &str) {
    run.apply();
    run.plan_is_empty();
    assert!(run.incus().volume(name, "default", "v").is_none());
    assert!(run.incus().instance(name, "i").unwrap()["devices"]["sv-data"].is_null());
    run.destroy();
    assert!(run.incus().project(name).is_none());
}

fn owner(run: &Workspace) {
    let (name, me) = (run.domain("acowner"), "  owner = \"me\"\n");
    run.configure(&with_volume(&name));
    run.apply();
    run.configure_provider(me, &with_volume(&name));
    owner_is_updated_once(run, &name);
    run.configure_provider(me, &without_volume(&name));
    volume_and_mount_go(run, &name);
}

fn directory(run: &Workspace) {
    let (name, there) = (run.domain("acdir"), run.beside());
    run.configure(&with_volume(&name));
    run.apply();
    fs::copy(run.dir().join("terraform.tfstate"), there.dir().join("terraform.tfstate")).unwrap();
    there.configure(&with_volume(&name));
    owner_is_updated_once(&there, &name);
    there.configure(&without_volume(&name));
    volume_and_mount_go(&there, &name);
}

fn first_version(run: &Workspace) {
    let name = run.domain("acfirst");
    run.configure(&with_volume(&name));
    run.apply();
    marks::as_of_the_first_version(run);
    run.configure(&without_volume(&name));
    volume_and_mount_go(run, &name);
}

fn first_version_updated(run: &Workspace) {
    let name = run.domain("acupd");
    run.configure(&with_volume(&name));
    run.apply();
    marks::as_of_the_first_version(run);
    owner_is_updated_once(run, &name);
    run.destroy();
    assert!(run.incus().project(&name).is_none());
}
