//! Virtual machines that no emulator boots: with secure boot, with a TPM; a server that cannot run any, and one without memory.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anklume::plugin::{Failure, Private, Stored, Update, Value};
use serde_json::{Value as Json, json};

use super::creates::{create, instance, map, resource, session};
use super::fake::{Answer, Fake, Seen, error, operation, started, sync};

const REFUSED_BY_FIRMWARE: &str = "BdsDxe: failed to load Boot0001 \"UEFI QEMU HARDDISK\": Access Denied\r\n";

/// What the server is to do.
#[derive(Clone, Copy, PartialEq)]
enum Script {
    /// The machine boots, and its agent answers.
    Boots,
    /// The firmware stays, with the console above.
    Refuses,
    /// The create is refused.
    Fails(&'static str),
    /// The machine is made, and its start fails.
    Dies(&'static str),
}

/// A server with one machine, which is as it was made and written.
async fn server(script: Script) -> Fake {
    let kept: Arc<Mutex<Option<Json>>> = Arc::default();
    Fake::start(move |seen| {
        let answer = answer(&seen, &mut kept.lock().unwrap(), script);
        async move { answer }
    })
    .await
}

fn answer(seen: &Seen, kept: &mut Option<Json>, script: Script) -> Answer {
    let (method, target) = seen.line.split_once(' ').unwrap();
    let path = target.split('?').next().unwrap();
    match (method, path, script) {
        ("GET", "/1.0", _) => sync(json!({"auth": "trusted", "api_extensions": ["instance_create_start"]})),
        ("POST", "/1.0/instances", _) => {
            if !matches!(script, Script::Fails(_)) {
                *kept = Some(seen.body.clone());
            }
            started(false)
        }
        ("GET", "/1.0/operations/op1/wait", Script::Fails(reason) | Script::Dies(reason)) => {
            sync(operation(400, false, reason))
        }
        ("GET", "/1.0/operations/op1/wait", _) => sync(operation(200, false, "")),
        ("GET", "/1.0/instances/web/console", _) => super::fake::raw(200, REFUSED_BY_FIRMWARE),
        ("PUT", "/1.0/instances/web/state", _) => {
            let machine = kept.as_mut().unwrap();
            machine["start"] = (seen.body["action"] == "start").into();
            started(false)
        }
        ("PUT", "/1.0/instances/web", _) => {
            let machine = kept.as_mut().unwrap();
            for (name, value) in seen.body.as_object().unwrap() {
                machine[name] = value.clone();
            }
            started(false)
        }
        ("GET", "/1.0/instances/web/state", _) => {
            let processes = if script == Script::Boots { 40 } else { -1 };
            sync(json!({"status": "Running", "status_code": 103, "processes": processes, "network": {}}))
        }
        ("GET", "/1.0/instances/web", _) => match kept {
            Some(machine) => {
                let (status, code) = if machine["start"] == true { ("Running", 103) } else { ("Stopped", 102) };
                let mut found = machine.clone();
                found["status"] = status.into();
                found["status_code"] = code.into();
                found["expanded_config"] = found["config"].clone();
                found["expanded_devices"] = found["devices"].clone();
                sync(found)
            }
            None => error(404, "Instance not found"),
        },
        _ => error(404, "not found"),
    }
}

/// What is planned for the machine, with `more` beside it.
fn machine<const N: usize>(more: [(&str, Value); N]) -> Value {
    let wait = map([("agent_timeout", "1s".into()), ("addresses", false.into())]);
    let Value::Map(mut planned) = instance("vm", wait) else { unreachable!("a map is a map") };
    planned.extend(more.map(|(name, value)| (name.to_owned(), value)));
    Value::Map(planned)
}

fn tpm() -> Value {
    map([("tpm", map([("type", "tpm".into())]))])
}

/// Holds all diagnostics against `golden/<name>.txt`; `UPDATE_GOLDEN=1` writes it.
#[track_caller]
fn golden(name: &str, failure: &Failure) {
    let found: String = failure
        .diagnostics
        .iter()
        .map(|told| format!("{}: {}\n\n{}\n", told.path, told.summary, told.detail))
        .collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fake_api/golden/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|update| update == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, found).unwrap();
        return;
    }
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), found, "{} (UPDATE_GOLDEN=1 writes it)", path.display());
}

