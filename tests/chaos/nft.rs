//! An `nft` before the real one: it asks before each change of the ruleset, and tells that it was made.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::control::Control;
use crate::fault::{Fault, When};
use crate::stranger::Place;

/// Reads, and checks that change nothing, pass unseen.
const SCRIPT: &str = r#"#!/bin/sh
case $1 in
-f | delete) ;;
*) exec REAL "$@" ;;
esac
ask() {
    printf '%s\n' "$1" >DIR/asking.$$ && mv DIR/asking.$$ DIR/asked.$$
    until [ -e DIR/told.$$ ]; do sleep 0.01; done
    told=$(cat DIR/told.$$)
    rm DIR/told.$$
}
ask "$1"
[ "$told" = go ] || exit 1
REAL "$@"
code=$?
ask done
[ "$told" = go ] || exit 1
exit $code
"#;

/// A directory to be put before `PATH`, whose `nft` is under `control` for as long as the process runs.
pub(crate) fn put(dir: PathBuf, control: Arc<Control>) -> PathBuf {
    fs::create_dir(&dir).unwrap();
    let real = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft"];
    let real = real.iter().find(|path| Path::new(path).exists()).unwrap();
    let script = dir.join("nft");
    fs::write(&script, SCRIPT.replace("REAL", real).replace("DIR", dir.to_str().unwrap())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let there = dir.clone();
    thread::spawn(move || answer(&there, &control));
    dir
}

fn answer(dir: &Path, control: &Control) {
    let mut fault = None;
    // The directory goes with its Incus.
    while dir.exists() {
        thread::sleep(Duration::from_millis(10));
        let names =
            fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let Some(who) = names.into_iter().find_map(|name| name.strip_prefix("asked.").map(str::to_owned)) else {
            continue;
        };
        let asked = fs::read_to_string(dir.join(format!("asked.{who}"))).unwrap_or_default();
        let _ = fs::remove_file(dir.join(format!("asked.{who}")));
        let stands = match asked.trim() {
            "done" => When::Answered,
            change => {
                fault = control.meet(Some(&format!("nft {change}")));
                When::Before
            }
        };
        let mut told = "go";
        match fault {
            Some(Fault::Stranger(phase, roll)) if stands == When::Answered => control.intrude(phase, Place::Step, roll),
            // What was handed to nft goes on.
            Some(Fault::End(ends, When::Sent)) if stands == When::Before => control.end(ends),
            Some(Fault::End(ends, when)) if when == stands => {
                control.end(ends);
                if ends.cuts() {
                    told = "stop";
                }
            }
            _ => {}
        }
        let _ = fs::write(dir.join("telling"), told)
            .and_then(|()| fs::rename(dir.join("telling"), dir.join(format!("told.{who}"))));
    }
}
