//! The layers of `docs/architecture.md`, held over the sources.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(directory: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {directory}");
    found
}

fn assert_absent(directory: &str, words: &[&str]) {
    for (path, text) in sources(directory) {
        for word in words {
            assert!(!text.contains(word), "{} names `{word}`", path.display());
        }
    }
}

#[test]
fn the_plugin_layer_knows_nothing_of_incus() {
    assert_absent("src/plugin", &["crate::incus", "crate::resources", "crate::web", "anklume_"]);
}

#[test]
fn the_incus_layer_knows_nothing_of_terraform() {
    assert_absent(
        "src/incus",
        &["crate::plugin", "crate::resources", "crate::web", "crate::nft", "terraform", "anklume_"],
    );
}

#[test]
fn the_web_layer_knows_neither() {
    assert_absent(
        "src/web",
        &[
            "crate::plugin",
            "crate::incus",
            "crate::nft",
            "crate::resources",
            "terraform",
            "anklume_",
            "volume",
            "incus::",
        ],
    );
}

#[test]
fn the_firewall_knows_nothing_of_incus_or_terraform() {
    assert_absent(
        "src/nft",
        &["crate::plugin", "crate::resources", "crate::incus", "crate::web", "terraform", "anklume_"],
    );
}

#[test]
fn pure_modules_name_no_clock_file_process_or_network() {
    let impure = ["std::fs", "std::net::Tcp", "std::process", "Instant", "SystemTime", "tokio", "async fn", "rand::"];
    for (path, text) in sources("src") {
        let name = path.file_name().unwrap().to_str().unwrap();
        if [
            "plan.rs",
            "planner.rs",
            "settle.rs",
            "subnet.rs",
            "size.rs",
            "schedule.rs",
            "expiry.rs",
            "duration.rs",
            "keys.rs",
            "name.rs",
            "form.rs",
            "isolation.rs",
            "suspect.rs",
            "layout.rs",
            "set.rs",
            "statement.rs",
            "ruleset.rs",
            "listing.rs",
            "drift.rs",
        ]
        .contains(&name)
        {
            for word in impure {
                assert!(!text.contains(word), "{} names `{word}`", path.display());
            }
        }
    }
}

#[test]
fn every_resource_has_its_documentation_example_and_acceptance_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for noun in ["domain", "profile", "instance", "volume", "nft_isolation"] {
        let paths = [
            format!("src/resources/{noun}/mod.rs"),
            format!("docs/resources/{noun}.md"),
            format!("examples/resources/anklume_{noun}/resource.tf"),
            format!("tests/acceptance/{noun}.rs"),
            format!("examples/resources/anklume_{noun}/import.sh"),
        ];
        for path in paths {
            assert!(root.join(&path).exists(), "{path} is missing");
        }
    }
}
