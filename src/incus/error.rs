//! What can go wrong between us and Incus, and what a refusal's text means.

mod refusal;

use std::sync::Arc;

pub use refusal::Refusal;

use super::ready::Unready;

/// A cause kept beside an error, shared so that one failed list can answer many readers.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why no usable connection to Incus came about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectFault {
    /// The socket does not exist, or nothing listens there.
    NoDaemon,
    /// The socket may not be opened by this user: membership of group `incus-admin` is missing.
    PermissionDenied,
    /// The server showed another certificate than the pinned one; its SHA-256 in lower-case hex.
    WrongCertificate {
        /// Fingerprint of the certificate that the server showed.
        presented: String,
    },
    /// The server does not trust our client certificate (`auth: untrusted`).
    Untrusted,
    /// No connection within the connect timeout.
    Timeout,
    /// Our own client certificate or key cannot be used.
    Identity,
    /// Anything else: name resolution, TLS, a broken socket.
    Other,
}

impl std::fmt::Display for ConnectFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoDaemon => "no Incus daemon listens there",
            Self::PermissionDenied => "permission denied, this user is not in group `incus-admin`",
            Self::WrongCertificate { presented } => {
                return write!(f, "the server shows another certificate, with fingerprint {presented}");
            }
            Self::Untrusted => "the server does not trust the client certificate",
            Self::Timeout => "no connection in time",
            Self::Identity => "the client certificate or key cannot be used",
            Self::Other => "the connection failed",
        })
    }
}

/// The one error of this layer. Texts are lower case and hold no cause; see `source`.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection: the request was never sent.
    #[error("cannot connect to {endpoint}: {fault}")]
    Connect {
        /// The endpoint as a user writes it.
        endpoint: String,
        /// What stood in the way.
        fault: ConnectFault,
        /// The error below, where there is one.
        #[source]
        source: Option<Cause>,
    },
    /// The connection broke while a request was under way.
    #[error("the connection to Incus broke during {method} {path}")]
    Lost {
        /// HTTP method.
        method: String,
        /// Path without query.
        path: String,
        /// Whether the server may have acted on it.
        may_have_been_sent: bool,
        /// The error below, where there is one.
        #[source]
        source: Option<Cause>,
    },
    /// Incus refused the request, or the operation that it started failed.
    #[error("{text}")]
    Refused {
        /// HTTP status, or the operation's error code.
        status: u16,
        /// Incus' own words.
        text: String,
        /// What the words mean.
        refusal: Refusal,
    },
    /// The operation was cancelled on the server.
    #[error("operation {id} was cancelled")]
    OperationCancelled {
        /// The operation's UUID.
        id: String,
    },
    /// Incus has forgotten the operation (it keeps an ended one for 5 s): its outcome must be read off the object.
    #[error("operation {id} has ended and its outcome is no longer known")]
    OperationGone {
        /// The operation's UUID.
        id: String,
    },
    /// The answer is not what the API promises.
    #[error("Incus gave an answer to {method} {path} that cannot be understood")]
    Answer {
        /// HTTP method.
        method: String,
        /// Path without query.
        path: String,
        /// The error below, where there is one.
        #[source]
        source: Option<Cause>,
    },
    /// The answer is longer than the limit.
    #[error("the answer to {method} {path} is longer than {limit_bytes} bytes")]
    TooLarge {
        /// HTTP method.
        method: String,
        /// Path without query.
        path: String,
        /// The limit that was passed.
        limit_bytes: usize,
    },
    /// The request's body could not be written as JSON.
    #[error("the body of {method} {path} cannot be written")]
    Body {
        /// HTTP method.
        method: String,
        /// Path without query.
        path: String,
        /// The error below.
        #[source]
        source: Option<Cause>,
    },
    /// A started instance is not usable.
    #[error("{0}")]
    Unready(Box<Unready>),
    /// The deadline passed.
    #[error("deadline passed while waiting for {what}{}", last_seen(.last))]
    Deadline {
        /// What was waited for.
        what: String,
        /// The last thing seen, in words.
        last: Option<String>,
        /// Whether the server may have acted on the request.
        may_have_been_sent: bool,
    },
    /// The caller's stop token fired.
    #[error("stopped while waiting for {what}")]
    Stopped {
        /// What was waited for.
        what: String,
        /// Whether the server may have acted on the request.
        may_have_been_sent: bool,
    },
}

