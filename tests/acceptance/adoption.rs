//! What others made with the `incus` command, taken over by `import` blocks.

use crate::Case;
use crate::cli::{APPLY, Workspace};

pub(crate) const CASES: &[Case] = &[
    ("what_stands_as_a_compartment_is_taken_over_without_a_change", as_it_stands),
    ("what_stands_elsewhere_is_shown_and_brought_over", elsewhere),
    ("what_others_made_under_a_name_of_ours_is_left_alone", strangers),
    ("a_change_of_an_image_that_is_not_known_is_told_to_have_no_effect", image),
];

/// A project, its bridge at `address`, a profile and an instance, as a person makes them.
fn make(run: &Workspace, name: &str, address: &str, dhcp: &[&str]) {
    let (incus, bridge) = (run.incus(), format!("net-{name}"));
    let address = format!("ipv4.address={address}/24");
    incus.run(&["project", "create", name, "-c", "features.images=false", "-c", "features.networks=false", "-q"]);
    incus.run(&[&["network", "create", &bridge, &address, "ipv4.nat=true", "ipv6.address=none", "-q"], dhcp].concat());
    let device = |rest: &[&str]| {
        incus.run(&[&["profile", "device", "add", "default"], rest, &["--project", name, "-q"]].concat());
    };
    device(&["root", "disk", "path=/", "pool=default"]);
    device(&["eth0", "nic", &format!("network={bridge}"), "name=eth0"]);
    incus.run(&["profile", "create", "small", "--project", name, "-q"]);
    incus.run(&["profile", "set", "small", "limits.memory=96MiB", "--project", name]);
    incus.run(&["launch", "busybox", "web", "-p", "default", "-p", "small", "--project", name, "-q"]);
}

fn configuration(name: &str, subnet: &str) -> String {
    format!(
        r#"import {{
  to = anklume_domain.it
  id = "{name}"
}}

import {{
  to = anklume_profile.it
  id = "{name}/small"
}}

import {{
  to = anklume_instance.it
  id = "{name}/web"
}}

resource "anklume_domain" "it" {{
  name   = "{name}"
  subnet = "{subnet}"
}}

resource "anklume_profile" "it" {{
  name   = "small"
  domain = anklume_domain.it.name
  config = {{ "limits.memory" = "96MiB" }}
}}

resource "anklume_instance" "it" {{
  name              = "web"
  domain            = anklume_domain.it.name
  image             = "busybox"
  profiles          = ["default", anklume_profile.it.name]
  delete_protection = false
}}
"#
    )
}

fn as_it_stands(run: &Workspace) {
    let (name, id) = (run.domain("adopt"), run.subnet_id(230));
    make(
        run,
        &name,
        &format!("10.120.{id}.254"),
        &["ipv4.dhcp.ranges=10.120.{id}.100-10.120.{id}.199".replace("{id}", &id.to_string()).as_str()],
    );
    run.configure(&configuration(&name, &format!("10.120.{id}.0/24")));
    assert_eq!(run.plan(), []);
    let planned = run.succeed(&["plan", "-input=false", "-no-color"]).text;
    assert!(planned.contains("3 to import, 0 to add, 0 to change, 0 to destroy"), "{planned}");
    run.apply();
    run.plan_is_empty();
    let refused = run.destroy_fails();
    assert!(refused.contains("it is not marked yet"), "{refused}");
    end(run, &configuration(&name, &format!("10.120.{id}.0/24")));
}

/// Marks what was imported by a change of it, and destroys it.
fn end(run: &Workspace, hcl: &str) {
    let described = ["anklume_domain", "anklume_profile"].iter().fold(hcl.to_owned(), |hcl, kind| {
        let resource = format!("resource \"{kind}\" \"it\" {{\n");
        hcl.replace(&resource, &format!("{resource}  description = \"ours\"\n"))
    });
    run.configure(&described);
    run.apply();
    run.plan_is_empty();
    run.destroy();
}

fn image(run: &Workspace) {
    let (name, id) = (run.domain("aimage"), run.subnet_id(234));
    let range = format!("ipv4.dhcp.ranges=10.120.{id}.100-10.120.{id}.199");
    make(run, &name, &format!("10.120.{id}.254"), &[&range]);
    let written = configuration(&name, &format!("10.120.{id}.0/24"));
    run.configure(&written);
    run.apply();
    let fingerprint = run.attributes("anklume_instance.it")["image"].as_str().unwrap().to_owned();
    let told = |image: &str| {
        run.configure(&written.replace("\"busybox\"", &format!("\"{image}\"")));
        assert_eq!(run.plan(), []);
        run.succeed(&["plan", "-input=false", "-no-color"]).text.contains("The image stays as it is")
    };
    assert!(told("another"));
    assert!(!told(&fingerprint));
    end(run, &written);
}

