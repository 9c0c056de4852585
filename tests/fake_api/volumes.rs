//! Volumes on a server that keeps what is written to it: what an upload asks for, and what a delete takes and leaves.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use anklume::plugin::{Call, Failure, Private, Provider, Stored, Update, Value};
use anklume::resources::Anklume;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::creates::{input, map, resource};
use super::fake::{Answer, Fake, Seen, error, operation, raw, started, sync};
use super::web_server::{Answer as File, Content, Place, Server};

const VOLUMES: &str = "/1.0/storage-pools/default/volumes/custom";
const KIND: &str = "anklume_volume";

type Kept = Arc<Mutex<BTreeMap<String, Json>>>;
type Session = <Anklume as Provider>::Session;

/// A server with these objects by path; `meddle` may answer in its place, after it has done what was asked.
async fn keeper(
    objects: &[(&str, Json)],
    meddle: impl Fn(&Seen) -> Option<Answer> + Send + Sync + 'static,
) -> (Fake, Kept) {
    let kept: Kept = Arc::default();
    kept.lock().unwrap().extend(objects.iter().map(|(path, object)| ((*path).to_owned(), object.clone())));
    let all = Arc::clone(&kept);
    let fake = Fake::start(move |seen| {
        let answer = answer(&seen, &mut all.lock().unwrap());
        let answer = meddle(&seen).unwrap_or(answer);
        async move { answer }
    })
    .await;
    (fake, kept)
}

fn answer(seen: &Seen, kept: &mut BTreeMap<String, Json>) -> Answer {
    let (method, path) = seen.line.split_once(' ').unwrap();
    let path = path.split('?').next().unwrap();
    let none = || error(404, "Storage volume not found");
    match (method, path) {
        ("GET", "/1.0") => sync(json!({"auth": "trusted", "environment": {"server_version": "6.0.5"}})),
        ("GET", "/1.0/operations") => sync(json!({})),
        ("GET", path) if path.starts_with("/1.0/operations/") => sync(operation(200, false, "")),
        ("GET", "/1.0/instances") => {
            sync(kept.iter().filter(|(path, _)| path.contains("/instances/")).map(|(_, found)| found.clone()).collect())
        }
        ("GET", path) => kept.get(path).map_or_else(none, |found| sync(found.clone())),
        ("PUT", path) => {
            let Some(found) = kept.get_mut(path) else { return none() };
            found.as_object_mut().unwrap().extend(seen.body.as_object().unwrap().clone());
            sync(json!({}))
        }
        ("POST", VOLUMES) => {
            let name = seen.name.clone().unwrap();
            let content_type = if name == "cd" { "iso" } else { "block" };
            let made = json!({"name": name, "content_type": content_type, "config": {"size": "8192"}, "used_by": []});
            kept.insert(format!("{VOLUMES}/{name}"), made);
            started(false)
        }
        ("POST", path) => {
            let Some(mut found) = kept.remove(path) else { return none() };
            let name = seen.body["name"].as_str().unwrap().to_owned();
            found["name"] = name.clone().into();
            kept.insert(format!("{VOLUMES}/{name}"), found);
            sync(json!({}))
        }
        ("DELETE", path) => kept.remove(path).map_or_else(none, |_| sync(json!({}))),
        _ => none(),
    }
}

fn session(fake: &Fake, owner: &str) -> Session {
    let address = format!("unix://{}", fake.path().display());
    Anklume.configure(map([("address", address.into()), ("owner", owner.into())]), "").unwrap()
}

fn project() -> (&'static str, Json) {
    ("/1.0/projects/pro", json!({"name": "pro", "config": {}}))
}

/// A raw disk of 5000 bytes and the configuration of its volume.
fn disk() -> (tempfile::NamedTempFile, Value) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[7; 5000]).unwrap();
    let config = json!({"name": "data", "domain": "pro", "pool": "default", "content_type": "block",
        "delete_protection": false, "source": {"file": file.path()}});
    (file, Value::from_json(&config))
}

/// Every request but those of whether something is there.
fn writes(fake: &Fake) -> Vec<String> {
    fake.lines().into_iter().filter(|line| !line.starts_with("GET")).collect()
}

/// The name under which `data` of this owner is filled, as a first upload shows it.
async fn temporary(owner: &str) -> String {
    let (fake, _) = keeper(&[project()], |_| None).await;
    let (_file, config) = disk();
    resource(KIND).create(&session(&fake, owner), &Call::default(), input(config)).await.unwrap();
    fake.seen().into_iter().find_map(|seen| seen.name).unwrap()
}