fn last_seen(last: &Option<String>) -> String {
    last.as_ref().map(|last| format!(" (last seen: {last})")).unwrap_or_default()
}

impl Error {
    /// A refusal by Incus, its text classified.
    pub fn refused(status: u16, text: impl Into<String>) -> Self {
        let text = Refusal::readable(text.into());
        let refusal = Refusal::classify(status, &text);
        Self::Refused { status, text, refusal }
    }

    /// What a refusal's words mean; `None` for everything that is no refusal.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The object asked for (or its project) does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Another operation runs on the instance: try again later.
    pub fn is_busy(&self) -> bool {
        matches!(self.refusal(), Some(Refusal::Busy))
    }

    /// An object of that name exists.
    pub fn is_already_exists(&self) -> bool {
        matches!(self.refusal(), Some(Refusal::AlreadyExists))
    }

    /// The object changed since it was read (`If-Match`).
    pub fn is_precondition_failed(&self) -> bool {
        self.status() == Some(412)
    }

    /// The server knows us and does not allow it.
    pub fn is_forbidden(&self) -> bool {
        self.status() == Some(403) || matches!(self.refusal(), Some(Refusal::Forbidden))
    }

    /// The daemon is starting or shutting down, and does nothing yet or any more.
    pub fn is_unavailable(&self) -> bool {
        self.status() == Some(503)
    }

    /// No connection, or a broken one.
    pub fn is_connection(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Lost { .. })
    }

    /// The deadline passed.
    pub fn is_deadline(&self) -> bool {
        matches!(self, Self::Deadline { .. })
    }

    /// A started instance is not usable: what was waited for, and what was seen.
    pub fn unready(&self) -> Option<&Unready> {
        match self {
            Self::Unready(unready) => Some(unready),
            _ => None,
        }
    }

    /// The caller's stop token fired.
    pub fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped { .. })
    }

    /// The operation's outcome is unknown: read the object.
    pub fn is_operation_gone(&self) -> bool {
        matches!(self, Self::OperationGone { .. })
    }

    /// The server no longer knows the operation that was asked for. A failed one may answer with a 404 of its own.
    pub(crate) fn is_forgotten_operation(&self) -> bool {
        matches!(self, Self::Refused { status: 404, text, .. } if Refusal::is_forgotten_operation(text))
    }

    /// Whether the server may have acted on the request although no clear answer came: the object must be looked at.
    pub fn may_have_been_sent(&self) -> bool {
        match self {
            Self::Lost { may_have_been_sent, .. }
            | Self::Deadline { may_have_been_sent, .. }
            | Self::Stopped { may_have_been_sent, .. } => *may_have_been_sent,
            Self::Answer { .. }
            | Self::TooLarge { .. }
            | Self::OperationGone { .. }
            | Self::OperationCancelled { .. }
            | Self::Unready(_) => true,
            Self::Connect { .. } | Self::Body { .. } | Self::Refused { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predicates_read_status_and_meaning() {
        assert!(Error::refused(404, "Instance not found").is_not_found());
        assert!(Error::refused(412, "Precondition failed").is_precondition_failed());
        assert!(Error::refused(403, "Forbidden").is_forbidden());
        assert!(Error::refused(409, "The network already exists").is_already_exists());
        assert!(Error::refused(500, "Instance is busy running a \"start\" operation").is_busy());
    }

    #[test]
    fn a_deadline_names_the_last_thing_seen() {
        let error =
            Error::Deadline { what: "operation x".into(), last: Some("Running".into()), may_have_been_sent: true };
        assert_eq!(error.to_string(), "deadline passed while waiting for operation x (last seen: Running)");
    }

    #[test]
    fn a_refusal_is_a_clear_answer() {
        assert!(!Error::refused(500, "anything").may_have_been_sent());
        assert!(Error::OperationGone { id: "x".into() }.may_have_been_sent());
    }
}
