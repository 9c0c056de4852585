//! The bytes of a file as they come, over as many connections as that takes.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};

use super::client::{Client, From};
use super::headers::Headers;
use super::location::{BadLocation, Location};

/// How often in a row a broken body is continued.
const TRIES: u32 = 6;
/// So many bytes since the last break make a new row, 1 MiB.
const PROGRESS: u64 = 1 << 20;

/// Why a file cannot be read. No text holds a header or a query.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection: name, network, TLS.
    #[error("cannot connect to {host}")]
    Connect {
        /// Host and port.
        host: String,
        /// The error below.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The connection broke, and what was tried to continue did not help.
    #[error("the connection broke while {location} was read")]
    Lost {
        /// Where it is.
        location: String,
        /// The error below.
        #[source]
        source: Arc<hyper::Error>,
    },
    /// The server sends nothing any more.
    #[error("{location}: the server has fallen silent")]
    Silent {
        /// Where it is.
        location: String,
    },
    /// Any answer but the file.
    #[error("{location}: the server answers {status}")]
    Status {
        /// Where it is.
        location: String,
        /// What it answers.
        status: StatusCode,
    },
    /// From `https` to `http`.
    #[error("{location} leads to {to}, which is not encrypted")]
    Downgrade {
        /// Where it was.
        location: String,
        /// Where it leads.
        to: String,
    },
    /// More than ten redirects.
    #[error("{location} leads on and on")]
    Redirects {
        /// Where it began.
        location: String,
    },
    /// A redirect to what is no location.
    #[error("{location} leads to what cannot be read")]
    Redirect {
        /// Where it was.
        location: String,
        /// The error below.
        #[source]
        source: BadLocation,
    },
    /// A redirect that does not say where to.
    #[error("{location}: the server answers {status} and does not say where the file is")]
    Nowhere {
        /// Where it was.
        location: String,
        /// What it answers.
        status: StatusCode,
    },
    /// The file packed for the way, which nobody asked for.
    #[error("{location}: the server sends the file encoded with {encoding}")]
    Encoded {
        /// Where it is.
        location: String,
        /// `Content-Encoding`.
        encoding: String,
    },
    /// Another file is there than when the transfer began.
    #[error("{location} has changed while it was read")]
    Changed {
        /// Where it is.
        location: String,
    },
    /// Less is there than was announced.
    #[error("{location}: the server announced {announced} bytes and has {has}")]
    Short {
        /// Where it is.
        location: String,
        /// What was announced, in bytes.
        announced: u64,
        /// What came, in bytes.
        has: u64,
    },
}

impl Error {
    /// Whether to ask again, for the rest, may help.
    fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Lost { .. } | Self::Silent { .. } => true,
            Self::Status { status, .. } => matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}

/// A file that is being read.
#[derive(Debug)]
pub struct Body {
    client: Client,
    location: Location,
    headers: Headers,
    /// What the connection still brings; `None` where it broke.
    incoming: Option<Incoming>,
    /// Of `incoming`, how much was handed on before.
    skip: u64,
    /// How much was handed on.
    position: u64,
    length: Option<u64>,
    validator: Option<HeaderValue>,
    tries: u32,
    /// Where the last break was.
    broke_at: u64,
    /// Why the last connection ended.
    last: Option<Error>,
}

impl Body {
    /// Asks for the file at `location`.
    ///
    /// # Errors
    ///
    /// No connection, or any answer but the file. Nothing is tried twice yet.
    pub async fn open(client: &Client, location: Location, headers: Headers) -> Result<Self, Error> {
        let answer = client.get(&location, &headers, None).await?;
        if answer.status() != StatusCode::OK {
            return Err(Error::Status { location: location.to_string(), status: answer.status() });
        }
        let validator = validator(answer.headers());
        let incoming = answer.into_body();
        Ok(Self {
            client: client.clone(),
            location,
            headers,
            length: incoming.size_hint().exact(),
            incoming: Some(incoming),
            skip: 0,
            position: 0,
            validator,
            tries: 0,
            broke_at: 0,
            last: None,
        })
    }

