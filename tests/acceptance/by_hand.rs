//! An instance changed behind the back of the state, and changes that only look like none.

use crate::Case;
use crate::cli::Workspace;

pub(crate) const CASES: &[Case] = &[
    ("the_instance_address_that_dhcp_gave_can_be_pinned", pinned),
    ("an_instance_address_that_is_taken_is_refused_while_everything_runs", taken),
    ("a_key_added_to_the_root_disk_of_an_instance_is_shown_and_taken_away", root_key),
    ("a_paused_instance_is_shown_and_runs_on", paused),
    ("an_unknown_image_server_of_an_instance_is_refused_when_planning", image_server),
];

const ADDRESS: &str = "anklume_instance.it";

fn instance(domain: &str, rest: &str) -> String {
    format!(
        r#"resource "anklume_domain" "d" {{
  name         = "{domain}"
  storage_pool = "default"
}}

resource "anklume_instance" "it" {{
  name              = "box"
  domain            = anklume_domain.d.name
  image             = "busybox"
  stop_timeout      = "0s"
  delete_protection = false
{rest}
}}
"#
    )
}

fn address(run: &Workspace) -> String {
    run.attributes(ADDRESS)["ipv4_address"].as_str().unwrap().to_owned()
}

fn pinned(run: &Workspace) {
    let (domain, incus) = (run.domain("bpin"), run.incus());
    run.configure(&instance(&domain, ""));
    run.apply();
    let leased = address(run);
    run.configure(&instance(&domain, &format!("  ipv4_address = \"{leased}\"")));
    let planned = run.succeed(&["plan", "-input=false", "-no-color"]).text;
    assert!(planned.contains("The instance will be restarted"), "{planned}");
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    let found = incus.instance(&domain, "box").unwrap();
    assert_eq!(
        (found["devices"]["eth0"]["ipv4.address"].as_str(), address(run)),
        (Some(leased.as_str()), leased.clone())
    );
    run.survives_import(ADDRESS, &format!("{domain}/box"));
    run.destroy();
}

fn taken(run: &Workspace) {
    let (domain, incus) = (run.domain("btaken"), run.incus());
    run.configure(&instance(&domain, ""));
    run.apply();
    let subnet = run.attributes("anklume_domain.d")["subnet"].as_str().unwrap().replace("0/24", "");
    let with = |last: &str| {
        let other = format!(
            "resource \"anklume_instance\" \"other\" {{\n  name = \"other\"\n  domain = anklume_domain.d.name\n  image = \"busybox\"\n  \
             ipv4_address = \"{subnet}7\"\n  running = false\n  delete_protection = false\n}}\n"
        );
        format!("{}{other}", instance(&domain, &format!("  ipv4_address = \"{subnet}{last}\"")))
    };
    run.configure(&with("8"));
    run.apply();
    let started = || incus.instance(&domain, "box").unwrap()["last_used_at"].clone();
    let before = started();
    run.configure(&with("7"));
    let refused = run.apply_fails();
    assert!(refused.contains("Unable to update instance: the address is taken"), "{refused}");
    assert!(refused.contains("\"other\"") && refused.contains("nothing was changed"), "{refused}");
    assert_eq!(started(), before, "it was not even stopped");
    assert_eq!(incus.instance(&domain, "box").unwrap()["status"], "Running");
    run.destroy();
}

fn root_key(run: &Workspace) {
    let (domain, incus) = (run.domain("broot"), run.incus());
    run.configure(&instance(&domain, "  running = false\n  root_disk = { size = \"1GiB\" }"));
    run.apply();
    run.plan_is_empty();
    incus.run(&["config", "device", "set", "box", "root", "limits.max=10MiB", "--project", &domain]);
    run.plan_updates(&[ADDRESS]);
    let planned = run.succeed(&["plan", "-input=false", "-no-color"]).text;
    assert!(planned.contains("limits.max") && planned.contains("is not that of the profiles"), "{planned}");
    run.apply();
    run.plan_is_empty();
    assert!(incus.instance(&domain, "box").unwrap()["devices"]["root"]["limits.max"].is_null());
    run.destroy();
}

fn paused(run: &Workspace) {
    let (domain, incus) = (run.domain("bpause"), run.incus());
    run.configure(&instance(&domain, ""));
    run.apply();
    let started = || incus.instance(&domain, "box").unwrap()["last_used_at"].clone();
    let before = started();
    incus.run(&["pause", "box", "--project", &domain]);
    run.plan_updates(&[ADDRESS]);
    run.apply();
    assert_eq!(incus.instance(&domain, "box").unwrap()["status"], "Running");
    assert_eq!(started(), before, "it ran on");
    run.plan_is_empty();
    incus.run(&["pause", "box", "--project", &domain]);
    run.destroy();
}

fn image_server(run: &Workspace) {
    let domain = run.domain("bimage");
    run.configure(&instance(&domain, "").replace("\"busybox\"", "\"ubuntu:24.04\""));
    let refused = run.plan_fails();
    assert!(refused.contains("Unknown image server") && refused.contains("Known: images"), "{refused}");
}
