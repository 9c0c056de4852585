//! A failing daemon: away for a while, cut off, slow, busy, forgetful; what is sent again, and what the error says.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anklume::incus::instance::{self, Action, Force};
use anklume::incus::profile::{self, Profile};
use anklume::incus::{Client, Endpoint, Error, Request, Wait, project};
use anklume::plugin::{Failure, Stored};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::creates::{container, create};
use super::fake::{self, Answer, Fake, Seen, error, operation, started, sync};

fn start() -> Request {
    instance::set_state("p", "a", Action::Start, Force::Now)
}

fn read() -> Request {
    project::get("p")
}

fn read_of(client: &Client) -> impl Future<Output = Result<project::Project, Error>> + use<> {
    let client = client.clone();
    async move { client.get(read()).await.map(|found| found.value) }
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// Serves on `path` until the token is cancelled, which cuts its connections too.
fn up(path: &Path, log: &Log) -> CancellationToken {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).unwrap();
    let (end, log) = (CancellationToken::new(), log.clone());
    tokio::spawn(end.clone().run_until_cancelled_owned(async move {
        let mut connections = tokio::task::JoinSet::new();
        let answer = Arc::new(|_: Seen| async { sync(json!({"name": "p"})) });
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(fake::serve(stream, log.clone(), answer.clone()));
        }
    }));
    end
}

