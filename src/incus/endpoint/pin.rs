//! The server's certificate is compared exactly; no chain, no name, no date.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};
use sha2::{Digest, Sha256};

/// Which certificate the server must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// Exactly this one, DER.
    Exact(Vec<u8>),
    /// The one with this SHA-256.
    Sha256([u8; 32]),
    /// Any: only where the user accepted that.
    AcceptAny,
}

/// SHA-256 of a certificate in lower-case hex, as Incus shows fingerprints.
pub(crate) fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The server showed another certificate.
#[derive(Debug)]
struct Mismatch {
    presented: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate with fingerprint {} is not the pinned one", self.presented)
    }
}

impl std::error::Error for Mismatch {}

/// Fingerprint of the certificate that was refused, where `error` is about that.
pub(crate) fn presented(error: &std::io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
            inner.downcast_ref::<Mismatch>().map(|mismatch| mismatch.presented.clone())
        }
        _ => None,
    }
}

#[derive(Debug)]
pub(crate) struct Verifier {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(crate) fn new(pin: Pin, provider: Arc<CryptoProvider>) -> Self {
        Self { pin, provider }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let holds = match &self.pin {
            Pin::Exact(der) => der.as_slice() == leaf.as_ref(),
            Pin::Sha256(hash) => hash.as_slice() == Sha256::digest(leaf).as_slice(),
            Pin::AcceptAny => true,
        };
        if holds {
            return Ok(ServerCertVerified::assertion());
        }
        let mismatch = Mismatch { presented: fingerprint(leaf) };
        Err(CertificateError::Other(OtherError(Arc::new(mismatch))).into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
