//! The private Incus of one test run: found or brought up, looked over and ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::incus::Incus;

const PREFIX: &str = "anklume-acceptance-";

/// Where the clients, the provider and the `incus` command run.
#[derive(Debug)]
pub(crate) struct Lab {
    dir: PathBuf,
    namespace: String,
    owned: Owned,
}

#[derive(Debug, PartialEq, Eq)]
enum Owned {
    /// Brought up by this run, ended by it.
    Run,
    /// Named by `ANKLUME_LAB`; stays.
    Caller,
    /// Brought up by one test, ended when that has.
    OneTest,
}

fn script(verb: &str, dir: &Path) -> Result<String, String> {
    script_with(verb, dir, &[])
}

fn script_with(verb: &str, dir: &Path, more: &[&str]) -> Result<String, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/incus.sh");
    let output =
        Command::new(script).arg(verb).arg(dir).args(more).output().map_err(|error| format!("{script}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{script} {verb}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

impl Lab {
    /// The Incus in the directory that `ANKLUME_LAB` names, else a new one.
    ///
    /// # Errors
    ///
    /// Why there is none: no root, no Incus installed, a daemon that does not start.
    pub(crate) fn find() -> Result<Self, String> {
        if let Some(dir) = std::env::var_os("ANKLUME_LAB").map(PathBuf::from) {
            let namespace = script("namespace", &dir)?.trim().to_owned();
            return Ok(Self { dir, namespace, owned: Owned::Caller });
        }
        end_abandoned();
        let dir = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        match script("up", &dir).and_then(|_| script("namespace", &dir)) {
            Ok(namespace) => Ok(Self { dir, namespace: namespace.trim().to_owned(), owned: Owned::Run }),
            Err(reason) => {
                // The first reason is the one to tell; what `down` finds is swept by the next run.
                let _ = script("down", &dir);
                Err(reason)
            }
        }
    }

    /// Another Incus beside this one, with further storage pools, for a test that would be in the way of others.
    pub(crate) fn another(word: &str, pools: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("{PREFIX}{}-{word}", std::process::id()));
        // Owned before it is up, so that a failure takes away what there is of it.
        let mut lab = Self { dir: dir.clone(), namespace: String::new(), owned: Owned::OneTest };
        script_with("up", &dir, pools).unwrap();
        script("namespace", &dir).unwrap().trim().clone_into(&mut lab.namespace);
        lab
    }

    /// Where it keeps everything.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new directory for one test; that of an earlier run on the same Incus goes.
    pub(crate) fn workspace(&self, name: &str) -> PathBuf {
        let dir = self.dir.join("work").join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// The socket of its API.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("incus/unix.socket")
    }

    /// `program`, to be run where this Incus is the local one.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command.env("INCUS_DIR", self.dir.join("incus")).env("INCUS_CONF", self.dir.join("conf"));
        for foreign in ["INCUS_REMOTE", "INCUS_ADDR", "INCUS_SOCKET", "INCUS_TOKEN", "INCUS_PROJECT"] {
            command.env_remove(foreign);
        }
        command
    }

    /// The version that the daemon reports.
    pub(crate) fn server_version(&self) -> String {
        let server = Incus::new(self).query("/1.0");
        server["environment"]["server_version"].as_str().unwrap_or("unknown").to_owned()
    }

    /// What the tests made and did not destroy: objects of Incus, tables of nft, processes of the provider.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let incus = Incus::new(self);
        let mut left: Vec<String> = incus
            .list("/1.0/projects")
            .into_iter()
            .chain(incus.list("/1.0/profiles?all-projects=true"))
            .chain(incus.list("/1.0/instances?all-projects=true"))
            .chain(incus.list("/1.0/storage-pools/default/volumes?all-projects=true"))
            .chain(incus.managed_networks())
            .filter(|url| {
                !["/1.0/projects/default", "/1.0/profiles/default"].contains(&url.as_str())
                    && !url.starts_with("/1.0/storage-pools/default/volumes/image/")
            })
            .collect();
        let tables = self.command("nft").args(["list", "tables"]).output().unwrap();
        // Incus keeps its own tables once it has had a bridge, or a filtered NIC.
        let foreign = |table: &&str| !["table inet incus", "table bridge incus"].contains(table);
        left.extend(String::from_utf8_lossy(&tables.stdout).lines().filter(foreign).map(str::to_owned));
        left.extend(provider_processes());
        left
    }

    /// Ends the Incus that this run brought up, with everything in it; `KEEP=1` leaves it.
    ///
    /// # Errors
    ///
    /// What of it the machine still holds.
    pub(crate) fn end(&self) -> Result<(), String> {
        if self.owned != Owned::Run || std::env::var_os("KEEP").is_some_and(|keep| keep == "1") {
            println!("the Incus stays in {}", self.dir.display());
            return Ok(());
        }
        script("down", &self.dir).map(drop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.owned == Owned::OneTest
            && let Err(reason) = script("down", &self.dir)
        {
            println!("left behind: {reason}");
        }
    }
}

/// Ends what runs that were killed have left.
fn end_abandoned() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
            && let Err(reason) = script("down", &entry.path())
        {
            println!("{reason}");
        }
    }
}

fn provider_processes() -> Vec<String> {
    let provider = Path::new(env!("CARGO_BIN_EXE_terraform-provider-anklume"));
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == provider))
        .map(|entry| format!("process {} of the provider", entry.file_name().display()))
        .collect()
}
