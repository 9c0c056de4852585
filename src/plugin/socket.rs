//! The private directory of the socket, and what killed providers left of theirs.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use tempfile::TempDir;

/// The name of the socket in its directory.
const SOCKET: &str = "socket";

/// Younger directories may be of a provider that has not locked its own yet.
const YOUTH: Duration = Duration::from_secs(60);

/// A directory of one's own, locked as long as its provider lives and removed with it.
pub(super) struct SocketDirectory {
    directory: TempDir,
    _lock: File,
}

impl SocketDirectory {
    /// A new one in `parent`, once those of providers that were killed are gone.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(super) fn new(parent: &Path, prefix: &str) -> io::Result<Self> {
        sweep(parent, prefix);
        let mut builder = tempfile::Builder::new();
        let directory = builder.prefix(prefix).permissions(fs::Permissions::from_mode(0o700)).tempdir_in(parent)?;
        let lock = File::open(directory.path())?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { directory, _lock: lock })
    }

    /// Where the socket is.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join(SOCKET)
    }
}

/// Removes what nobody holds any more; what cannot be removed stays.
fn sweep(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) && is_abandoned(&entry.path()) {
            let _ = fs::remove_file(entry.path().join(SOCKET));
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Whether it is a directory of a provider of this user, holds nothing but its socket, and no process has it locked.
fn is_abandoned(path: &Path) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else { return false };
    let is_old = metadata.modified().is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > YOUTH));
    let is_private = metadata.is_dir() && metadata.permissions().mode() & 0o777 == 0o700;
    if !is_old || !is_private || metadata.uid() != geteuid().as_raw() {
        return false;
    }
    let holds_a_socket_at_most = fs::read_dir(path)
        .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == OsStr::new(SOCKET))));
    holds_a_socket_at_most
        && File::open(path).is_ok_and(|directory| flock(directory, FlockOperation::NonBlockingLockExclusive).is_ok())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_a_killed_provider_left_goes_when_another_starts_and_nothing_else_does() {
        let parent = tempfile::tempdir().unwrap();
        let made = |name: &str, file: &str, age: u64| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
            fs::write(path.join(file), "").unwrap();
            let then = SystemTime::now() - Duration::from_secs(age);
            File::open(&path).unwrap().set_modified(then).unwrap();
            path
        };
        let left = made("x-left", SOCKET, 120);
        let kept = [made("x-young", SOCKET, 0), made("y-other", SOCKET, 120), made("x-work", "notes", 120)];
        let lives = SocketDirectory::new(parent.path(), "x-").unwrap();
        File::open(lives.directory.path()).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let next = SocketDirectory::new(parent.path(), "x-").unwrap();
        assert!(!left.exists() && lives.directory.path().exists() && kept.iter().all(|path| path.exists()));
        let paths = [lives, next].map(|directory| directory.directory.path().to_owned());
        assert!(paths.iter().all(|path| !path.exists()));
    }
}
