//! Connections: their faults, the pin, trust, limits, events.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anklume::incus::events::Notice;
use anklume::incus::remote::{Target, Token};
use anklume::incus::{Client, ConnectFault, Endpoint, Error, Identity, Limits, Pin, project, server};
use base64::Engine;
use futures_util::SinkExt;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, UnixListener};

use super::fake::{self, Answer, Fake, Seen, error, sync};

async fn fault(client: &Client) -> ConnectFault {
    match client.get::<project::Project>(project::get("p")).await {
        Err(Error::Connect { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_daemon_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("unix.socket");
    assert_eq!(fault(&Client::new(Endpoint::Unix(path.clone()))).await, ConnectFault::NoDaemon);
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(fault(&Client::new(Endpoint::Unix(path))).await, ConnectFault::NoDaemon);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again() {
    let fake = Fake::start(|_| async { sync(json!({"name": "p"})) }).await;
    fake.client.get::<project::Project>(project::get("p")).await.unwrap();
    std::fs::remove_file(fake.path()).unwrap();
    fake.client.get::<project::Project>(project::get("p")).await.expect("the idle connection is used");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_that_was_closed_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("unix.socket");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let body = r#"{"type":"sync","metadata":{}}"#;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let client = Client::new(Endpoint::Unix(path));
    for _ in 0..20 {
        client.get::<project::Project>(project::get("p")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_in_the_middle_is_a_typed_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("unix.socket");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"type\":").await;
        }
    });
    let client = Client::new(Endpoint::Unix(path));
    let error = client.get::<project::Project>(project::get("p")).await.unwrap_err();
    assert!(error.is_connection() && !error.may_have_been_sent());
    let error = client.run(project::delete("p"), &Default::default()).await.unwrap_err();
    assert!(error.is_connection() && error.may_have_been_sent());
}

#[tokio::test(start_paused = true)]
async fn an_answer_beyond_the_limit_is_refused() {
    let fake = Fake::start(|_| async { sync(json!({"description": "x".repeat(5000)})) }).await;
    let limits = Limits { body_bytes: 4096, ..Limits::default() };
    let client = Client::with_limits(Endpoint::Unix(fake.path()), limits);
    let error = client.get::<project::Project>(project::get("p")).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit_bytes: 4096, .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_never_answered_ends() {
    let fake = Fake::start(|_| std::future::pending::<Answer>()).await;
    assert!(fake.client.get::<project::Project>(project::get("p")).await.unwrap_err().is_deadline());
}

fn pair() -> (Identity, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    (Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }, certificate.der().to_vec())
}

/// A TLS server on loopback; its address, its certificate, and what it saw.
async fn tls(answer: fn(Seen) -> Answer) -> (String, Vec<u8>, Arc<Mutex<Vec<Seen>>>) {
    use rustls::pki_types::pem::PemObject;
    let (identity, der) = pair();
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(der.clone())], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let (log, answer) = (seen.clone(), Arc::new(move |seen| async move { answer(seen) }));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(fake::serve(stream, log.clone(), answer.clone()));
            }
        }
    });
    (address, der, seen)
}

fn https(address: &str, pin: Pin, identity: Option<Identity>) -> Endpoint {
    Endpoint::Https { addresses: vec![address.to_owned()], identity, pin }
}

#[tokio::test]
async fn only_the_pinned_certificate_is_taken() {
    let (address, der, _) = tls(|_| sync(json!({"name": "p"}))).await;
    let hash: [u8; 32] = Sha256::digest(&der).into();
    let presented = hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for pin in [Pin::Exact(der), Pin::Sha256(hash), Pin::AcceptAny] {
        let client = Client::new(https(&address, pin, Some(pair().0)));
        client.get::<project::Project>(project::get("p")).await.unwrap();
    }
    for pin in [Pin::Exact(pair().1), Pin::Sha256([0; 32])] {
        let client = Client::new(https(&address, pin, None));
        assert_eq!(fault(&client).await, ConnectFault::WrongCertificate { presented: presented.clone() });
    }
}