/// Each object of the state is deleted, and made again under its name by a person.
fn strangers(run: &Workspace) {
    let (name, incus) = (run.domain("strange"), run.incus());
    let bridge = format!("net-{name}");
    let project: &[&str] = &["--project", &name];
    let configured = |description: &str| {
        format!(
            r#"resource "anklume_domain" "it" {{
  name         = "{name}"
  description  = "{description}"
  storage_pool = "default"
}}

resource "anklume_profile" "it" {{
  name        = "small"
  description = "{description}"
  domain      = anklume_domain.it.name
}}

resource "anklume_instance" "it" {{
  name              = "web"
  description       = "{description}"
  domain            = anklume_domain.it.name
  image             = "busybox"
  running           = false
  delete_protection = false
}}
"#
        )
    };
    let domain_only = |description: &str| {
        let all = configured(description);
        all.split("\nresource \"anklume_profile\"").next().unwrap().to_owned()
    };
    let created = |addresses: &[&str]| {
        let expected: Vec<_> = addresses.iter().map(|address| ((*address).to_owned(), "create".to_owned())).collect();
        assert_eq!(run.plan(), expected);
    };
    let refused_update = |of: &str| {
        let refused = run.fail(&[APPLY, &["-refresh=false"]].concat());
        assert!(refused.contains(&format!("Unable to update {of}: it was replaced outside Terraform")), "{refused}");
    };

    run.configure(&configured("ours"));
    run.apply();
    incus.run(&[&["delete", "web"], project].concat());
    incus.run(&[&["init", "busybox", "web", "-c", "user.whose=theirs", "-q"], project].concat());
    incus.run(&[&["profile", "delete", "small"], project].concat());
    incus.run(&[&["profile", "create", "small", "-q"], project].concat());
    incus.run(&[&["profile", "set", "small", "user.whose=theirs"], project].concat());
    let theirs = || {
        let all = [incus.instance(&name, "web").unwrap(), incus.profile(&name, "small").unwrap()];
        assert!(all.iter().all(|one| one["config"]["user.whose"] == "theirs" && one["description"] == ""), "{all:?}");
    };
    run.configure(&configured("new"));
    let refused = run.fail(&[APPLY, &["-refresh=false"]].concat());
    assert!(refused.contains("Unable to update instance: it was replaced outside Terraform"), "{refused}");
    assert!(refused.contains("Unable to update profile: it was replaced outside Terraform"), "{refused}");
    theirs();
    created(&["anklume_instance.it", "anklume_profile.it"]);
    let refused = run.apply_fails();
    assert!(
        refused.contains("the name is already in use") && refused.contains(&format!("id = \"{name}/web\"")),
        "{refused}"
    );
    theirs();
    run.configure(&domain_only("new"));
    run.apply();
    run.plan_is_empty();
    theirs();

    incus.run(&[&["delete", "web"], project].concat());
    incus.run(&[&["profile", "delete", "small"], project].concat());
    incus.run(&["project", "delete", &name]);
    incus.run(&["network", "delete", &bridge]);
    incus.run(&["project", "create", &name, "-q"]);
    incus.run(&["network", "create", &bridge, "-q"]);
    let theirs = || [incus.project(&name).unwrap(), incus.network(&bridge).unwrap()];
    let before = theirs();
    run.configure(&domain_only("newer"));
    refused_update("domain");
    created(&["anklume_domain.it"]);
    let refused = run.apply_fails();
    assert!(
        refused.contains("the name is already in use") && refused.contains(&format!("id = \"{name}\"")),
        "{refused}"
    );
    run.destroy();
    assert_eq!(theirs(), before);
    incus.run(&["project", "delete", &name]);
    incus.run(&["network", "delete", &bridge]);
}

fn elsewhere(run: &Workspace) {
    let (name, id, incus) = (run.domain("moved"), run.subnet_id(232), run.incus());
    make(run, &name, &format!("10.120.{id}.1"), &[]);
    run.configure(&configuration(&name, &format!("10.120.{id}.0/24")));
    assert_eq!(run.plan(), [("anklume_domain.it".to_owned(), "update".to_owned())]);
    let planned = run.succeed(&["plan", "-input=false", "-no-color"]).text;
    let words = planned.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    assert!(words.contains(&format!("moves from 10.120.{id}.1 to 10.120.{id}.254 in place")), "{planned}");
    assert_eq!(words.matches("gets another address").count(), 1, "{planned}");

    incus.run(&["stop", "web", "--project", &name, "-f"]);
    incus.run(&[
        "config",
        "device",
        "override",
        "web",
        "eth0",
        &format!("ipv4.address=10.120.{id}.254"),
        "--project",
        &name,
    ]);
    run.configure(
        &configuration(&name, &format!("10.120.{id}.0/24"))
            .replace("  image ", "  running = false\n  ipv4_address = \"10.120.IP.254\"\n  image ")
            .replace("IP", &id.to_string()),
    );
    let refused = run.apply_fails();
    assert!(refused.contains(&format!("web has 10.120.{id}.254")), "{refused}");
    incus.run(&["config", "device", "remove", "web", "eth0", "--project", &name]);
    incus.run(&["start", "web", "--project", &name]);
    run.configure(&configuration(&name, &format!("10.120.{id}.0/24")));
    run.apply();
    run.plan_is_empty();
    assert_eq!(incus.network(&format!("net-{name}")).unwrap()["config"]["ipv4.address"], format!("10.120.{id}.254/24"));
    end(run, &configuration(&name, &format!("10.120.{id}.0/24")));
}
