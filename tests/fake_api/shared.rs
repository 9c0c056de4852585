//! Which reads share a list.

use std::time::Duration;

use anklume::incus::{Client, Wait, instance, volume};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::fake::{Answer, Fake, error, sync};

const ONE: &str = "GET /1.0/instances/a?project=p";
const LIST: &str = "GET /1.0/instances?recursion=1&project=p";
const SLOW: Duration = Duration::from_millis(100);

fn answer(line: &str) -> Answer {
    let item = |name: &str| json!({"name": name, "status": "Running", "status_code": 103});
    if line.contains("/leases") {
        return sync(json!([{"hwaddr": "m", "address": "10.0.0.2"}]));
    }
    match line.split(['/', '?']).nth(3) {
        _ if line == LIST => {
            sync(json!((0..100).map(|n| item(&format!("i{n}"))).chain([item("a")]).collect::<Vec<_>>()))
        }
        Some("gone") => error(404, "Instance not found"),
        Some(name) => sync(item(name)),
        None => error(404, "not found"),
    }
}

/// A server that takes 100 ms for each answer.
async fn server() -> Fake {
    Fake::start(|seen| async move {
        tokio::time::sleep(SLOW).await;
        answer(&seen.line)
    })
    .await
}

fn lists(fake: &Fake) -> usize {
    fake.lines().iter().filter(|line| *line == LIST).count()
}

