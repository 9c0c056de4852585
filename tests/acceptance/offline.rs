//! What needs no Incus, and how the provider is installed.

use std::fs;

use crate::Case;
use crate::cli::Workspace;

pub(crate) const CASES: &[Case] = &[
    ("validate_and_plan_without_refresh_need_no_incus", nowhere),
    ("a_state_is_planned_without_refresh_and_without_incus", with_state),
    ("init_finds_the_provider_in_a_filesystem_mirror", mirror),
];

const PLAN: &[&str] = &["plan", "-refresh=false", "-input=false", "-no-color", "-detailed-exitcode"];

fn configuration(name: &str, description: &str) -> String {
    format!(
        r#"resource "anklume_domain" "d" {{
  name         = "{name}"
  storage_pool = "default"
}}

resource "anklume_profile" "p" {{
  name   = "small"
  domain = anklume_domain.d.name
  config = {{ "limits.cpu" = "1" }}
}}

resource "anklume_instance" "it" {{
  name              = "box"
  description       = "{description}"
  domain            = anklume_domain.d.name
  image             = "busybox"
  profiles          = ["default", anklume_profile.p.name]
  running           = false
  delete_protection = false
}}
"#
    )
}

/// From here on there is neither a daemon nor a configuration of the `incus` command.
fn leave(run: &Workspace) {
    let empty = run.dir().join("nowhere");
    fs::create_dir_all(&empty).unwrap();
    for name in ["INCUS_DIR", "INCUS_CONF", "HOME"] {
        run.set(name, empty.to_str().unwrap());
    }
}

fn nowhere(run: &Workspace) {
    leave(run);
    run.configure(&configuration("nowhere", ""));
    run.succeed(&["validate", "-no-color"]);
    let text = run.run(PLAN).text;
    assert!(text.contains("Plan: 3 to add, 0 to change, 0 to destroy."), "{text}");
}

fn with_state(run: &Workspace) {
    let (name, lab) = (run.domain("offl"), run.lab().to_owned());
    run.configure(&configuration(&name, "first"));
    run.apply();
    leave(run);
    let text = run.run(PLAN).text;
    assert!(text.contains("No changes."), "{text}");
    run.configure(&configuration(&name, "second"));
    let text = run.run(PLAN).text;
    assert!(text.contains("Plan: 0 to add, 1 to change, 0 to destroy."), "{text}");
    run.set("INCUS_DIR", lab.join("incus").to_str().unwrap());
    run.set("INCUS_CONF", lab.join("conf").to_str().unwrap());
    run.destroy();
}

fn mirror(run: &Workspace) {
    let (mirror, version) = (run.mirror(), env!("CARGO_PKG_VERSION"));
    run.install_from(&format!("  filesystem_mirror {{ path = {mirror:?} }}"));
    leave(run);
    run.configure(&configuration("nowhere", ""));
    let text = run.succeed(&["init", "-input=false", "-no-color"]).text;
    assert!(text.contains(&format!("anklume/anklume v{version}")), "{text}");
    run.succeed(&["validate", "-no-color"]);
    let text = run.run(PLAN).text;
    assert!(text.contains("Plan: 3 to add"), "{text}");
}