/// A directory and the socket in it that nobody serves any more.
fn dead_socket() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("unix.socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    (dir, path)
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_takes_no_connection_for_a_while_is_waited_for() {
    let (_dir, path) = dead_socket();
    let (client, log) = (Client::new(Endpoint::Unix(path.clone())), Log::default());
    let wait = Wait::default();
    let later = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        up(&path, &log)
    };
    let (read, written, _end) = tokio::join!(read_of(&client), client.run(start(), &wait), later);
    read.unwrap();
    written.unwrap();
    assert_eq!(log.lock().unwrap().len(), 2, "each arrived once");
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_restarts_takes_its_socket_away_and_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("unix.socket");
    let (client, log) = (Client::new(Endpoint::Unix(path.clone())), Log::default());
    let end = up(&path, &log);
    read_of(&client).await.unwrap();
    end.cancel();
    std::fs::remove_file(&path).unwrap();
    tokio::task::yield_now().await;
    let wait = Wait::default();
    let later = async {
        tokio::time::sleep(Duration::from_secs(8)).await;
        up(&path, &log)
    };
    let (written, _end) = tokio::join!(client.run(start(), &wait), later);
    written.unwrap();
    assert_eq!(log.lock().unwrap().len(), 2, "each arrived once");
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_stays_away_is_given_up_and_nothing_was_sent() {
    let (_dir, path) = dead_socket();
    let client = Client::new(Endpoint::Unix(path));
    let since = Instant::now();
    let error = client.run(start(), &Wait::default()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && !error.may_have_been_sent(), "{error:?}");
    assert!((30..35).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());

    let wait = Wait::within(Duration::from_secs(2), CancellationToken::new());
    let error = client.run(start(), &wait).await.unwrap_err();
    assert!(error.is_deadline() && !error.may_have_been_sent(), "{error:?}");
    assert!(error.to_string().contains("last seen: cannot connect to unix://"), "{error}");
}

/// A server that cuts the answers to the first `cuts` requests in the middle; what it read.
fn cutting(cuts: usize) -> (tempfile::TempDir, Client, Arc<Mutex<Vec<String>>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("unix.socket");
    let listener = UnixListener::bind(&path).unwrap();
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = log.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            let sent = {
                let mut log = seen.lock().unwrap();
                log.push(text.lines().next().unwrap_or_default().to_owned());
                log.len()
            };
            let body = r#"{"type":"sync","metadata":{"name":"p"}}"#;
            let body = if sent > cuts { body } else { &body[..10] };
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: 39\r\n\r\n{body}").as_bytes()).await;
        }
    });
    (dir, Client::new(Endpoint::Unix(path)), log)
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_cut_is_sent_again_and_that_is_bounded() {
    let (_dir, client, log) = cutting(2);
    assert_eq!(read_of(&client).await.unwrap().name, "p");
    assert_eq!(log.lock().unwrap().len(), 3);
    let (_dir, client, log) = cutting(usize::MAX);
    let error = read_of(&client).await.unwrap_err();
    assert!(error.is_connection() && !error.may_have_been_sent());
    assert_eq!(log.lock().unwrap().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_cut_is_not_sent_again_and_may_have_been_carried_out() {
    let (_dir, client, log) = cutting(1);
    let error = client.run(start(), &Wait::default()).await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }) && error.may_have_been_sent(), "{error:?}");
    assert_eq!(log.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_starting_daemon_did_not_take_up_is_sent_again() {
    let fake = Fake::start(|seen| async move {
        if seen.nth < 4 { error(503, "Daemon setup in progress") } else { sync(json!({"name": "p"})) }
    })
    .await;
    read_of(&fake.client).await.unwrap();
    fake.client.run(start(), &Wait::default()).await.unwrap();
    assert_eq!(fake.lines().len(), 10);
    let fake = Fake::start(|_| async { error(503, "Shutting down") }).await;
    let error = fake.client.run(start(), &Wait::default()).await.unwrap_err();
    assert!(error.is_unavailable() && !error.may_have_been_sent());
}

#[tokio::test(start_paused = true)]
async fn a_busy_database_is_asked_again_by_reads_only() {
    let busy = "Failed to fetch from \"projects\" table: database is locked";
    let fake =
        Fake::start(
            move |seen| async move { if seen.nth < 2 { error(500, busy) } else { sync(json!({"name": "p"})) } },
        )
        .await;
    read_of(&fake.client).await.unwrap();
    assert_eq!(fake.lines().len(), 3);
    assert!(fake.client.run(start(), &Wait::default()).await.is_err());
    assert_eq!(fake.lines().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_ends_at_the_deadline_with_what_was_last_seen() {
    let fake = Fake::start(|_| std::future::pending::<Answer>()).await;
    let error = read_of(&fake.client).await.unwrap_err();
    assert!(error.to_string().ends_with("(last seen: no answer)") && !error.may_have_been_sent(), "{error}");
    let wait = Wait::within(Duration::from_secs(5), CancellationToken::new());
    let error = fake.client.run(start(), &wait).await.unwrap_err();
    assert!(error.to_string().ends_with("(last seen: no answer)") && error.may_have_been_sent(), "{error}");
}

/// A profile behind a server that loses the answer to its first PUT, carried out or not.
async fn losing(carried_out: bool) -> Fake {
    let config = Arc::new(Mutex::new(json!({})));
    Fake::start(move |seen: Seen| {
        let config = config.clone();
        async move {
            let mut config = config.lock().unwrap();
            if seen.line.starts_with("PUT") {
                if seen.nth > 0 || carried_out {
                    *config = seen.body["config"].clone();
                }
                return if seen.nth == 0 { started(false) } else { sync(json!({})) };
            }
            if seen.line.contains("/wait") {
                return error(404, "Operation not found");
            }
            sync(json!({"name": "x", "config": *config, "devices": {}}))
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_merge_whose_outcome_is_lost_is_looked_at_and_made_anew_only_where_it_is_missing() {
    for (carried_out, puts) in [(true, 1), (false, 2)] {
        let fake = losing(carried_out).await;
        let change = |profile: &mut Profile| profile.config.insert("user.a".into(), "1".into()).is_none();
        let done = fake.client.modify(profile::get("p", "x"), change, &Wait::default()).await.unwrap();
        assert!(done.changed);
        assert_eq!(fake.lines().iter().filter(|line| line.starts_with("PUT")).count(), puts);
        let there = fake.client.get::<Profile>(profile::get("p", "x")).await.unwrap().value;
        assert_eq!(there.config["user.a"], "1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_an_operation_outlives_a_daemon_that_is_starting() {
    let fake = Fake::start(|seen| async move {
        match (seen.line.contains("/wait"), seen.nth) {
            (false, _) => started(false),
            (true, 0..5) => error(503, "Daemon setup in progress"),
            (true, _) => sync(operation(200, false, "")),
        }
    })
    .await;
    fake.client.run(start(), &Wait::default()).await.unwrap();
    assert_eq!(fake.lines().iter().filter(|line| line.starts_with("PUT")).count(), 1);
}

fn machine(processes: i64) -> Value {
    json!({"status": "Running", "status_code": 103, "processes": processes, "network": {}})
}

/// A machine whose agent answers from the `answers`th look on; its event stream is cut at once, each time.
async fn cut_events(answers: usize) -> (tempfile::TempDir, Client, Arc<Mutex<usize>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("unix.socket");
    let listener = UnixListener::bind(&path).unwrap();
    let streams: Arc<Mutex<usize>> = Arc::default();
    let (counted, log) = (streams.clone(), Log::default());
    tokio::spawn(async move {
        let answer = Arc::new(move |seen: Seen| async move {
            match seen.line.contains("/state") {
                true => sync(machine(if seen.nth < answers { -1 } else { 7 })),
                false => sync(json!({"name": "a", "type": "virtual-machine", "status": "Running", "status_code": 103})),
            }
        });
        while let Ok((mut stream, _)) = listener.accept().await {
            let (log, answer, counted) = (log.clone(), answer.clone(), counted.clone());
            tokio::spawn(async move {
                let mut first = [0; 24];
                stream.read_exact(&mut first).await.unwrap();
                let events = first.starts_with(b"GET /1.0/events");
                let (reader, writer) = tokio::io::split(stream);
                let stream = tokio::io::join(std::io::Cursor::new(first.to_vec()).chain(reader), writer);
                match events {
                    true => {
                        *counted.lock().unwrap() += 1;
                        drop(tokio_tungstenite::accept_async(stream).await);
                    }
                    false => fake::serve(stream, log, answer).await,
                }
            });
        }
    });
    (dir, Client::new(Endpoint::Unix(path)), streams)
}

#[tokio::test(start_paused = true)]
async fn a_wait_goes_on_by_looking_where_the_event_stream_is_cut() {
    use anklume::incus::ready::{Addresses, Limits};
    let (_dir, client, streams) = cut_events(5).await;
    let minute = Duration::from_secs(60);
    let limits = Limits { boot: minute, agent: Some(minute), addresses: Addresses::No, cloud_init: false };
    let ready = client.until_ready("p", "a", "eth0", &limits, Instant::now(), &Wait::default()).await.unwrap();
    assert_eq!(ready.instance.name, "a");
    assert!(*streams.lock().unwrap() > 0);
}

/// A create of an instance whose operation the daemon forgets in a restart; what stands then, by what was asked for.
async fn forgotten(stands: fn(Value) -> Option<Value>) -> (Fake, Result<Stored, Failure>) {
    let kept: Arc<Mutex<Option<Value>>> = Arc::default();
    let fake = Fake::start(move |seen| {
        let kept = kept.clone();
        async move {
            match seen.line.split('?').next().unwrap() {
                "GET /1.0" => sync(json!({"auth": "trusted", "api_extensions": ["instance_create_start"]})),
                "POST /1.0/instances" => {
                    *kept.lock().unwrap() = stands(seen.body);
                    started(true)
                }
                "GET /1.0/operations/op1/wait" if seen.nth == 0 => error(404, "Operation not found"),
                "GET /1.0/operations/op1/wait" => sync(operation(200, false, "")),
                "PUT /1.0/instances/web/state" if kept.lock().unwrap().is_some() => {
                    let mut kept = kept.lock().unwrap();
                    let instance = kept.as_mut().unwrap();
                    (instance["status"], instance["status_code"]) = ("Running".into(), 103.into());
                    started(false)
                }
                "GET /1.0/instances/web" => match &*kept.lock().unwrap() {
                    Some(body) => sync(body.clone()),
                    None => error(404, "Instance not found"),
                },
                _ => error(404, "Instance not found"),
            }
        }
    })
    .await;
    let result = create(&fake, &CancellationToken::new(), "anklume_instance", container()).await;
    (fake, result)
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_operation_vanished_is_looked_at_and_started_but_never_made_twice() {
    let (fake, result) = forgotten(Some).await;
    assert_eq!(result.unwrap().state.get("status").as_str(), Some("Running"), "{:?}", fake.lines());
    assert_eq!(fake.lines().iter().filter(|line| line.starts_with("POST")).count(), 1);
    let (fake, result) = forgotten(|_| None).await;
    assert!(result.unwrap_err().partial.is_none(), "nothing was made");
    assert_eq!(fake.lines().iter().filter(|line| line.starts_with("POST")).count(), 1);
    // That the name is taken was what the operation would have told.
    let (fake, result) = forgotten(|_| Some(json!({"name": "web", "config": {}}))).await;
    let refused = result.unwrap_err();
    assert!(refused.partial.is_none() && refused.diagnostics.iter().any(|told| told.detail.contains("import")));
    assert!(
        !fake.lines().iter().any(|line| line.starts_with("PUT") || line.starts_with("DELETE")),
        "{:?}",
        fake.lines()
    );
}
