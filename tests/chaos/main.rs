//! Chaos: an apply is interrupted at every step of every create, update and delete, on a real Incus; the unchanged
//! configuration, applied again, gets there without handwork, and nothing is left when it is destroyed.
//!
//! `ROUNDS` rounds from `SEED` on, each a function of its seed alone. Where there is no Incus, that is a failure under
//! `CI=true` and said loudly elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test fails by panicking")]

#[path = "../acceptance/cli.rs"]
#[allow(dead_code, reason = "shared with the acceptance tests, which use other parts of it")]
mod cli;
mod control;
mod fault;
mod http;
#[path = "../acceptance/incus.rs"]
#[allow(dead_code, reason = "shared with the acceptance tests, which use other parts of it")]
mod incus;
#[path = "../acceptance/lab.rs"]
#[allow(dead_code, reason = "shared with the acceptance tests, which use other parts of it")]
mod lab;
mod nft;
mod picture;
mod proxy;
mod round;
mod scene;
mod step;
mod stranger;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use cli::Client;
use fault::{At, Draw};
use lab::{Kind, Lab};
use round::{Cleans, Round, Stage};
use scene::PHASES;

/// Few enough for `make test`.
const ROUNDS: u64 = 8;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() -> ExitCode {
    let found = Client::all().and_then(|clients| Ok((clients, Lab::find(Kind::Private)?)));
    let (clients, lab) = match found {
        Ok(found) => found,
        Err(reason) => {
            println!("\nchaos: NOT RUN: {reason}\n");
            return if std::env::var("CI").is_ok_and(|ci| ci == "true") {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let client = Arc::new(clients.into_iter().next().unwrap());
    let mut lab = Arc::new(lab);
    println!("chaos runs on Incus {} with {}", lab.server_version(), client.version);
    let mut stage = Stage::new(Arc::clone(&lab), Arc::clone(&client));
    let mut cleans = Cleans::new();
    let mut failed = 0;
    for phase in PHASES {
        match stage.clean(phase) {
            Ok(clean) => drop(cleans.insert(phase, clean)),
            Err(failure) => {
                println!("without any interruption, {phase:?}: FAILED; its steps are left out");
                tell(&format!("{phase:?}"), &failure);
                failed += 1;
                (lab, stage) = renewed(&lab, &client, &format!("{phase:?}"));
            }
        }
    }
    let total: usize = cleans.values().map(|clean| clean.steps.len()).sum();
    let (rounds, first) = (number("ROUNDS", ROUNDS), number("SEED", 0));
    println!("{total} steps; {rounds} rounds from seed {first} on");

    let mut tally = Tally::new(&cleans);
    let failed_clean = failed;
    for seed in first..first + rounds {
        let begun = Instant::now();
        let round = stage.round(&cleans, seed);
        let how = if round.failure.is_some() { "FAILED" } else { "ok" };
        println!(
            "seed {seed}: {round}: {how} after {} more applies, {:.0} s",
            round.applies,
            begun.elapsed().as_secs_f32()
        );
        tally.count(&round);
        if let Some(failure) = &round.failure {
            failed += 1;
            tell(&seed.to_string(), failure);
            println!("again: make chaos SEED={seed} ROUNDS=1");
            (lab, stage) = renewed(&lab, &client, &seed.to_string());
        }
    }
    let missed = tally.print(rounds >= 2 * total as u64);
    let ended = lab.end();
    if let Err(reason) = &ended {
        println!("left behind: {reason}");
    }
    let complete = missed == 0 || rounds < total as u64;
    println!("test result: chaos. {} passed; {failed} failed;", rounds - (failed - failed_clean));
    if !complete {
        println!("{missed} steps or kinds of fault were never hit");
    }
    if failed == 0 && complete && ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Another Incus after a failure: what that left would fail the next round, too.
fn renewed(lab: &Lab, client: &Arc<Client>, word: &str) -> (Arc<Lab>, Stage) {
    if let Err(reason) = lab.end() {
        println!("left behind: {reason}");
    }
    let lab = Arc::new(Lab::another(&format!("chaos-{word}"), &[]));
    let stage = Stage::new(Arc::clone(&lab), Arc::clone(client));
    (lab, stage)
}

/// The end of what a failed round printed; the whole goes to a file.
fn tell(word: &str, failure: &str) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = dir.join(format!("chaos-{word}.log"));
    match fs::create_dir_all(dir).and_then(|()| fs::write(&file, failure)) {
        Ok(()) => println!("the whole output is in {}", file.display()),
        Err(error) => println!("{}: {error}", file.display()),
    }
    let lines: Vec<_> = failure.lines().collect();
    println!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
}

/// Kinds of fault that a long run has to draw.
const KINDS: [&str; 5] = [
    "End(Terminated)",
    "Ctrl-C, then Apply at once",
    "Ctrl-C, then Destroy at once",
    "stranger at a step",
    "stranger between two applies",
];

/// How often each step was hit by a kill or a cut, and how often each kind of fault happened.
struct Tally {
    steps: BTreeMap<(scene::Phase, String), usize>,
    kinds: BTreeMap<String, usize>,
}

impl Tally {
    fn new(cleans: &Cleans) -> Self {
        let steps = cleans.iter().flat_map(|(phase, clean)| {
            clean.steps.iter().map(|(step, nth)| ((*phase, At::Write(step.clone(), *nth).to_string()), 0))
        });
        Self { steps: steps.collect(), kinds: BTreeMap::new() }
    }

    fn count(&mut self, round: &Round) {
        let Draw { at, fault, .. } = &round.draw;
        if round.fired && fault.interrupts() && matches!(at, At::Write(..)) {
            *self.steps.entry((round.phase, at.to_string())).or_default() += 1;
        }
        for kind in &round.kinds {
            *self.kinds.entry(kind.clone()).or_default() += 1;
        }
    }

    /// Prints both tables; how many steps were never hit, and of a long run how many of [`KINDS`].
    fn print(&self, is_long: bool) -> usize {
        println!("\nhits  step");
        for ((phase, step), hits) in &self.steps {
            println!("{hits:>4}  {phase:?}: {step}");
        }
        println!("\nhits  kind of fault");
        for (kind, hits) in &self.kinds {
            println!("{hits:>4}  {kind}");
        }
        let is_missing = |kind: &&str| !self.kinds.keys().any(|hit| hit.starts_with(*kind));
        let missing = KINDS.iter().copied().filter(is_missing).filter(|_| is_long);
        let missing = missing.inspect(|kind| println!("   0  {kind}")).count();
        self.steps.values().filter(|hits| **hits == 0).count() + missing
    }
}
