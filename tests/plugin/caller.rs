//! The core's side: its certificate on P-521, its requests, its view of the answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anklume::plugin::wire::controller::{Empty, grpc_controller_client::GrpcControllerClient};
use anklume::plugin::wire::tfplugin6 as wire;
use anklume::plugin::{Listening, Provider};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hyper_util::rt::TokioIo;
use p521::ecdsa::signature::Signer as _;
use p521::pkcs8::DecodePrivateKey as _;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureAlgorithm, SignatureScheme};
use serde_json::{Value as Json, json};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::msgpack;
use crate::toy::Toy;

pub(crate) const CORE: (&str, &str) =
    (include_str!("certificates/core.cert.pem"), include_str!("certificates/core.key.pem"));
pub(crate) const STRANGER: (&str, &str) =
    (include_str!("certificates/stranger.cert.pem"), include_str!("certificates/stranger.key.pem"));

const MESSAGE_BYTES: usize = 256 << 20;

/// Where a plugin listens, and the certificate that it announced; none in debug mode.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) socket: PathBuf,
    certificate: Option<CertificateDer<'static>>,
}

impl Address {
    /// Reads the line that a plugin prints.
    #[track_caller]
    pub(crate) fn from_handshake(line: &str) -> Address {
        let parts: Vec<_> = line.split('|').collect();
        let ["1", "6", "unix", socket, "grpc", certificate] = parts[..] else { panic!("handshake: {line}") };
        let certificate = STANDARD_NO_PAD.decode(certificate).unwrap();
        Address { socket: socket.into(), certificate: Some(certificate.into()) }
    }

    pub(crate) fn certificate(&self) -> &[u8] {
        self.certificate.as_deref().unwrap_or_default()
    }

    /// Where a plugin in debug mode listens.
    pub(crate) fn plain(socket: &Path) -> Address {
        Address { socket: socket.to_owned(), certificate: None }
    }
}

/// A TLS connection as the holder of a certificate and a key, of which either may be the wrong one.
pub(crate) async fn tls(address: &Address, who: Option<(&str, &str)>) -> std::io::Result<TlsStream<UnixStream>> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Announced(address.certificate.clone().unwrap(), provider)));
    let mut config = match who {
        Some((certificate, key)) => config.with_client_cert_resolver(Arc::new(Holder::new(certificate, key))),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = UnixStream::connect(&address.socket).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// A caller of a plugin.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) provider: wire::provider_client::ProviderClient<Channel>,
    pub(crate) controller: GrpcControllerClient<Channel>,
}

impl Caller {
    fn new(channel: Channel) -> Caller {
        let provider = wire::provider_client::ProviderClient::new(channel.clone());
        let provider = provider.max_decoding_message_size(MESSAGE_BYTES);
        Caller { provider, controller: GrpcControllerClient::new(channel) }
    }

    /// Connects with the core's certificate, or without TLS where the plugin announced none.
    pub(crate) async fn connect(address: &Address) -> Caller {
        let connected = match address.certificate {
            Some(_) => Caller::connect_as(address, Some(CORE)).await,
            None => Caller::connect_plainly(address).await,
        };
        connected.unwrap()
    }

