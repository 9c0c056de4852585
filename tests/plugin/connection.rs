//! Who is answered: the holder of the core's certificate and nobody else.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::caller::{Address, CORE, Caller, STRANGER, listen, thing, tls};
use crate::toy::Toy;

/// Asks for the schema, which needs no configuration, and panics if an answer comes.
async fn gets_no_answer(connected: Result<Caller, tonic::transport::Error>) {
    let Ok(mut caller) = connected else { return };
    let request = anklume::plugin::wire::tfplugin6::get_provider_schema::Request {};
    let answer = tokio::time::timeout(Duration::from_secs(20), caller.provider.get_provider_schema(request)).await;
    assert!(answer.expect("the caller is turned away").is_err());
    let stopped = caller.controller.shutdown(anklume::plugin::wire::controller::Empty {});
    assert!(tokio::time::timeout(Duration::from_secs(20), stopped).await.expect("the caller is turned away").is_err());
}

/// The core is served whoever else has called.
async fn the_core_is_served(address: &Address) {
    let caller = Caller::connect(address).await;
    caller.configure().await;
    caller.create(&thing(json!({}))).await.fine();
}

#[tokio::test]
async fn a_caller_without_a_certificate_gets_no_answer() {
    let address = listen(Toy::default());
    gets_no_answer(Caller::connect_as(&address, None).await).await;
    the_core_is_served(&address).await;
}

#[tokio::test]
async fn a_caller_with_another_certificate_gets_no_answer() {
    let address = listen(Toy::default());
    gets_no_answer(Caller::connect_as(&address, Some(STRANGER)).await).await;
    the_core_is_served(&address).await;
}

#[tokio::test]
async fn a_caller_with_the_certificate_and_another_key_gets_no_answer() {
    let address = listen(Toy::default());
    gets_no_answer(Caller::connect_as(&address, Some((CORE.0, STRANGER.1))).await).await;
    the_core_is_served(&address).await;
}

#[tokio::test]
async fn a_caller_without_tls_gets_no_answer() {
    let address = listen(Toy::default());
    gets_no_answer(Caller::connect_plainly(&address).await).await;
    let mut stream = UnixStream::connect(&address.socket).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: plugin\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.windows(4).any(|bytes| bytes == b"HTTP"));
    the_core_is_served(&address).await;
}

#[tokio::test]
async fn a_stranger_reads_nothing_but_the_refusal() {
    let address = listen(Toy::default());
    // In TLS 1.3 the stranger's side is done before its certificate is looked at.
    if let Ok(mut stream) = tls(&address, Some(STRANGER)).await {
        let mut answer = Vec::new();
        assert!(stream.read_to_end(&mut answer).await.is_err());
        assert!(answer.is_empty());
    }
}

#[tokio::test]
async fn a_caller_that_says_nothing_keeps_nobody_waiting() {
    let address = listen(Toy::default());
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(UnixStream::connect(&address.socket).await.unwrap());
    }
    let served = tokio::time::timeout(Duration::from_secs(5), the_core_is_served(&address)).await;
    assert!(served.is_ok());
}

#[tokio::test]
async fn a_plugin_has_another_certificate_each_time() {
    let (first, second) = (listen(Toy::default()), listen(Toy::default()));
    assert_ne!(first.certificate(), second.certificate());
    assert_ne!(first.socket, second.socket);
}

#[tokio::test]
async fn the_directory_of_the_socket_is_closed_to_others_and_gone_after_a_shutdown() {
    let listening = anklume::plugin::Listening::new("test/toy", Toy::default(), CORE.0).unwrap();
    let directory = listening.socket().parent().unwrap().to_owned();
    let address = Address::from_handshake(&listening.handshake_line());
    let running = tokio::spawn(listening.run());
    assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    Caller::connect(&address).await.shutdown().await;
    running.await.unwrap().unwrap();
    assert!(!directory.exists());
}
