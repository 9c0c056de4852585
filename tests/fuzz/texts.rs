//! Everything that is parsed, alone: values of the plugin protocol, the listing of nft, configuration, tokens, locations.

use anklume::incus::remote::{self, Environment, Settings, Token};
use anklume::nft::{
    Bridge, Destination, Drift, EndpointInput, Fingerprint, Given, Input, Isolation, PersistPath, PolicyInput, Present,
    Protocol,
};
use anklume::plugin::{Number, Provider, Schema, Value, from_msgpack, to_msgpack};
use anklume::resources::Anklume;
use anklume::web::{Headers, Location};
use base64::Engine;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;

use crate::incus::corpus;
use crate::mutate;
use crate::rounds::rounds;

const REMOTES: &str = "default-remote: there\nremotes:\n  there:\n    addr: https://10.0.0.1:8443\n    auth_type: tls\n    \
    project: default\n    protocol: incus\n    public: false\n  local:\n    addr: unix://\n    public: false\naliases: {}\n";

const TEXTS: [&str; 14] = [
    "https://user@images.example.org:8443/a/b%20c?x=1#frag",
    "http://[fd00::1%25eth0]:80/../x",
    "/relative?x",
    "ssh://root@host.example.org:22",
    "/etc/nftables.d/anklume.nft",
    "8000-8010",
    "net-pro",
    "-12345678901234567890.5e-30",
    "1e2147483647",
    "0123456789abcdef",
    "Authorization",
    "10.110.0.10",
    "fd00::10",
    "tcp",
];

fn schemas() -> Vec<(Schema, Value)> {
    let kinds = ["domain", "profile", "instance", "volume", "nft_isolation"];
    let mut all = vec![(Anklume.schema(), Value::from_json(&corpus("messages/provider.json")))];
    for resource in Anklume.resources() {
        let kind = kinds.iter().find(|kind| resource.type_name().ends_with(*kind)).unwrap();
        all.push((resource.schema(), Value::from_json(&corpus(&format!("messages/{kind}.json")))));
    }
    all
}

/// What is read from MessagePack is written as it was read.
fn values(dice: &mut StdRng, schemas: &[(Schema, Value)]) -> Result<(), String> {
    let (schema, value) = &schemas[dice.random_range(0..schemas.len())];
    let ty = schema.ty();
    let mut raw = to_msgpack(value, &ty).unwrap();
    mutate::bytes(dice, &mut raw);
    let Ok(value) = from_msgpack(&raw, &ty) else { return Ok(()) };
    let written = to_msgpack(&value, &ty).map_err(|error| format!("read and not written: {error}"))?;
    match from_msgpack(&written, &ty) {
        Ok(again) if again == value => Ok(()),
        other => Err(format!("{value:?} became {other:?}")),
    }
}

fn listing(dice: &mut StdRng, truth: &serde_json::Value, isolation: &Isolation) {
    let mut listed = truth.clone();
    mutate::json(dice, &mut listed);
    let text = match dice.random_range(0..3) {
        0 => mutate::odd_json(dice, &listed),
        1 => {
            let mut raw = truth.to_string().into_bytes();
            mutate::bytes(dice, &mut raw);
            String::from_utf8_lossy(&raw).into_owned()
        }
        _ => listed.to_string(),
    };
    if let Some(present) = Present::parse(&text) {
        let ruleset = isolation.compile("0123456789abcdef".parse().unwrap()).unwrap();
        let drift = Drift::between(&ruleset, &present);
        let _ = (drift.rules(), drift.is_empty(), drift.lines().len());
    }
}

fn policies(dice: &mut StdRng) -> Input {
    let mut name = |text: &str| if dice.random_ratio(1, 4) { mutate::text(dice, text) } else { text.to_owned() };
    let mut given = |text: &str| Given::Known(name(text));
    let endpoint = EndpointInput { domain: given("pro"), address: given("10.110.0.10") };
    let policy = PolicyInput {
        from: given("perso"),
        to: given("web"),
        ports: Given::Known(Some(vec![given("443"), given("8000-8010")])),
        protocol: Given::Known(given("tcp").known().cloned()),
        bidirectional: Given::Known(true),
    };
    let domain = |text: &mut dyn FnMut(&str) -> String, known: &str| (text(known), Given::Known(Some(text("net-x"))));
    Input {
        prefix: String::new(),
        domains: Given::Known([domain(&mut name, "pro"), domain(&mut name, "perso")].into()),
        endpoints: Given::Known([(name("web"), endpoint)].into()),
        policies: Given::Known([(name("intranet"), policy)].into()),
    }
}

fn texts(dice: &mut StdRng) {
    let known = TEXTS[dice.random_range(0..TEXTS.len())];
    let text = mutate::text(dice, known);
    if let Some(number) = Number::parse(&text) {
        let _ = (number.as_f64(), number.to_string());
    }
    let location = Location::parse(&text).or_else(|_| Location::parse("https://a.example/b/c"));
    if let Ok(location) = location {
        let _ = (location.authority(), location.path().len(), location.target().len(), location.join(&text));
    }
    let _ = Headers::default().set(&text, known);
    let _ = Headers::default().set(known, &text);
    let _ = (text.parse::<Destination>(), text.parse::<PersistPath>(), text.parse::<Fingerprint>());
    let _ = (Bridge::parse(&text), Protocol::parse(&text), Token::parse(&text));
    let mut token =
        json!({"client_name": "me", "fingerprint": "ab".repeat(32), "addresses": ["10.0.0.1:8443"], "secret": "s"});
    mutate::json(dice, &mut token);
    let _ = Token::parse(&base64::engine::general_purpose::STANDARD.encode(token.to_string()));
}

/// The configuration of the CLI, and settings of the provider block.
fn remotes(dice: &mut StdRng, dir: &std::path::Path) {
    let mut raw = REMOTES.as_bytes().to_vec();
    mutate::bytes(dice, &mut raw);
    std::fs::write(dir.join("config.yml"), raw).unwrap();
    let mut text = |known: &str| dice.random_ratio(1, 3).then(|| mutate::text(dice, known));
    let settings = Settings {
        config_dir: Some(dir.to_owned()),
        remote: text("there"),
        address: text("https://10.0.0.1:8443"),
        server_fingerprint: text(&"ab".repeat(32)),
        ..Settings::default()
    };
    let _ = remote::resolve(&settings, &Environment::default());
}

#[test]
fn what_is_parsed_alone_is_read_or_refused() {
    let (schemas, dir) = (schemas(), tempfile::tempdir().unwrap());
    let truth = corpus("answers/nft.json");
    let showcase = Input {
        prefix: String::new(),
        domains: Given::Known(["admin", "perso", "pro"].map(|name| (name.to_owned(), Given::Known(None))).into()),
        endpoints: Given::Known([].into()),
        policies: Given::Known([].into()),
    };
    let isolation = Isolation::parse(&showcase).isolation.unwrap();
    rounds("what_is_parsed_alone_is_read_or_refused", 1000, |dice| {
        values(dice, &schemas)?;
        listing(dice, &truth, &isolation);
        let parsed = Isolation::parse(&policies(dice));
        if let Some(isolation) = parsed.isolation {
            let _ = isolation.compile("0123456789abcdef".parse().unwrap()).map(|ruleset| ruleset.script().len());
        }
        texts(dice);
        remotes(dice, dir.path());
        Ok(())
    });
}
