//! What the core asks of a read, an import and an upgrade: rules 25 to 27.

use serde_json::{Value as Json, json};

use crate::caller::{Caller, thing};

fn prior(note: &str) -> Json {
    thing(json!({"id": "toy/web", "name": "Web", "kind": "plain", "note": note, "size": 3}))
}

// Rule 25.

#[tokio::test]
async fn an_object_that_is_gone_is_read_as_null() {
    let read = Caller::toy().await.read(&prior("gone"), &[]).await.fine();
    assert_eq!(read.state, Json::Null);
}

// Rule 26.

#[tokio::test]
async fn the_same_meaning_is_read_in_the_prior_spelling() {
    // The toy reads every name in upper case.
    let read = Caller::toy().await.read(&prior("a"), &[]).await.fine();
    assert_eq!(read.state, prior("a"));
}

// Rule 27. Identity is not served.

#[tokio::test]
async fn a_read_that_keeps_nothing_private_echoes_what_was_kept() {
    let caller = Caller::toy().await;
    for private in [&b"{\"made\":\"here\"}"[..], b"\x00no json", b""] {
        assert_eq!(caller.read(&prior("a"), private).await.fine().private, private);
        let failed = caller.read(&prior("unreadable"), private).await;
        assert_eq!(failed.error(), "note: Not read: It may be there.");
        assert_eq!(failed.private, private);
    }
}

#[tokio::test]
async fn an_imported_object_is_read_and_then_planned_without_change() {
    let caller = Caller::toy().await;
    let imported = caller.import("web").await.fine();
    assert_eq!(imported.state["id"], "toy/web");
    let read = caller.read(&imported.state, &imported.private).await.fine();
    assert_eq!(read.state, imported.state);
    let planned = caller.plan(&thing(json!({})), &read.state, &read.private).await.fine();
    assert_eq!(planned.state, read.state);
    assert_eq!(planned.replace, [""; 0]);
}

#[tokio::test]
async fn a_state_of_version_zero_is_brought_into_todays_form() {
    let upgraded = Caller::toy().await.upgrade(0, &json!({"id": "toy/web", "title": "web", "size": 3})).await.fine();
    assert_eq!(upgraded.state, thing(json!({"id": "toy/web", "name": "web", "size": 3})));
}

#[tokio::test]
async fn a_state_of_todays_version_is_kept() {
    let caller = Caller::toy().await;
    let created =
        caller.create(&thing(json!({"tags": ["x"], "size": 3, "nics": {"eth0": {"mtu": 1, "mac": null}}}))).await;
    let state = created.fine().state;
    assert_eq!(caller.upgrade(1, &state).await.fine().state, state);
}

#[tokio::test]
async fn a_state_of_a_newer_version_is_refused() {
    let refused = Caller::toy().await.upgrade(2, &json!({})).await;
    assert!(refused.error().contains("written by a newer version"), "{}", refused.error());
    assert_eq!(refused.state, Json::Null);
}
