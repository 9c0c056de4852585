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
    ("every_resource_has_an_example_here", every),
    ("the_example_of_the_provider_block_is_valid", provider),
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
    for line in read(&format!("resources/{kind}/import.sh")).lines().filter(|line| line.starts_with("tofu import ")) {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, _, address, id] = words[..] else { panic!("{line}") };
        assert!(address.starts_with(kind), "{line}");
        run.survives_import(address, id);
    }
    run.destroy();
    assert!(run.incus().project("pro").is_none());
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
