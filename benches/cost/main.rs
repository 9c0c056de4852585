//! What the provider costs: beside the raw API, beside the client alone, and in requests. All in one run.
//!
//! `cost [N]`, `cost volumes [N]` or `cost isolation [N]`, with the release provider in `ANKLUME_PROVIDER` (`make bench N=100`,
//! `make bench-volumes`, `make bench-isolation`). Fails only where it cannot measure; a limit that is not met is said.
#![allow(clippy::print_stdout, reason = "the table is what this is for")]

#[path = "../../tests/acceptance/cli.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "shared with the acceptance tests, which use more of it")]
mod cli;
#[path = "../../tests/acceptance/incus.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "shared with the acceptance tests, which use more of it")]
mod incus;
mod isolation;
#[path = "../../tests/acceptance/lab.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "shared with the acceptance tests, which use more of it")]
mod lab;
mod process;
mod proxy;
mod raw;
mod table;
mod volumes;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cli::Client;
use lab::{Kind, Lab};
use proxy::{Counts, Proxy};
use raw::{Raw, Work};
use table::{Costs, Step, Timed};
use work::{DOMAIN, Directory};

/// Why something could not be measured.
type Fault = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let mut words: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let what = words.first().filter(|word| ["volumes", "isolation"].contains(&word.as_str())).cloned();
    let count = words.drain(usize::from(what.is_some())..).next();
    let usual = match what.as_deref() {
        Some("volumes") => 50,
        Some(_) => 2000,
        None => 100,
    };
    let measured = match (count.map_or(Ok(usual), |text| text.parse::<usize>()), what.as_deref()) {
        (Err(_) | Ok(0), _) => Err("N is a number from 1 on".into()),
        (Ok(count), Some("volumes")) => bench(count, "volumes", volumes::measure),
        (Ok(count), Some(_)) => bench(count, "policies", isolation::measure),
        (Ok(count), None) => bench(count, "containers", measure),
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            println!("bench: NOT MEASURED: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn bench<T: std::fmt::Display>(
    count: usize,
    nouns: &str,
    measure: impl Fn(&Lab, &Client, &Path, usize) -> Result<T, Fault>,
) -> Result<(), Fault> {
    let provider = std::env::var_os("ANKLUME_PROVIDER").map(PathBuf::from);
    let provider = provider.ok_or("ANKLUME_PROVIDER names no provider: `make bench`")?.canonicalize()?;
    let client = Client::all()?.into_iter().next().ok_or("no client")?;
    let lab = Lab::find(Kind::Private)?;
    let measured = measure(&lab, &client, &provider, count);
    if measured.is_ok() {
        println!("{count} {nouns} on Incus {}, by {}", lab.server_version(), client.version);
    }
    // A measurement that broke off leaves its containers to the end of their Incus.
    let ended = lab.end();
    print!("{}", measured?);
    Ok(ended?)
}

fn measure(lab: &Lab, client: &Client, provider: &Path, count: usize) -> Result<Costs, Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (handshake, resident) = process::handshake(provider)?;
    let binary = std::fs::metadata(provider)?.len();

    let data = Directory::of_data(lab, client)?;
    let empty = Directory::of_containers(lab, client, "cost-empty", provider, None)?;
    let plan_empty = empty.plan_beside(&data, count)?;
    data.apply(count)?;

    let ours = Directory::of_containers(lab, client, "cost-ours", provider, None)?;
    ours.apply(0)?;
    // Before and after ours, so that a machine which slows down is fair to both.
    let raw = |work| runtime.block_on(raw::all(&lab.socket(), work, DOMAIN, count));
    let before = (raw(Work::Create)?, raw(Work::Destroy)?);
    let watch = process::Watch::start(provider.to_owned());
    let apply = ours.apply(count)?;
    let peak = watch.end()?;
    let plan_refresh = ours.plan_beside(&data, count)?;
    let list = runtime.block_on(list(lab))?;
    let destroy = ours.apply(0)?;
    let after = (raw(Work::Create)?, raw(Work::Destroy)?);
    ours.destroy()?;

    let steps = counted(lab, client, provider, count, &runtime)?;
    Ok(Costs {
        count,
        handshake,
        resident,
        peak,
        binary,
        apply: Timed { ours: apply, beside: (before.0 + after.0) / 2 },
        destroy: Timed { ours: destroy, beside: (before.1 + after.1) / 2 },
        plan_empty,
        plan_refresh,
        raw: [before, after],
        list,
        steps,
    })
}

/// How long the list of all containers takes: the middle one of five.
async fn list(lab: &Lab) -> Result<Duration, Fault> {
    let mut raw = Raw::connect(&lab.socket()).await?;
    let mut times = Vec::new();
    for _ in 0..5 {
        times.push(raw.get(&format!("/1.0/instances?recursion=1&project={DOMAIN}")).await?);
    }
    times.sort_unstable();
    Ok(times[2])
}

/// The same steps once more, with the requests counted and no time taken.
fn counted(
    lab: &Lab,
    client: &Client,
    provider: &Path,
    count: usize,
    runtime: &tokio::runtime::Runtime,
) -> Result<Vec<Step>, Fault> {
    let socket = lab.workspace("cost-proxy").join("socket");
    let proxy = runtime.block_on(async { Proxy::open(socket, lab.socket()) })?;
    let ours = Directory::of_containers(lab, client, "cost-counted", provider, Some(&proxy.socket))?;
    let mut steps = Vec::new();
    let mut step = |name, run: Result<Duration, Fault>| {
        steps.push(Step { name, requests: proxy.take() });
        run.map(drop)
    };
    step(table::PLAN_EMPTY, ours.plan(count))?;
    step("apply of the domain alone", ours.apply(0))?;
    step("apply of the containers", ours.apply(count))?;
    step(table::PLAN_REFRESH, ours.plan(count))?;
    step("apply with nothing to change", ours.apply(count))?;
    step("destruction of the containers", ours.apply(0))?;
    step("destruction of the domain", ours.destroy())?;
    Ok(steps)
}

/// All requests of a step.
fn total(requests: &Counts) -> usize {
    requests.values().sum()
}
