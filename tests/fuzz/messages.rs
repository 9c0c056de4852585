//! Mutated messages of the core, given to the real service over its socket: a diagnostic or a status each, never a panic,
//! and the server answers afterwards.

use std::time::Duration;

use anklume::plugin::wire::tfplugin6 as wire;
use anklume::plugin::{Listening, Provider, Schema, Value, to_msgpack};
use anklume::resources::Anklume;
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value as Json;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;

use crate::caller::{Address, CORE, tls};
use crate::incus::{Incus, Lies, corpus};
use crate::rounds::rounds;
use crate::{msgpack, mutate};

/// Until a call is told to stop.
const PATIENCE: Duration = Duration::from_secs(3);
/// Until it must have ended then.
const END: Duration = Duration::from_secs(10);
/// How many calls one server answers before the next one is started.
const CALLS: u64 = 100;

const KINDS: [(&str, &str, &str); 4] = [
    ("domain", "pro", "/projects/pro /networks/net-pro"),
    ("profile", "pro/small", "/profiles/small"),
    ("instance", "pro/web", "/instances/web"),
    ("volume", "pro/default/data", "/storage-pools/default/volumes/custom/data"),
];

/// A request as it goes over the wire.
#[derive(Clone)]
struct Sent {
    rpc: &'static str,
    bytes: Vec<u8>,
}

/// Bytes as they are: what prost would refuse to write or to read, too.
#[derive(Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use bytes::BufMut;
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        use bytes::Buf;
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length).to_vec()))
    }
}

/// A provider behind its socket, and an Incus for it.
struct Served {
    grpc: Grpc<Channel>,
    incus: Incus,
    _end: DropGuard,
}

