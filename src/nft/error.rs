//! What goes wrong where nft runs.

use super::place::Destination;

/// The oldest nft whose output is known.
pub(super) const OLDEST: (u32, u32, u32) = (1, 0, 6);

/// Why the table could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no `nft`.
    #[error("nft is not installed")]
    NoNft,
    /// A program that is needed beside it is missing.
    #[error("{program} is not installed")]
    NoProgram {
        /// `flock`, `ip`, `sudo`, `ssh`, `sh`.
        program: &'static str,
    },
    /// Who we are may not.
    #[error("nft is not permitted: {said}")]
    NoPermission {
        /// What was said.
        said: String,
    },
    /// nft is older than 1.0.6.
    #[error("nft {version} is too old")]
    TooOld {
        /// Its version.
        version: String,
    },
    /// The kernel lacks an expression or all of nf_tables.
    #[error("the kernel does not know what the rules need: {said}")]
    Kernel {
        /// What nft said.
        said: String,
    },
    /// nft refused, for another reason.
    #[error("nft refused: {said}")]
    Rejected {
        /// What it said.
        said: String,
    },
    /// `sudo -n` would ask for a password, or is refused.
    #[error("sudo refused: {said}")]
    Sudo {
        /// What it said.
        said: String,
    },
    /// The key of the host is unknown, or another than the known one.
    #[error("the host key of {destination} is not a known one: {said}")]
    HostKey {
        /// Where to.
        destination: Destination,
        /// What ssh said.
        said: String,
    },
    /// The host does not let us in.
    #[error("{destination} refused us: {said}")]
    Refused {
        /// Where to.
        destination: Destination,
        /// What ssh said.
        said: String,
    },
    /// No connection.
    #[error("{destination} cannot be reached: {said}")]
    Unreachable {
        /// Where to.
        destination: Destination,
        /// What ssh said.
        said: String,
    },
    /// Another run held the lock until the deadline.
    #[error("another run holds the lock")]
    Busy,
    /// The table is not ours.
    #[error("table inet anklume belongs to another: {}", .comment.as_deref().unwrap_or("it bears no mark"))]
    Foreign {
        /// The comment of its first rule.
        comment: Option<String>,
    },
    /// The file is not ours.
    #[error("{path} was not written by us")]
    ForeignFile {
        /// Its path.
        path: String,
        /// The mark that it bears, if it is of our form.
        comment: Option<String>,
    },
    /// The file cannot be read or written.
    #[error("{path}: {said}")]
    File {
        /// Its path.
        path: String,
        /// What was said.
        said: String,
    },
    /// After a write the table reads otherwise.
    #[error("the table reads otherwise than it was written: {}", .lines.join("; "))]
    NotAsWritten {
        /// The differences.
        lines: Vec<String>,
    },
    /// The shell or the connection ended in the middle.
    #[error("the connection ended: {said}")]
    Ended {
        /// What was said last.
        said: String,
        /// Whether the transaction may have been carried out.
        may_have_been_applied: bool,
    },
    /// An answer that is none.
    #[error("an answer that cannot be read: {said}")]
    Garbled {
        /// The answer, or its beginning.
        said: String,
    },
    /// The deadline passed.
    #[error("deadline passed while {what}")]
    Deadline {
        /// What was going on.
        what: &'static str,
        /// Whether the transaction may have been carried out.
        may_have_been_applied: bool,
    },
    /// Stopped by the user.
    #[error("stopped while {what}")]
    Stopped {
        /// What was going on.
        what: &'static str,
        /// Whether the transaction may have been carried out.
        may_have_been_applied: bool,
    },
}