    /// How long the server says that the file is, in bytes.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next bytes; `None` at the end. Where the connection breaks, the rest is asked for (`Range`, `If-Range`), six
    /// times in a row at most.
    ///
    /// # Errors
    ///
    /// What stands in the way for good; [`Error::Changed`] where the rest would be that of another file.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let Some(incoming) = &mut self.incoming else {
                self.go_on().await?;
                continue;
            };
            let location = || self.location.to_string();
            let frame = match tokio::time::timeout(self.client.patience.idle, incoming.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(source))) => {
                    let error = Error::Lost { location: location(), source: Arc::new(source) };
                    self.broke(error)?;
                    continue;
                }
                Ok(None) => match self.length {
                    Some(announced) if self.position < announced => {
                        let error = Error::Short { location: location(), announced, has: self.position };
                        self.broke(error)?;
                        continue;
                    }
                    _ => return Ok(None),
                },
                Err(_) => {
                    let error = Error::Silent { location: location() };
                    self.broke(error)?;
                    continue;
                }
            };
            let Ok(mut data) = frame.into_data() else { continue };
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(data.len());
            self.skip -= skipped as u64;
            let data = data.split_off(skipped);
            if !data.is_empty() {
                self.position += data.len() as u64;
                return Ok(Some(data));
            }
        }
    }

    /// Counts a break; its error where there were too many.
    fn broke(&mut self, error: Error) -> Result<(), Error> {
        tracing::debug!(position = self.position, %error, "a transfer broke");
        self.incoming = None;
        if self.position >= self.broke_at.saturating_add(PROGRESS) {
            self.tries = 0;
        }
        self.broke_at = self.position;
        self.tries += 1;
        self.last = Some(error.clone());
        if self.tries > TRIES { Err(error) } else { Ok(()) }
    }

    /// Asks for the rest.
    async fn go_on(&mut self) -> Result<(), Error> {
        tokio::time::sleep(self.client.patience.pause.saturating_mul(1 << (self.tries.max(1) - 1).min(5))).await;
        let from = From { byte: self.position, validator: self.validator.as_ref() };
        // From the first byte on, all of it is the rest.
        let from = (self.position > 0).then_some(&from);
        let answer = match self.client.get(&self.location, &self.headers, from).await {
            Ok(answer) => answer,
            Err(error) if error.is_passing() => return self.broke(error),
            Err(error) => return Err(error),
        };
        match self.accept(&answer) {
            Ok(skip) => {
                self.skip = skip;
                self.incoming = Some(answer.into_body());
                Ok(())
            }
            Err(error) if error.is_passing() => self.broke(error),
            Err(error) => Err(error),
        }
    }

    /// How much of an answer was there before, if it is about the same file.
    fn accept(&self, answer: &http::Response<Incoming>) -> Result<u64, Error> {
        let location = || self.location.to_string();
        let changed = || Error::Changed { location: location() };
        let has_changed = |length: Option<u64>| {
            let now = validator(answer.headers());
            (self.validator.is_some() && now.is_some() && now != self.validator)
                || (self.length.is_some() && length.is_some() && length != self.length)
        };
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                let Some((first, total)) = content_range(answer.headers()) else { return Err(changed()) };
                if first != self.position || has_changed(total) { Err(changed()) } else { Ok(0) }
            }
            StatusCode::OK if has_changed(answer.body().size_hint().exact()) => Err(changed()),
            StatusCode::OK => Ok(self.position),
            StatusCode::RANGE_NOT_SATISFIABLE => match self.length {
                Some(announced) => Err(Error::Short { location: location(), announced, has: self.position }),
                None => Err(self.last.clone().unwrap_or_else(changed)),
            },
            StatusCode::PRECONDITION_FAILED => Err(changed()),
            status => Err(Error::Status { location: location(), status }),
        }
    }
}

/// By what the file is known: a strong ETag, else the time of its last change.
fn validator(headers: &HeaderMap) -> Option<HeaderValue> {
    let strong = headers.get(header::ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"));
    strong.or_else(|| headers.get(header::LAST_MODIFIED)).cloned()
}

/// First byte and length of the whole in `bytes 5-9/10`; the length may be `*`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-')?.0.trim().parse().ok()?;
    match total.trim() {
        "*" => Some((first, None)),
        total => Some((first, Some(total.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_weak_tag_does_not_tell_a_file() {
        let of = |pairs| validator(&headers(pairs)).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(of(&[("etag", "\"a\""), ("last-modified", "x")]).as_deref(), Some("\"a\""));
        assert_eq!(of(&[("etag", "W/\"a\""), ("last-modified", "x")]).as_deref(), Some("x"));
        assert_eq!(of(&[("etag", "W/\"a\"")]), None);
    }

    #[test]
    fn a_range_says_where_it_begins_and_how_long_the_whole_is() {
        let of = |text: &str| content_range(&headers(&[("content-range", text)]));
        assert_eq!(of("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(of("bytes 5-9/*"), Some((5, None)));
        assert_eq!((of("bytes */10"), of("5-9/10")), (None, None));
    }
}
