//! What others change between a plan and its apply: taken in where it is what was planned, else refused, never lost.

use crate::Case;
use crate::cli::Workspace;

pub(crate) const CASES: &[Case] = &[
    ("what_changed_after_the_plan_is_refused_with_both_values", refused),
    ("what_changed_after_the_plan_to_what_it_says_is_taken_in", taken_in),
    ("a_profile_that_is_renamed_in_the_same_apply_is_no_change_of_others", renamed),
];

/// A domain and one of each noun in it; every description is `described`.
fn all(domain: &str, described: &str, key: &str) -> String {
    format!(
        r#"resource "anklume_domain" "d" {{
  name         = "{domain}"
  description  = "{described}"
  storage_pool = "default"
  config       = {{ "user.key" = "{key}" }}
}}

resource "anklume_profile" "p" {{
  name        = "extra"
  domain      = anklume_domain.d.name
  description = "{described}"
  config      = {{ "user.key" = "{key}" }}
}}

resource "anklume_instance" "i" {{
  name              = "box"
  domain            = anklume_domain.d.name
  description       = "{described}"
  image             = "busybox"
  config            = {{ "user.key" = "{key}" }}
  running           = false
  delete_protection = false
}}

resource "anklume_volume" "v" {{
  name              = "data"
  domain            = anklume_domain.d.name
  description       = "{described}"
  size              = "16MiB"
  config            = {{ "user.key" = "{key}" }}
  delete_protection = false
}}
"#
    )
}

/// Sets `user.key` of the domain.
fn meddle_with_the_domain(run: &Workspace, domain: &str, value: &str) {
    run.incus().run(&["project", "set", domain, &format!("user.key={value}")]);
}

/// Sets `user.key` of the other three.
fn meddle(run: &Workspace, domain: &str, value: &str) {
    let (incus, key) = (run.incus(), format!("user.key={value}"));
    incus.run(&["profile", "set", "extra", &key, "--project", domain]);
    incus.run(&["config", "set", "box", &key, "--project", domain]);
    incus.run(&["storage", "volume", "set", "default", "data", &key, "--project", domain]);
}

/// `user.key` and the description of all four.
fn now(run: &Workspace, domain: &str) -> Vec<(String, String)> {
    let incus = run.incus();
    let all = [
        incus.project(domain),
        incus.profile(domain, "extra"),
        incus.instance(domain, "box"),
        incus.volume(domain, "default", "data"),
    ];
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    all.into_iter().flatten().map(|found| (text(&found["config"]["user.key"]), text(&found["description"]))).collect()
}

fn planned(run: &Workspace, word: &str) -> String {
    let domain = run.domain(word);
    run.configure(&all(&domain, "first", "a"));
    run.apply();
    run.configure(&all(&domain, "second", "b"));
    assert_eq!(run.plan().len(), 4);
    domain
}

const APPLY_THE_PLAN: [&str; 4] = ["apply", "-input=false", "-no-color", "tfplan"];

fn refused(run: &Workspace) {
    let domain = planned(run, "mref");
    let (untouched, done) = (("mine".to_owned(), "first".to_owned()), ("b".to_owned(), "second".to_owned()));
    let tells = |told: &str, addresses: &[&str]| {
        for part in addresses.iter().chain(&["was \"a\" when", "is \"mine\" now", "would become \"b\""]) {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert_eq!(told.matches("Changed by others").count(), addresses.len(), "{told}");
    };
    meddle_with_the_domain(run, &domain, "mine");
    tells(&run.fail(&APPLY_THE_PLAN), &["anklume_domain.d"]);
    assert_eq!(now(run, &domain)[0], untouched);

    meddle_with_the_domain(run, &domain, "a");
    run.plan();
    meddle(run, &domain, "mine");
    tells(&run.fail(&APPLY_THE_PLAN), &["anklume_profile.p", "anklume_instance.i", "anklume_volume.v"]);
    assert_eq!(now(run, &domain), [done.clone(), untouched.clone(), untouched.clone(), untouched]);
    run.apply();
    run.plan_is_empty();
    assert_eq!(now(run, &domain), vec![done; 4]);
    run.destroy();
}

fn taken_in(run: &Workspace) {
    let domain = planned(run, "mtake");
    meddle_with_the_domain(run, &domain, "b");
    meddle(run, &domain, "b");
    run.succeed(&APPLY_THE_PLAN);
    run.plan_is_empty();
    assert_eq!(now(run, &domain), vec![("b".to_owned(), "second".to_owned()); 4]);
    run.destroy();
}

fn renamed(run: &Workspace) {
    let domain = run.domain("mren");
    let with = |name: &str, profiles: &str| {
        all(&domain, "first", "a").replace("\"extra\"", &format!("\"{name}\"")).replace(
            "  image             = \"busybox\"",
            &format!("  image             = \"busybox\"\n  profiles          = [{profiles}]"),
        )
    };
    run.configure(&with("extra", "\"default\", anklume_profile.p.name"));
    run.apply();
    run.configure(&with("renamed", "anklume_profile.p.name, \"default\""));
    run.apply();
    run.plan_is_empty();
    run.destroy();
}