impl Error {
    /// The table or the file belongs to another.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign { .. } | Self::ForeignFile { .. })
    }

    /// The time was too short.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        matches!(self, Self::Deadline { .. } | Self::Busy)
    }

    /// The user stopped it.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped { .. })
    }

    /// Whether the new table may stand although this is an error.
    #[must_use]
    pub fn may_have_been_applied(&self) -> bool {
        match self {
            Self::Ended { may_have_been_applied, .. }
            | Self::Deadline { may_have_been_applied, .. }
            | Self::Stopped { may_have_been_applied, .. } => *may_have_been_applied,
            Self::NotAsWritten { .. } | Self::File { .. } | Self::ForeignFile { .. } | Self::Garbled { .. } => true,
            _ => false,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn what_to_do(&self) -> String {
        match self {
            Self::NoNft => "Install it on the host of Incus: `apt-get install nftables`.".to_owned(),
            Self::NoProgram { program } => format!("Install `{program}`, or correct the PATH."),
            Self::NoPermission { .. } => {
                "Rules of a host want root: run as root, or set `nft = { sudo = true }` where sudo needs no password."
                    .to_owned()
            }
            Self::TooOld { .. } => {
                let (major, minor, patch) = OLDEST;
                format!("Upgrade nftables on the host of Incus to {major}.{minor}.{patch} or later.")
            }
            Self::Kernel { .. } => {
                "Load `nf_tables`, `nf_conntrack`, `nft_ct` and `nft_fib_inet` there, with Linux 5.6 or later."
                    .to_owned()
            }
            Self::Rejected { .. } => "Look at `nft list table inet anklume` there; nothing was changed.".to_owned(),
            Self::Sudo { .. } => {
                "Let the user run `sh` through `sudo -n` without a password, or connect as root.".to_owned()
            }
            Self::HostKey { destination, .. } => {
                format!(
                    "Connect once by hand and compare the key: `ssh {destination}`. Unknown keys are never accepted here."
                )
            }
            Self::Refused { destination, .. } => {
                format!(
                    "`ssh -o BatchMode=yes {destination} true` has to work: an agent or a key without a passphrase."
                )
            }
            Self::Unreachable { destination, .. } => {
                format!("`ssh -o BatchMode=yes {destination} true` has to work from here. Nothing was changed.")
            }
            Self::Busy => "Try again when the other run has ended, or give this one more time.".to_owned(),
            Self::Foreign { .. } => {
                "One host has one isolation. Look at the table that is there: `nft list table inet anklume`.".to_owned()
            }
            Self::ForeignFile { .. } => "Choose another path, or remove the file.".to_owned(),
            Self::File { .. } => "The directory has to exist there, and be writable.".to_owned(),
            Self::NotAsWritten { .. } => {
                "Somebody else changes this table, or nft prints it in a way that is not known. Apply again.".to_owned()
            }
            Self::Ended { .. } | Self::Garbled { .. } | Self::Deadline { .. } | Self::Stopped { .. } => {
                "Apply again: what stands is the old table or the new one, never half of one.".to_owned()
            }
        }
    }
}

/// What a failed nft meant (1.0.6 to 1.1, `LC_ALL=C`).
pub(super) fn of_nft(code: i32, said: &str) -> Error {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let said = said.trim().chars().take(2000).collect();
    if code == 127 || code == 126 {
        return Error::NoNft;
    }
    if has(&["Operation not permitted", "Permission denied"]) {
        return Error::NoPermission { said };
    }
    if has(&[
        "cache initialization failed",
        "Protocol not supported",
        "Operation not supported",
        "Unable to initialize Netlink",
    ]) || (has(&["Could not process rule: No such file or directory"]))
    {
        return Error::Kernel { said };
    }
    Error::Rejected { said }
}

/// Whether a failed listing says that there is no such table (1.0.6 to 1.1, `LC_ALL=C`).
pub(super) fn says_absent(said: &str) -> bool {
    said.contains("No such file or directory") && !said.contains("cache initialization failed")
}

/// What ssh, sudo or the shell meant, that ended before it said anything (OpenSSH 9, sudo 1.9).
pub(super) fn of_start(destination: Option<&Destination>, said: &str) -> Error {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let said: String = said.trim().chars().take(2000).collect();
    if has(&["sudo: command not found", "sudo: not found", "sudo: No such file"]) {
        return Error::NoProgram { program: "sudo" };
    }
    if has(&["sudo:", "not in the sudoers file", "is not allowed to execute"]) {
        return Error::Sudo { said };
    }
    let Some(destination) = destination.cloned() else {
        return Error::Ended { said, may_have_been_applied: false };
    };
    if has(&["Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED", "host key is known for"]) {
        return Error::HostKey { destination, said };
    }
    if has(&["Permission denied", "Too many authentication failures", "Could not load host key"]) {
        return Error::Refused { destination, said };
    }
    Error::Unreachable { destination, said }
}
