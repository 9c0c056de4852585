//! What the core asks of an apply: rules 22 to 24.

use serde_json::{Value as Json, json};

use crate::caller::{Caller, thing};
use crate::msgpack::UNKNOWN;

// Rule 22.

#[tokio::test]
async fn every_known_planned_value_comes_back_identical_and_nothing_unknown_is_left() {
    let caller = Caller::toy().await;
    // The toy answers with the name in upper case, and with no hardware address.
    let config = thing(json!({"note": "a", "tags": ["x"], "nics": {"eth0": {"mtu": null, "mac": null}}}));
    let planned = caller.plan(&config, &Json::Null, &[]).await.fine().state;
    assert_eq!(planned["nics"]["eth0"]["mac"], UNKNOWN);
    let created = caller.apply(&config, &Json::Null, &planned, &[]).await.fine().state;
    let nics = json!({"eth0": {"mtu": 1500, "mac": null}});
    let wanted = thing(json!({"id": "toy/web", "kind": "plain", "note": "a", "tags": ["x"], "nics": nics}));
    assert_eq!(created, wanted);
    let config = thing(json!({"name": "db", "size": 5}));
    let updated = caller.change(&config, &created, &[]).await.fine().state;
    assert_eq!(updated, thing(json!({"id": "toy/web", "name": "db", "kind": "plain", "size": 5})));
}

// Rule 23.

#[tokio::test]
async fn a_creation_that_failed_halfway_answers_the_state_and_the_error() {
    let failed = Caller::toy().await.create(&thing(json!({"note": "partial"}))).await;
    assert_eq!(failed.error(), "note: Half made: It exists.");
    assert_eq!(failed.state["id"], "toy/web");
    assert_eq!(failed.state["size"], Json::Null);
    assert_eq!(failed.private, br#"{"made":"here"}"#);
}

#[tokio::test]
async fn a_creation_that_failed_outright_answers_null_and_the_error() {
    let failed = Caller::toy().await.create(&thing(json!({"note": "fail"}))).await;
    assert_eq!(failed.error(), "note: Not made: It does not exist.");
    assert_eq!(failed.state, Json::Null);
}

#[tokio::test]
async fn an_update_that_failed_answers_null_or_what_there_is_now() {
    let caller = Caller::toy().await;
    let prior = caller.create(&thing(json!({}))).await.fine();
    let failed = caller.change(&thing(json!({"note": "fail"})), &prior.state, &prior.private).await;
    assert_eq!(failed.error(), "note: Not changed: It is as it was.");
    assert_eq!(failed.state, Json::Null);
    let failed = caller.change(&thing(json!({"note": "partial"})), &prior.state, &prior.private).await;
    assert_eq!(failed.error(), "note: Half changed: Some of it is as it was.");
    assert_eq!(failed.state["name"], "half");
    assert_eq!(failed.private, prior.private);
}

#[tokio::test]
async fn a_deletion_answers_null() {
    let caller = Caller::toy().await;
    let prior = caller.create(&thing(json!({}))).await.fine();
    let deleted = caller.change(&Json::Null, &prior.state, &prior.private).await.fine();
    assert_eq!(deleted.state, Json::Null);
    assert_eq!(deleted.private, b"");
    let stuck = caller.create(&thing(json!({"note": "stuck"}))).await.fine();
    let failed = caller.change(&Json::Null, &stuck.state, &stuck.private).await;
    assert_eq!(failed.error(), "note: Not deleted: It is still there.");
    assert_eq!(failed.state, Json::Null);
}

// Rule 24.

#[tokio::test]
async fn private_is_answered_as_the_resource_left_it() {
    let caller = Caller::toy().await;
    let created = caller.create(&thing(json!({}))).await.fine();
    assert_eq!(created.private, br#"{"made":"here"}"#);
    for private in [&created.private[..], b"{ \"spaced\" : \"kept\" }", b"\x00no json"] {
        let updated = caller.change(&thing(json!({"note": "a"})), &created.state, private).await.fine();
        assert_eq!(updated.private, private);
    }
}

#[tokio::test]
async fn a_stop_is_heard_by_a_call_in_flight_which_still_answers() {
    let toy = crate::toy::Toy::default();
    let begun = std::sync::Arc::clone(&toy.begun);
    let caller = Caller::of(toy).await;
    let slow = tokio::spawn({
        let caller = caller.clone();
        async move { caller.create(&thing(json!({"note": "slow"}))).await }
    });
    begun.notified().await;
    caller.stop().await;
    let created = slow.await.unwrap().fine();
    assert_eq!(created.state["size"], -1);
    assert_eq!(created.state["id"], "toy/web");
}

#[tokio::test]
async fn a_panic_is_a_diagnostic_and_the_next_call_works() {
    let caller = Caller::toy().await;
    let lost = caller.create(&thing(json!({"note": "panic"}))).await;
    assert!(lost.error().starts_with(": The provider panicked: "), "{}", lost.error());
    assert!(lost.error().ends_with("Cause: panic: the toy is broken"), "{}", lost.error());
    assert_eq!(lost.state, Json::Null);
    caller.create(&thing(json!({}))).await.fine();
}
