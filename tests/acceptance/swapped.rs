//! An object of ours is deleted outside Terraform, and another one takes its name: nothing of it is updated or deleted.

use rustix::process::Signal;
use serde_json::Value;

use crate::Case;
use crate::cli::{APPLY, DESTROY, PLAN, Workspace};
use crate::hcl::{self, domain, domain_of, profile, stopped, volume};
use crate::incus::Incus;
use crate::wording::{NAME_IN_USE, REPLACED_OUTSIDE};

pub(crate) const CASES: &[Case] = &[
    ("a_saved_plan_that_replaces_tainted_objects_leaves_swapped_ones_alone", saved_plan),
    ("an_apply_without_refresh_after_taint_leaves_swapped_objects_alone", without_refresh),
    ("swapped_objects_are_planned_as_new_without_private_state", without_private),
    ("a_destroy_without_refresh_and_private_state_leaves_swapped_objects_alone", destroy_without_refresh),
    ("an_instance_swapped_after_the_provider_was_killed_in_an_update_is_left_alone", killed),
    ("an_instance_swapped_after_a_sigterm_to_the_group_in_an_update_is_left_alone", terminated),
    ("an_unmarked_import_is_recognised_by_its_uuid_or_time", unmarked),
    ("an_unmarked_profile_or_domain_outlives_a_destroy", unmarked_kept),
    ("a_domain_whose_bridge_was_swapped_is_an_error_that_names_the_bridge", bridge),
    ("a_domain_whose_project_was_swapped_is_an_error_that_names_the_project", project),
];

const OURS: [&str; 4] = ["anklume_domain.e", "anklume_instance.i", "anklume_profile.p", "anklume_volume.v"];

/// A domain `d` with one object of each kind in it, and a domain `e` that is destroyed with everything in it.
fn configuration(name: &str) -> String {
    domain(name)
        + &profile("p", "p", "")
        + &volume("v", "v", "")
        + &stopped("i", "i", "")
        + &domain_of("e", &format!("{name}e"), "force_destroy = true")
}

/// Objects that somebody else created under names of ours.
struct Theirs<'r> {
    run: &'r Workspace,
    name: String,
    before: Vec<(&'static str, Option<Value>)>,
}

impl<'r> Theirs<'r> {
    /// Deletes all of ours but the domain `d`, and creates others under their names.
    fn in_place_of_ours(run: &'r Workspace, name: &str) -> Self {
        delete(run, name);
        create(run, name);
        let mut theirs = Self { run, name: name.to_owned(), before: Vec::new() };
        theirs.before = theirs.look();
        theirs
    }

    fn look(&self) -> Vec<(&'static str, Option<Value>)> {
        let (incus, name) = (self.run.incus(), &self.name);
        vec![
            ("instance", incus.instance(name, "i")),
            ("profile", incus.profile(name, "p")),
            ("volume", incus.volume(name, "default", "v")),
            ("project", incus.project(&format!("{name}e"))),
            ("bridge", incus.network(&format!("net-{name}e"))),
            ("instance in the project", incus.instance(&format!("{name}e"), "theirs")),
        ]
    }

    /// The ones that are no longer what they were.
    fn harmed(&self) -> Vec<&'static str> {
        self.before
            .iter()
            .zip(self.look())
            .filter(|(before, now)| **before != *now)
            .map(|(before, _)| before.0)
            .collect()
    }

    /// The plan creates ours, and neither the apply that is refused nor a destroy changes theirs.
    fn outlive_plan_apply_and_destroy(self) {
        assert_eq!(self.harmed(), [""; 0]);
        let (run, name) = (self.run, &self.name);
        let created: Vec<_> = OURS.iter().map(|address| ((*address).to_owned(), "create".to_owned())).collect();
        assert_eq!(run.plan(), created);
        let refused = run.run(APPLY);
        assert!(refused.code == Some(1) && refused.words().contains(NAME_IN_USE), "{}", refused.text);
        run.run(DESTROY);
        assert_eq!(self.harmed(), [""; 0]);
        delete(run, name);
        run.destroy();
    }
}

