//! Trust tokens: used once to add our certificate, kept nowhere.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Error;

/// A trust token as `incus config trust add` prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    text: String,
    content: Content,
}

#[derive(Clone, PartialEq, Eq, Deserialize)]
struct Content {
    #[serde(default)]
    client_name: String,
    fingerprint: String,
    #[serde(default)]
    addresses: Vec<String>,
}

impl Token {
    /// Reads a token: base64 of JSON.
    ///
    /// # Errors
    ///
    /// [`Error::BadToken`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let json = STANDARD.decode(text).map_err(|_| Error::BadToken)?;
        let content = serde_json::from_slice(&json).map_err(|_| Error::BadToken)?;
        Ok(Self { text: text.to_owned(), content })
    }

    /// SHA-256 of the server's certificate in hex.
    pub fn fingerprint(&self) -> &str {
        &self.content.fingerprint
    }

    /// Where the server listens, `host:port`.
    pub fn addresses(&self) -> &[String] {
        &self.content.addresses
    }

    pub(crate) fn client_name(&self) -> &str {
        &self.content.client_name
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}
