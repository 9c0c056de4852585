//! The Incus of one test run: found or brought up, looked over and ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::incus::Incus;

/// Which Incus a run is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A daemon on this machine, for containers, reached by its socket.
    Private,
    /// A machine of its own that has virtual machines, reached over HTTPS; the Debian suite that its Incus comes from.
    Machine(String),
}

impl Kind {
    /// The machine with the Incus of the suite in `ANKLUME_VM`, else the private daemon.
    pub(crate) fn asked() -> Self {
        std::env::var("ANKLUME_VM").map_or(Self::Private, Self::Machine)
    }

    fn script(&self, verb: &str, dir: &Path, more: &[&str]) -> Result<String, String> {
        let (name, suite) = match self {
            Self::Private => ("incus.sh", None),
            Self::Machine(suite) => ("vm.sh", Some(suite).filter(|_| verb == "up")),
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab").join(name);
        let output = Command::new(&script)
            .arg(verb)
            .arg(dir)
            .args(suite)
            .args(more)
            .output()
            .map_err(|error| format!("{}: {error}", script.display()))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!("{name} {verb}: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
    }

    /// What the directories of its runs begin with; their process id follows.
    fn prefix(&self) -> &'static str {
        match self {
            Self::Private => "anklume-acceptance-",
            Self::Machine(_) => "anklume-machine-",
        }
    }
}

/// Where the clients, the provider and the `incus` command run.
#[derive(Debug)]
pub(crate) struct Lab {
    kind: Kind,
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

impl Lab {
    /// The Incus in the directory that `ANKLUME_LAB` names, else a new one.
    ///
    /// # Errors
    ///
    /// Why there is none: no root, no Incus installed, a daemon that does not start.
    pub(crate) fn find(kind: Kind) -> Result<Self, String> {
        if let Some(dir) = std::env::var_os("ANKLUME_LAB").map(PathBuf::from) {
            let namespace = kind.script("namespace", &dir, &[])?.trim().to_owned();
            return Ok(Self { kind, dir, namespace, owned: Owned::Caller });
        }
        end_abandoned(&kind);
        let dir = std::env::temp_dir().join(format!("{}{}", kind.prefix(), std::process::id()));
        match kind.script("up", &dir, &[]).and_then(|_| kind.script("namespace", &dir, &[])) {
            Ok(namespace) => Ok(Self { kind, dir, namespace: namespace.trim().to_owned(), owned: Owned::Run }),
            Err(reason) => {
                // The first reason is the one to tell; what `down` finds is swept by the next run.
                let _ = kind.script("down", &dir, &[]);
                Err(reason)
            }
        }
    }

    /// Another Incus beside this one, with further storage pools, for a test that would be in the way of others.
    pub(crate) fn another(word: &str, pools: &[&str]) -> Self {
        let kind = Kind::Private;
        let dir = std::env::temp_dir().join(format!("{}{}-{word}", kind.prefix(), std::process::id()));
        // Owned before it is up, so that a failure takes away what there is of it.
        let mut lab = Self { kind, dir, namespace: String::new(), owned: Owned::OneTest };
        lab.kind.script("up", &lab.dir, pools).unwrap();
        lab.kind.script("namespace", &lab.dir, &[]).unwrap().trim().clone_into(&mut lab.namespace);
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
        command.env("INCUS_CONF", self.dir.join("conf"));
        match self.kind {
            Kind::Private => command.env("INCUS_DIR", self.dir.join("incus")),
            Kind::Machine(_) => command.env_remove("INCUS_DIR"),
        };
        for foreign in ["INCUS_REMOTE", "INCUS_ADDR", "INCUS_SOCKET", "INCUS_TOKEN", "INCUS_PROJECT"] {
            command.env_remove(foreign);
        }
        command
    }

    /// The file of its network namespace.
    pub(crate) fn network(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.namespace)
    }

    /// Where its API answers over HTTPS, from within.
    pub(crate) fn address(&self) -> &'static str {
        "https://127.0.0.1:8443"
    }

    /// Kills the daemon alone, and waits until another answers.
    pub(crate) fn restart(&self) {
        self.kind.script("kill", &self.dir, &[]).unwrap();
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
            .chain(
                incus
                    .list("/1.0/storage-pools")
                    .iter()
                    .flat_map(|pool| incus.list(&format!("{pool}/volumes?all-projects=true"))),
            )
            .chain(incus.managed_networks())
            .filter(|url| {
                !["/1.0/projects/default", "/1.0/profiles/default"].contains(&url.as_str())
                    && !url.contains("/volumes/image/")
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
        self.kind.script("down", &self.dir, &[]).map(drop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.owned == Owned::OneTest
            && let Err(reason) = self.kind.script("down", &self.dir, &[])
        {
            println!("left behind: {reason}");
        }
    }
}

/// Ends what runs that were killed have left.
fn end_abandoned(kind: &Kind) {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(kind.prefix())?.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
            && let Err(reason) = kind.script("down", &entry.path(), &[])
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
