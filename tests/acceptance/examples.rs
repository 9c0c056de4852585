//! Every documented example is applied, imported as it says, and destroyed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::Case;
use crate::cli::Workspace;

pub(crate) const CASES: &[Case] = &[
    ("the_example_of_a_domain_is_applied_and_imported", |run| example(run, "anklume_domain")),
    ("the_example_of_a_profile_is_applied_and_imported", |run| example(run, "anklume_profile")),
    ("the_example_of_an_instance_is_applied_and_imported", |run| example(run, "anklume_instance")),
    ("the_example_of_a_volume_is_applied_and_imported", |run| example(run, "anklume_volume")),
    ("the_example_of_an_nft_isolation_is_applied_and_imported", |run| {
        example(&run.elsewhere("example", &[]), "anklume_nft_isolation")
    }),
    ("the_isolation_of_five_domains_is_reviewed_and_applied", isolation),
    ("every_resource_has_an_example_here", every),
    ("the_example_of_the_provider_block_is_valid", provider),
    ("the_example_of_what_volumes_are_filled_with_can_be_planned", sources),
];

/// Examples have the names that readers see, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn read(path: &str) -> String {
    let path = examples().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn example(run: &Workspace, kind: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    run.set("TF_VAR_image", "busybox");
    run.configure(&read(&format!("resources/{kind}/resource.tf")));
    run.apply();
    run.plan_is_empty();
    let import = examples().join(format!("resources/{kind}/import.sh"));
    for line in fs::read_to_string(import).unwrap_or_default().lines().filter(|line| line.starts_with("tofu import ")) {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        let [_, _, address, id] = words[..] else { panic!("{line}") };
        assert!(address.starts_with(kind), "{line}");
        let id = id.trim_matches('"');
        if kind == "anklume_nft_isolation" {
            run.forget(address);
            run.import(address, id);
            run.plan_updates(&[address]);
            run.apply();
            run.plan_is_empty();
        } else {
            run.survives_import(address, id);
        }
    }
    run.destroy();
    assert!(run.incus().project("pro").is_none());
}

/// `examples/isolation`: what its review says of each plan, and what it does.
fn isolation(here: &Workspace) {
    let run = here.elsewhere("five", &[]);
    run.set("TF_VAR_image", "busybox");
    run.set("TF_VAR_persist_path", run.dir().join("rules.nft").to_str().unwrap());
    let configure = |from: &str, to: &str| {
        let text = read("isolation/main.tf");
        assert!(text.contains(from));
        fs::write(run.dir().join("main.tf"), text.replace(from, to)).unwrap();
    };
    let review = |reviewed: &str| {
        run.succeed(&["plan", "-input=false", "-no-color", "-out=tfplan"]);
        let plan = run.succeed(&["show", "-json", "tfplan"]).text;
        fs::write(run.dir().join("plan.json"), plan).unwrap();
        let output = std::process::Command::new(examples().join("isolation/review.sh"))
            .stdin(fs::File::open(run.dir().join("plan.json")).unwrap())
            .env("REVIEWED", reviewed)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() != text.contains("REFUSED ") || reviewed == "1", "{text}");
        text
    };
    for no_plan in ["", "{}", "{\"resource_changes\": [], \"errored\": true}"] {
        fs::write(run.dir().join("plan.json"), no_plan).unwrap();
        let mut gate = std::process::Command::new(examples().join("isolation/review.sh"));
        let output = gate.stdin(fs::File::open(run.dir().join("plan.json")).unwrap()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{no_plan}");
    }
    configure("", "");
    let text = review("");
    assert!(text.contains("+ \"domain/disposable\": ") && text.contains("+ \"policy/perso to web\": "), "{text}");
    assert!(!text.contains("REFUSED"), "{text}");
    run.apply();
    run.plan_is_empty();
    assert_eq!(review(""), "");
    let mail = |port: u16| {
        let incus = run.incus();
        let on = |name: &str, domain: &str, line: &str| {
            incus.succeeds(&["exec", name, "--project", domain, "--", "sh", "-c", line])
        };
        assert!(on("untrusted-mail", "untrusted", &format!("httpd -p {port} -h /etc")));
        let fetch = format!("printf 'GET /passwd HTTP/1.0\\r\\n\\r\\n' | nc -w 2 10.140.1.10 {port} | grep -q root");
        on("perso-desktop", "perso", &fetch)
    };
    assert!(mail(143) && !mail(144));

    let policies = "  policies = {\n";
    configure("\"143\", ", "");
    assert_eq!(review("").lines().count(), 1);
    configure(policies, &format!("{policies}    opens = {{ from = \"disposable\", to = \"pro-web\" }}\n"));
    let text = review("");
    for said in ["+ \"policy/opens\": ", "it begins in disposable", "everything may pass"] {
        assert!(text.contains(said), "{said}\n{text}");
    }
    assert!(review("1").contains("REFUSED \"policy/opens\""));
    let moved = "endpoints = { for name in [\"pro-web\", \"untrusted-mail\"] : name => local.instances[name] }";
    configure(
        moved,
        &moved.replace(
            "local.instances[name]",
            "merge(local.instances[name], name == \"pro-web\" ? { domain = \"admin\" } : {})",
        ),
    );
    assert!(review("").contains("REFUSED \"policy/perso to web\": it ends in admin"));
    configure(
        "name => null }",
        "name => name == \"admin\" ? \"net-perso\" : name == \"perso\" ? \"net-admin\" : null }",
    );
    assert!(review("").contains("REFUSED \"domain/perso\": the domain has another bridge"));
    configure("persist_path = var.persist_path", "");
    assert!(review("").contains("REFUSED anklume_nft_isolation.host: after a reboot"));
    configure("persist_path = var.persist_path", "persist_path = \"/run/elsewhere.nft\"");
    assert!(review("").contains("REFUSED anklume_nft_isolation.host: the file for the next boot"));
    configure(
        "for name, _ in local.domains : name => null",
        "for name, _ in local.domains : name => null if name != \"disposable\"",
    );
    assert!(review("").contains("REFUSED \"domain/disposable\": the domain leaves"));
    run.destroy();
    assert_eq!(run.leftovers(), Vec::<String>::new());
}

fn every(run: &Workspace) {
    run.configure("");
    let schemas: serde_json::Value =
        serde_json::from_str(&run.succeed(&["providers", "schema", "-json"]).text).unwrap();
    let (_, provider) = schemas["provider_schemas"].as_object().unwrap().iter().next().unwrap();
    for kind in provider["resource_schemas"].as_object().unwrap().keys() {
        let noun = kind.strip_prefix("anklume_").unwrap();
        assert!(CASES.iter().any(|(name, _)| name.contains(&format!("_{noun}_"))), "no example of {kind} is applied");
    }
}

fn provider(run: &Workspace) {
    let text = read("provider/provider.tf");
    fs::write(run.dir().join("main.tf"), text).unwrap();
    run.succeed(&["validate", "-no-color"]);
}

/// Its server and its disk are not there.
fn sources(run: &Workspace) {
    run.set("TF_VAR_token", "token");
    fs::write(run.dir().join("installer.iso"), "").unwrap();
    run.configure(&read("resources/anklume_volume/resource_sources.tf"));
    let planned = run.succeed(&["plan", "-input=false", "-no-color", "-refresh=false"]).text;
    assert!(planned.contains("5 to add") && !planned.contains("\"token\""), "{planned}");
}