#[tokio::test(start_paused = true)]
async fn a_lone_read_is_one_get_each_time() {
    let fake = server().await;
    for _ in 0..2 {
        assert_eq!(fake.client.read_instance("p", "a").await.unwrap().unwrap().name, "a");
    }
    assert_eq!(fake.lines(), [ONE, ONE]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    fake.client.read_instance("p", "i1").await.unwrap();
    assert_eq!(lists(&fake), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_reads_one_after_the_other_are_one_get_and_one_list() {
    let fake = server().await;
    fake.client.read_instance("p", "a").await.unwrap();
    for name in (0..99).map(|n| format!("i{n}")) {
        assert_eq!(fake.client.read_instance("p", &name).await.unwrap().unwrap().name, name);
    }
    assert_eq!(fake.lines(), [ONE, LIST]);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_overlapping_reads_are_one_get_and_one_list() {
    let fake = server().await;
    let names: Vec<String> = (0..100).map(|n| format!("i{n}")).collect();
    let reads = names.iter().map(|name| fake.client.read_instance("p", name));
    for (read, name) in futures_util::future::join_all(reads).await.into_iter().zip(&names) {
        assert_eq!(&read.unwrap().unwrap().name, name);
    }
    assert_eq!(fake.lines().len(), 2);
    assert_eq!(lists(&fake), 1);
}

async fn overlap(fake: &Fake) {
    let (one, two) = tokio::join!(fake.client.read_instance("p", "a"), fake.client.read_instance("p", "i1"));
    assert!(one.unwrap().is_some() && two.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_list_is_kept_for_two_seconds() {
    let fake = server().await;
    overlap(&fake).await;
    tokio::time::sleep(Duration::from_millis(1900)).await;
    assert!(fake.client.read_instance("p", "i7").await.unwrap().is_some());
    assert_eq!(fake.lines().len(), 2);
    tokio::time::sleep(Duration::from_millis(200)).await;
    fake.client.read_instance("p", "a").await.unwrap();
    assert_eq!(fake.lines().last().unwrap(), ONE);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_none_alone_and_in_a_list() {
    let fake = server().await;
    assert_eq!(fake.client.read_instance("p", "gone").await.unwrap(), None);
    overlap(&fake).await;
    assert_eq!(fake.client.read_instance("p", "gone").await.unwrap(), None);
    assert_eq!((fake.lines().len(), lists(&fake)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_list_is_not_used_after_a_write_to_its_project() {
    let fake = server().await;
    overlap(&fake).await;
    drop(fake.client.write_guard("other"));
    fake.client.read_instance("p", "i7").await.unwrap();
    assert_eq!(fake.lines().len(), 2);
    fake.client.run(instance::delete("p", "x"), &Wait::default()).await.unwrap();
    fake.client.read_instance("p", "a").await.unwrap();
    assert_eq!(fake.lines()[2..], ["DELETE /1.0/instances/x?project=p", ONE]);
}

/// Fifty creates choose their storage pool by one profile.
#[tokio::test(start_paused = true)]
async fn a_volume_that_is_made_leaves_the_list_of_profiles_and_no_other() {
    const PROFILES: &str = "GET /1.0/profiles?recursion=1&project=p";
    let fake = Fake::start(|seen| async move {
        tokio::time::sleep(SLOW).await;
        match seen.line.as_str() {
            PROFILES => sync(json!([{"name": "default"}])),
            line if line.contains("/profiles/") => sync(json!({"name": "default"})),
            line if line.starts_with("POST ") => sync(json!({})),
            line => answer(line),
        }
    })
    .await;
    let profile = || fake.client.read_profile("p", "default");
    let (one, two) = tokio::join!(profile(), profile());
    assert!(one.unwrap().is_some() && two.unwrap().is_some());
    overlap(&fake).await;
    let before = fake.lines().len();
    let (body, wait) = (volume::Create { name: "data".to_owned(), ..volume::Create::default() }, Wait::default());
    let (made, found) = tokio::join!(fake.client.run(volume::create("p", "default", &body), &wait), profile());
    assert!(made.is_ok() && found.unwrap().is_some() && profile().await.unwrap().is_some());
    fake.client.read_instance("p", "a").await.unwrap();
    assert_eq!(fake.lines()[before..], ["POST /1.0/storage-pools/default/volumes/custom?project=p", ONE]);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_began_before_a_write_is_not_kept() {
    let fake = server().await;
    let (.., ()) = tokio::join!(overlap(&fake), async {
        tokio::time::sleep(SLOW / 2).await;
        drop(fake.client.write_guard("p"));
    });
    fake.client.read_instance("p", "a").await.unwrap();
    assert_eq!(lists(&fake), 1);
    assert_eq!(fake.lines().last().unwrap(), ONE);
}

#[tokio::test(start_paused = true)]
async fn while_a_write_runs_every_read_is_its_own() {
    let fake = server().await;
    let guard = fake.client.write_guard("p");
    overlap(&fake).await;
    overlap(&fake).await;
    assert_eq!((fake.lines().len(), lists(&fake)), (4, 0));
    drop(guard);
    overlap(&fake).await;
    assert_eq!(lists(&fake), 1);
}

#[tokio::test(start_paused = true)]
async fn leases_of_one_bridge_are_asked_once() {
    let fake = server().await;
    let reads = (0..20).map(|_| fake.client.leases("net-p", "p"));
    for read in futures_util::future::join_all(reads).await {
        assert_eq!(read.unwrap()[0].address, "10.0.0.2");
    }
    assert_eq!(fake.lines(), ["GET /1.0/networks/net-p/leases?project=p"]);
    drop(fake.client.write_guard("default"));
    fake.client.leases("net-p", "p").await.unwrap();
    assert_eq!(fake.lines().len(), 2);
}

/// A read of `a` that goes alone, and a client whose reads are ended by the token: its next one asks for the list.
fn one_alone(fake: &Fake) -> (JoinHandle<()>, Client, CancellationToken) {
    let client = fake.client.clone();
    let first = tokio::spawn(async move { assert!(client.read_instance("p", "a").await.unwrap().is_some()) });
    let stop = CancellationToken::new();
    let leaver = fake.client.reading(&Wait { deadline: None, stop: stop.clone() });
    (first, leaver, stop)
}

#[tokio::test(start_paused = true)]
async fn a_reader_who_is_stopped_takes_the_list_from_nobody() {
    let fake = server().await;
    let (first, leaver, stop) = one_alone(&fake);
    tokio::time::sleep(SLOW / 4).await;
    let left = tokio::spawn(async move { leaver.read_instance("p", "i1").await });
    tokio::time::sleep(SLOW / 4).await;
    let (stays, left, ()) = tokio::join!(fake.client.read_instance("p", "i2"), left, async {
        tokio::time::sleep(SLOW / 4).await;
        stop.cancel();
    });
    assert!(stays.unwrap().is_some());
    assert!(left.unwrap().unwrap_err().is_stopped());
    first.await.unwrap();
    assert_eq!((fake.lines().len(), lists(&fake)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_list_for_which_nobody_waits_any_more_is_not_joined() {
    let fake = server().await;
    let (first, leaver, stop) = one_alone(&fake);
    tokio::time::sleep(SLOW / 4).await;
    stop.cancel();
    assert!(leaver.read_instance("p", "i1").await.unwrap_err().is_stopped());
    assert!(fake.client.read_instance("p", "i2").await.unwrap().is_some());
    first.await.unwrap();
}

/// A server that takes every request and answers none.
async fn hung() -> Fake {
    Fake::start(|_| std::future::pending()).await
}

async fn soon<T>(answer: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(1), answer).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_every_read_of_a_hung_daemon_at_once() {
    let fake = hung().await;
    let stop = CancellationToken::new();
    let client = fake.client.reading(&Wait { deadline: None, stop: stop.clone() });
    let reads = async {
        tokio::join!(
            client.find::<serde_json::Value>(instance::get("p", "a")),
            client.read_instance("p", "a"),
            client.read_instance("p", "i1"),
            client.read_instances("p"),
            client.server(),
            client.server(),
        )
    };
    let stopping = async {
        tokio::time::sleep(SLOW).await;
        stop.cancel();
    };
    let ((one, two, three, four, five, six), ()) = soon(async { tokio::join!(reads, stopping) }).await;
    let errors = [
        one.unwrap_err(),
        two.unwrap_err(),
        three.unwrap_err(),
        four.unwrap_err(),
        five.unwrap_err(),
        six.unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.is_stopped() && !error.may_have_been_sent()), "{errors:?}");
}

#[tokio::test(start_paused = true)]
async fn a_read_has_the_deadline_that_it_was_given_else_sixty_seconds() {
    let fake = hung().await;
    for (given_s, expected_s) in [(Some(5), 5), (Some(300), 300), (None, 60)] {
        let deadline = given_s.map(|limit| tokio::time::Instant::now() + Duration::from_secs(limit));
        let client = fake.client.reading(&Wait { deadline, ..Wait::default() });
        let start = tokio::time::Instant::now();
        let (alone, listed) = tokio::join!(client.read_instance("p", "a"), client.read_instance("p", "i1"));
        assert!(alone.unwrap_err().is_deadline() && listed.unwrap_err().is_deadline());
        assert_eq!(start.elapsed().as_secs(), expected_s);
    }
}

#[tokio::test(start_paused = true)]
async fn a_merge_that_is_stopped_does_not_wait_for_its_read() {
    let fake = hung().await;
    let stop = CancellationToken::new();
    stop.cancel();
    let wait = Wait { deadline: None, stop };
    let merge = fake.client.modify(instance::get("p", "a"), |_: &mut instance::Instance| true, &wait);
    assert!(soon(merge).await.unwrap_err().is_stopped());
}

#[tokio::test(start_paused = true)]
async fn who_may_not_list_still_reads() {
    let fake = Fake::start(|seen| async move {
        tokio::time::sleep(SLOW).await;
        if seen.line == LIST { error(403, "Forbidden") } else { answer(&seen.line) }
    })
    .await;
    overlap(&fake).await;
    assert_eq!(fake.lines().len(), 3);
}