#[tokio::test]
async fn an_upload_is_one_stream_one_write_and_one_rename() {
    let (fake, kept) = keeper(&[project()], |_| None).await;
    let (_file, config) = disk();
    let stored = resource(KIND).create(&session(&fake, "me"), &Call::default(), input(config)).await.unwrap();
    assert_eq!(stored.state.get("size").as_str(), Some("8192"));
    let name = fake.seen().into_iter().find_map(|seen| seen.name).unwrap();
    let of = |method: &str, rest: &str| format!("{method} {VOLUMES}{rest}?project=pro");
    let temporary = format!("/{name}");
    let expected = [of("DELETE", &temporary), of("POST", ""), of("PUT", &temporary), of("POST", &temporary)];
    assert_eq!(writes(&fake), expected);
    let reads = fake.lines().iter().filter(|line| line.starts_with("GET")).count();
    assert!(reads <= 10, "{:?}", fake.lines());
    let kept = kept.lock().unwrap();
    let volumes: Vec<_> = kept.keys().filter(|path| path.starts_with(VOLUMES)).collect();
    assert_eq!(volumes, [&format!("{VOLUMES}/data")]);
    assert!(kept[volumes[0]]["config"]["user.anklume.incarnation"].is_string());
}

#[tokio::test]
async fn a_volume_whose_rename_was_not_answered_is_created_once() {
    let is_rename = |seen: &Seen| seen.line.starts_with("POST") && seen.name.is_none();
    let (fake, kept) = keeper(&[project()], move |seen| is_rename(seen).then(|| raw(200, "half an ans"))).await;
    let (_file, config) = disk();
    let stored = resource(KIND).create(&session(&fake, "me"), &Call::default(), input(config)).await.unwrap();
    assert!(stored.warnings.is_empty(), "nobody else made it");
    assert_eq!(writes(&fake).iter().filter(|line| line.starts_with("POST")).count(), 2, "{:?}", fake.lines());
    assert_eq!(kept.lock().unwrap().keys().filter(|path| path.starts_with(VOLUMES)).count(), 1);
}

#[tokio::test]
async fn a_file_that_changes_before_any_of_it_was_sent_is_read_anew() {
    let (fake, _) = keeper(&[project()], |_| None).await;
    let content = Content::Zeros(50_000);
    let server = Server::start(Place::default(), move |request| match request.nth {
        0 => File::file(request, &Content::Zeros(60_000), "\"one\"").cut(10),
        _ => File::file(request, &content, "\"two\""),
    });
    let (_file, mut config) = disk();
    let sha256: String = Sha256::digest(vec![0; 50_000]).iter().map(|byte| format!("{byte:02x}")).collect();
    config.set("source", Value::from_json(&json!({"url": server.url("/disk"), "sha256": sha256})));
    resource(KIND).create(&session(&fake, "me"), &Call::default(), input(config)).await.unwrap();
    assert_eq!(server.seen().iter().map(|request| request.from()).collect::<Vec<_>>(), [None, Some(10), None]);
    assert_eq!(fake.seen().iter().filter(|seen| seen.name.is_some()).count(), 1);
}

#[tokio::test]
async fn what_still_works_on_a_half_made_volume_is_waited_for_before_it_is_deleted() {
    let name = temporary("me").await;
    let path = format!("{VOLUMES}/{name}");
    let half = json!({"name": name, "content_type": "block", "config": {}});
    let works =
        json!({"id": "op9", "status_code": 103, "resources": {"storage_volumes": [format!("{path}?project=pro")]}});
    let ended = json!({"id": "op8", "status_code": 400, "resources": {"storage_volumes": [path]}});
    let elsewhere = json!({"id": "op7", "status_code": 103, "resources": {"instances": ["/1.0/instances/x"]}});
    let running = json!({"running": [works, elsewhere], "failure": [ended]});
    let (fake, _) = keeper(&[project(), (&path, half)], move |seen| {
        seen.line.starts_with("GET /1.0/operations?").then(|| sync(running.clone()))
    })
    .await;
    let (_file, mut config) = disk();
    // Whatever was configured then.
    config.set("description", "another");
    resource(KIND).create(&session(&fake, "me"), &Call::default(), input(config)).await.unwrap();
    let lines = fake.lines();
    let at = |begin: &str| lines.iter().position(|line| line.starts_with(begin)).unwrap();
    let (waited, deleted) = (at("GET /1.0/operations/op9/wait"), at(&format!("DELETE {path}")));
    assert!(waited < deleted && deleted < at(&format!("POST {VOLUMES}?")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("op7") || line.contains("op8")), "{lines:?}");
}

