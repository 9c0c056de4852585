//! A profile that instances use is destroyed or replaced without any `lifecycle`.

use serde_json::Value;

use crate::Case;
use crate::cli::{APPLY, Workspace};
use crate::hcl::{CREATE_FIRST, domain, domain_of, instance, profile, stopped};

pub(crate) const CASES: &[Case] = &[
    ("a_profile_is_destroyed_in_the_apply_that_drops_it_from_its_users", dropped),
    ("a_replaced_profile_keeps_its_position_beside_an_update_of_its_user", replaced),
    ("a_profile_moves_to_another_domain_in_the_apply_that_drops_it", moved),
    ("a_profile_that_gives_a_root_disk_is_refused_before_anything_changes", root_disk),
    ("a_profile_that_somebody_else_uses_is_refused_before_anything_changes", foreign_user),
    ("a_domain_with_a_fixed_subnet_is_renamed_with_its_profile", domain_renamed),
    ("the_error_of_a_domain_renamed_under_create_before_destroy_names_the_cause", domain_renamed_first),
];

const LIMIT: &str = r#"config = { "limits.processes" = "100" }"#;

fn profiles(run: &Workspace, name: &str, of: &str) -> Value {
    run.incus().instance(name, of).expect("the instance was deleted")["profiles"].clone()
}

fn pid(run: &Workspace, name: &str, of: &str) -> Value {
    run.incus().query(&format!("/1.0/instances/{of}/state?project={name}"))["pid"].clone()
}

fn using(labels: &[&str]) -> String {
    let names: Vec<_> = labels.iter().map(|label| format!("anklume_profile.{label}.name")).collect();
    format!("profiles = [{}]", [&["\"default\"".to_owned()], names.as_slice()].concat().join(", "))
}

fn dropped(run: &Workspace) {
    let (name, incus) = (run.domain("pudrop"), run.incus());
    let users = |labels: &[&str]| stopped("i", "i", &using(labels)) + &instance("r", "r", &using(labels));
    run.configure(&(domain(&name) + &profile("p", "p", LIMIT) + &users(&["p"])));
    run.apply();
    let before = pid(run, &name, "r");
    run.configure(&(domain(&name) + &users(&[])));
    run.apply();
    run.plan_is_empty();
    assert!(incus.profile(&name, "p").is_none());
    assert_eq!(pid(run, &name, "r"), before, "the container was restarted");
    for one in ["i", "r"] {
        let found = incus.instance(&name, one).unwrap();
        assert!(!found["config"].to_string().contains("user.anklume.profile."), "{found}");
    }
    run.destroy();
}

fn replaced(run: &Workspace) {
    let (name, incus) = (run.domain("purepl"), run.incus());
    let with = |description: &str| {
        let rest = format!("{}\n  description = {description:?}", using(&["a", "b"]));
        domain(&name)
            + &profile("a", "a", LIMIT)
            + &profile("b", "b", "")
            + &stopped("i", "i", &rest)
            + &instance("r", "r", &rest)
    };
    run.configure(&with("first"));
    run.apply();
    let before = pid(run, &name, "r");
    run.configure(&with("second"));
    run.succeed(&[APPLY, &["-replace=anklume_profile.a"]].concat());
    run.plan_is_empty();
    for one in ["i", "r"] {
        let found = incus.instance(&name, one).unwrap();
        assert_eq!(found["profiles"], serde_json::json!(["default", "a", "b"]));
        assert_eq!(found["description"], "second");
        assert!(!found["config"].to_string().contains("user.anklume.profile."), "{found}");
    }
    assert_eq!(pid(run, &name, "r"), before, "the container was restarted");
    // Beside no change of its users.
    run.succeed(&[APPLY, &["-replace=anklume_profile.a"]].concat());
    run.plan_is_empty();
    assert_eq!(profiles(run, &name, "i"), serde_json::json!(["default", "a", "b"]));
    run.destroy();
}

