//! The rules at boot, as the guide says.

use std::process::Command;

use anklume::nft::{Drift, PersistPath, Standing};

use super::Case;
use super::net::{host, limit, policy, ruleset, said, shell, wait};

pub const CASES: &[Case] = &[("the unit of the guide loads what was applied into an empty host", unit)];

const GUIDE: &str = include_str!("../../templates/guides/isolation-at-boot.md");
const UNIT: &str = "/run/systemd/system/anklume-nft.service";

/// The value of a key of the unit.
fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap()
}

fn unit() {
    let begin = GUIDE.find("[Unit]\nDescription=").unwrap();
    let unit = &GUIDE[begin..begin + GUIDE[begin..].find("```").unwrap()];
    let path = value(unit, "AssertPathExists");
    assert!(GUIDE.contains(&format!("persist_path = \"{path}\"")));

    let parent = |path: &str| path[..path.rfind('/').unwrap()].to_owned();
    shell(&format!("mkdir -p {} {}", parent(path), parent(UNIT)));
    let rules = ruleset("", &["perso", "pro"], &[("intranet", policy("perso", "pro", Some("tcp"), &["443"]))]);
    let path: PersistPath = path.parse().unwrap();
    wait(async { host().apply(&rules, Some(&path), &limit()).await }).unwrap();
    let table = || said("nft", &["list", "ruleset"]);
    let applied = table();
    shell("nft flush ruleset");
    let command: Vec<&str> = value(unit, "ExecStart").split(' ').collect();
    // Once at boot, and once more over what stands: a restart of the unit.
    for _ in 0..2 {
        said(command[0], &command[1..]);
        assert_eq!(table(), applied);
        let standing = wait(async { host().read(&rules, Some(&path), &limit()).await }).unwrap();
        assert!(matches!(&standing, Standing::Ours(drift) if drift.is_empty()), "{standing:?}");
    }

    std::fs::write(UNIT, unit).unwrap();
    let verify = || Command::new("systemd-analyze").args(["verify", "--man=no", UNIT]).output();
    match verify() {
        Err(_) => println!("systemd-analyze is not installed: the unit was loaded by hand only"),
        Ok(output) => {
            assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
            // What it would say of a key that systemd does not know.
            std::fs::write(UNIT, unit.replace("RemainAfterExit", "RemainAfter")).unwrap();
            let said = String::from_utf8(verify().unwrap().stderr).unwrap();
            assert!(said.contains("RemainAfter"), "{said}");
        }
    }

    // The table is gone, and the file is not: there is still something to remove.
    shell("nft flush ruleset");
    let standing = wait(async { host().read(&rules, Some(&path), &limit()).await }).unwrap();
    assert!(matches!(&standing, Standing::Ours(drift) if is_bare(drift)), "{standing:?}");
    std::fs::write(path.as_str(), "# anklume ffffffffffffffff\n").unwrap();
    let standing = wait(async { host().read(&rules, Some(&path), &limit()).await }).unwrap();
    assert_eq!(standing, Standing::Absent);
    let comment = wait(async { host().comment_of_file(&path, &limit()).await }).unwrap();
    assert_eq!(comment.as_deref(), Some("anklume ffffffffffffffff"));
}

fn is_bare(drift: &Drift) -> bool {
    drift.rules() == [("table".to_owned(), "missing".to_owned())].into() && drift.lines() == ["table: missing"]
}