fn delete(run: &Workspace, name: &str) {
    let (incus, other) = (run.incus(), format!("{name}e"));
    let inside: &[&str] = &["--project", name];
    incus.run(&[&["delete", "i", "-f"], inside].concat());
    incus.run(&[&["profile", "delete", "p"], inside].concat());
    incus.run(&[&["storage", "volume", "delete", "default", "v", "-q"], inside].concat());
    if incus.instance(&other, "theirs").is_some() {
        incus.run(&["delete", "theirs", "-f", "--project", &other]);
    }
    incus.run(&["project", "delete", &other]);
    incus.run(&["network", "delete", &format!("net-{other}")]);
}

fn create(run: &Workspace, name: &str) {
    let (incus, other) = (run.incus(), format!("{name}e"));
    let inside: &[&str] = &["--project", name];
    incus.run(&[&["init", "busybox", "i", "-c", "user.whose=theirs", "-q"], inside].concat());
    incus.run(&[&["profile", "create", "p", "-q"], inside].concat());
    incus.run(&[&["storage", "volume", "create", "default", "v", "-q"], inside].concat());
    incus.run(&["project", "create", &other, "-c", "features.images=false", "-c", "features.networks=false", "-q"]);
    incus.run(&["network", "create", &format!("net-{other}"), "-q"]);
    incus.run(&["init", "busybox", "theirs", "-s", "default", "--project", &other, "-q"]);
}

fn applied(run: &Workspace, word: &str) -> String {
    let name = run.domain(word);
    run.configure(&configuration(&name));
    run.apply();
    name
}

fn taint_all(run: &Workspace) {
    for address in OURS {
        run.succeed(&["taint", address]);
    }
}

fn saved_plan(run: &Workspace) {
    let name = applied(run, "swplan");
    taint_all(run);
    run.succeed(&[PLAN, &["-out=p"]].concat());
    let theirs = Theirs::in_place_of_ours(run, &name);
    run.run(&["apply", "-input=false", "-no-color", "p"]);
    theirs.outlive_plan_apply_and_destroy();
}

fn without_refresh(run: &Workspace) {
    let name = applied(run, "swnoref");
    taint_all(run);
    let theirs = Theirs::in_place_of_ours(run, &name);
    run.run(&[APPLY, &["-refresh=false"]].concat());
    theirs.outlive_plan_apply_and_destroy();
}

fn without_private(run: &Workspace) {
    let name = applied(run, "swpriv");
    run.lose_private();
    Theirs::in_place_of_ours(run, &name).outlive_plan_apply_and_destroy();
}

fn destroy_without_refresh(run: &Workspace) {
    let name = applied(run, "swdest");
    run.lose_private();
    let theirs = Theirs::in_place_of_ours(run, &name);
    run.run(&[DESTROY, &["-refresh=false"]].concat());
    assert_eq!(theirs.harmed(), [""; 0]);
    delete(run, &name);
    run.destroy();
}

fn killed(run: &Workspace) {
    cut_in_an_update(run, "swkill", |ready| drop(run.disturbed_apply(ready, || run.kill_provider())));
}

fn terminated(run: &Workspace) {
    cut_in_an_update(run, "swterm", |ready| drop(run.interrupted_apply(Signal::TERM, ready)));
}

