//! Headers that a request carries beside our own.

use std::fmt;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers that a transfer sets itself.
const RESERVED: [HeaderName; 12] = [
    header::HOST,
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
];

/// Why a header cannot be sent. Never names a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadHeader {
    /// No name that HTTP has.
    #[error("{0:?} is no name of a header")]
    Name(String),
    /// One that a transfer sets itself.
    #[error("{0} is set by the transfer itself")]
    Reserved(String),
    /// Line breaks or other control characters in the value of this one.
    #[error("the value of {0} has characters that no header may have")]
    Value(String),
}

/// Headers whose values are secrets: they are shown nowhere.
#[derive(Clone, Default)]
pub struct Headers(HeaderMap);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Headers {
    /// Adds a header; the same name again replaces it.
    ///
    /// # Errors
    ///
    /// [`BadHeader`].
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), BadHeader> {
        let parsed: HeaderName = name.parse().map_err(|_| BadHeader::Name(name.to_owned()))?;
        if RESERVED.contains(&parsed) {
            return Err(BadHeader::Reserved(name.to_owned()));
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| BadHeader::Value(name.to_owned()))?;
        value.set_sensitive(true);
        self.0.insert(parsed, value);
        Ok(())
    }

    pub(super) fn has(&self, name: &HeaderName) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_never_printed() {
        let mut headers = Headers::default();
        headers.set("Authorization", "Bearer secret").unwrap();
        assert_eq!(format!("{headers:?}"), "{\"authorization\"}");
        let wrong = headers.set("X-Token", "secret\n").unwrap_err();
        assert!(!format!("{wrong} {wrong:?}").contains("secret"));
        assert!(!format!("{:?}", headers.iter().collect::<Vec<_>>()).contains("secret"));
    }

    #[test]
    fn what_the_transfer_sets_is_refused() {
        let mut headers = Headers::default();
        assert_eq!(headers.set("range", "bytes=0-"), Err(BadHeader::Reserved("range".into())));
        assert_eq!(headers.set("a b", "c"), Err(BadHeader::Name("a b".into())));
        assert!(headers.set("X-Api-Key", "c").is_ok());
    }
}