fn owner_mark(owner: &str) -> String {
    Sha256::digest(owner)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A volume `data` of `owner` "me", and an instance `box` of `owner` that has it.
fn used(owner: &str) -> [(&'static str, Json); 3] {
    let volume = json!({"name": "data", "content_type": "filesystem", "used_by": ["/1.0/instances/box?project=pro"],
        "config": {"size": "1GiB", "user.anklume.incarnation": "i", "user.anklume.delete_protection": "false"}});
    let instance = json!({"name": "box", "status": "Running", "status_code": 103, "profiles": [],
        "config": {"user.anklume.fingerprint": "f", "user.anklume.owner": owner_mark(owner)},
        "devices": {"sv-data": {"type": "disk", "pool": "default", "source": "data", "path": "/srv"}}});
    [project(), ("/1.0/storage-pools/default/volumes/custom/data", volume), ("/1.0/instances/box", instance)]
}

async fn delete(fake: &Fake, call: &Call, content_type: &str) -> Result<(), Failure> {
    let state = json!({"name": "data", "domain": "pro", "pool": "default", "content_type": content_type,
        "delete_protection": false});
    let mut private = Private::default();
    private.set("incarnation", "i");
    resource(KIND).delete(&session(fake, "me"), call, Stored::new(Value::from_json(&state), private)).await
}

#[tokio::test]
async fn a_volume_is_taken_from_instances_of_its_owner_alone() {
    let (fake, kept) = keeper(&used("me"), |_| None).await;
    delete(&fake, &Call::default(), "filesystem").await.unwrap();
    let found = kept.lock().unwrap()["/1.0/instances/box"].clone();
    assert!(found["config"]["user.anklume.detached.default.data"].is_string() && found["devices"]["sv-data"].is_null());

    let (fake, _) = keeper(&used("you"), |_| None).await;
    let failure = delete(&fake, &Call::default(), "filesystem").await.unwrap_err();
    let told = &failure.diagnostics.iter().next().unwrap().detail;
    assert!(told.contains("instance box") && told.contains("`owner`"), "{told}");
    assert_eq!(writes(&fake), Vec::<String>::new());
}

#[tokio::test]
async fn a_delete_that_is_stopped_gives_the_volume_back() {
    let call = Call::default();
    let stop = call.stop.clone();
    let (fake, kept) = keeper(&used("me"), move |seen| {
        seen.line.starts_with("DELETE").then(|| {
            stop.cancel();
            error(400, "The storage volume is still in use")
        })
    })
    .await;
    let failure = delete(&fake, &call, "filesystem").await;
    assert!(failure.is_err());
    let kept = kept.lock().unwrap();
    let found = &kept["/1.0/instances/box"];
    assert_eq!(found["devices"]["sv-data"]["source"], "data", "{:?}", fake.lines());
    assert!(found["config"]["user.anklume.detached.default.data"].is_null());
}

/// A project with the marks of an ISO `data` that was made at `made`.
fn marked(incarnation: &str, made: &str) -> (&'static str, Json) {
    let config = json!({"user.anklume.iso.default.data.incarnation": incarnation,
        "user.anklume.iso.default.data.made": made, "user.anklume.iso.default.data.v2.incarnation": "z"});
    ("/1.0/projects/pro", json!({"name": "pro", "config": config}))
}

#[tokio::test]
async fn the_marks_of_an_iso_that_is_gone_go_with_its_delete() {
    let marks = |kept: &Kept| kept.lock().unwrap()["/1.0/projects/pro"]["config"].as_object().unwrap().len();
    let iso = (
        "/1.0/storage-pools/default/volumes/custom/data",
        json!({"name": "data", "content_type": "iso", "created_at": "2026-02-02T00:00:00Z", "config": {"size": "9"}}),
    );
    for (incarnation, objects, left) in [
        ("i", vec![marked("i", "2026-01-01T00:00:00Z")], 1),
        // A replacement has its own under the name.
        ("j", vec![marked("j", "2026-01-01T00:00:00Z")], 3),
        // Somebody else's has the name by now.
        ("i", vec![marked("i", "2026-01-01T00:00:00Z"), iso.clone()], 1),
    ] {
        let (fake, kept) = keeper(&objects, |_| None).await;
        delete(&fake, &Call::default(), "iso").await.unwrap();
        assert_eq!(marks(&kept), left, "{incarnation}");
        assert!(!writes(&fake).iter().any(|line| line.starts_with("DELETE")), "{:?}", fake.lines());
    }
    let (fake, kept) = keeper(&[marked("i", "2026-02-02T00:00:00Z"), iso], |_| None).await;
    delete(&fake, &Call::default(), "iso").await.unwrap();
    assert!(marks(&kept) == 1 && kept.lock().unwrap().len() == 1, "its own is deleted with its marks");
}

#[tokio::test]
async fn an_iso_of_ours_is_made_anew_only_where_its_upload_may_have_been_cut_and_its_length_says_so() {
    let file = {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 5000]).unwrap();
        file
    };
    let config = || {
        Value::from_json(&json!({"name": "cd", "domain": "pro", "pool": "default", "content_type": "iso",
            "delete_protection": false, "source": {"file": file.path()}}))
    };
    for (uploading, size, made_anew, taken) in
        [(true, "5000", true, false), (true, "5001", false, true), (false, "5000", false, false)]
    {
        let (fake, kept) = keeper(&[project()], |_| None).await;
        resource(KIND).create(&session(&fake, "me"), &Call::default(), input(config())).await.unwrap();
        let before = {
            let mut kept = kept.lock().unwrap();
            let marks = kept.get_mut("/1.0/projects/pro").unwrap()["config"].as_object_mut().unwrap();
            assert!(marks.contains_key("user.anklume.iso.default.cd.incarnation"), "{marks:?}");
            if uploading {
                marks.insert("user.anklume.iso.default.cd.uploading".into(), "true".into());
            }
            let found = json!({"name": "cd", "content_type": "iso", "config": {"size": size}, "used_by": []});
            kept.insert(format!("{VOLUMES}/cd"), found);
            writes(&fake).len()
        };
        let again = resource(KIND).create(&session(&fake, "me"), &Call::default(), input(config())).await;
        let writes = writes(&fake).split_off(before);
        assert_eq!(again.is_err(), taken, "{:?}", again.err().map(|failure| failure.diagnostics));
        let deletes = writes.iter().filter(|line| line.starts_with("DELETE")).count();
        assert_eq!(deletes, usize::from(made_anew), "{writes:?}");
    }
}