impl Served {
    async fn start(dice: &mut StdRng) -> Served {
        let listening = Listening::new("anklume/anklume", Anklume, CORE.0).unwrap();
        let address = Address::from_handshake(&listening.handshake_line());
        let end = CancellationToken::new();
        tokio::spawn(end.clone().run_until_cancelled_owned(listening.run()));
        let connect = tower::service_fn(move |_| {
            let address = address.clone();
            async move { tls(&address, Some(CORE)).await.map(hyper_util::rt::TokioIo::new) }
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://plugin");
        let grpc = Grpc::new(endpoint.connect_with_connector(connect).await.unwrap());
        let grpc = grpc.max_decoding_message_size(256 << 20).max_encoding_message_size(256 << 20);
        Served { grpc, incus: Incus::start(Lies::None, dice), _end: end.drop_guard() }
    }

    async fn send(&self, sent: &Sent) -> Result<Vec<u8>, Status> {
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = format!("/tfplugin6.Provider/{}", sent.rpc).parse().unwrap();
        grpc.unary(tonic::Request::new(sent.bytes.clone()), path, Plain).await.map(tonic::Response::into_inner)
    }

    /// Sends a true message, which must be answered without an error.
    async fn talk<Q: Message, A: Message + Default>(&self, rpc: &'static str, request: &Q, kept: &mut Vec<Sent>) -> A {
        let sent = Sent { rpc, bytes: request.encode_to_vec() };
        let answer = self.send(&sent).await.unwrap();
        kept.push(sent);
        A::decode(answer.as_slice()).unwrap()
    }

    async fn configure(&self, kept: &mut Vec<Sent>) {
        let mut config = corpus("messages/provider.json");
        config["address"] = self.incus.address().into();
        let config = Some(dynamic(&config, &Anklume.schema()));
        let request = wire::configure_provider::Request { terraform_version: "1.11.4".to_owned(), config };
        let answer: wire::configure_provider::Response = self.talk("ConfigureProvider", &request, kept).await;
        fine("ConfigureProvider", &answer.diagnostics);
    }
}

fn schema(kind: &str) -> Schema {
    let name = format!("anklume_{kind}");
    Anklume.resources().into_iter().find(|resource| resource.type_name() == name).unwrap().schema()
}

fn dynamic(json: &Json, schema: &Schema) -> wire::DynamicValue {
    let msgpack = to_msgpack(&Value::from_json(json), &schema.ty()).unwrap();
    wire::DynamicValue { msgpack, json: Vec::new() }
}

#[track_caller]
fn fine(what: &str, diagnostics: &[wire::Diagnostic]) {
    let errors = diagnostics.iter().filter(|told| told.severity() == wire::diagnostic::Severity::Error);
    let errors: Vec<_> = errors.map(|told| format!("{}: {}", told.summary, told.detail)).collect();
    assert!(errors.is_empty(), "{what}: {errors:?}");
}

/// The whole conversation about one object: what the core says of it from its validation to its end.
async fn conversation(served: &Served, kind: &'static str, id: &str, made: &str, kept: &mut Vec<Sent>) {
    let (schema, type_name) = (schema(kind), format!("anklume_{kind}"));
    let json = corpus(&format!("messages/{kind}.json"));
    let (config, null) = (dynamic(&json, &schema), dynamic(&Json::Null, &schema));
    let request =
        wire::validate_resource_config::Request { type_name: type_name.clone(), config: Some(config.clone()) };
    let valid: wire::validate_resource_config::Response = served.talk("ValidateResourceConfig", &request, kept).await;
    fine(kind, &valid.diagnostics);
    let plan =
        |config: &wire::DynamicValue, prior: &wire::DynamicValue, private: &[u8]| wire::plan_resource_change::Request {
            type_name: type_name.clone(),
            prior_state: Some(prior.clone()),
            proposed_new_state: Some(config.clone()),
            config: Some(config.clone()),
            prior_private: private.to_vec(),
        };
    let planned: wire::plan_resource_change::Response =
        served.talk("PlanResourceChange", &plan(&config, &null, &[]), kept).await;
    fine(kind, &planned.diagnostics);
    let raw_state = Some(wire::RawState { json: json.to_string().into_bytes(), ..Default::default() });
    let request = wire::upgrade_resource_state::Request { type_name: type_name.clone(), version: 0, raw_state };
    let upgraded: wire::upgrade_resource_state::Response = served.talk("UpgradeResourceState", &request, kept).await;
    fine(kind, &upgraded.diagnostics);
    // The firewall of this machine is not for mutated requests.
    if kind == "nft_isolation" {
        return;
    }
    let request = wire::import_resource_state::Request { type_name: type_name.clone(), id: id.to_owned() };
    let imported: wire::import_resource_state::Response = served.talk("ImportResourceState", &request, kept).await;
    fine(kind, &imported.diagnostics);
    made.split(' ').for_each(|path| served.incus.set(path, false));
    let apply =
        |config: &wire::DynamicValue, prior: &wire::DynamicValue, planned: wire::plan_resource_change::Response| {
            wire::apply_resource_change::Request {
                type_name: type_name.clone(),
                prior_state: Some(prior.clone()),
                planned_state: planned.planned_state,
                config: Some(config.clone()),
                planned_private: planned.planned_private,
            }
        };
    let applied: wire::apply_resource_change::Response =
        served.talk("ApplyResourceChange", &apply(&config, &null, planned), kept).await;
    fine(kind, &applied.diagnostics);
    let request = wire::read_resource::Request {
        type_name: type_name.clone(),
        current_state: applied.new_state.clone(),
        private: applied.private.clone(),
    };
    let read: wire::read_resource::Response = served.talk("ReadResource", &request, kept).await;
    fine(kind, &read.diagnostics);
    let (state, mut changed) = (applied.new_state.unwrap(), json);
    changed["description"] = "changed".into();
    let changed = dynamic(&changed, &schema);
    for config in [changed, null] {
        // A name is planned once for each configuration.
        served.configure(&mut Vec::new()).await;
        let planned: wire::plan_resource_change::Response =
            served.talk("PlanResourceChange", &plan(&config, &state, &applied.private), kept).await;
        fine(kind, &planned.diagnostics);
        let applied: wire::apply_resource_change::Response =
            served.talk("ApplyResourceChange", &apply(&config, &state, planned), kept).await;
        fine(kind, &applied.diagnostics);
    }
}

/// Every true message, as the core sends them.
async fn truth(dice: &mut StdRng) -> Vec<Sent> {
    let mut kept = Vec::new();
    for (kind, id, made) in KINDS.into_iter().chain([("nft_isolation", "", "")]) {
        let served = Served::start(dice).await;
        served.configure(&mut kept).await;
        conversation(&served, kind, id, made, &mut kept).await;
    }
    let config = Some(dynamic(&corpus("messages/provider.json"), &Anklume.schema()));
    kept.push(Sent {
        rpc: "ValidateProviderConfig",
        bytes: wire::validate_provider_config::Request { config }.encode_to_vec(),
    });
    kept.push(Sent { rpc: "GetProviderSchema", bytes: Vec::new() });
    kept.push(Sent { rpc: "GetMetadata", bytes: Vec::new() });
    kept
}

/// Mutates the values inside of a message, which stays one: as values, and as bytes of MessagePack.
fn inside(dice: &mut StdRng, sent: &mut Sent) {
    let mut edit = |value: &mut Option<wire::DynamicValue>| {
        if let Some(value) = value.as_mut().filter(|value| !value.msgpack.is_empty() && dice.random_ratio(1, 2)) {
            match dice.random_range(0..10) {
                0 => {
                    value.msgpack.clear();
                    value.json = br#"{"name":"web","domain":7}"#.to_vec();
                }
                1 => value.msgpack = [vec![0x91; dice.random_range(1..5000)], vec![0xc0]].concat(),
                2 => value.msgpack = vec![0xdf, 0xff, 0xff, 0xff, 0xff],
                3..7 => {
                    let mut json = msgpack::decode(&value.msgpack);
                    mutate::json(dice, &mut json);
                    value.msgpack = msgpack::encode(&json);
                }
                _ => mutate::bytes(dice, &mut value.msgpack),
            }
        }
    };
    macro_rules! values {
        ($request:ty, $($field:ident),+) => {{
            let mut request = <$request>::decode(sent.bytes.as_slice()).unwrap();
            $(edit(&mut request.$field);)+
            sent.bytes = request.encode_to_vec();
        }};
    }
    match sent.rpc {
        "ValidateResourceConfig" => values!(wire::validate_resource_config::Request, config),
        "ConfigureProvider" => values!(wire::configure_provider::Request, config),
        "ValidateProviderConfig" => values!(wire::validate_provider_config::Request, config),
        "PlanResourceChange" => {
            values!(wire::plan_resource_change::Request, prior_state, proposed_new_state, config);
        }
        "ApplyResourceChange" => values!(wire::apply_resource_change::Request, prior_state, planned_state, config),
        "ReadResource" => values!(wire::read_resource::Request, current_state),
        _ => mutate::bytes(dice, &mut sent.bytes),
    }
}

async fn round(dice: &mut StdRng, served: &Served, messages: &[Sent]) -> Result<bool, String> {
    served.configure(&mut Vec::new()).await;
    for (_, _, made) in KINDS {
        let there = dice.random();
        made.split(' ').for_each(|path| served.incus.set(path, there));
    }
    let mut sent = messages[dice.random_range(0..messages.len())].clone();
    match dice.random_range(0..3) {
        0 => mutate::bytes(dice, &mut sent.bytes),
        1 => sent.bytes.truncate(dice.random_range(0..=sent.bytes.len())),
        _ => inside(dice, &mut sent),
    }
    // What configures is answered elsewhere: another Incus must not be reached by what comes after it.
    let other = match sent.rpc {
        "ConfigureProvider" => Some(Served::start(dice).await),
        _ => None,
    };
    let served = other.as_ref().unwrap_or(served);
    let answer = served.send(&sent);
    tokio::pin!(answer);
    let (answer, stopped) = match tokio::time::timeout(PATIENCE, &mut answer).await {
        Ok(answer) => (answer, false),
        Err(_) => {
            let stop = Sent { rpc: "StopProvider", bytes: Vec::new() };
            let _ = served.send(&stop).await;
            let Ok(answer) = tokio::time::timeout(END, answer).await else {
                return Err(format!("{} does not end when it is stopped", sent.rpc));
            };
            (answer, true)
        }
    };
    match answer {
        Ok(bytes) if String::from_utf8_lossy(&bytes).contains("panicked") => {
            Err(format!("{}: {}", sent.rpc, String::from_utf8_lossy(&bytes)))
        }
        Err(status) if status.code() == tonic::Code::Unavailable => Err(format!("{}: {status}", sent.rpc)),
        _ => Ok(stopped),
    }
}

#[test]
fn a_mutated_message_ends_in_a_diagnostic_or_a_status_and_the_server_goes_on() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let messages = runtime.block_on(truth(&mut StdRng::seed_from_u64(0)));
    let mut served: Option<(u64, Served)> = None;
    let mut stops = 0;
    rounds("a_mutated_message_ends_in_a_diagnostic_or_a_status_and_the_server_goes_on", 1000, |dice| {
        runtime.block_on(async {
            let (calls, server) = match served.take() {
                Some((calls, server)) if calls < CALLS => (calls, server),
                _ => (0, Served::start(dice).await),
            };
            let stopped = round(dice, &server, &messages).await?;
            stops += u64::from(stopped);
            let alive = Sent { rpc: "GetMetadata", bytes: Vec::new() };
            server.send(&alive).await.map_err(|status| format!("the server is gone: {status}"))?;
            served = (!stopped).then_some((calls + 1, server));
            Ok(())
        })
    });
    println!("{} true messages; {stops} mutated ones ended when they were stopped", messages.len());
}