    /// Connects as someone else.
    pub(crate) async fn connect_as(
        address: &Address,
        who: Option<(&'static str, &'static str)>,
    ) -> Result<Caller, tonic::transport::Error> {
        let address = address.clone();
        let connect = tower::service_fn(move |_| {
            let address = address.clone();
            async move { tls(&address, who).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://plugin").connect_with_connector(connect).await.map(Caller::new)
    }

    /// Connects without TLS.
    pub(crate) async fn connect_plainly(address: &Address) -> Result<Caller, tonic::transport::Error> {
        let socket = address.socket.clone();
        let connect = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://plugin").connect_with_connector(connect).await.map(Caller::new)
    }

    /// A configured toy in this process.
    pub(crate) async fn toy() -> Caller {
        Caller::of(Toy::default()).await
    }

    /// A configured provider in this process.
    pub(crate) async fn of<P: Provider>(provider: P) -> Caller {
        let caller = Caller::connect(&listen(provider)).await;
        caller.configure().await;
        caller
    }

    pub(crate) async fn configure(&self) {
        let config = dynamic(&json!({"remote": null}));
        let request = wire::configure_provider::Request { terraform_version: "1.11.4".to_owned(), config };
        let response = self.provider.clone().configure_provider(request).await.unwrap().into_inner();
        assert!(response.diagnostics.is_empty());
    }

    pub(crate) async fn schemas(&self) -> wire::get_provider_schema::Response {
        let request = wire::get_provider_schema::Request {};
        self.provider.clone().get_provider_schema(request).await.unwrap().into_inner()
    }

    pub(crate) async fn validate(&self, config: &Json) -> Answer {
        let request = wire::validate_resource_config::Request { type_name: thing_name(), config: dynamic(config) };
        let response = self.provider.clone().validate_resource_config(request).await.unwrap().into_inner();
        Answer::new(None, Vec::new(), &response.diagnostics)
    }

    /// Plans; a null `config` is a destruction, a null `prior` a creation.
    pub(crate) async fn plan(&self, config: &Json, prior: &Json, private: &[u8]) -> Answer {
        let request = wire::plan_resource_change::Request {
            type_name: thing_name(),
            prior_state: dynamic(prior),
            proposed_new_state: dynamic(config),
            config: dynamic(config),
            prior_private: private.to_vec(),
        };
        let response = self.provider.clone().plan_resource_change(request).await.unwrap().into_inner();
        let mut answer = Answer::new(response.planned_state, response.planned_private, &response.diagnostics);
        answer.replace = response.requires_replace.iter().map(path).collect();
        answer
    }

    pub(crate) async fn apply(&self, config: &Json, prior: &Json, planned: &Json, private: &[u8]) -> Answer {
        let request = wire::apply_resource_change::Request {
            type_name: thing_name(),
            prior_state: dynamic(prior),
            planned_state: dynamic(planned),
            config: dynamic(config),
            planned_private: private.to_vec(),
        };
        let response = self.provider.clone().apply_resource_change(request).await.unwrap().into_inner();
        Answer::new(response.new_state, response.private, &response.diagnostics)
    }

    /// Plans and applies a new object.
    pub(crate) async fn create(&self, config: &Json) -> Answer {
        self.change(config, &Json::Null, &[]).await
    }

    /// Plans and applies.
    pub(crate) async fn change(&self, config: &Json, prior: &Json, private: &[u8]) -> Answer {
        let planned = self.plan(config, prior, private).await.fine();
        self.apply(config, prior, &planned.state, &planned.private).await
    }

    pub(crate) async fn read(&self, state: &Json, private: &[u8]) -> Answer {
        let (current_state, private) = (dynamic(state), private.to_vec());
        let request = wire::read_resource::Request { type_name: thing_name(), current_state, private };
        let response = self.provider.clone().read_resource(request).await.unwrap().into_inner();
        Answer::new(response.new_state, response.private, &response.diagnostics)
    }

    pub(crate) async fn import(&self, id: &str) -> Answer {
        let request = wire::import_resource_state::Request { type_name: thing_name(), id: id.to_owned() };
        let mut response = self.provider.clone().import_resource_state(request).await.unwrap().into_inner();
        assert_eq!(response.imported_resources.len(), 1);
        let imported = response.imported_resources.remove(0);
        assert_eq!(imported.type_name, thing_name());
        Answer::new(imported.state, imported.private, &response.diagnostics)
    }

    pub(crate) async fn upgrade(&self, version: i64, state: &Json) -> Answer {
        let raw_state = Some(wire::RawState { json: state.to_string().into_bytes(), ..Default::default() });
        let request = wire::upgrade_resource_state::Request { type_name: thing_name(), version, raw_state };
        let response = self.provider.clone().upgrade_resource_state(request).await.unwrap().into_inner();
        Answer::new(response.upgraded_state, Vec::new(), &response.diagnostics)
    }

    pub(crate) async fn stop(&self) {
        let request = wire::stop_provider::Request {};
        let response = self.provider.clone().stop_provider(request).await.unwrap().into_inner();
        assert_eq!(response.error, "");
    }

    pub(crate) async fn shutdown(&self) {
        // The connection may go before the answer arrives.
        let _ = self.controller.clone().shutdown(Empty {}).await;
    }
}

/// Serves a provider in this process.
pub(crate) fn listen<P: Provider>(provider: P) -> Address {
    let listening = Listening::new("test/toy", provider, CORE.0).unwrap();
    let address = Address::from_handshake(&listening.handshake_line());
    assert_eq!(address.socket, listening.socket());
    tokio::spawn(listening.run());
    address
}

pub(crate) fn thing_name() -> String {
    "toy_thing".to_owned()
}

/// An object of the toy with every attribute, null where `members` has none.
pub(crate) fn thing(members: Json) -> Json {
    let mut thing = json!({"id": null, "name": "web", "kind": null, "note": null, "secret": null, "size": null,
        "tags": null, "anything": null, "nics": null});
    for (name, member) in members.as_object().unwrap() {
        thing[name] = member.clone();
    }
    thing
}

pub(crate) fn dynamic(value: &Json) -> Option<wire::DynamicValue> {
    Some(wire::DynamicValue { msgpack: msgpack::encode(value), json: Vec::new() })
}

/// What came back.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) state: Json,
    pub(crate) private: Vec<u8>,
    pub(crate) replace: Vec<String>,
    /// Each as `path: summary: detail`.
    pub(crate) errors: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    #[track_caller]
    fn new(state: Option<wire::DynamicValue>, private: Vec<u8>, diagnostics: &[wire::Diagnostic]) -> Answer {
        let all = |severity: wire::diagnostic::Severity| {
            let found = diagnostics.iter().filter(|diagnostic| diagnostic.severity() == severity);
            let text = |diagnostic: &wire::Diagnostic| {
                let path = diagnostic.attribute.as_ref().map(path).unwrap_or_default();
                format!("{path}: {}: {}", diagnostic.summary, diagnostic.detail)
            };
            found.map(text).collect()
        };
        let state = state.map(|state| {
            assert!(state.json.is_empty(), "an answer is in MessagePack only");
            msgpack::decode(&state.msgpack)
        });
        Answer {
            state: state.unwrap_or_default(),
            private,
            replace: Vec::new(),
            errors: all(wire::diagnostic::Severity::Error),
            warnings: all(wire::diagnostic::Severity::Warning),
        }
    }

    /// The same, which nothing was wrong with.
    #[track_caller]
    pub(crate) fn fine(self) -> Answer {
        assert_eq!(self.errors, [""; 0]);
        self
    }

    /// The only error, `path: summary: detail`.
    #[track_caller]
    pub(crate) fn error(&self) -> &str {
        let [error] = &self.errors[..] else { panic!("not one error: {:?}", self.errors) };
        error
    }
}

fn path(path: &wire::AttributePath) -> String {
    use wire::attribute_path::step::Selector;
    let step = |step: &wire::attribute_path::Step| match step.selector.clone().unwrap() {
        Selector::AttributeName(name) => format!(".{name}"),
        Selector::ElementKeyString(key) => format!("[{key:?}]"),
        Selector::ElementKeyInt(index) => format!("[{index}]"),
    };
    path.steps.iter().map(step).collect::<String>().trim_start_matches('.').to_owned()
}

/// Accepts the one certificate that the plugin announced.
#[derive(Debug)]
struct Announced(CertificateDer<'static>, Arc<CryptoProvider>);

impl ServerCertVerifier for Announced {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        assert_eq!(*certificate, self.0);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.1.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.1.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.1.signature_verification_algorithms.supported_schemes()
    }
}

/// Shows a certificate and signs on P-521, as the core does.
#[derive(Debug)]
struct Holder(Arc<CertifiedKey>);

impl Holder {
    fn new(certificate: &str, key: &str) -> Holder {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let secret = p521::SecretKey::from_pkcs8_der(key.secret_der()).unwrap();
        let key = P521(p521::ecdsa::SigningKey::from_slice(&secret.to_bytes()).unwrap());
        Holder(Arc::new(CertifiedKey::new(vec![certificate], Arc::new(key))))
    }
}

impl ResolvesClientCert for Holder {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Clone)]
struct P521(p521::ecdsa::SigningKey);

impl std::fmt::Debug for P521 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("P521")
    }
}

impl SigningKey for P521 {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for P521 {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature: p521::ecdsa::Signature = self.0.sign(message);
        Ok(signature.to_der().as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP521_SHA512
    }
}
