//! What the core asks of values on the wire: rules 5 to 10, and what it never sends.

use anklume::plugin::wire::tfplugin6 as wire;
use serde_json::{Value as Json, json};

use crate::caller::{Answer, Caller, thing, thing_name};
use crate::msgpack::{REFINED, UNKNOWN, bytes};

fn names(state: &Json) -> Vec<&String> {
    state.as_object().unwrap().keys().collect()
}

// Rule 5.

#[tokio::test]
async fn an_object_carries_every_attribute_and_no_other() {
    let caller = Caller::toy().await;
    let config = thing(json!({"nics": {"eth0": {"mtu": null, "mac": null}}}));
    let planned = caller.plan(&config, &Json::Null, &[]).await.fine().state;
    assert_eq!(names(&planned["nics"]["eth0"]), ["mac", "mtu"]);
    let created = caller.apply(&config, &Json::Null, &planned, &[]).await.fine().state;
    assert_eq!(names(&created["nics"]["eth0"]), ["mac", "mtu"]);
    let read = caller.read(&created, &[]).await.fine().state;
    let imported = caller.import("web").await.fine().state;
    let upgraded = caller.upgrade(1, &json!({"name": "web", "forgotten": 1})).await.fine().state;
    for state in [planned, created, read, imported, upgraded] {
        assert_eq!(names(&state), names(&config));
    }
}

#[tokio::test]
async fn an_attribute_outside_the_schema_is_a_defect_with_a_name() {
    let planned = Caller::toy().await.plan(&thing(json!({"note": "breach-name"})), &Json::Null, &[]).await;
    assert!(planned.error().contains("attribute \"undeclared\" is not in the schema"), "{}", planned.error());
}

// Rule 6.

#[tokio::test]
async fn any_extension_is_unknown_and_comes_back_without_refinement() {
    let caller = Caller::toy().await;
    for unknown in [UNKNOWN, REFINED] {
        let config =
            thing(json!({"note": unknown, "tags": [unknown], "nics": {"eth0": {"mtu": unknown, "mac": null}}}));
        let planned = caller.plan(&config, &Json::Null, &[]).await.fine().state;
        assert_eq!(planned["note"], UNKNOWN);
        assert_eq!(planned["tags"], json!([UNKNOWN]));
        assert_eq!(planned["nics"]["eth0"]["mtu"], UNKNOWN);
        assert_eq!(planned["id"], UNKNOWN);
    }
}

// Rule 7.

#[tokio::test]
async fn a_number_is_the_same_as_an_int_a_float_or_a_text() {
    let caller = Caller::toy().await;
    let prior = thing(json!({"id": "toy/web", "kind": "plain", "size": 7}));
    for seven in [json!(7), json!(7.0), json!("7"), json!("7.0")] {
        let planned = caller.plan(&thing(json!({"size": seven})), &prior, &[]).await.fine();
        assert_eq!(planned.state, prior);
    }
}

#[tokio::test]
async fn a_number_keeps_every_digit() {
    let caller = Caller::toy().await;
    let numbers = [
        json!(-1),
        json!(1_i64 << 40),
        json!(i64::MIN),
        json!(0.5),
        json!("123456789012345678901234567890"),
        json!("0.1"),
    ];
    for number in numbers {
        let planned = caller.plan(&thing(json!({"size": number})), &Json::Null, &[]).await.fine();
        assert_eq!(planned.state["size"], number);
    }
}

// Rule 8.

#[tokio::test]
async fn a_dynamic_value_comes_with_its_type() {
    let caller = Caller::toy().await;
    let values = [
        json!([bytes("\"string\""), "x"]),
        json!([bytes("[\"tuple\",[\"number\",\"bool\"]]"), [1, true]]),
        json!([bytes("[\"object\",{\"a\":\"string\"}]"), {"a": "x"}]),
    ];
    for anything in values {
        let config = thing(json!({"anything": anything}));
        let planned = caller.plan(&config, &Json::Null, &[]).await.fine();
        assert_eq!(planned.state["anything"], anything);
        let created = caller.apply(&config, &Json::Null, &planned.state, &[]).await.fine();
        assert_eq!(created.state["anything"], anything);
        assert_eq!(caller.read(&created.state, &[]).await.fine().state["anything"], anything);
    }
    let saved = json!({"name": "web", "anything": {"type": ["tuple", ["number"]], "value": [1]}});
    let upgraded = caller.upgrade(1, &saved).await.fine();
    assert_eq!(upgraded.state["anything"], json!([bytes("[\"tuple\",[\"number\"]]"), [1]]));
}

