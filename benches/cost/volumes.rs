//! Volumes made, attached to one running container, detached and destroyed, each in one apply, beside the raw API.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::Fault;
use crate::cli::Client;
use crate::lab::Lab;
use crate::proxy::Proxy;
use crate::raw::{self, Raw, Work};
use crate::table::{self, Step, Timed};
use crate::work::{DOMAIN, Directory};

/// The steps, in turn.
const STEPS: [&str; 4] = ["create", "attach", "detach", "destroy"];

/// What one run measured.
pub(crate) struct Costs {
    count: usize,
    /// By step.
    times: Vec<Timed>,
    /// What the client alone needs for as many objects: their creation and destruction.
    client: [Duration; 2],
    /// An apply that finds nothing to do, with the domain and the container alone.
    idle: Duration,
    requests: Vec<Step>,
}

/// By step, in one container that runs.
async fn raw(socket: &Path, count: usize) -> Result<Vec<Duration>, Fault> {
    let create = raw::all(socket, Work::CreateVolume, DOMAIN, count).await?;
    let mut one = Raw::connect(socket).await?;
    let attach = one.attach(DOMAIN, "box", count).await?;
    let detach = one.attach(DOMAIN, "box", 0).await?;
    Ok(vec![create, attach, detach, raw::all(socket, Work::DestroyVolume, DOMAIN, count).await?])
}

/// By step.
fn ours(directory: &Directory<'_>, count: usize, mut each: impl FnMut(usize)) -> Result<Vec<Duration>, Fault> {
    let mut times = Vec::new();
    for (at, (made, attached)) in [(count, 0), (count, count), (count, 0), (0, 0)].into_iter().enumerate() {
        times.push(directory.apply_volumes(made, attached)?);
        println!("{}: {:.2} s", STEPS[at], times[at].as_secs_f64());
        each(at);
    }
    Ok(times)
}

pub(crate) fn measure(lab: &Lab, client: &Client, provider: &Path, count: usize) -> Result<Costs, Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let data = Directory::of_data(lab, client)?;
    data.apply(0)?;
    let client_alone = [data.apply(count)?, data.apply(0)?];

    let directory = Directory::of_volumes(lab, client, "cost-volumes", provider, None)?;
    directory.apply_volumes(0, 0)?;
    let idle = directory.apply_volumes(0, 0)?;
    // Before and after ours, so that a machine which slows down is fair to both.
    let before = runtime.block_on(raw(&lab.socket(), count))?;
    let times = ours(&directory, count, |_| {})?;
    let after = runtime.block_on(raw(&lab.socket(), count))?;
    directory.destroy_volumes()?;

    let socket = lab.workspace("cost-volumes-proxy").join("socket");
    let proxy = runtime.block_on(async { Proxy::open(socket, lab.socket()) })?;
    let counted = Directory::of_volumes(lab, client, "cost-volumes-counted", provider, Some(&proxy.socket))?;
    counted.apply_volumes(0, 0)?;
    proxy.take();
    let mut requests = Vec::new();
    ours(&counted, count, |at| requests.push(Step { name: STEPS[at], requests: proxy.take() }))?;
    counted.destroy_volumes()?;

    let beside = before.iter().zip(&after).map(|(before, after)| (*before + *after) / 2);
    let times = times.into_iter().zip(beside).map(|(ours, beside)| Timed { ours, beside }).collect();
    Ok(Costs { count, times, client: client_alone, idle, requests })
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, work: &str, timed: Timed| {
            let (ours, beside) = (timed.ours.as_secs_f64(), timed.beside.as_secs_f64());
            let ratio = ours / beside;
            let verdict = if ratio <= table::RATIO { "met" } else { "NOT MET" };
            writeln!(
                f,
                "{work:<24} {ours:>7.2} s  raw {beside:>6.2} s  {ratio:>5.2} x  <= {} x raw  {verdict}",
                table::RATIO
            )
        };
        writeln!(f, "\n{} volumes, each step in one apply", self.count)?;
        for (step, timed) in STEPS.iter().zip(&self.times) {
            row(f, step, *timed)?;
        }
        let sum = |of: fn(&Timed) -> Duration| self.times.iter().map(of).sum::<Duration>();
        let all = Timed { ours: sum(|timed| timed.ours), beside: sum(|timed| timed.beside) };
        row(f, "all four", all)?;
        let (ours, raw) = (all.ours.as_secs_f64(), all.beside.as_secs_f64());
        let [create, destroy] = self.client.map(|time| time.as_secs_f64());
        writeln!(f, "the client alone, as many `terraform_data`: create {create:.2} s, destroy {destroy:.2} s")?;
        let idle = self.idle.as_secs_f64();
        writeln!(f, "an apply that finds nothing to do, without volumes: {idle:.2} s")?;
        // What no provider can do without: attaching and detaching change one resource.
        let least = raw + create + destroy + 2.0 * idle;
        writeln!(
            f,
            "raw and the client alone: {least:.2} s, {:.2} x raw; ours is {:.2} x that",
            least / raw,
            ours / least
        )?;
        writeln!(f, "\nrequests sent, counted in a run of their own:")?;
        self.requests.iter().try_for_each(|step| table::requests(f, step))
    }
}
