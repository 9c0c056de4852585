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

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use cli::Client;
use fault::At;
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
    for phase in PHASES {
        match stage.clean(phase) {
            Ok(clean) => drop(cleans.insert(phase, clean)),
            Err(reason) => {
                println!("without any interruption, {phase:?}: {reason}");
                let _ = lab.end();
                return ExitCode::FAILURE;
            }
        }
    }
    let total: usize = cleans.values().map(|clean| clean.steps.len()).sum();
    let (rounds, first) = (number("ROUNDS", ROUNDS), number("SEED", 0));
    println!("{total} steps; {rounds} rounds from seed {first} on");

    let mut tally = Tally::new(&cleans);
    let mut failed = 0;
    for seed in first..first + rounds {
        let begun = Instant::now();
        let round = stage.round(&cleans, seed);
        let how = if round.failure.is_some() { "FAILED" } else { "ok" };
        println!(
            "seed {seed}: {:?}, {:?} at {}{}: {how} after {} more applies, {:.0} s",
            round.phase,
            round.fault,
            round.at,
            round.but(),
            round.applies,
            begun.elapsed().as_secs_f32()
        );
        tally.count(&round);
        if let Some(failure) = &round.failure {
            failed += 1;
            tell(seed, failure);
            // What it left would fail the next one, too.
            let ended = lab.end();
            if let Err(reason) = ended {
                println!("left behind: {reason}");
            }
            lab = Arc::new(Lab::another(&format!("chaos-{seed}"), &[]));
            stage = Stage::new(Arc::clone(&lab), Arc::clone(&client));
        }
    }
    let missed = tally.print();
    let ended = lab.end();
    if let Err(reason) = &ended {
        println!("left behind: {reason}");
    }
    let complete = missed == 0 || rounds < total as u64;
    println!("test result: chaos. {} passed; {failed} failed;", rounds - failed);
    if !complete {
        println!("{missed} steps were never hit");
    }
    if failed == 0 && complete && ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The end of what a round that failed printed; the whole goes to a file.
fn tell(seed: u64, failure: &str) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = dir.join(format!("chaos-{seed}.log"));
    match fs::create_dir_all(dir).and_then(|()| fs::write(&file, failure)) {
        Ok(()) => println!("the whole output is in {}; again: make chaos SEED={seed} ROUNDS=1", file.display()),
        Err(error) => println!("{}: {error}", file.display()),
    }
    let lines: Vec<_> = failure.lines().collect();
    println!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
}

/// How often each step was hit by a kill or a cut.
struct Tally(BTreeMap<(scene::Phase, String), usize>);

impl Tally {
    fn new(cleans: &Cleans) -> Self {
        let steps = cleans.iter().flat_map(|(phase, clean)| {
            clean.steps.iter().map(|(step, nth)| ((*phase, At::Write(step.clone(), *nth).to_string()), 0))
        });
        Self(steps.collect())
    }

    fn count(&mut self, round: &Round) {
        if round.fired && round.fault.interrupts() && matches!(round.at, At::Write(..)) {
            *self.0.entry((round.phase, round.at.to_string())).or_default() += 1;
        }
    }

    /// Prints the table; how many steps were never hit.
    fn print(&self) -> usize {
        println!("\nhits  step");
        for ((phase, step), hits) in &self.0 {
            println!("{hits:>4}  {phase:?}: {step}");
        }
        self.0.values().filter(|hits| **hits == 0).count()
    }
}