#[tokio::test]
async fn an_unusable_key_is_said() {
    let broken = Identity { certificate_pem: "no".into(), key_pem: "no".into() };
    let client = Client::new(https("127.0.0.1:1", Pin::AcceptAny, Some(broken)));
    assert_eq!(fault(&client).await, ConnectFault::Identity);
}

#[tokio::test]
async fn an_untrusted_client_is_told_apart_from_a_forbidden_request() {
    let untrusted = |seen: Seen| {
        if seen.line == "GET /1.0" { sync(json!({"auth": "untrusted"})) } else { error(403, "not authorized") }
    };
    let (address, ..) = tls(untrusted).await;
    let client = Client::new(https(&address, Pin::AcceptAny, None));
    assert_eq!(fault(&client).await, ConnectFault::Untrusted);
    assert!(matches!(client.server().await, Err(Error::Connect { fault: ConnectFault::Untrusted, .. })));

    let trusted = |seen: Seen| {
        if seen.line == "GET /1.0" { sync(json!({"auth": "trusted"})) } else { error(403, "restricted") }
    };
    let (address, ..) = tls(trusted).await;
    let client = Client::new(https(&address, Pin::AcceptAny, None));
    assert!(client.get::<project::Project>(project::get("p")).await.unwrap_err().is_forbidden());
}

#[tokio::test]
async fn a_token_is_used_once_before_the_first_request() {
    let (address, der, seen) = tls(|seen| match seen.line.as_str() {
        "GET /1.0" if seen.nth == 0 => sync(json!({"auth": "untrusted"})),
        "GET /1.0" => sync(json!({"auth": "trusted", "api_extensions": ["x"]})),
        _ => sync(json!({})),
    })
    .await;
    let hash: [u8; 32] = Sha256::digest(&der).into();
    let content = json!({"client_name": "me", "fingerprint": "f", "addresses": [], "secret": "s"}).to_string();
    let text = base64::engine::general_purpose::STANDARD.encode(content);
    let (identity, own) = pair();
    let client = Client::for_target(Target {
        endpoint: https(&address, Pin::Sha256(hash), Some(identity)),
        token: Some(Token::parse(&text).unwrap()),
    });
    assert!(client.server().await.unwrap().has("x"));
    client.get::<server::Server>(server::get()).await.unwrap();
    let seen = seen.lock().unwrap();
    let posts: Vec<&Seen> = seen.iter().filter(|seen| seen.line == "POST /1.0/certificates").collect();
    assert_eq!(posts.len(), 1);
    let certificate = base64::engine::general_purpose::STANDARD.encode(own);
    assert_eq!(posts[0].body, json!({"type": "client", "trust_token": text, "certificate": certificate, "name": "me"}));
}

#[tokio::test(start_paused = true)]
async fn events_reach_all_subscribers_and_a_lost_stream_is_connected_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("unix.socket");
    let listener = UnixListener::bind(&path).unwrap();
    let streams = Arc::new(Mutex::new(0));
    let counted = streams.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            *counted.lock().unwrap() += 1;
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let event = json!({"type": "lifecycle", "project": "p",
                "metadata": {"action": "instance-started", "source": "/1.0/instances/a?project=p"}});
            let _ = socket.send(event.to_string().into()).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let client = Client::new(Endpoint::Unix(path));
    let mut one = client.events();
    assert_eq!(one.next().await, Notice::Connected);
    let mut two = client.events();
    assert_eq!(two.next().await, Notice::Connected);
    for subscription in [&mut one, &mut two] {
        let Notice::Event(event) = subscription.next().await else { panic!("no event") };
        assert!(event.is_about_instance("p", "a"));
        assert_eq!(subscription.next().await, Notice::Lost);
        assert_eq!(subscription.next().await, Notice::Connected);
    }
    assert_eq!(*streams.lock().unwrap(), 2);
    drop((one, two));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*streams.lock().unwrap(), 2);
}
