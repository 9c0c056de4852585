//! What a create leaves in the state when an answer is lost, and what a delete leaves alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anklume::plugin::{Call, Create, Failure, Private, Provider, Resource, Stored, Value};
use anklume::resources::Anklume;
use serde_json::{Value as Json, json};

use super::fake::{Answer, Fake, Seen, error, raw, sync};

const NETWORK: &str = "/1.0/networks/net-pro";

/// A server that keeps what is written to it, but for the answers of `meddle`.
async fn keeper(meddle: impl Fn(&Seen, &Stopper) -> Option<Answer> + Send + Sync + 'static) -> (Fake, Stopper) {
    let kept: Arc<Mutex<HashMap<String, Json>>> = Arc::default();
    let call = Call::default();
    let stop = call.stop.clone();
    let fake = Fake::start(move |seen| {
        let answer = answer(&seen, &mut kept.lock().unwrap());
        let answer = meddle(&seen, &stop).unwrap_or(answer);
        async move { answer }
    })
    .await;
    (fake, call.stop)
}

type Stopper = tokio_util::sync::CancellationToken;

fn answer(seen: &Seen, kept: &mut HashMap<String, Json>) -> Answer {
    let (method, path) = seen.line.split_once(' ').unwrap();
    let path = path.split('?').next().unwrap();
    match (method, path) {
        ("GET", "/1.0/storage-pools") => sync(json!([{"name": "default"}])),
        ("GET", "/1.0/networks" | "/1.0/instances") => sync(json!([])),
        ("GET", _) => kept.get(path).map_or_else(|| error(404, "not found"), |found| sync(found.clone())),
        ("POST", _) => {
            let mut body = seen.body.clone();
            body["managed"] = true.into();
            kept.insert(format!("{path}/{}", body["name"].as_str().unwrap()), body);
            sync(json!({}))
        }
        _ => sync(json!({})),
    }
}

