//! The local daemon's socket.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::super::endpoint::Endpoint;
use super::{Environment, Error, Target};

/// `$INCUS_SOCKET`, `$INCUS_DIR`, `/run/incus`, `/var/lib/incus`. Where nothing is found the last place is taken, and
/// connecting tells why it does not work.
///
/// # Errors
///
/// [`Error::Restricted`] where only `unix.socket.user` may be written.
pub(super) fn local(environment: &Environment) -> Result<Target, Error> {
    let plain = |path: PathBuf| Ok(Target { endpoint: Endpoint::Unix(path), token: None });
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
        return Err(Error::Restricted { path: user });
    }
    plain(path)
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn writable(path: &Path) -> bool {
    access(path, Access::WRITE_OK).is_ok()
}
