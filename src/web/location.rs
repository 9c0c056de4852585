//! Where a file is: an absolute URL of `http` or `https`.

use std::fmt;

use http::Uri;

/// Why a text is no location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadLocation {
    /// Not `http://` or `https://`.
    #[error("neither http:// nor https://")]
    Scheme,
    /// No host, or one that cannot be.
    #[error("no host")]
    Host,
    /// `user:password@`.
    #[error("a user or password before the host")]
    User,
    /// Spaces, or characters beyond ASCII.
    #[error("characters that have to be percent-encoded")]
    Characters,
}

/// An absolute URL of `http` or `https`, without a user.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    secure: bool,
    host: String,
    port: u16,
    /// Path and query.
    target: String,
}

/// Without the query, which may hold a secret.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.path())
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

impl Location {
    /// Reads an absolute URL; a fragment is left out.
    ///
    /// # Errors
    ///
    /// [`BadLocation`].
    pub fn parse(text: &str) -> Result<Self, BadLocation> {
        let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        let secure = match lower.as_str() {
            _ if lower.starts_with("https://") => true,
            _ if lower.starts_with("http://") => false,
            _ => return Err(BadLocation::Scheme),
        };
        let plain = text.split('#').next().unwrap_or_default();
        if !plain.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadLocation::Characters);
        }
        let uri: Uri = plain.parse().map_err(|_| BadLocation::Host)?;
        let authority = uri.authority().ok_or(BadLocation::Host)?;
        if authority.as_str().contains('@') {
            return Err(BadLocation::User);
        }
        let host = authority.host();
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => Some(if secure { 443 } else { 80 }),
            _ => authority.port_u16(),
        };
        match (host.trim_matches(['[', ']']).is_empty(), port) {
            (false, Some(port)) => Ok(Self {
                secure,
                host: host.to_ascii_lowercase(),
                port,
                target: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            }),
            _ => Err(BadLocation::Host),
        }
    }

    /// Where `reference`, as a server writes it into `Location`, leads from here (RFC 3986, 5.2, `.` and `..` left to
    /// the server).
    ///
    /// # Errors
    ///
    /// [`BadLocation`].
    pub fn join(&self, reference: &str) -> Result<Self, BadLocation> {
        let site = format!("{}://{}", self.scheme(), self.authority());
        let directory = || self.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        let has_scheme = reference.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':'));
        Self::parse(&match reference {
            _ if has_scheme => reference.to_owned(),
            _ if reference.starts_with("//") => format!("{}:{reference}", self.scheme()),
            _ if reference.starts_with('/') => format!("{site}{reference}"),
            _ if reference.starts_with('?') => format!("{site}{}{reference}", self.path()),
            _ => format!("{site}{}/{reference}", directory()),
        })
    }

    /// Whether it is on the same server by the same scheme: what may be told to the one may be told to the other.
    pub fn is_same_origin(&self, other: &Self) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    /// Whether it is `https`.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The path alone.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Host and port as `Host` has them.
    pub fn authority(&self) -> String {
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn leads(from: &str, reference: &str, to: &str) {
        let found = Location::parse(from).unwrap().join(reference).unwrap();
        assert_eq!(format!("{}://{}{}", found.scheme(), found.authority(), found.target()), to);
    }

    #[test]
    fn a_location_has_a_scheme_and_a_host_and_no_user() {
        for (text, wrong) in [
            ("ftp://host/x", BadLocation::Scheme),
            ("host/x", BadLocation::Scheme),
            ("https:///x", BadLocation::Host),
            ("https://:8/x", BadLocation::Host),
            ("https://host:x/", BadLocation::Host),
            ("https://me:secret@host/x", BadLocation::User),
            ("https://host/a b", BadLocation::Characters),
            ("https://host/ü", BadLocation::Characters),
        ] {
            assert_eq!(Location::parse(text), Err(wrong), "{text}");
        }
        let found = Location::parse("HTTPS://Host:8443/a/b?c=d#e").unwrap();
        assert_eq!((found.host(), found.port(), found.target()), ("host", 8443, "/a/b?c=d"));
        assert_eq!(Location::parse("http://[::1]:80").unwrap().host(), "::1");
        assert_eq!(Location::parse("http://host").unwrap().target(), "/");
    }

    #[test]
    fn a_redirect_is_read_as_a_browser_reads_it() {
        let from = "https://host/a/b?c";
        leads(from, "/x?y", "https://host/x?y");
        leads(from, "x", "https://host/a/x");
        leads(from, "?z", "https://host/a/b?z");
        leads(from, "//other/x", "https://other/x");
        leads(from, "http://other:8/x#f", "http://other:8/x");
        leads(from, "y/z:1", "https://host/a/y/z:1");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let of = |text| Location::parse(text).unwrap();
        assert!(of("https://a/x").is_same_origin(&of("https://A:443/y")));
        for other in ["http://a/x", "https://b/x", "https://a:8443/x"] {
            assert!(!of("https://a/x").is_same_origin(&of(other)));
        }
    }

    #[test]
    fn a_query_is_not_shown() {
        assert_eq!(Location::parse("https://host/a?token=secret").unwrap().to_string(), "https://host/a");
    }
}