pub(super) fn map<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Map(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn domain() -> Value {
    map([
        ("name", "pro".into()),
        ("trust_level", "trusted".into()),
        ("nat", true.into()),
        ("ipv6", "none".into()),
        ("nic_filtering", false.into()),
        ("force_destroy", true.into()),
        ("project", "pro".into()),
        ("bridge", "net-pro".into()),
    ])
}

fn profile() -> Value {
    map([("name", "small".into()), ("domain", "pro".into())])
}

pub(super) fn input(values: Value) -> Create {
    Create { config: values.clone(), planned: values, private: Private::default() }
}

pub(super) fn resource(name: &str) -> Box<dyn Resource<<Anklume as Provider>::Session>> {
    Anklume.resources().into_iter().find(|resource| resource.type_name() == name).unwrap()
}

pub(super) fn session(fake: &Fake) -> <Anklume as Provider>::Session {
    let address = format!("unix://{}", fake.path().display());
    Anklume.configure(map([("address", address.into())]), "").unwrap()
}

pub(super) async fn create(fake: &Fake, stop: &Stopper, kind: &str, values: Value) -> Result<Stored, Failure> {
    resource(kind).create(&session(fake), &Call { stop: stop.clone() }, input(values)).await
}

/// What is planned for the container `web`, which shall run and waits for no address.
pub(super) fn container() -> Value {
    instance("lxc", map([("addresses", Value::from(false))]))
}

/// What is planned for the instance `web` of this type, which shall run.
pub(super) fn instance(kind: &str, wait: Value) -> Value {
    map([
        ("name", "web".into()),
        ("domain", "pro".into()),
        ("type", kind.into()),
        ("image", "debian".into()),
        ("running", true.into()),
        ("ephemeral", false.into()),
        ("restart_on_update", true.into()),
        ("delete_protection", false.into()),
        ("stop_timeout", "0s".into()),
        ("wait", wait),
    ])
}

#[tokio::test]
async fn a_bridge_whose_answer_was_lost_is_in_the_state() {
    let (fake, stop) = keeper(|seen, _| (seen.line == "POST /1.0/networks").then(|| raw(200, "half an ans"))).await;
    let failure = create(&fake, &stop, "anklume_domain", domain()).await.unwrap_err();
    assert_eq!(failure.partial.unwrap().state.get("bridge").as_str(), Some("net-pro"));
}

#[tokio::test]
async fn a_bridge_is_in_the_state_where_its_rivals_cannot_be_listed() {
    let (fake, stop) = keeper(|seen, _| {
        (seen.line == "GET /1.0/networks?recursion=1" && seen.nth == 1).then(|| error(500, "disk I/O error"))
    })
    .await;
    let failure = create(&fake, &stop, "anklume_domain", domain()).await.unwrap_err();
    assert!(failure.partial.is_some());
}

#[tokio::test]
async fn a_bridge_that_was_refused_is_not_in_the_state() {
    let (fake, stop) = keeper(|seen, _| match seen.line.as_str() {
        "POST /1.0/networks" => Some(error(400, "Invalid option for network")),
        line if line.ends_with(NETWORK) => Some(error(404, "Network not found")),
        _ => None,
    })
    .await;
    let failure = create(&fake, &stop, "anklume_domain", domain()).await.unwrap_err();
    assert!(failure.partial.is_none());
}

#[tokio::test]
async fn a_domain_that_is_stopped_after_its_bridge_is_in_the_state() {
    let (fake, stop) = keeper(|seen, stop| {
        if seen.line == "POST /1.0/networks" {
            stop.cancel();
        }
        None
    })
    .await;
    let failure = create(&fake, &stop, "anklume_domain", domain()).await.unwrap_err();
    assert!(failure.partial.is_some());
    assert!(!fake.lines().contains(&"POST /1.0/projects".to_owned()));
}

#[tokio::test]
async fn a_profile_whose_answer_was_lost_is_created() {
    let (fake, stop) = keeper(|seen, _| seen.line.starts_with("POST").then(|| raw(200, "half an ans"))).await;
    let stored = create(&fake, &stop, "anklume_profile", profile()).await.unwrap();
    assert_eq!(stored.state.get("id").as_str(), Some("pro/small"));
    assert!(!stored.warnings.iter().any(|_| true), "nobody else made it");
}

#[tokio::test]
async fn a_profile_that_may_exist_is_in_the_state() {
    let (fake, stop) = keeper(|seen, stop| match seen.line.starts_with("POST") {
        true => {
            stop.cancel();
            Some(raw(200, "half an ans"))
        }
        false => Some(error(500, "disk I/O error")),
    })
    .await;
    let failure = create(&fake, &stop, "anklume_profile", profile()).await.unwrap_err();
    assert!(failure.partial.is_some());
}

#[tokio::test]
async fn a_domain_whose_bridge_others_use_is_left_whole_even_by_force() {
    let stop = Stopper::new();
    let fake = Fake::start(|seen| async move {
        match seen.line.as_str() {
            "GET /1.0/projects/pro" => sync(json!({"name": "pro", "used_by": ["/1.0/instances/web?project=pro"],
                "config": {"user.anklume.incarnation": "i"}})),
            line if line.ends_with(NETWORK) => sync(json!({"name": "net-pro", "managed": true, "type": "bridge",
                "config": {"user.anklume.incarnation": "i"}, "used_by": ["/1.0/instances/web?project=pro", "/1.0/instances/web?project=other"]})),
            _ => error(404, "not found"),
        }
    })
    .await;
    let mut state = domain();
    state.set("uid", "i");
    let prior = Stored::new(state, Private::default());
    let call = Call { stop };
    let failure = resource("anklume_domain").delete(&session(&fake), &call, prior).await.unwrap_err();
    let told: String = failure.diagnostics.iter().map(|told| told.detail.clone()).collect();
    assert!(told.contains("instance web (project other)") && !told.contains("(project pro)"), "{told}");
    assert!(fake.lines().iter().all(|line| line.starts_with("GET")), "{:?}", fake.lines());
}

#[tokio::test]
async fn a_refresh_that_is_stopped_does_not_wait_for_a_hung_daemon() {
    let fake = Fake::start(|_| std::future::pending()).await;
    for (kind, state) in [
        ("anklume_domain", domain()),
        ("anklume_profile", profile()),
        ("anklume_instance", map([("name", "web".into()), ("domain", "pro".into())])),
    ] {
        let call = Call::default();
        let (session, resource) = (session(&fake), resource(kind));
        let read = resource.read(&session, &call, Stored::new(state, Private::default()));
        let stop = async {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            call.stop.cancel();
        };
        let both = async { tokio::join!(read, stop).0 };
        let read = tokio::time::timeout(std::time::Duration::from_secs(10), both).await.unwrap();
        assert!(read.is_err(), "{kind}");
    }
}
