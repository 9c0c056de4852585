//! Operations, busy instances, merges, answers that are none.

use std::time::Duration;

use anklume::incus::instance::{self, Action, Force};
use anklume::incus::profile::{self, Profile};
use anklume::incus::{Error, Refusal, Request, Wait, project};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::fake::{Answer, Fake, error, operation, raw, started, sync};

fn start() -> Request {
    instance::set_state("p", "a", Action::Start, Force::Now)
}

/// Runs a start whose wait is answered by `answer`.
async fn run(answer: fn(usize) -> Answer) -> (Result<Option<serde_json::Value>, Error>, Fake) {
    let fake =
        Fake::start(
            move |seen| async move { if seen.line.contains("/wait") { answer(seen.nth) } else { started(false) } },
        )
        .await;
    (fake.client.run(start(), &Wait::default()).await, fake)
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_ends_well_gives_its_metadata() {
    let (result, fake) = run(|_| sync(operation(200, false, ""))).await;
    assert_eq!(result.unwrap(), Some(json!({"return": 0})));
    assert_eq!(
        fake.lines(),
        ["PUT /1.0/instances/a/state?project=p", "GET /1.0/operations/op1/wait?timeout=60&project=p"]
    );
    assert_eq!(fake.client.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn both_forms_of_a_failed_operation_are_the_same_error() {
    let text = "Failed: Storage pool not found";
    for (result, _) in [
        run(|_| error(500, "Failed: Storage pool not found")).await,
        run(|_| sync(operation(400, false, "Failed: Storage pool not found"))).await,
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.refusal(), Some(&Refusal::PoolNotFound));
        assert_eq!(error.to_string(), text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_operation_is_told_apart_from_a_failed_one() {
    let (result, _) = run(|_| error(404, "Operation not found")).await;
    assert!(matches!(result, Err(Error::OperationGone { id }) if id == "op1"));
    let (result, _) = run(|_| error(404, "Image \"x\" not found")).await;
    assert_eq!(result.unwrap_err().refusal(), Some(&Refusal::ImageNotFound));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_times_out_on_the_server_goes_on() {
    let (result, fake) = run(|nth| sync(operation(if nth < 3 { 103 } else { 200 }, false, ""))).await;
    result.unwrap();
    assert_eq!(fake.lines().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_operation_is_an_error_of_its_own() {
    let (result, _) = run(|_| sync(operation(401, false, "cancelled"))).await;
    assert!(matches!(result, Err(Error::OperationCancelled { .. })));
}

async fn deadline(may_cancel: bool) -> Vec<String> {
    let fake = Fake::start(move |seen| async move {
        if seen.line.contains("/wait") {
            std::future::pending::<()>().await;
        }
        match seen.line.as_str() {
            line if line.starts_with("PUT") => started(may_cancel),
            line if line.starts_with("DELETE") => sync(json!({})),
            _ => sync(operation(103, may_cancel, "")),
        }
    })
    .await;
    let wait = Wait::within(Duration::from_secs(5), CancellationToken::new());
    let error = fake.client.run(start(), &wait).await.unwrap_err();
    assert!(error.is_deadline() && error.may_have_been_sent());
    assert!(error.to_string().ends_with("(last seen: Running)"), "{error}");
    fake.lines()
}

#[tokio::test(start_paused = true)]
async fn a_deadline_cancels_only_what_may_be_cancelled() {
    let cancel = "DELETE /1.0/operations/op1?project=p";
    assert!(deadline(true).await.iter().any(|line| line == cancel));
    assert!(!deadline(false).await.iter().any(|line| line == cancel));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_a_wait_at_once_and_a_request_before_it_is_sent() {
    let fake = Fake::start(|seen| async move {
        if seen.line.contains("/wait") {
            std::future::pending::<()>().await;
        }
        started(true)
    })
    .await;
    let wait = Wait::default();
    let (result, ()) = tokio::join!(fake.client.run(start(), &wait), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        wait.stop.cancel();
    });
    assert!(result.unwrap_err().is_stopped());
    let sent = fake.lines().len();
    let error = fake.client.run(start(), &wait).await.unwrap_err();
    assert!(error.is_stopped() && !error.may_have_been_sent());
    assert_eq!(fake.lines().len(), sent);
}

#[tokio::test(start_paused = true)]
async fn a_busy_instance_is_tried_again_until_the_deadline() {
    let busy = r#"Instance is busy running a "start" operation"#;
    let fake =
        Fake::start(move |seen| async move { if seen.nth < 3 { error(500, busy) } else { sync(json!({})) } }).await;
    fake.client.run(start(), &Wait::default()).await.unwrap();
    assert_eq!(fake.lines().len(), 4);

    let fake = Fake::start(move |_| async move { error(500, busy) }).await;
    let wait = Wait::within(Duration::from_secs(3), CancellationToken::new());
    assert!(fake.client.run(start(), &wait).await.unwrap_err().is_busy());
}

fn profile_answer(config: serde_json::Value) -> Answer {
    let mut answer = sync(json!({"name": "x", "config": config, "devices": {}, "new_field": 7}));
    answer.etag = Some("tag".to_owned());
    answer
}

#[tokio::test(start_paused = true)]
async fn a_merge_is_made_anew_after_412_and_carries_unknown_fields() {
    let fake = Fake::start(|seen| async move {
        match (&seen.line[..3], seen.nth) {
            ("GET", nth) => profile_answer(json!({ "volatile.n": nth.to_string() })),
            (_, 0) => error(412, "Precondition failed"),
            _ => sync(json!({})),
        }
    })
    .await;
    let change = |profile: &mut Profile| profile.config.insert("user.a".into(), "1".into()).is_none();
    let done = fake.client.modify(profile::get("p", "x"), change, &Wait::default()).await.unwrap();
    assert!(done.changed);
    let put = fake.seen().pop().unwrap();
    assert_eq!(put.line, "PUT /1.0/profiles/x?project=p");
    assert_eq!(put.if_match.as_deref(), Some("tag"));
    assert_eq!(put.body["config"], json!({"user.a": "1", "volatile.n": "1"}));
    assert_eq!(put.body["new_field"], 7);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_where_nothing_changes_and_412_is_bounded() {
    let fake = Fake::start(|seen| async move {
        if seen.line.starts_with("GET") { profile_answer(json!({})) } else { error(412, "Precondition failed") }
    })
    .await;
    let get = || profile::get("p", "x");
    let done = fake.client.modify(get(), |_: &mut Profile| false, &Wait::default()).await.unwrap();
    assert!(!done.changed);
    assert_eq!(fake.lines().len(), 1);
    let error = fake.client.modify(get(), |_: &mut Profile| true, &Wait::default()).await.unwrap_err();
    assert!(error.is_precondition_failed());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_none_is_a_typed_error() {
    for body in ["", "{", "[]", "{\"type\":\"sync\",\"metadata\":7}", "{\"type\":\"other\"}", "\u{0}\u{1}", "null"] {
        let fake = Fake::start(move |_| async move { raw(200, body) }).await;
        let error = fake.client.get::<project::Project>(project::get("p")).await.unwrap_err();
        assert!(matches!(error, Error::Answer { .. }), "{body}: {error:?}");
        let error = fake.client.run(start(), &Wait::default()).await;
        assert!(body.contains('7') || error.unwrap_err().may_have_been_sent(), "{body}");
    }
    let fake = Fake::start(|_| async { raw(502, "<html>\nbad") }).await;
    let error = fake.client.get::<project::Project>(project::get("p")).await.unwrap_err();
    assert_eq!(error.to_string(), "<html>");
}

#[tokio::test(start_paused = true)]
async fn an_async_answer_without_an_operation_is_a_typed_error() {
    let fake = Fake::start(|_| async { raw(202, r#"{"type":"async","metadata":null}"#) }).await;
    let error = fake.client.run(start(), &Wait::default()).await.unwrap_err();
    assert!(matches!(error, Error::Answer { .. }));
}
