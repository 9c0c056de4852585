//! Where Incus listens, and how a stream to it comes about.

mod pin;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

pub use pin::Pin;

use super::error::{Cause, ConnectFault, Error};

/// The port of Incus' API where an address names none.
const PORT: u16 = 8443;

/// A client certificate and its key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key: PKCS #8, SEC 1 or PKCS #1.
    pub key_pem: String,
}

impl Identity {
    /// The certificate as the API takes it: base64 of DER.
    pub(crate) fn certificate_base64(&self) -> Result<String, rustls::pki_types::pem::Error> {
        let der = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes())?;
        Ok(base64::engine::general_purpose::STANDARD.encode(&der))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// Where Incus listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// HTTPS with TLS 1.3.
    Https {
        /// `host:port` or `host` (port 8443), tried in order; IPv6 in brackets.
        addresses: Vec<String>,
        /// Our client certificate.
        identity: Option<Identity>,
        /// The server's certificate.
        pin: Pin,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Https { addresses, .. } => {
                write!(f, "https://{}", addresses.first().map_or("", String::as_str))
            }
        }
    }
}

impl Endpoint {
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "incus",
            Self::Https { addresses, .. } => addresses.first().map_or("incus", String::as_str),
        }
    }
}

/// A stream in both directions.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(crate) type Stream = Box<dyn Duplex>;

/// Makes streams to one endpoint.
pub(crate) struct Connector {
    endpoint: Endpoint,
    timeout: Duration,
    tls: OnceLock<Result<Arc<rustls::ClientConfig>, Error>>,
}

impl Connector {
    pub(crate) fn new(endpoint: Endpoint, timeout: Duration) -> Self {
        Self { endpoint, timeout, tls: OnceLock::new() }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) async fn connect(&self) -> Result<Stream, Error> {
        match tokio::time::timeout(self.timeout, self.open()).await {
            Ok(result) => result,
            Err(_) => Err(self.failed(ConnectFault::Timeout, None)),
        }
    }

    async fn open(&self) -> Result<Stream, Error> {
        match &self.endpoint {
            Endpoint::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => Err(self.broken(error)),
            },
            Endpoint::Https { addresses, identity, pin } => {
                let config = self.tls.get_or_init(|| self.configure(identity.as_ref(), pin)).clone()?;
                let mut last = None;
                for address in addresses {
                    match self.secure(address, config.clone()).await {
                        Ok(stream) => return Ok(stream),
                        Err(error) => last = Some(error),
                    }
                }
                Err(last.unwrap_or_else(|| self.failed(ConnectFault::Other, None)))
            }
        }
    }

    async fn secure(&self, address: &str, config: Arc<rustls::ClientConfig>) -> Result<Stream, Error> {
        let (host, port) = split(address).ok_or_else(|| self.broken(io::Error::other("an address without a host")))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| self.broken(io::Error::other(error)))?;
        let tcp = TcpStream::connect((host, port)).await.map_err(|error| self.broken(error))?;
        tcp.set_nodelay(true).map_err(|error| self.broken(error))?;
        let connector = tokio_rustls::TlsConnector::from(config);
        let stream = connector.connect(name, tcp).await.map_err(|error| self.broken(error))?;
        Ok(Box::new(stream))
    }

    fn configure(&self, identity: Option<&Identity>, pin: &Pin) -> Result<Arc<rustls::ClientConfig>, Error> {
        let unusable = |source: Cause| self.failed(ConnectFault::Identity, Some(source));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| self.failed(ConnectFault::Other, Some(Arc::new(error))))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pin::Verifier::new(pin.clone(), provider)));
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes())
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|error| unusable(Arc::new(error)))?;
                let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())
                    .map_err(|error| unusable(Arc::new(error)))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| unusable(Arc::new(error)))?
            }
        };
        Ok(Arc::new(config))
    }

    fn failed(&self, fault: ConnectFault, source: Option<Cause>) -> Error {
        Error::Connect { endpoint: self.endpoint.to_string(), fault, source }
    }

    fn broken(&self, error: io::Error) -> Error {
        let fault = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ConnectFault::NoDaemon,
            io::ErrorKind::PermissionDenied => ConnectFault::PermissionDenied,
            io::ErrorKind::TimedOut => ConnectFault::Timeout,
            _ => match pin::presented(&error) {
                // The fault says it all; the TLS error would only show it in its own notation.
                Some(presented) => return self.failed(ConnectFault::WrongCertificate { presented }, None),
                None => ConnectFault::Other,
            },
        };
        self.failed(fault, Some(Arc::new(error)))
    }
}

/// Host and port of `host`, `host:port`, `[::1]:port` or `::1`.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        (host, rest.strip_prefix(':'))
    } else {
        match address.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (address, None),
        }
    };
    let port = port.map_or(Some(PORT), |port| port.parse().ok())?;
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_carry_a_port() {
        assert_eq!(split("host"), Some(("host", 8443)));
        assert_eq!(split("host:1"), Some(("host", 1)));
        assert_eq!(split("[::1]:1"), Some(("::1", 1)));
        assert_eq!(split("[::1]"), Some(("::1", 8443)));
        assert_eq!(split("::1"), Some(("::1", 8443)));
        assert_eq!(split("host:x"), None);
        assert_eq!(split(""), None);
    }

    #[test]
    fn a_key_is_never_printed() {
        let identity = Identity { certificate_pem: "c".into(), key_pem: "secret".into() };
        assert!(!format!("{identity:?}").contains("secret"));
    }
}