/// The update starts the instance, and waits for an address that the bridge does not give.
fn cut_in_an_update(run: &Workspace, word: &str, cut: impl Fn(&dyn Fn() -> bool)) {
    let (name, incus) = (run.domain(word), run.incus());
    let silent = domain_of("d", &name, r#"network_config = { "raw.dnsmasq" = "dhcp-ignore=tag:!nobody" }"#);
    let configure = |running: bool| {
        let waits = format!("running = {running}\n  wait = {{ addresses_timeout = \"10m\" }}");
        run.configure(&format!("{silent}{}", hcl::instance("i", "i", &waits)));
    };
    configure(false);
    run.apply();
    configure(true);
    cut(&|| incus.instance(&name, "i").is_some_and(|found| found["status"] == "Running"));
    incus.run(&["delete", "i", "-f", "--project", &name]);
    incus.run(&["init", "busybox", "i", "-c", "user.whose=theirs", "--project", &name, "-q"]);
    let theirs = || incus.instance(&name, "i");
    let before = theirs();
    assert_eq!(run.plan(), [("anklume_instance.i".to_owned(), "create".to_owned())]);
    assert!(run.run(PLAN).words().contains(REPLACED_OUTSIDE));
    run.run(DESTROY);
    assert_eq!(theirs(), before);
    incus.run(&["delete", "i", "--project", &name]);
    run.destroy();
}

/// An instance and a volume without marks are imported, deleted, and others are created under their names.
fn unmarked(run: &Workspace) {
    let (name, incus) = (run.domain("swunm"), run.incus());
    let inside: &[&str] = &["--project", &name];
    let all = domain(&name) + &volume("v", "v", "") + &stopped("i", "i", "");
    run.configure(&domain(&name));
    run.apply();
    let make = || {
        incus.run(&[&["init", "busybox", "i", "-q"], inside].concat());
        // An imported volume is protected otherwise.
        let open = "user.anklume.delete_protection=false";
        incus.run(&[&["storage", "volume", "create", "default", "v", "size=16MiB", open, "-q"], inside].concat());
    };
    let delete = || {
        incus.run(&[&["delete", "i", "-f"], inside].concat());
        incus.run(&[&["storage", "volume", "delete", "default", "v", "-q"], inside].concat());
    };
    make();
    run.configure(&all);
    run.import("anklume_instance.i", &format!("{name}/i"));
    run.import("anklume_volume.v", &format!("{name}/default/v"));
    delete();
    make();
    let theirs = || [incus.instance(&name, "i"), incus.volume(&name, "default", "v")];
    let before = theirs();
    run.run(&[DESTROY, &["-refresh=false"]].concat());
    assert_eq!(theirs(), before);
    run.run(DESTROY);
    assert_eq!(theirs(), before);
    delete();
    run.destroy();
}

fn unmarked_kept(run: &Workspace) {
    let (name, incus) = (run.domain("swkept"), run.incus());
    let bridge = format!("net-{name}");
    incus.run(&["project", "create", &name, "-c", "features.images=false", "-c", "features.networks=false", "-q"]);
    incus.run(&["network", "create", &bridge, "ipv6.address=none", "-q"]);
    incus.run(&["profile", "device", "add", "default", "root", "disk", "path=/", "pool=default", "--project", &name]);
    incus.run(&["profile", "create", "p", "--project", &name, "-q"]);
    run.configure(&(domain(&name) + &profile("p", "p", "")));
    run.import("anklume_domain.d", &name);
    run.import("anklume_profile.p", &format!("{name}/p"));
    run.run(DESTROY);
    let there = [incus.profile(&name, "p"), incus.project(&name), incus.network(&bridge)];
    assert_eq!(there.map(|found| found.is_some()), [true; 3], "profile, project, bridge");
    incus.run(&["profile", "delete", "p", "--project", &name]);
    incus.run(&["project", "delete", &name]);
    incus.run(&["network", "delete", &bridge]);
}

fn bridge(run: &Workspace) {
    one_piece(run, "swnet", |incus, name, bridge| {
        incus.run(&["profile", "device", "remove", "default", "eth0", "--project", name]);
        incus.run(&["network", "delete", bridge]);
        incus.run(&["network", "create", bridge, "-q"]);
    });
}

fn project(run: &Workspace) {
    one_piece(run, "swproj", |incus, name, _| {
        incus.run(&["project", "delete", name]);
        incus.run(&["project", "create", name, "-q"]);
    });
}

/// `swap` makes one of project and bridge somebody else's: neither is changed or deleted, the other one included.
fn one_piece(run: &Workspace, word: &str, swap: impl Fn(&Incus<'_>, &str, &str)) {
    let (name, incus) = (run.domain(word), run.incus());
    let bridge = format!("net-{name}");
    run.configure(&domain(&name));
    run.apply();
    swap(&incus, &name, &bridge);
    let there = || [incus.project(&name), incus.profile(&name, "default"), incus.network(&bridge)];
    let before = there();
    let planned = run.run(PLAN);
    run.run(APPLY);
    run.run(DESTROY);
    assert_eq!(there(), before);
    let piece = if word == "swnet" { bridge.as_str() } else { "project" };
    assert!(planned.code == Some(1) && planned.words().contains(piece), "{}", planned.text);
    incus.run(&["project", "delete", &name]);
    incus.run(&["network", "delete", &bridge]);
}
