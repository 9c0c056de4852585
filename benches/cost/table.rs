//! The table: what was measured, what it may be, and whether it is.

use std::fmt;
use std::time::Duration;

use crate::proxy::Counts;
use crate::total;

/// The step whose requests are counted before anything is there.
pub(crate) const PLAN_EMPTY: &str = "plan, empty state";
/// The step whose requests have a limit.
pub(crate) const PLAN_REFRESH: &str = "plan with refresh";

const MEGABYTE: f64 = 1e6;
/// One project, one pool.
const REFRESH_REQUESTS: usize = 8 + 2;

/// What work of ours may take, as a multiple of what the raw API needs.
pub(crate) const RATIO: f64 = 1.15;

/// The same work twice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timed {
    /// Through the provider.
    pub(crate) ours: Duration,
    /// Without it.
    pub(crate) beside: Duration,
}

/// What one run of the client sent to Incus.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) requests: Counts,
}

/// Everything that one run measured.
#[derive(Debug)]
pub(crate) struct Costs {
    pub(crate) count: usize,
    pub(crate) handshake: Duration,
    /// At the handshake, in bytes.
    pub(crate) resident: u64,
    /// The largest while applying, in bytes.
    pub(crate) peak: u64,
    /// In bytes.
    pub(crate) binary: u64,
    /// Beside the raw API.
    pub(crate) apply: Timed,
    /// Beside the raw API.
    pub(crate) destroy: Timed,
    /// Beside `terraform_data`.
    pub(crate) plan_empty: Timed,
    /// Beside `terraform_data`.
    pub(crate) plan_refresh: Timed,
    /// Creation and destruction by the raw API, before and after ours: how steady the machine is.
    pub(crate) raw: [(Duration, Duration); 2],
    /// The raw list of all containers.
    pub(crate) list: Duration,
    pub(crate) steps: Vec<Step>,
}

/// One line of the table.
struct Line {
    work: String,
    ours: String,
    beside: String,
    comparison: String,
    limit: String,
    verdict: &'static str,
}

impl Line {
    fn new(work: impl Into<String>, ours: String, limit: String, met: bool) -> Self {
        let verdict = if met { "met" } else { "NOT MET" };
        Self { work: work.into(), ours, beside: "-".to_owned(), comparison: "-".to_owned(), limit, verdict }
    }

    fn beside(mut self, beside: String, comparison: String) -> Self {
        (self.beside, self.comparison) = (beside, comparison);
        self
    }
}

fn size(work: &str, bytes: u64, limit_megabytes: f64) -> Line {
    // Sizes are far below 2^52 bytes, where `f64` is exact.
    let megabytes = bytes as f64 / MEGABYTE;
    Line::new(work, format!("{megabytes:.1} MB"), format!("<= {limit_megabytes} MB"), megabytes <= limit_megabytes)
}

fn ratio(work: String, timed: Timed) -> Line {
    let ratio = timed.ours.as_secs_f64() / timed.beside.as_secs_f64();
    Line::new(work, seconds(timed.ours), format!("<= {RATIO} x raw"), ratio <= RATIO)
        .beside(format!("raw {}", seconds(timed.beside)), format!("{ratio:.2} x"))
}

fn above(work: String, timed: Timed, limit_s: f64) -> Line {
    let above = timed.ours.as_secs_f64() - timed.beside.as_secs_f64();
    Line::new(work, seconds(timed.ours), format!("<= {limit_s} s above"), above <= limit_s)
        .beside(format!("data {}", seconds(timed.beside)), format!("{above:+.2} s"))
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

impl Costs {
    fn lines(&self) -> Vec<Line> {
        let n = self.count;
        let handshake = self.handshake.as_secs_f64() * 1e3;
        let refresh = self.steps.iter().find(|step| step.name == PLAN_REFRESH).map_or(0, |step| total(&step.requests));
        vec![
            Line::new("exec to handshake", format!("{handshake:.1} ms"), "<= 3 ms".to_owned(), handshake <= 3.0),
            size("resident at the handshake", self.resident, 8.0),
            size(&format!("peak while applying {n}"), self.peak, if n > 100 { 16.0 } else { 12.0 }),
            size("executable", self.binary, 8.0),
            ratio(format!("apply {n}"), self.apply),
            ratio(format!("destroy {n}, running"), self.destroy),
            above(format!("{PLAN_EMPTY}, {n}"), self.plan_empty, 0.2),
            above(format!("{PLAN_REFRESH}, {n}"), self.plan_refresh, 0.5),
            Line::new(
                format!("requests of a refresh, {n}"),
                refresh.to_string(),
                format!("<= {REFRESH_REQUESTS}"),
                refresh <= REFRESH_REQUESTS,
            )
            .beside(format!("list {} ms", self.list.as_millis()), "-".to_owned()),
        ]
    }
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, cells: [&str; 6]| {
            let [work, ours, beside, comparison, limit, verdict] = cells;
            writeln!(f, "{work:<30} {ours:>10} {beside:>14} {comparison:>9}  {limit:<14} {verdict}")
        };
        writeln!(f)?;
        row(f, ["work", "ours", "beside", "", "limit", ""])?;
        let lines = self.lines();
        for line in &lines {
            row(f, [&line.work, &line.ours, &line.beside, &line.comparison, &line.limit, line.verdict])?;
        }
        let missed = lines.iter().filter(|line| line.verdict != "met").count();
        writeln!(f, "{} of {} limits met", lines.len() - missed, lines.len())?;
        let [(create, destroy), (create_after, destroy_after)] = self.raw.map(|(a, b)| (seconds(a), seconds(b)));
        writeln!(
            f,
            "raw, before and after ours: create {create} and {create_after}, destroy {destroy} and {destroy_after}"
        )?;
        writeln!(f, "\nrequests sent, counted in a run of their own:")?;
        self.steps.iter().try_for_each(|step| requests(f, step))
    }
}

/// The requests of a step, by kind.
pub(crate) fn requests(f: &mut fmt::Formatter<'_>, step: &Step) -> fmt::Result {
    writeln!(f, "{:<34} {:>5}", step.name, total(&step.requests))?;
    step.requests.iter().try_for_each(|(request, count)| writeln!(f, "    {request:<44} {count:>5}"))
}
