//! Mutual TLS with the core: our certificate is fresh, the core's is pinned byte for byte.
//!
//! The core's certificate is on P-521 and marked as an authority, which stock verifiers refuse and `ring` cannot check.

use std::sync::Arc;

use p521::ecdsa::signature::Verifier;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm, UnixTime,
    alg_id,
};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
};

use super::serve::ServeError;

/// Our side of the connection.
pub(super) struct Identity {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) acceptor: TlsAcceptor,
}

/// Makes a certificate on P-256 and an acceptor that lets in only the holder of `core_pem`.
pub(super) fn identity(core_pem: &str) -> Result<Identity, ServeError> {
    let core = CertificateDer::from_pem_slice(core_pem.as_bytes()).map_err(ServeError::CoreCertificate)?;
    let key = rcgen::KeyPair::generate().map_err(ServeError::Certificate)?;
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .and_then(|params| params.self_signed(&key))
        .map_err(ServeError::Certificate)?
        .der()
        .clone();
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Pinned { core, algorithms: algorithms(provider.signature_verification_algorithms) });
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut config = tls_config(provider)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.clone()], key)
        .map_err(ServeError::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Sessions are never resumed: each connection proves its certificate.
    config.send_tls13_tickets = 0;
    Ok(Identity { certificate, acceptor: TlsAcceptor::from(Arc::new(config)) })
}

type Builder = tokio_rustls::rustls::ConfigBuilder<ServerConfig, tokio_rustls::rustls::WantsVerifier>;

fn tls_config(provider: Arc<CryptoProvider>) -> Result<Builder, ServeError> {
    ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(ServeError::Tls)
}

/// Accepts one certificate, and whoever proves to hold its key.
#[derive(Debug)]
struct Pinned {
    core: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Pinned {
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match certificate.as_ref() == self.core.as_ref() {
            true => Ok(ClientCertVerified::assertion()),
            false => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// P-521, which the core uses, in front of what `ring` can check.
fn algorithms(ring: WebPkiSupportedAlgorithms) -> WebPkiSupportedAlgorithms {
    const P521: &[&dyn SignatureVerificationAlgorithm] = &[&EcdsaP521Sha512];
    let all = P521.iter().chain(ring.all).copied().collect::<Vec<_>>();
    let first = (SignatureScheme::ECDSA_NISTP521_SHA512, P521);
    let mapping = std::iter::once(first).chain(ring.mapping.iter().copied()).collect::<Vec<_>>();
    // Leaked once per process: rustls asks for lists that live as long as it.
    WebPkiSupportedAlgorithms { all: all.leak(), mapping: mapping.leak() }
}

/// ECDSA on P-521 with SHA-512.
#[derive(Debug)]
struct EcdsaP521Sha512;

impl SignatureVerificationAlgorithm for EcdsaP521Sha512 {
    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA512
    }

    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = p521::ecdsa::DerSignature::from_bytes(signature).and_then(p521::ecdsa::Signature::try_from);
        key.verify(message, &signature.map_err(|_| InvalidSignature)?).map_err(|_| InvalidSignature)
    }
}