// Rule 9. Every other answer is held to it where it is read.

#[tokio::test]
async fn a_request_in_json_is_answered_in_message_pack() {
    let json = thing(json!({"id": "toy/web", "kind": "plain"})).to_string().into_bytes();
    let request = wire::read_resource::Request {
        type_name: thing_name(),
        current_state: Some(wire::DynamicValue { msgpack: Vec::new(), json }),
        private: Vec::new(),
    };
    let response = Caller::toy().await.provider.read_resource(request).await.unwrap().into_inner();
    assert!(response.diagnostics.is_empty());
    let state = response.new_state.unwrap();
    assert!(state.json.is_empty());
    assert_eq!(crate::msgpack::decode(&state.msgpack)["name"], "web");
}

// Rule 10.

#[tokio::test]
async fn null_is_not_empty() {
    let caller = Caller::toy().await;
    let empty = json!({"note": "", "tags": [], "nics": {}});
    for members in [empty, json!({"note": null, "tags": null, "nics": null})] {
        let config = thing(members.clone());
        let planned = caller.plan(&config, &Json::Null, &[]).await.fine().state;
        let created = caller.apply(&config, &Json::Null, &planned, &[]).await.fine().state;
        let read = caller.read(&created, &[]).await.fine().state;
        let upgraded = caller.upgrade(1, &created).await.fine().state;
        for state in [planned, created, read, upgraded] {
            for (name, member) in members.as_object().unwrap() {
                assert_eq!(state[name], *member, "{name}");
            }
        }
    }
}

/// What cannot be read, as a value of the toy.
fn garbage() -> Vec<Vec<u8>> {
    let deep = |byte: u8| vec![byte; 100_000];
    let dynamic = [&b"\x81\xa8anything\x92\xc4\x09\"dynamic\""[..], &deep(0x92)].concat();
    let huge = b"\x81\xa4tags\xdd\xff\xff\xff\xff".to_vec();
    let text = b"\x81\xa4note\xa2\xff\xfe".to_vec();
    vec![vec![0xc1], vec![0xff; 64], vec![0x8f], deep(0x91), deep(0x81), dynamic, huge, text, b"{}".to_vec()]
}

#[tokio::test]
async fn garbage_is_answered_by_an_error() {
    let caller = Caller::toy().await;
    for bytes in garbage() {
        let value = || Some(wire::DynamicValue { msgpack: bytes.clone(), json: Vec::new() });
        let (type_name, private, mut provider) = (thing_name(), Vec::new(), caller.provider.clone());
        let request = wire::validate_resource_config::Request { type_name: type_name.clone(), config: value() };
        let validated = provider.validate_resource_config(request).await.unwrap().into_inner();
        let request = wire::read_resource::Request { type_name: type_name.clone(), current_state: value(), private };
        let read = provider.read_resource(request).await.unwrap().into_inner();
        let request = wire::apply_resource_change::Request { type_name, planned_state: value(), ..Default::default() };
        let applied = provider.apply_resource_change(request).await.unwrap().into_inner();
        for diagnostics in [validated.diagnostics, read.diagnostics, applied.diagnostics] {
            assert_eq!(diagnostics.len(), 1, "{bytes:?}");
            assert_eq!(diagnostics[0].summary, "Unable to read the request", "{bytes:?}");
        }
    }
    caller.create(&thing(json!({}))).await.fine();
}

#[tokio::test]
async fn a_state_that_is_no_json_is_answered_by_an_error() {
    let caller = Caller::toy().await;
    for json in [&b""[..], b"\xff", b"[1]", b"{\"name\":[]}", &b"[".repeat(100_000)] {
        let raw_state = Some(wire::RawState { json: json.to_vec(), ..Default::default() });
        let request = wire::upgrade_resource_state::Request { type_name: thing_name(), version: 1, raw_state };
        let upgraded = caller.provider.clone().upgrade_resource_state(request).await.unwrap().into_inner();
        assert_eq!(upgraded.diagnostics.len(), 1);
        assert_eq!(upgraded.diagnostics[0].summary, "Unable to read the saved state");
    }
}

#[tokio::test]
async fn a_message_over_four_mebibytes_passes_both_ways() {
    let note = "x".repeat(5 << 20);
    let created: Answer = Caller::toy().await.create(&thing(json!({"note": note}))).await.fine();
    assert_eq!(created.state["note"], note);
}
