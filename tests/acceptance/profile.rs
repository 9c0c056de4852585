//! `anklume_profile`: in place from first to last.

use crate::Case;
use crate::cli::Workspace;

pub(crate) const CASES: &[Case] = &[
    ("a_profile_lives_from_apply_to_destroy", lives),
    ("drift_is_shown_and_repaired", drift),
    ("a_renamed_profile_stays_the_same_object", renamed),
    ("a_used_profile_goes_after_its_users_with_create_before_destroy", used),
    ("the_default_profile_is_refused", default_profile),
    ("cloud_init_of_a_profile_is_not_shown", cloud_init),
];

const ADDRESS: &str = "anklume_profile.it";

fn profile(domain: &str, rest: &str) -> String {
    format!(
        r#"resource "anklume_domain" "d" {{
  name = "{domain}"
  storage_pool = "default"
}}

resource "anklume_profile" "it" {{
  domain = anklume_domain.d.name
{rest}
}}
"#
    )
}

fn lives(run: &Workspace) {
    let (domain, incus) = (run.domain("plive"), run.incus());
    run.configure(&profile(&domain, "  name = \"small\"\n  config = { \"limits.memory\" = \"64MiB\" }"));
    run.apply();
    run.plan_is_empty();
    assert_eq!(run.attributes(ADDRESS)["id"], format!("{domain}/small"));
    assert_eq!(incus.profile(&domain, "small").unwrap()["config"]["limits.memory"], "64MiB");

    let changed = r#"  name = "small"
  description = "small ones"
  config = { "limits.memory" = "96MiB", "limits.cpu" = "1" }
  devices = { tmp = { type = "disk", source = "/srv", path = "/scratch" } }"#;
    run.configure(&profile(&domain, changed));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    let there = incus.profile(&domain, "small").unwrap();
    assert_eq!(there["description"], "small ones");
    assert_eq!(there["config"]["limits.memory"], "96MiB");
    assert_eq!(there["devices"]["tmp"]["path"], "/scratch");

    run.survives_import(ADDRESS, &format!("{domain}/small"));
    run.configure(&profile(&domain, "  name = \"small\""));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    let there = incus.profile(&domain, "small").unwrap();
    assert!(there["config"]["limits.memory"].is_null() && there["devices"]["tmp"].is_null(), "{there}");
    run.destroy();
    assert!(incus.project(&domain).is_none());
}

fn drift(run: &Workspace) {
    let (domain, incus) = (run.domain("pdrift"), run.incus());
    run.configure(&profile(
        &domain,
        "  name = \"small\"\n  description = \"kept\"\n  config = { \"limits.cpu\" = \"1\" }",
    ));
    run.apply();
    let meddle: [&[&str]; 4] = [
        &["profile", "set", "small", "limits.cpu=2"],
        &["profile", "set", "small", "limits.processes=100"],
        &["profile", "set", "small", "description=meddled", "--property"],
        &["profile", "device", "add", "small", "tmp", "disk", "source=/srv", "path=/scratch"],
    ];
    for arguments in meddle {
        incus.run(&[arguments, &["--project", &domain]].concat());
        run.plan_updates(&[ADDRESS]);
        run.apply();
        run.plan_is_empty();
    }
    incus.run(&["profile", "delete", "small", "--project", &domain]);
    assert_eq!(run.plan(), [(ADDRESS.to_owned(), "create".to_owned())]);
    run.apply();
    run.plan_is_empty();
    run.destroy();
}

fn renamed(run: &Workspace) {
    let (domain, incus) = (run.domain("pname"), run.incus());
    run.configure(&profile(&domain, "  name = \"before\""));
    run.apply();
    run.configure(&profile(&domain, "  name = \"after\""));
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    assert!(incus.profile(&domain, "before").is_none() && incus.profile(&domain, "after").is_some());
    run.destroy();
}

fn used(run: &Workspace) {
    let (domain, incus) = (run.domain("pused"), run.incus());
    let base =
        format!("resource \"anklume_domain\" \"d\" {{\n  name = \"{domain}\"\n  storage_pool = \"default\"\n}}\n");
    let profile = |life: &str| {
        format!(
            "resource \"anklume_profile\" \"it\" {{\n  name = \"extra\"\n  domain = anklume_domain.d.name\n{life}\n}}\n"
        )
    };
    let instance = |profiles: &str| {
        format!(
            "resource \"anklume_instance\" \"i\" {{\n  name = \"user\"\n  domain = anklume_domain.d.name\n  image = \"busybox\"\n  \
             running = false\n  delete_protection = false\n  profiles = [{profiles}]\n}}\n"
        )
    };
    let with = "\"default\", anklume_profile.it.name";
    run.configure(&format!("{base}{}{}", profile("  lifecycle { create_before_destroy = true }"), instance(with)));
    run.apply();
    run.plan_is_empty();
    run.configure(&format!("{base}{}", instance("\"default\"")));
    run.apply();
    run.plan_is_empty();
    assert!(incus.profile(&domain, "extra").is_none());
    run.destroy();
}

fn default_profile(run: &Workspace) {
    run.configure(&profile(&run.domain("pdef"), "  name = \"default\""));
    let refused = run.plan_fails();
    assert!(refused.contains("domain"), "{refused}");
}

fn cloud_init(run: &Workspace) {
    let (domain, incus) = (run.domain("pcloud"), run.incus());
    let text = |secret: &str| {
        let rest = format!(
            "  name = \"small\"\n  cloud_init = {{ user_data = \"{secret}\" }}\n  timeouts = {{ read = \"2m\", delete = \"90s\" }}"
        );
        profile(&domain, &rest)
    };
    run.configure(&text("first-secret"));
    let planned = run.succeed(&["plan", "-input=false", "-no-color"]).text;
    assert!(planned.contains("(sensitive value)") && !planned.contains("first-secret"), "{planned}");
    run.apply();
    run.plan_is_empty();
    let key = "cloud-init.user-data";
    assert_eq!(incus.profile(&domain, "small").unwrap()["config"][key], "first-secret");
    run.survives_import(ADDRESS, &format!("{domain}/small"));
    assert_eq!(run.attributes(ADDRESS)["timeouts"]["read"], "2m");

    incus.run(&["profile", "set", "small", &format!("{key}=meddled"), "--project", &domain]);
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.configure(&text("second-secret"));
    run.plan_updates(&[ADDRESS]);
    let applied = run.apply();
    assert!(!applied.contains("second-secret"), "{applied}");
    run.plan_is_empty();
    // The older name of the key is the same attribute.
    incus.run(&["profile", "unset", "small", key, "--project", &domain]);
    incus.run(&["profile", "set", "small", "user.user-data=second-secret", "--project", &domain]);
    run.plan_is_empty();

    for key in ["cloud-init.user-data", "user.vendor-data", "security.protection.delete"] {
        run.configure(&profile(&domain, &format!("  name = \"small\"\n  config = {{ \"{key}\" = \"true\" }}")));
        let refused = run.plan_fails();
        let attribute = if key.starts_with("security") { "`delete_protection`" } else { "`cloud_init." };
        assert!(refused.contains(attribute), "{refused}");
    }
    run.configure(&profile(&domain, "  name = \"small\""));
    run.apply();
    run.plan_is_empty();
    let there = incus.profile(&domain, "small").unwrap();
    assert!(there["config"]["user.user-data"].is_null() && there["config"][key].is_null(), "{there}");
    run.destroy();
}
