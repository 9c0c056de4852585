//! Ctrl-C once: every wait ends within a second, what was started is cancelled where it may be.

use std::time::Duration;

use anklume::incus::instance::{self, Action, Force};
use anklume::incus::profile::{self, Profile};
use anklume::incus::ready::{Addresses, Limits};
use anklume::incus::{Client, Endpoint, Error, Request, Wait, upload};
use serde_json::json;
use tokio::time::Instant;

use super::creates::{container, create};
use super::fake::{Answer, Fake, error, operation, started, sync};

fn start() -> Request {
    instance::set_state("p", "a", Action::Start, Force::Now)
}

/// How `work` ends that is stopped after 1.5 s; panics where that takes longer than a second.
async fn stopped<T>(wait: &Wait, work: impl Future<Output = Result<T, Error>>) -> Error {
    let stop = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        wait.stop.cancel();
        Instant::now()
    };
    let work = async { (work.await, Instant::now()) };
    let ((result, ended), stopped) = tokio::join!(work, stop);
    assert!(ended >= stopped, "it waited until the stop");
    assert!(ended - stopped <= Duration::from_secs(1), "{:?}", ended - stopped);
    let error = result.err().unwrap();
    assert!(error.is_stopped(), "{error:?}");
    error
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_connection_ends_and_nothing_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("unix.socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (client, wait) = (Client::new(Endpoint::Unix(path)), Wait::default());
    assert!(!stopped(&wait, client.run(start(), &wait)).await.may_have_been_sent());
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_an_answer_ends_and_the_write_may_have_been_carried_out() {
    let fake = Fake::start(|_| std::future::pending::<Answer>()).await;
    let wait = Wait::default();
    assert!(stopped(&wait, fake.client.run(start(), &wait)).await.may_have_been_sent());
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_an_operation_ends_and_cancels_it() {
    let fake = Fake::start(|seen| async move {
        match seen.line.contains("/wait") {
            true => std::future::pending().await,
            false if seen.line.starts_with("DELETE") => sync(json!({})),
            false => started(true),
        }
    })
    .await;
    let wait = Wait::default();
    assert!(stopped(&wait, fake.client.run(start(), &wait)).await.may_have_been_sent());
    assert!(fake.lines().contains(&"DELETE /1.0/operations/op1?project=p".to_owned()), "{:?}", fake.lines());
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_daemon_lost_during_an_operation_ends() {
    let fake = Fake::start(|seen| async move {
        if seen.line.contains("/wait") { error(503, "Shutting down") } else { started(false) }
    })
    .await;
    let wait = Wait::default();
    assert!(stopped(&wait, fake.client.run(start(), &wait)).await.may_have_been_sent());
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_busy_instance_ends() {
    let busy = r#"Instance is busy running a "start" operation"#;
    let fake = Fake::start(move |_| async move { error(500, busy) }).await;
    let wait = Wait::default();
    stopped(&wait, fake.client.run(start(), &wait)).await;
}

#[tokio::test(start_paused = true)]
async fn a_merge_that_others_overtake_ends() {
    let fake = Fake::start(|seen| async move {
        if seen.line.starts_with("PUT") { error(412, "Precondition failed") } else { sync(json!({"name": "x"})) }
    })
    .await;
    let wait = Wait::default();
    stopped(&wait, fake.client.modify(profile::get("p", "x"), |_: &mut Profile| true, &wait)).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_and_a_stop_of_which_nothing_is_known_end() {
    let fake = Fake::start(|seen| async move {
        match (seen.line.contains("/wait"), seen.line.starts_with("GET")) {
            (true, _) => error(404, "Operation not found"),
            (false, true) => sync(json!({"name": "a", "status": "Frozen", "status_code": 110})),
            (false, false) => started(false),
        }
    })
    .await;
    let wait = Wait::default();
    stopped(&wait, fake.client.start("p", "a", &wait)).await;
    let wait = Wait::default();
    stopped(&wait, fake.client.stop("p", "a", Duration::from_secs(60), &wait)).await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_an_instance_ends_in_every_phase() {
    let minute = Duration::from_secs(60);
    let limits = Limits { boot: minute, agent: Some(minute), addresses: Addresses::Any(minute), cloud_init: false };
    for (status_code, processes) in [(102, 0), (103, -1), (103, 7)] {
        let fake = Fake::start(move |seen| async move {
            match seen.line.contains("/state") {
                true => sync(json!({"status_code": status_code, "processes": processes, "network": {}})),
                false => sync(json!({"name": "a", "type": "virtual-machine", "status_code": 103,
                    "expanded_devices": {"eth0": {"type": "nic"}}})),
            }
        })
        .await;
        let wait = Wait::default();
        let client = fake.client.reading(&wait);
        stopped(&wait, client.until_ready("p", "a", "eth0", &limits, Instant::now(), &wait)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_ends() {
    let fake = Fake::start(|_| async { sync(json!({})) }).await;
    let (wait, (_giver, chunks)) = (Wait::default(), upload::channel());
    let request = Request::post_empty(&["storage-pools", "default", "volumes", "custom"]);
    assert!(stopped(&wait, fake.client.upload(request, None, chunks, &wait)).await.may_have_been_sent());
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_was_being_made_is_in_the_state() {
    let (stop, kept) = (tokio_util::sync::CancellationToken::new(), std::sync::Arc::new(std::sync::Mutex::new(None)));
    let stopper = stop.clone();
    let fake = Fake::start(move |seen| {
        let (stop, kept) = (stopper.clone(), kept.clone());
        async move {
            match seen.line.split('?').next().unwrap() {
                "GET /1.0" => sync(json!({"auth": "trusted", "api_extensions": ["instance_create_start"]})),
                "POST /1.0/instances" => {
                    *kept.lock().unwrap() = Some(seen.body);
                    started(true)
                }
                "GET /1.0/operations/op1/wait" => {
                    stop.cancel();
                    std::future::pending().await
                }
                "GET /1.0/operations/op1" => sync(operation(103, true, "")),
                "DELETE /1.0/operations/op1" => sync(json!({})),
                "GET /1.0/instances/web" => match &*kept.lock().unwrap() {
                    Some(body) => sync(body.clone()),
                    None => error(404, "Instance not found"),
                },
                _ => error(404, "not found"),
            }
        }
    })
    .await;
    let failure = create(&fake, &stop, "anklume_instance", container()).await.unwrap_err();
    let lines = fake.lines();
    assert!(lines.iter().any(|line| line.starts_with("DELETE /1.0/operations/op1")), "{lines:?}");
    assert!(failure.partial.is_some(), "{:?} {lines:?}", failure.diagnostics);
}
