//! Where nft runs, and where it leaves its file.

use std::fmt;
use std::str::FromStr;

/// How nft is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// On this machine.
    Local,
    /// On another one, with OpenSSH's own client.
    Ssh(Destination),
}

/// Whether nft is run through `sudo -n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sudo {
    /// As who we are.
    Without,
    /// As root, where that needs no password.
    With,
}

/// Where OpenSSH connects to: `host`, `user@host` or `ssh://[user@]host[:port]`; a `Host` of its configuration too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination(String);

/// A text that is no [`Destination`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a host, as in \"host\", \"user@host\" or \"ssh://user@host:22\"")]
pub struct BadDestination;

impl Destination {
    /// As it is given to OpenSSH.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Destination {
    type Err = BadDestination;

    fn from_str(text: &str) -> Result<Self, BadDestination> {
        let word = |text: &str, more: &[u8]| {
            !text.is_empty()
                && !text.starts_with('-')
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte) || more.contains(&byte))
        };
        let rest = text.strip_prefix("ssh://");
        let (user, host) = match rest.unwrap_or(text).split_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, rest.unwrap_or(text)),
        };
        let host = match (rest, host.strip_prefix('[').and_then(|host| host.split_once(']'))) {
            (Some(_), Some((address, ""))) => (address, None),
            (Some(_), Some((address, port))) => (address, port.strip_prefix(':').or(Some(""))),
            (Some(_), None) => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
            (None, _) => (host, None),
        };
        // Without `ssh://` a colon can only be of an IPv6 address.
        let valid_host = word(host.0, b":") && (rest.is_none() || !host.0.contains(':') || text.contains('['));
        let valid_port = host.1.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        if valid_host && valid_port && user.is_none_or(|user| word(user, b"")) && text.len() <= 255 {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadDestination)
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// An absolute path of a file, of characters that no shell and no ssh reads anything into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersistPath(String);

/// A text that is no [`PersistPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the absolute path of a file in letters, digits and `-_.+@:`, as in \"/etc/nftables.d/anklume.nft\"")]
pub struct BadPath;

impl PersistPath {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PersistPath {
    type Err = BadPath;

    fn from_str(text: &str) -> Result<Self, BadPath> {
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.+@:".contains(c)) && text.len() <= 4000;
        let parts = text.strip_prefix('/').map(|rest| rest.split('/').collect::<Vec<_>>()).unwrap_or_default();
        let file = !parts.is_empty() && !parts.iter().any(|part| ["", ".", ".."].contains(part));
        if plain && file { Ok(Self(text.to_owned())) } else { Err(BadPath) }
    }
}

impl fmt::Display for PersistPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_can_be_no_option_and_no_command() {
        for right in ["host", "me@host.example", "ssh://me@host:2222", "ssh://[fd00::1]:22", "::1", "ssh://h"] {
            assert!(right.parse::<Destination>().is_ok(), "{right}");
        }
        for wrong in [
            "",
            "-oProxyCommand=x",
            "me@-oX",
            "-l@host",
            "host command",
            "host;x",
            "a@b@c",
            "ssh://host:0",
            "ssh://host:x",
            "ssh://a:b:c",
            "host\n",
            "$(x)",
            "ssh://[fd00::1]x",
            "https://host",
            "h/path",
        ] {
            assert!(wrong.parse::<Destination>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_is_named_from_the_root() {
        assert!("/etc/nftables.d/anklume.nft".parse::<PersistPath>().is_ok());
        for wrong in
            ["", "x", "/", "/etc/", "/etc/..", "/etc/../x", "/etc//x", "/etc/a b", "/etc/$(x)", "/a\nb", "/a\0"]
        {
            assert!(wrong.parse::<PersistPath>().is_err(), "{wrong:?}");
        }
    }
}