fn written(fake: &Fake, line: &str) -> Json {
    fake.seen().into_iter().find(|seen| seen.line.starts_with(line)).unwrap_or_else(|| panic!("no {line}")).body
}

#[tokio::test]
async fn a_machine_with_secure_boot_and_a_tpm_is_made_in_one_request() {
    let fake = server(Script::Boots).await;
    let planned = machine([("secure_boot", true.into()), ("devices", tpm())]);
    let stored = create(&fake, &Default::default(), "anklume_instance", planned).await.unwrap();
    let body = written(&fake, "POST /1.0/instances");
    assert_eq!(body["type"], "virtual-machine");
    assert_eq!(body["config"]["security.secureboot"], "true");
    assert_eq!(body["config"].get("security.csm"), None);
    assert_eq!(body["devices"]["tpm"], json!({"type": "tpm"}));
    assert_eq!(body["start"], true);
    assert_eq!(stored.state.get("secure_boot").as_bool(), Some(true));
    assert_eq!(stored.state.get("devices"), &tpm());
    let writes = fake.lines().into_iter().filter(|line| !line.starts_with("GET")).count();
    assert_eq!(writes, 1, "{:?}", fake.lines());
}

#[tokio::test]
async fn csm_without_secure_boot_reaches_the_server() {
    let fake = server(Script::Boots).await;
    create(
        &fake,
        &Default::default(),
        "anklume_instance",
        machine([("secure_boot", false.into()), ("csm", true.into())]),
    )
    .await
    .unwrap();
    let config = written(&fake, "POST /1.0/instances")["config"].clone();
    assert_eq!((&config["security.secureboot"], &config["security.csm"]), (&json!("false"), &json!("true")));
}

#[tokio::test]
async fn firmware_that_refuses_the_image_is_told_with_the_attribute_to_set() {
    let fake = server(Script::Refuses).await;
    let failure = create(&fake, &Default::default(), "anklume_instance", machine([("secure_boot", true.into())]))
        .await
        .unwrap_err();
    golden("secure_boot", &failure);
    assert!(failure.partial.is_some(), "it is in the state, tainted");
}

#[tokio::test]
async fn a_server_without_virtual_machines_says_what_it_lacks() {
    for (name, lack) in
        [("no_vsock", "vhost_vsock kernel module not loaded"), ("no_kvm", "KVM support is missing (no /dev/kvm)")]
    {
        let reason = format!("Instance type \"virtual-machine\" is not supported on this server: {lack}");
        let fake = server(Script::Fails(reason.leak())).await;
        let failure = create(&fake, &Default::default(), "anklume_instance", machine([])).await.unwrap_err();
        golden(name, &failure);
        assert!(failure.partial.is_none());
    }
}

#[tokio::test]
async fn a_host_without_the_memory_shows_the_line_to_change() {
    let reason = "Failed to start QEMU: qemu-system-x86_64: cannot set up guest memory 'mem0': Cannot allocate memory";
    let fake = server(Script::Dies(reason)).await;
    let failure = create(&fake, &Default::default(), "anklume_instance", machine([])).await.unwrap_err();
    golden("no_memory", &failure);
    assert!(failure.partial.is_some(), "it is in the state, tainted");
}

#[tokio::test]
async fn a_tpm_that_comes_later_stops_and_starts_the_machine_around_its_change() {
    let fake = server(Script::Boots).await;
    let before = machine([]);
    let stored = create(&fake, &Default::default(), "anklume_instance", before).await.unwrap();
    let planned = machine([("devices", tpm())]);
    let update =
        Update { config: planned.clone(), prior: stored.state, planned, private: Private::clone(&stored.private) };
    let updated: Stored =
        resource("anklume_instance").update(&session(&fake), &Default::default(), update).await.unwrap();
    assert_eq!(updated.state.get("devices"), &tpm());
    let writes: Vec<_> = fake.seen().into_iter().filter(|seen| seen.line.starts_with("PUT")).collect();
    let steps: Vec<_> = writes.iter().map(|seen| seen.body["action"].as_str().unwrap_or("change")).collect();
    assert_eq!(steps, ["stop", "change", "start"]);
}
