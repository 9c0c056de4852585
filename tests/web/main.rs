//! Files of a web server, from servers that do what servers do.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with the acceptance tests, which use other parts of it")]
mod server;

use std::sync::Arc;
use std::time::Duration;

use anklume::web::{Body, Client, Error, Headers, Location, Patience};
use server::{Answer, Content, Place, Request, Server};

fn client() -> Client {
    let pause = Duration::from_millis(1);
    Client::new().with_patience(Patience { idle: Duration::from_millis(300), pause, ..Patience::default() })
}

fn at(server: &Server, path: &str) -> Location {
    Location::parse(&server.url(path)).unwrap()
}

async fn read(client: &Client, location: Location, headers: Headers) -> Result<Vec<u8>, Error> {
    let mut body = Body::open(client, location, headers).await?;
    let mut all = Vec::new();
    while let Some(bytes) = body.next().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

/// Three megabytes that differ everywhere.
fn file() -> Content {
    Content::Bytes(Arc::new((0..3_000_000_u32).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()))
}

fn bytes(content: &Content) -> Vec<u8> {
    match content {
        Content::Bytes(bytes) => bytes.to_vec(),
        Content::Zeros(length) => vec![0; usize::try_from(*length).unwrap()],
    }
}

/// What is read of one path, and what was asked for.
async fn from(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> (Result<Vec<u8>, Error>, Vec<Request>) {
    let server = Server::start(Place::default(), answer);
    let read = read(&client(), at(&server, "/file"), Headers::default()).await;
    (read, server.seen())
}

#[tokio::test]
async fn a_connection_that_is_cut_is_continued_where_it_was() {
    let content = file();
    let expected = bytes(&content);
    let (read, seen) = from(move |request| {
        let next = request.from().unwrap_or(0) + 900_000;
        Answer::file(request, &content, "\"one\"").cut(next)
    })
    .await;
    assert!(read.unwrap() == expected);
    let asked: Vec<_> = seen.iter().map(|request| (request.from(), request.header("if-range"))).collect();
    let tag = Some("\"one\"");
    assert_eq!(asked, [(None, None), (Some(900_000), tag), (Some(1_800_000), tag), (Some(2_700_000), tag)]);
}

#[tokio::test]
async fn a_server_that_gives_no_parts_is_read_from_the_start_and_skipped() {
    let content = file();
    let expected = bytes(&content);
    let (read, seen) = from(move |request| match request.nth {
        0 => Answer::whole(&content).cut(1_000_000),
        1 => Answer::whole(&content).cut(500_000),
        _ => Answer::whole(&content),
    })
    .await;
    assert!(read.unwrap() == expected);
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_is_not_continued() {
    for without_tag in [false, true] {
        let content = file();
        let (read, _) = from(move |request| match request.nth {
            0 => Answer::file(request, &content, "\"one\"").cut(1_000_000),
            _ if without_tag => Answer::whole(&Content::text("another")),
            _ => Answer::file(request, &content, "\"two\""),
        })
        .await;
        assert!(matches!(read, Err(Error::Changed { .. })), "{read:?}");
    }
}

#[tokio::test]
async fn a_server_that_announces_more_than_it_has_is_told() {
    let content = file();
    let (read, _) = from(move |request| match request.nth {
        0 => Answer::whole(&content).with("content-length", "4000000"),
        _ => Answer::file(request, &content, "\"one\""),
    })
    .await;
    let Err(Error::Short { announced, has, .. }) = read else { panic!("{read:?}") };
    assert_eq!((announced, has), (4_000_000, 3_000_000));
}

#[tokio::test]
async fn a_server_that_never_gets_further_is_given_up() {
    let content = file();
    let (read, seen) = from(move |request| Answer::file(request, &content, "\"one\"").cut(1_000_000)).await;
    assert!(matches!(read, Err(Error::Lost { .. })), "{read:?}");
    assert_eq!(seen.len(), 7);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_asked_again() {
    let content = file();
    let expected = bytes(&content);
    let (read, _) = from(move |request| match request.nth {
        0 => Answer::file(request, &content, "\"one\"").cut(1_000_000).hang(),
        1 => Answer::text(503, "busy"),
        _ => Answer::file(request, &content, "\"one\""),
    })
    .await;
    assert!(read.unwrap() == expected);
}

#[tokio::test]
async fn any_other_answer_is_told() {
    for status in [204, 401, 404, 500] {
        let (read, seen) = from(move |_| Answer::text(status, "")).await;
        let Err(Error::Status { status: found, .. }) = read else { panic!("{read:?}") };
        assert_eq!((found.as_u16(), seen.len()), (status, 1));
    }
}

#[tokio::test]
async fn headers_stay_with_the_server_that_they_are_for() {
    let other = Server::start(Place::default(), |request| Answer::file(request, &Content::text("there"), "\"one\""));
    let elsewhere = other.url("/moved");
    let server = Server::start(Place::default(), move |request| match request.path.as_str() {
        "/file" => Answer::redirect("here?x=1"),
        _ => Answer::redirect(&elsewhere),
    });
    let mut headers = Headers::default();
    headers.set("Authorization", "Bearer secret").unwrap();
    assert_eq!(read(&client(), at(&server, "/file"), headers).await.unwrap(), b"there");
    let told = |server: &Server| {
        server.seen().iter().map(|request| request.header("authorization").is_some()).collect::<Vec<_>>()
    };
    assert_eq!((told(&server), told(&other)), (vec![true, true], vec![false]));
    assert_eq!(server.seen()[1].path, "/here?x=1");
}

#[tokio::test]
async fn redirects_end() {
    let (read, seen) = from(|_| Answer::redirect("/file")).await;
    assert!(matches!(read, Err(Error::Redirects { .. })), "{read:?}");
    assert_eq!(seen.len(), 11);
    let (read, _) = from(|_| Answer::redirect("ftp://host/x")).await;
    assert!(matches!(read, Err(Error::Redirect { .. })), "{read:?}");
}

#[tokio::test]
async fn a_redirect_that_leads_nowhere_is_told() {
    for status in [301, 302, 303, 307, 308] {
        let (read, seen) = from(move |_| Answer::text(status, "")).await;
        let Err(Error::Nowhere { status: found, .. }) = read else { panic!("{read:?}") };
        assert_eq!((found.as_u16(), seen.len()), (status, 1));
    }
}

#[tokio::test]
async fn a_file_that_is_encoded_on_the_way_is_refused_and_identity_is_none() {
    let content = file();
    let (read, seen) =
        from(move |request| Answer::file(request, &content, "\"one\"").with("content-encoding", "gzip")).await;
    assert!(matches!(&read, Err(Error::Encoded { encoding, .. }) if encoding == "gzip"), "{read:?}");
    assert_eq!(seen[0].header("accept-encoding"), Some("identity"));
    let content = file();
    let (read, _) = from(move |request| match request.nth {
        0 => Answer::file(request, &content, "\"one\"").with("content-encoding", "Identity").cut(1_000_000),
        _ => Answer::file(request, &content, "\"one\"").with("content-encoding", "br"),
    })
    .await;
    assert!(matches!(read, Err(Error::Encoded { .. })), "{read:?}");
    let (read, _) = from(|_| Answer::text(404, "").with("content-encoding", "gzip")).await;
    assert!(matches!(read, Err(Error::Status { .. })), "{read:?}");
}

#[tokio::test]
async fn a_header_of_the_caller_takes_the_place_of_ours() {
    let server = Server::start(Place::default(), |request| Answer::file(request, &Content::text("x"), "\"one\""));
    let mut headers = Headers::default();
    headers.set("user-agent", "mine/1").unwrap();
    read(&client(), at(&server, "/file"), headers).await.unwrap();
    read(&client(), at(&server, "/file"), Headers::default()).await.unwrap();
    let [own, ours] = server.seen().try_into().unwrap();
    assert_eq!((own.all("user-agent"), own.all("accept")), (vec!["mine/1"], vec!["*/*"]));
    assert!(matches!(ours.all("user-agent").as_slice(), [one] if one.starts_with("anklume/")));
}

#[tokio::test]
async fn a_certificate_is_checked_and_an_encrypted_file_stays_so() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let plain = Server::start(Place::default(), |request| Answer::file(request, &Content::text("open"), "\"one\""));
    let open = plain.url("/x");
    let server = Server::start(Place { tls: Some(Arc::new(config)), namespace: None }, move |request| {
        match request.path.as_str() {
            "/down" => Answer::redirect(&open),
            _ => Answer::file(request, &Content::text("closed"), "\"one\""),
        }
    });
    let trusting = Client::trusting(vec![certificate.der().clone()]);
    assert_eq!(read(&trusting, at(&server, "/x"), Headers::default()).await.unwrap(), b"closed");
    let down = read(&trusting, at(&server, "/down"), Headers::default()).await;
    assert!(matches!(down, Err(Error::Downgrade { .. })), "{down:?}");
    assert!(plain.seen().is_empty());
    let strange = read(&client(), at(&server, "/x"), Headers::default()).await;
    assert!(matches!(strange, Err(Error::Connect { .. })), "{strange:?}");
}
