//! The server itself: `GET /1.0`, and trust.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{Request, null_as_default};

/// What the server says of itself. For an untrusted client it lists no extensions.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Server {
    /// Names of the API extensions it has: test these, never versions.
    #[serde(default, deserialize_with = "null_as_default")]
    pub api_extensions: HashSet<String>,
    /// `trusted` or `untrusted`.
    #[serde(default)]
    pub auth: String,
    /// Versions and the like; empty for an untrusted client.
    #[serde(default, deserialize_with = "null_as_default")]
    pub environment: Environment,
}

impl Server {
    /// Whether it has this API extension.
    pub fn has(&self, extension: &str) -> bool {
        self.api_extensions.contains(extension)
    }

    /// Whether it leaves the content of an ISO volume behind when it renames that: before 6.0.5, and of the feature releases
    /// before 6.15, on pools that are directories or subvolumes. No extension tells.
    pub fn loses_renamed_isos(&self) -> bool {
        match self.version() {
            Some((6, 0, patch)) => patch < 5,
            Some((major, minor, _)) => (major, minor) < (6, 15),
            // An unknown version may be any.
            None => true,
        }
    }

    /// Whether it tells by an event that an agent answers: 6.23 and later. No extension tells.
    pub fn announces_agents(&self) -> bool {
        self.version().is_some_and(|(major, minor, _)| (major, minor) >= (6, 23))
    }

    fn version(&self) -> Option<(u32, u32, u32)> {
        let mut numbers = self.environment.server_version.split('.').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        Some((next()?, next()?, next().unwrap_or_default()))
    }

    /// Whether it trusts us.
    pub fn is_trusted(&self) -> bool {
        self.auth == "trusted"
    }
}

/// Part of [`Server`].
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Environment {
    /// `6.0.4`: for messages, and for what no extension tells.
    #[serde(default)]
    pub server_version: String,
    /// The member's name in a cluster, else the host's.
    #[serde(default)]
    pub server_name: String,
    /// Whether it is a member of a cluster.
    #[serde(default)]
    pub server_clustered: bool,
    /// Version of the kernel.
    #[serde(default)]
    pub kernel_version: String,
    /// SHA-256 of its certificate, of a cluster's for all its members.
    #[serde(default)]
    pub certificate_fingerprint: String,
    /// Architectures it runs, the native one first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub architectures: Vec<String>,
}

/// The server ([`Server`]).
pub fn get() -> Request {
    Request::get(&[])
}

#[derive(Serialize)]
struct Trust<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    trust_token: &'a str,
    certificate: &'a str,
    name: &'a str,
}

/// Adds a client certificate by a one-time token; sync. `certificate` is base64 DER without PEM lines.
pub(crate) fn trust(token: &str, certificate: &str, name: &str) -> Request {
    Request::post(&["certificates"], &Trust { kind: "client", trust_token: token, certificate, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_that_lose_a_renamed_iso_are_known() {
        let loses = |version: &str| {
            let environment = Environment { server_version: version.into(), ..Environment::default() };
            Server { environment, ..Server::default() }.loses_renamed_isos()
        };
        for version in ["6.0.0", "6.0.4", "6.0", "6.1", "6.14", "5.21.2", ""] {
            assert!(loses(version), "{version}");
        }
        for version in ["6.0.5", "6.0.6", "6.15", "6.23", "7.0.0", "7.3"] {
            assert!(!loses(version), "{version}");
        }
    }
}
