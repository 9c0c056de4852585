//! What nft takes and gives back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anklume::nft::{Drift, EndpointInput, Given, Input, PolicyInput, Present, Ruleset};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::Case;
use super::net::{apply, compile, drift, inside, policy, ruleset, said};

pub const CASES: &[Case] = &[
    ("random sets of policies with hostile names are accepted, come back equal and change into each other", random),
    ("two hundred domains and two thousand policies load in under two seconds", scale),
];

/// How many tables share one run of nft; it takes longer for each when they are many.
const BATCH: u64 = 20;

/// `ROUNDS` of them, a thousand where that is not set; each core has a network namespace of its own.
fn random() {
    let asked = std::env::var("ROUNDS").ok().filter(|rounds| !rounds.is_empty());
    let rounds: u64 = asked.map_or(1_000, |rounds| rounds.parse().unwrap());
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let workers: Vec<_> = (0..cores)
        .map(|core| {
            let name = format!("random{core}");
            said("ip", &["netns", "add", &name]);
            inside(&name.clone(), move || {
                for batch in (0..rounds.div_ceil(BATCH)).filter(|batch| batch % cores == core) {
                    come_back(&format!("/run/{name}.nft"), batch);
                }
                said("ip", &["netns", "delete", &name]);
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    println!("{} random sets of policies came back equal", rounds.div_ceil(BATCH) * BATCH);
}

fn come_back(path: &str, batch: u64) {
    let mut random = StdRng::seed_from_u64(batch);
    let rulesets: Vec<Ruleset> = (0..BATCH).map(|_| compile(&anything(&mut random))).collect();
    let scripts = rulesets
        .iter()
        .enumerate()
        .map(|(index, ruleset)| ruleset.script().replace("table inet anklume", &format!("table inet t{index}x")));
    // One run of nft takes away the tables of the batch before: each run waits for the kernel once.
    let present = loaded(path, &format!("flush ruleset\n{}", scripts.collect::<String>()));
    for (ruleset, present) in rulesets.iter().zip(&present) {
        equals(ruleset, present);
    }
    // Each becomes the next one, as an update does it.
    let next = |index: usize| &rulesets[(index + 1) % rulesets.len()];
    let changes = present.iter().enumerate().filter_map(|(index, present)| {
        Some(next(index).change(present)?.replace("inet anklume", &format!("inet t{index}x")))
    });
    let present = loaded(path, &changes.collect::<String>());
    for (index, present) in present.iter().enumerate() {
        equals(next(index), present);
    }
}

#[track_caller]
fn equals(ruleset: &Ruleset, present: &Present) {
    let drift = Drift::between(ruleset, present);
    assert!(drift.is_empty(), "{:?}\n{}", drift.lines(), ruleset.script());
}

/// What nft shows of the tables of the batch once it has run `script`; what `nft -c` refuses, that refuses.
fn loaded(path: &str, script: &str) -> Vec<Present> {
    std::fs::write(path, script).unwrap();
    said("nft", &["-f", path]);
    let listing: serde_json::Value = serde_json::from_str(&said("nft", &["-j", "list", "ruleset"])).unwrap();
    let mut tables: BTreeMap<String, Vec<&serde_json::Value>> = BTreeMap::new();
    for item in listing["nftables"].as_array().unwrap() {
        let (kind, body) = item.as_object().unwrap().iter().next().unwrap();
        let name = if kind == "table" { &body["name"] } else { &body["table"] };
        tables.entry(name.as_str().unwrap_or_default().to_owned()).or_default().push(item);
    }
    let of = |index: u64| serde_json::json!({"nftables": tables[&format!("t{index}x")]}).to_string();
    (0..BATCH).map(|index| Present::parse(&of(index)).unwrap()).collect()
}

/// A valid input whose free texts are as bad as texts get.
fn anything(random: &mut StdRng) -> Input {
    let prefix = *["", "001-"].choose(random).unwrap();
    let mut domains = BTreeMap::new();
    for index in 0..random.random_range(0..6) {
        let bridge = *[None, Some("br"), Some("x.y_z-")].choose(random).unwrap();
        domains.insert(format!("d{index}"), Given::Known(bridge.map(|bridge| format!("{bridge}{index}"))));
    }
    let names: Vec<String> = domains.keys().cloned().collect();
    let mut endpoints = BTreeMap::new();
    for index in 0..random.random_range(0..5) {
        if let Some(domain) = names.choose(random) {
            let address = if random.random() {
                format!("10.0.{index}.7")
            } else {
                format!("fd00::{index}:{:x}", random.random::<u16>())
            };
            let endpoint = EndpointInput { domain: domain.clone().into(), address: address.into() };
            endpoints.insert(format!("End-{index}"), endpoint);
        }
    }
    let parties: Vec<String> = names.iter().chain(endpoints.keys()).cloned().collect();
    let mut policies = BTreeMap::new();
    for _ in 0..random.random_range(0..12) {
        let two: Vec<&String> = parties.choose_multiple(random, 2).collect();
        let [from, to] = two[..] else { break };
        let protocol = *[None, Some("tcp"), Some("udp"), Some("icmp")].choose(random).unwrap();
        let has_ports = matches!(protocol, Some("tcp" | "udp")) && random.random();
        let ports: Vec<String> =
            (0..if has_ports { random.random_range(1..5) } else { 0 }).map(|_| port(random)).collect();
        let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
        let bidirectional = Given::Known(random.random());
        policies.insert(hostile(random), PolicyInput { bidirectional, ..policy(from, to, protocol, &ports) });
    }
    Input {
        prefix: prefix.to_owned(),
        domains: Given::Known(domains),
        endpoints: Given::Known(endpoints),
        policies: Given::Known(policies),
    }
}

fn port(random: &mut StdRng) -> String {
    let edges = [1, 2, 79, 80, 81, 443, 65534, 65535];
    let one = *edges.choose(random).unwrap();
    let other = if random.random() { *edges.choose(random).unwrap() } else { random.random_range(1..=65535) };
    if random.random() { one.to_string() } else { format!("{}-{}", one.min(other), one.max(other)) }
}

fn hostile(random: &mut StdRng) -> String {
    let pieces = [
        "\n",
        "\"",
        ";",
        "}",
        "{",
        "'",
        "#",
        "\\",
        "$(reboot)",
        "`",
        "é",
        "\u{202e}",
        "\0",
        "drop",
        " accept",
        "@open",
        "*",
        ".",
    ];
    (0..random.random_range(0..8)).map(|_| *pieces.choose(random).unwrap()).collect()
}

/// `number` domains and ten policies for each.
pub fn large(number: usize) -> Ruleset {
    let names: Vec<String> = (0..number).map(|index| format!("d{index:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut policies = Vec::new();
    for index in 0..number * 10 {
        let (from, step) = (index % number, 1 + index / number);
        let to = (from + step) % number;
        if from != to {
            policies.push((format!("p{index}"), policy(names[from], names[to], Some("tcp"), &["443", "8000-8010"])));
        }
    }
    let policies: Vec<(&str, PolicyInput)> =
        policies.iter().map(|(name, policy)| (name.as_str(), policy.clone())).collect();
    ruleset("", &names, &policies)
}

fn scale() {
    let count = |text: &str| {
        text.lines().filter(|line| line.contains("accept") || line.contains("goto") || line.contains("drop")).count()
    };
    let mut rules = Vec::new();
    for number in [2, 200] {
        let ruleset = large(number);
        // Checked, loaded, read back and compared.
        let begun = Instant::now();
        apply(&ruleset);
        println!("{number} domains load in {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(2));
        rules.push(count(&said("nft", &["-t", "list", "table", "inet", "anklume"])));
        assert_eq!(drift(&ruleset), [""; 0]);
    }
    assert_eq!(rules[0], rules[1]);
}