fn moved(run: &Workspace) {
    let name = run.domain("pumove");
    let other = format!("{name}e");
    let with = |domain_label: &str, labels: &[&str]| {
        let profile = profile("p", "p", "").replace("anklume_domain.d", &format!("anklume_domain.{domain_label}"));
        domain(&name) + &domain_of("e", &other, "") + &profile + &stopped("i", "i", &using(labels))
    };
    run.configure(&with("d", &["p"]));
    run.apply();
    run.configure(&with("e", &[]));
    run.apply();
    run.plan_is_empty();
    assert!(run.incus().profile(&name, "p").is_none() && run.incus().profile(&other, "p").is_some());
    run.destroy();
}

/// What is refused changes neither the profile nor its users, and is not advised to use `create_before_destroy`.
fn is_refused(run: &Workspace, name: &str, user: &str) {
    let there = || (run.incus().profile(name, "p"), run.incus().list(&format!("/1.0/instances?project={name}")));
    let before = (there(), profiles(run, name, "i"));
    let refused = run.apply_fails();
    assert_eq!((there(), profiles(run, name, "i")), before);
    assert!(refused.contains(user) && !refused.contains("create_before_destroy"), "{refused}");
}

fn root_disk(run: &Workspace) {
    let name = run.domain("puroot");
    let disk = r#"devices = { root = { type = "disk", path = "/", pool = "default" } }"#;
    let with =
        |profile: &str, labels: &[&str]| domain_of("d", &name, "") + profile + &stopped("i", "i", &using(labels));
    // The profile `default` of the domain has no root disk then.
    let bare = |text: String| text.replace("storage_pool = \"default\"", "");
    run.configure(&bare(with(&profile("p", "p", disk), &["p"])));
    run.apply();
    run.configure(&bare(with("", &[])));
    is_refused(run, &name, "instance i");
    run.configure(&bare(with(&profile("p", "p", disk), &["p"])));
    run.plan_is_empty();
    run.destroy();
}

fn foreign_user(run: &Workspace) {
    let (name, incus) = (run.domain("pualien"), run.incus());
    let with = |profile: &str, labels: &[&str]| domain(&name) + profile + &stopped("i", "i", &using(labels));
    run.configure(&with(&profile("p", "p", ""), &["p"]));
    run.apply();
    incus.run(&["init", "busybox", "stranger", "-p", "default", "-p", "p", "--project", &name, "-q"]);
    run.configure(&with("", &[]));
    is_refused(run, &name, "instance stranger");
    incus.run(&["delete", "stranger", "--project", &name]);
    run.apply();
    run.plan_is_empty();
    run.destroy();
}

fn renamed(name: &str, subnet: u8, life: &str) -> String {
    domain_of("d", name, &format!("subnet_id = {subnet}")) + &profile("p", "small", life)
}

fn domain_renamed(run: &Workspace) {
    let (name, subnet) = (run.domain("pudom"), run.subnet_id(220));
    let with = |name: &str| renamed(name, subnet, "") + &stopped("i", "i", &using(&["p"]));
    run.configure(&with(&name));
    run.apply();
    run.configure(&with(&format!("{name}b")));
    run.apply();
    run.plan_is_empty();
    assert!(run.incus().project(&name).is_none());
    run.destroy();
}

fn domain_renamed_first(run: &Workspace) {
    let (name, subnet) = (run.domain("pucbd"), run.subnet_id(222));
    run.configure(&renamed(&name, subnet, CREATE_FIRST));
    run.apply();
    run.configure(&renamed(&format!("{name}b"), subnet, CREATE_FIRST));
    let refused = run.apply_fails();
    assert!(refused.contains("create_before_destroy"), "{refused}");
    run.configure(&renamed(&format!("{name}b"), subnet, ""));
    run.apply();
    run.plan_is_empty();
    run.destroy();
    assert!(run.incus().project(&name).is_none());
}
