//! What a volume's web source is refused for: at which attribute, and with what asked of Incus.

use std::sync::Arc;

use anklume::plugin::{Call, Create, Diagnostic, Private, Provider, Value};
use anklume::resources::Anklume;
use serde_json::json;

use super::fake::{Fake, Seen, error, sync};
use super::web_server::{Answer, Content, Place, Request, Server};

/// An Incus without volumes, which takes none either.
async fn incus() -> Fake {
    Fake::start(|seen: Seen| async move {
        match seen.line.split(' ').next() {
            Some("PUT") => sync(json!({})),
            Some("GET") if seen.line.contains("/operations?") => sync(json!({})),
            Some("GET") if seen.line.contains("/projects/") => sync(json!({"name": "pro", "config": {}})),
            Some("GET") if seen.line.contains("/operations?") => sync(json!({})),
            Some("POST") => error(500, "Unexpected upload"),
            _ => error(404, "Storage volume not found"),
        }
    })
    .await
}

fn content() -> Content {
    Content::Bytes(Arc::new(vec![7; 100_000]))
}

/// What a create from `path` is told, and which writes Incus saw.
async fn told(
    kind: &str,
    path: &str,
    more: &[(&str, Value)],
    answer: fn(&Request) -> Answer,
) -> (Diagnostic, Vec<String>) {
    let (fake, server) = (incus().await, Server::start(Place::default(), answer));
    let source = json!({"url": server.url(path), "sha256": "0".repeat(64), "headers": {"X-Secret": "a-secret"}});
    let mut config = Value::from_json(&json!({
        "name": "data", "domain": "pro", "pool": "default", "content_type": kind, "source": source, "delete_protection": false
    }));
    for (name, value) in more {
        config.set(name, value.clone());
    }
    let address = format!("unix://{}", fake.path().display());
    let mut block = Value::object();
    block.set("address", address);
    let session = Anklume.configure(block, "").unwrap();
    let volume = Anklume.resources().into_iter().find(|resource| resource.type_name() == "anklume_volume").unwrap();
    let mut planned = config.clone();
    let mut kept = config.get("source").clone();
    kept.set("headers", Value::Null);
    planned.set("source", kept);
    let input = Create { config, planned, private: Private::default() };
    let failure = volume.create(&session, &Call::default(), input).await.unwrap_err();
    assert!(failure.partial.is_none(), "nothing was made");
    let shown = format!("{:?}", failure.diagnostics);
    assert!(!shown.contains("a-secret") && !shown.contains("token=hidden"), "{shown}");
    assert!(server.seen().iter().all(|request| request.header("x-secret").is_some()));
    let writes = fake.lines().into_iter().filter(|line| line.starts_with("POST")).collect();
    let first = failure.diagnostics.iter().next().unwrap().clone();
    (first, writes)
}

#[tokio::test]
async fn what_is_wrong_with_a_source_is_told_at_its_attribute_before_anything_is_sent() {
    type Case = (&'static str, &'static str, &'static str, fn(&Request) -> Answer);
    let cases: [Case; 8] = [
        ("block", "source.url", "no such file", |_| Answer::text(404, "")),
        ("block", "source.headers", "headers = {", |_| Answer::text(401, "")),
        ("block", "source.headers", "headers = {", |_| Answer::text(403, "")),
        ("block", "source.url", "web page", |_| Answer::text(200, "<html>")),
        ("block", "source.url", "qemu-img convert -O raw disk", |_| Answer::bytes(b"QFI\xfb")),
        ("block", "source.url", "Content-Length", |_| Answer::whole(&content()).without_length()),
        ("filesystem", "source.url", "no whole backup", |_| Answer::whole(&content())),
        ("iso", "source.url", "holds nothing", |_| Answer::text(200, "")),
    ];
    for (kind, path, text, answer) in cases {
        let (told, writes) = self::told(kind, "/disk?token=hidden", &[], answer).await;
        assert_eq!(told.path.to_string(), path, "{}", told.detail);
        assert!(told.detail.contains(text), "{}", told.detail);
        assert_eq!(writes, Vec::<String>::new(), "{text}");
    }
    let size = [("size", "64KiB".into())];
    let (told, writes) = told("block", "/disk", &size, |_| Answer::whole(&content())).await;
    assert_eq!((told.path.to_string().as_str(), writes.len()), ("size", 0), "{}", told.detail);
}

#[tokio::test]
async fn a_source_that_changes_on_the_way_is_told_at_its_url() {
    let (told, _) = told("block", "/disk", &[], |request| match request.nth {
        0 => Answer::file(request, &Content::Zeros(50_000_000), "\"one\"").cut(30_000_000),
        _ => Answer::file(request, &Content::Zeros(50_000_000), "\"two\""),
    })
    .await;
    assert_eq!(told.path.to_string(), "source.url");
    assert!(told.detail.contains("has changed while it was read"), "{}", told.detail);
}
