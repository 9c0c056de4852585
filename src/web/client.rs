//! Connections to web servers: one for each request, `https` by the certificates of the system.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::body::Error;
use super::headers::Headers;
use super::location::Location;

/// How often a server may send us elsewhere.
const REDIRECTS: usize = 10;

/// What is sent unless the caller sends another.
const OWN: [(HeaderName, &str); 2] =
    [(header::USER_AGENT, concat!("anklume/", env!("CARGO_PKG_VERSION"))), (header::ACCEPT, "*/*")];

/// How long what may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until a connection stands, TLS included, and its first answer is there; 30 s.
    pub connect: Duration,
    /// Until the next bytes of a body are there; 60 s.
    pub idle: Duration,
    /// The first pause before a broken body is continued; it doubles with each try that brings nothing. 250 ms.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(30), idle: Duration::from_secs(60), pause: Duration::from_millis(250) }
    }
}

/// A client of web servers; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Client {
    tls: Arc<OnceLock<Result<Arc<rustls::ClientConfig>, String>>>,
    trusted: Option<Vec<CertificateDer<'static>>>,
    pub(super) patience: Patience,
}

/// How a body is packed, if it is.
fn encoding(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(header::CONTENT_ENCODING).iter();
    let named = all.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned());
    named.into_iter().find(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"))
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// From which byte on, as long as the file is what it was.
pub(super) struct From<'f> {
    pub(super) byte: u64,
    pub(super) validator: Option<&'f HeaderValue>,
}

impl Client {
    /// A client that trusts the authorities of this machine (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others); they are
    /// read at the first `https`.
    pub fn new() -> Self {
        Self::default()
    }

    /// A client that trusts these authorities and no other.
    pub fn trusting(authorities: Vec<CertificateDer<'static>>) -> Self {
        Self { trusted: Some(authorities), ..Self::default() }
    }

    /// With other bounds.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Asks for `location`, wherever that leads. `headers` go to its own scheme, host and port only.
    pub(super) async fn get(
        &self,
        location: &Location,
        headers: &Headers,
        from: Option<&From<'_>>,
    ) -> Result<http::Response<Incoming>, Error> {
        let mut at = location.clone();
        for _ in 0..=REDIRECTS {
            let told = at.is_same_origin(location).then_some(headers);
            let asked = tokio::time::timeout(self.patience.connect, self.ask(&at, told, from)).await;
            let answer = asked.map_err(|_| Error::Silent { location: at.to_string() })??;
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return match encoding(answer.headers()) {
                    Some(encoding) if answer.status().is_success() => {
                        Err(Error::Encoded { location: at.to_string(), encoding })
                    }
                    _ => Ok(answer),
                };
            }
            let Some(to) = answer.headers().get(header::LOCATION).filter(|to| !to.is_empty()) else {
                return Err(Error::Nowhere { location: at.to_string(), status: answer.status() });
            };
            let to = to.to_str().unwrap_or(" ");
            let next = at.join(to).map_err(|source| Error::Redirect { location: at.to_string(), source })?;
            if at.is_secure() && !next.is_secure() {
                return Err(Error::Downgrade { location: at.to_string(), to: next.to_string() });
            }
            at = next;
        }
        Err(Error::Redirects { location: location.to_string() })
    }

    async fn ask(
        &self,
        at: &Location,
        headers: Option<&Headers>,
        from: Option<&From<'_>>,
    ) -> Result<http::Response<Incoming>, Error> {
        let lost = |source: hyper::Error| Error::Lost { location: at.to_string(), source: Arc::new(source) };
        let stream = self.connect(at).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "connection to a web server ended");
            }
        });
        let mut request = http::Request::get(at.target())
            .header(header::HOST, at.authority())
            // What is hashed and sent on is the file, not a way to pack it.
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::CONNECTION, "close");
        for (name, value) in OWN {
            if headers.is_none_or(|headers| !headers.has(&name)) {
                request = request.header(name, value);
            }
        }
        for (name, value) in headers.into_iter().flat_map(Headers::iter) {
            request = request.header(name, value);
        }
        if let Some(from) = from {
            request = request.header(header::RANGE, format!("bytes={}-", from.byte));
            if let Some(validator) = from.validator {
                request = request.header(header::IF_RANGE, validator);
            }
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|source| Error::Connect { host: at.authority(), source: Arc::new(source) })?;
        sender.send_request(request).await.map_err(lost)
    }

    async fn connect(&self, at: &Location) -> Result<Box<dyn Duplex>, Error> {
        let broken = |source: io::Error| Error::Connect { host: at.authority(), source: Arc::new(source) };
        let tcp = TcpStream::connect((at.host(), at.port())).await.map_err(broken)?;
        if !at.is_secure() {
            return Ok(Box::new(tcp));
        }
        let config = self.tls.get_or_init(|| self.configure().map(Arc::new));
        let config = config.clone().map_err(|reason| broken(io::Error::other(reason)))?;
        let name = ServerName::try_from(at.host().to_owned()).map_err(|source| broken(io::Error::other(source)))?;
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.map_err(broken)?;
        Ok(Box::new(stream))
    }

    fn configure(&self) -> Result<rustls::ClientConfig, String> {
        let mut roots = rustls::RootCertStore::empty();
        match &self.trusted {
            Some(trusted) => roots.add_parsable_certificates(trusted.iter().cloned()),
            None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        };
        if roots.is_empty() {
            return Err("this machine has no certificates of authorities (package ca-certificates)".to_owned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}