/// A volume `data` that Incus (from 7.0 on) deletes together with the stopped instance `box`.
fn dependent(protected: bool) -> [(&'static str, Json); 3] {
    let volume = json!({"name": "data", "content_type": "filesystem", "used_by": ["/1.0/instances/box?project=pro"],
        "config": {"size": "1GiB", "dependent": "true", "user.anklume.incarnation": "i",
            "user.anklume.delete_protection": protected.to_string()}});
    let devices =
        json!({"sv-data": {"type": "disk", "pool": "default", "source": "data", "path": "/srv", "dependent": "true"}});
    let instance = json!({"name": "box", "status": "Stopped", "status_code": 102, "profiles": [],
        "config": {"user.anklume.incarnation": "i"}, "devices": devices, "expanded_devices": devices});
    [project(), ("/1.0/storage-pools/default/volumes/custom/data", volume), ("/1.0/instances/box", instance)]
}

#[tokio::test]
async fn an_instance_with_which_incus_would_delete_a_protected_volume_stays() {
    let state = Value::from_json(&json!({"id": "pro/box", "name": "box", "domain": "pro", "uid": "i"}));
    let delete = async |fake: &Fake| {
        let prior = Stored::new(state.clone(), Private::default());
        resource("anklume_instance").delete(&session(fake, "me"), &Call::default(), prior).await
    };
    let (fake, _) = keeper(&dependent(true), |_| None).await;
    let failure = delete(&fake).await.unwrap_err();
    let told = failure.diagnostics.iter().next().unwrap();
    assert_eq!(told.path.to_string(), "devices[\"sv-data\"]");
    assert!(
        told.detail.contains("\"data\"") && told.detail.contains("incus config device unset box sv-data dependent")
    );
    assert_eq!(writes(&fake), Vec::<String>::new());
    let (fake, _) = keeper(&dependent(false), |_| None).await;
    delete(&fake).await.unwrap();
    assert_eq!(writes(&fake), ["DELETE /1.0/instances/box?project=pro"]);
}

#[tokio::test]
async fn what_incus_notes_on_a_dependent_volume_is_no_drift_and_stays() {
    let (fake, kept) = keeper(&dependent(true), |_| None).await;
    let state = json!({"id": "pro/default/data", "name": "data", "domain": "pro", "pool": "default",
        "content_type": "filesystem", "size": "1GiB", "uid": "i", "delete_protection": true});
    let current = Stored::new(Value::from_json(&state), Private::default());
    let read = resource(KIND).read(&session(&fake, "me"), &Call::default(), current).await.unwrap().unwrap();
    assert!(read.state.get("config").is_null(), "{:?}", read.state.get("config"));
    let mut planned = read.state.clone();
    planned.set("description", "new");
    let update = Update { config: planned.clone(), prior: read.state, planned, private: read.private };
    resource(KIND).update(&session(&fake, "me"), &Call::default(), update).await.unwrap();
    let kept = kept.lock().unwrap();
    let volume = &kept["/1.0/storage-pools/default/volumes/custom/data"];
    assert_eq!((&volume["description"], &volume["config"]["dependent"]), (&json!("new"), &json!("true")));
}
