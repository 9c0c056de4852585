//! Which reads share a list.

use std::time::Duration;

use anklume::incus::Wait;
use anklume::incus::instance;
use serde_json::json;

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

#[tokio::test(start_paused = true)]
async fn a_reader_who_leaves_takes_the_list_from_nobody() {
    let fake = server().await;
    let first = tokio::spawn({
        let client = fake.client.clone();
        async move { client.read_instance("p", "a").await }
    });
    tokio::time::sleep(SLOW / 4).await;
    let leaver = tokio::time::timeout(SLOW / 4, fake.client.read_instance("p", "i1"));
    assert!(leaver.await.is_err());
    assert!(fake.client.read_instance("p", "i2").await.unwrap().is_some());
    first.await.unwrap().unwrap();
    assert_eq!((fake.lines().len(), lists(&fake)), (2, 1));
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
