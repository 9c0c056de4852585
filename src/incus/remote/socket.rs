//! The local daemon's socket.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::super::endpoint::Endpoint;
use super::{Environment, Target};

/// `$INCUS_SOCKET`, `$INCUS_DIR`, `/run/incus`, `/var/lib/incus`. In a directory, a socket that may not be written gives
/// way to the restricted `unix.socket.user`, whose project is `user-<uid>`. Where nothing is found the last place is
/// taken, and connecting tells why it does not work.
pub(super) fn local(environment: &Environment) -> Target {
    let plain = |path: PathBuf| Target { endpoint: Endpoint::Unix(path), project: None, token: None };
    if let Some(path) = &environment.socket {
        return plain(path.clone());
    }
    let dirs = match &environment.dir {
        Some(dir) => std::slice::from_ref(dir),
        None => environment.daemon_dirs.as_slice(),
    };
    let found = dirs.iter().find(|dir| exists(&dir.join("unix.socket")) || exists(&dir.join("unix.socket.user")));
    let Some(dir) = found.or(dirs.last()) else {
        return plain(PathBuf::from("/var/lib/incus/unix.socket"));
    };
    let (path, user) = (dir.join("unix.socket"), dir.join("unix.socket.user"));
    if !writable(&path) && writable(&user) {
        let project = format!("user-{}", rustix::process::geteuid().as_raw());
        return Target { endpoint: Endpoint::Unix(user), project: Some(project), token: None };
    }
    plain(path)
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn writable(path: &Path) -> bool {
    access(path, Access::WRITE_OK).is_ok()
}
