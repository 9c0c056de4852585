//! Starts, stops and deletes: what is so already, and a daemon that restarts meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anklume::incus::Wait;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::fake::{Answer, Fake, Seen, error, operation, started, sync};

const GUEST: Duration = Duration::from_secs(10);

fn instance(status_code: u16) -> Answer {
    let status = if status_code == 102 { "Stopped" } else { "Running" };
    let root = |pool: &str| json!({"root": {"type": "disk", "path": "/", "pool": pool}});
    sync(json!({"name": "a", "status": status, "status_code": status_code, "expanded_devices": root("fast")}))
}

fn gone() -> Answer {
    error(404, "Operation not found")
}

/// The bodies of the stops that were asked for.
fn stops(fake: &Fake) -> Vec<Value> {
    fake.seen().into_iter().filter(|seen| seen.line.starts_with("PUT")).map(|seen| seen.body).collect()
}

/// A server whose operations are all forgotten; the instance answers what `look` says, by the time since the start.
async fn forgetful(look: fn(Duration) -> Answer) -> Fake {
    let since = Instant::now();
    Fake::start(move |seen: Seen| async move {
        match seen.line.as_str() {
            line if line.contains("/wait") => gone(),
            line if line.starts_with("GET") => look(since.elapsed()),
            _ => started(false),
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_what_is_stopped_or_gone_is_fine() {
    for answer in [|| error(400, "The instance is already stopped"), || error(404, "Instance not found")] {
        for graceful in [Duration::ZERO, GUEST] {
            let fake = Fake::start(move |_| async move { answer() }).await;
            fake.client.stop("p", "a", graceful, &Wait::default()).await.unwrap();
            assert_eq!(fake.lines().len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_time_for_the_guest_forces_at_once() {
    let fake = Fake::start(|_| async { sync(json!({})) }).await;
    fake.client.stop("p", "a", Duration::ZERO, &Wait::default()).await.unwrap();
    assert_eq!(stops(&fake), [json!({"action": "stop", "timeout": -1, "force": true})]);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_not_stop_is_forced() {
    let fake = Fake::start(|seen| async move {
        match seen.body["force"].as_bool() {
            Some(true) => sync(json!({})),
            _ => error(500, "Failed shutting down instance, status is \"Running\": context deadline exceeded"),
        }
    })
    .await;
    fake.client.stop("p", "a", Duration::from_millis(1500), &Wait::default()).await.unwrap();
    assert_eq!(stops(&fake)[0], json!({"action": "stop", "timeout": 2, "force": false}));
    assert_eq!(stops(&fake)[1]["force"], true);
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_daemon_does_not_shorten_the_time_of_the_guest() {
    let asked = Instant::now();
    let fake = forgetful(|since| instance(if since < GUEST + Duration::from_secs(3) { 103 } else { 102 })).await;
    fake.client.stop("p", "a", GUEST, &Wait::default()).await.unwrap();
    let stops = stops(&fake);
    let graceful = stops.iter().filter(|stop| stop["force"] == false).count();
    assert!(stops[..graceful].iter().all(|stop| stop["force"] == false), "graceful first");
    assert!(graceful > 10 && stops.len() > graceful, "{graceful} of {}", stops.len());
    let timeouts: Vec<_> = stops[..graceful].iter().map(|stop| stop["timeout"].as_i64().unwrap()).collect();
    assert!(timeouts.is_sorted_by(|a, b| a >= b) && timeouts[0] == 10 && timeouts[graceful - 1] == 1, "{timeouts:?}");
    assert!(asked.elapsed() >= GUEST);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_stopped_while_the_daemon_restarted_is_not_asked_again() {
    let fake = forgetful(|_| instance(102)).await;
    fake.client.stop("p", "a", GUEST, &Wait::default()).await.unwrap();
    assert_eq!(stops(&fake).len(), 1);
    let fake = forgetful(|_| error(404, "Instance not found")).await;
    fake.client.stop("p", "a", GUEST, &Wait::default()).await.unwrap();
    assert_eq!(stops(&fake).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_is_starting_is_waited_for() {
    let fake = Fake::start(|seen| async move {
        match (seen.line.starts_with("PUT"), seen.nth) {
            (true, 0) | (false, 0..3) => error(503, "Daemon setup in progress"),
            (true, _) => sync(json!({})),
            (false, _) => instance(103),
        }
    })
    .await;
    fake.client.stop("p", "a", GUEST, &Wait::default()).await.unwrap();
    assert_eq!(stops(&fake)[1]["force"], false);
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_outcome_is_lost_is_asked_again_until_it_runs() {
    let fake = forgetful(|since| instance(if since < Duration::from_secs(1) { 102 } else { 103 })).await;
    fake.client.start("p", "a", &Wait::default()).await.unwrap();
    assert!(fake.lines().iter().filter(|line| line.starts_with("PUT")).count() > 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_finds_what_runs_already_and_lets_what_is_paused_run_on() {
    for (status, puts) in [(103, 1), (110, 2)] {
        let fake = Fake::start(move |seen| async move {
            match (seen.line.starts_with("PUT"), &seen.body["action"]) {
                (true, action) if action == "unfreeze" => sync(json!({})),
                (true, _) => error(400, "The instance is already running"),
                (false, _) => instance(status),
            }
        })
        .await;
        fake.client.start("p", "a", &Wait::default()).await.unwrap();
        assert_eq!(fake.lines().iter().filter(|line| line.starts_with("PUT")).count(), puts);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delete_whose_outcome_is_lost_is_asked_again_until_it_is_gone() {
    let deleted = Arc::new(AtomicBool::new(false));
    let fake = Fake::start(move |seen| {
        let deleted = deleted.clone();
        async move {
            match seen.line.as_str() {
                line if line.starts_with("DELETE") && seen.nth == 1 => {
                    deleted.store(true, Ordering::SeqCst);
                    started(false)
                }
                line if line.starts_with("DELETE") => started(false),
                line if line.contains("/wait") => gone(),
                _ if deleted.load(Ordering::SeqCst) => error(404, "Instance not found"),
                _ => instance(102),
            }
        }
    })
    .await;
    fake.client.delete_instance("p", "a", |_| true, &Wait::default()).await.unwrap();
    assert_eq!(fake.lines().iter().filter(|line| line.starts_with("DELETE")).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_delete_whose_answer_was_lost_leaves_another_instance_alone() {
    let fake = Fake::start(|seen| async move {
        match seen.line.as_str() {
            line if line.starts_with("DELETE") => started(false),
            line if line.contains("/wait") => gone(),
            _ => instance(102),
        }
    })
    .await;
    fake.client.delete_instance("p", "a", |_| false, &Wait::default()).await.unwrap();
    assert_eq!(fake.lines().iter().filter(|line| line.starts_with("DELETE")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_is_refused_is_an_error_at_once() {
    let fake = Fake::start(|seen| async move {
        if seen.line.contains("/wait") {
            sync(operation(400, false, "Instance is protected from being deleted"))
        } else {
            started(false)
        }
    })
    .await;
    let error = fake.client.delete_instance("p", "a", |_| true, &Wait::default()).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&anklume::incus::Refusal::Protected));
}
