//! A replacement under `create_before_destroy`: the name is in use, so nothing is replaced, and the apply says so.

use serde_json::Value;

use crate::Case;
use crate::cli::{APPLY, Workspace};
use crate::hcl::{CREATE_FIRST, domain, domain_of, profile, stopped, volume};
use crate::wording::NOTHING_REPLACED;

pub(crate) const CASES: &[Case] = &[
    ("a_replace_under_create_before_destroy_fails_and_without_it_replaces", written),
    ("a_replace_of_a_profile_and_a_domain_under_create_before_destroy_fails", profile_and_domain),
    ("a_replace_under_create_before_destroy_of_a_consumer_fails", forced),
    ("a_tainted_instance_under_create_before_destroy_fails_to_be_replaced", tainted),
    ("replace_triggered_by_under_create_before_destroy_fails", triggered),
];

const INSTANCE: &str = "anklume_instance.i";
const VOLUME: &str = "anklume_volume.v";

/// The uuid of the instance `i`, and whether the file that [`mark`] left is in it.
fn instance(run: &Workspace, name: &str) -> (Value, bool) {
    let incus = run.incus();
    let found = incus.instance(name, "i").expect("the instance was deleted");
    let has_file = incus.succeeds(&["file", "pull", "i/root/left.tf", "-", "--project", name]);
    (found["config"]["volatile.uuid"].clone(), has_file)
}

/// Puts a file into the instance.
fn mark(run: &Workspace, name: &str) {
    let file = run.dir().join("main.tf");
    run.incus().run(&["file", "push", file.to_str().unwrap(), "i/root/left.tf", "--project", name]);
}

/// Replaces the instance `i`: configured by `blocked` it fails and keeps the instance, by `free` the instance is new.
///
/// `replace` prepares each attempt and returns further arguments of its apply.
fn fails_and_then_replaces(run: &Workspace, name: &str, blocked: &str, free: &str, replace: impl Fn() -> Vec<String>) {
    run.configure(blocked);
    run.apply();
    mark(run, name);
    let before = instance(run, name);
    let attempt = || {
        let more = replace();
        let more: Vec<_> = more.iter().map(String::as_str).collect();
        run.run(&[APPLY, &more].concat())
    };
    let refused = attempt();
    assert_eq!(instance(run, name), before);
    assert!(refused.code == Some(1) && refused.words().contains(NOTHING_REPLACED), "{}", refused.text);
    run.configure(free);
    assert_eq!(attempt().code, Some(0));
    let (uuid, has_file) = instance(run, name);
    assert!(uuid != before.0 && !has_file, "{uuid} {has_file}");
    run.plan_is_empty();
    run.destroy();
}

fn replace_instance() -> Vec<String> {
    vec![format!("-replace={INSTANCE}")]
}

fn written(run: &Workspace) {
    let (name, incus) = (run.domain("rpcbd"), run.incus());
    let with = |life: &str| domain(&name) + &volume("v", "v", life) + &stopped("i", "i", life);
    let replace = [APPLY, &["-replace", INSTANCE, "-replace", VOLUME]].concat();
    let created = || incus.volume(&name, "default", "v").expect("the volume was deleted")["created_at"].clone();
    run.configure(&with(CREATE_FIRST));
    run.apply();
    mark(run, &name);
    let before = (instance(run, &name), created());
    let refused = run.run(&replace);
    assert_eq!((instance(run, &name), created()), before);
    let words = refused.words();
    assert!(refused.code == Some(1) && words.matches(NOTHING_REPLACED).count() >= 2, "{}", refused.text);
    run.configure(&with(""));
    run.succeed(&replace);
    let ((uuid, has_file), volume) = (instance(run, &name), created());
    assert!(uuid != before.0.0 && !has_file && volume != before.1, "{uuid} {has_file} {volume}");
    run.plan_is_empty();
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn profile_and_domain(run: &Workspace) {
    let name = run.domain("rpprof");
    let other = format!("{name}e");
    let with = |life: &str| domain(&name) + &profile("p", "p", life) + &domain_of("e", &other, life);
    let replace = [APPLY, &["-replace=anklume_profile.p", "-replace=anklume_domain.e"]].concat();
    run.configure(&with(CREATE_FIRST));
    run.apply();
    let refused = run.run(&replace);
    let words = refused.words();
    assert!(refused.code == Some(1) && words.matches(NOTHING_REPLACED).count() >= 2, "{}", refused.text);
    run.configure(&with(""));
    run.succeed(&replace);
    run.plan_is_empty();
    run.destroy();
}

fn forced(run: &Workspace) {
    let name = run.domain("rpforce");
    let consumer = |life: &str| {
        format!(
            r#"resource "terraform_data" "consumer" {{
  input = {INSTANCE}.name
  {life}
}}
"#
        )
    };
    let with = |life: &str| domain(&name) + &stopped("i", "i", "") + &consumer(life);
    fails_and_then_replaces(run, &name, &with(CREATE_FIRST), &with(""), replace_instance);
}

fn tainted(run: &Workspace) {
    let name = run.domain("rptaint");
    let with = |life: &str| domain(&name) + &stopped("i", "i", life);
    fails_and_then_replaces(run, &name, &with(CREATE_FIRST), &with(""), || {
        run.succeed(&["taint", INSTANCE]);
        Vec::new()
    });
}

const GENERATION: &str = r#"variable "generation" {
  default = 0
}

resource "terraform_data" "generation" {
  input = var.generation
}
"#;

fn triggered(run: &Workspace) {
    let name = run.domain("rptrig");
    let with = |first: &str| {
        let life = format!("lifecycle {{\n    {first}\n    replace_triggered_by = [terraform_data.generation]\n  }}");
        domain(&name) + &stopped("i", "i", &life) + GENERATION
    };
    let generation = std::cell::Cell::new(0);
    fails_and_then_replaces(run, &name, &with("create_before_destroy = true"), &with(""), || {
        generation.set(generation.get() + 1);
        run.set("TF_VAR_generation", &generation.get().to_string());
        Vec::new()
    });
}
