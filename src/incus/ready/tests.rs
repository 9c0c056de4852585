//! The conditions in paused time, against a guest and an event stream that follow a script.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::guest::About;
use super::*;
use crate::incus::events::{Event, Hub, Notice};

const MAC: &str = "10:66:6a:00:00:01";

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn s(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// What the guest is at a time: `[from, to)`.
#[derive(Clone, Default)]
struct Script {
    running: Vec<(Duration, Duration)>,
    agent: Vec<(Duration, Duration)>,
    address: Option<Duration>,
    /// Looks that begin in here take three seconds.
    hangs: Vec<(Duration, Duration)>,
    /// No connection to the daemon.
    broken: Vec<(Duration, Duration)>,
    /// Incus refuses to look, as it does while a guest goes down.
    refused: Vec<(Duration, Duration)>,
    gone: Option<Duration>,
    metrics_off: bool,
    cloud_init: Option<(Duration, Option<i64>)>,
}

const EVER: Duration = Duration::from_secs(1_000_000);

fn vm() -> Script {
    Script { running: vec![(s(0), EVER)], ..Script::default() }
}

struct Fake {
    start: Instant,
    script: Script,
    looks: Arc<AtomicUsize>,
}

impl Fake {
    fn new(script: Script) -> Self {
        Self { start: Instant::now(), script, looks: Arc::default() }
    }

    fn within(&self, spans: &[(Duration, Duration)]) -> bool {
        let now = self.start.elapsed();
        spans.iter().any(|(from, to)| *from <= now && now < *to)
    }

    async fn ask(&self) -> Result<(), Error> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        if self.within(&self.script.broken) {
            let path = "/1.0/instances/web/state".to_owned();
            return Err(Error::Lost { method: "GET".into(), path, may_have_been_sent: false, source: None });
        }
        if self.within(&self.script.refused) {
            return Err(Error::refused(500, "Invalid PID '\u{fffd}'"));
        }
        let hangs = self.within(&self.script.hangs);
        tokio::time::sleep(if hangs { s(3) } else { ms(15) }).await;
        if self.script.gone.is_some_and(|gone| gone <= self.start.elapsed()) {
            return Err(Error::refused(404, "Instance not found"));
        }
        Ok(())
    }

    fn status(&self) -> (String, u16) {
        if self.within(&self.script.running) { ("Running".into(), 103) } else { ("Stopped".into(), 102) }
    }
}

impl About for Fake {
    fn concerns(&self, event: &Event) -> bool {
        event.is_about_instance("p", "web")
    }
}

impl Guest for Fake {
    async fn instance(&self) -> Result<Instance, Error> {
        self.ask().await?;
        let (status, status_code) = self.status();
        let mut instance: Instance = serde_json::from_value(json!({
            "type": "virtual-machine",
            "config": {"volatile.eth0.hwaddr": MAC},
            "expanded_devices": {"eth0": {"type": "nic", "network": "net-p"}},
        }))
        .unwrap();
        if self.script.metrics_off {
            instance.expanded_config.insert("security.agent.metrics".into(), "off".into());
        }
        (instance.status, instance.status_code) = (status, status_code);
        Ok(instance)
    }

    async fn state(&self) -> Result<State, Error> {
        // What hangs asks an agent that was down when it began.
        let before = self.within(&self.script.agent) && !self.within(&self.script.hangs);
        self.ask().await?;
        let (status, status_code) = self.status();
        let up = before && status_code == 103 && !self.script.metrics_off;
        let address = self.script.address.is_some_and(|at| at <= self.start.elapsed());
        let addresses = match address {
            true => json!([{"family": "inet6", "address": "fe80::1", "netmask": "64", "scope": "link"},
                {"family": "inet", "address": "10.0.0.9", "netmask": "24", "scope": "global"}]),
            false => json!([{"family": "inet6", "address": "fe80::1", "netmask": "64", "scope": "link"}]),
        };
        Ok(serde_json::from_value(json!({
            "status": status, "status_code": status_code, "processes": if up { 40 } else { -1 },
            "network": {"enp5s0": {"hwaddr": MAC, "addresses": addresses}},
        }))
        .unwrap())
    }

    async fn answers(&self) -> Result<bool, Error> {
        self.ask().await?;
        Ok(self.within(&self.script.agent))
    }

    async fn cloud_init(&self) -> Result<Option<i64>, Error> {
        let (length, code) = self.script.cloud_init.unwrap();
        tokio::time::sleep(length).await;
        Ok(if self.within(&self.script.agent) { code } else { None })
    }

    async fn console(&self) -> Vec<String> {
        vec!["the last line".into()]
    }
}

const LIMITS: Limits = Limits {
    boot: Duration::from_secs(120),
    agent: Some(Duration::from_secs(60)),
    addresses: Addresses::No,
    cloud_init: false,
};

const LIMITS_WITH_ADDRESS: Limits = Limits { addresses: Addresses::Dhcp(Duration::from_secs(30)), ..LIMITS };

async fn run(fake: &Fake, hub: &Hub, limits: &Limits, wait: &Wait) -> (Result<Ready, Error>, Duration) {
    run_beside(&Waits::default(), fake, hub, limits, wait).await
}

async fn run_beside(
    waits: &Waits,
    fake: &Fake,
    hub: &Hub,
    limits: &Limits,
    wait: &Wait,
) -> (Result<Ready, Error>, Duration) {
    let watch = Watch::new(fake, Some(hub.scripted()), waits.clone(), wait);
    let waiter =
        Waiter { watch, guest: fake, nic: "eth0", limits, started: fake.start, announced: true, address: None };
    let result = waiter.run().await;
    (result, fake.start.elapsed())
}

async fn outcome(script: Script, limits: Limits) -> (Result<Ready, Error>, Duration) {
    run(&Fake::new(script), &Hub::default(), &limits, &Wait::default()).await
}

fn event(action: &str, name: &str) -> Notice {
    let event = json!({"type": "lifecycle", "project": "p",
        "metadata": {"action": action, "source": format!("/1.0/instances/{name}?project=p")}});
    Notice::Event(Arc::new(serde_json::from_value(event).unwrap()))
}

/// Says each notice at its time, while `work` goes on.
async fn with_events<T>(hub: &Hub, notices: Vec<(Duration, Notice)>, work: impl Future<Output = T>) -> T {
    let hub = hub.clone();
    let start = Instant::now();
    let task = tokio::spawn(async move {
        for (at, notice) in notices {
            tokio::time::sleep_until(start + at).await;
            hub.say(notice);
        }
    });
    let result = work.await;
    task.abort();
    result
}

#[track_caller]
fn at(elapsed: Duration, from: Duration, within: Duration) {
    assert!(elapsed >= from && elapsed <= from + within, "{elapsed:?} is not within {within:?} of {from:?}");
}

#[track_caller]
fn unready(result: Result<Ready, Error>) -> Unready {
    match result {
        Err(Error::Unready(unready)) => *unready,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_an_event_is_seen_within_half_a_second() {
    let (result, elapsed) = outcome(Script { agent: vec![(ms(40_137), EVER)], ..vm() }, LIMITS).await;
    assert!(result.unwrap().state.unwrap().processes > 0);
    at(elapsed, ms(40_137), ms(500));
}

#[tokio::test(start_paused = true)]
async fn an_event_wakes_at_once_however_many_wait() {
    let (hub, fake) = (Hub::default(), Fake::new(Script { agent: vec![(ms(40_137), EVER)], ..vm() }));
    let others: Vec<_> = (0..200).map(|_| hub.scripted()).collect();
    let wait = Wait::default();
    let work = run(&fake, &hub, &LIMITS, &wait);
    let (result, elapsed) = with_events(&hub, vec![(ms(40_140), event("instance-agent-started", "web"))], work).await;
    result.unwrap();
    at(elapsed, ms(40_140), ms(100));
    drop(others);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_announced_is_left_alone_until_then_and_a_lost_event_costs_seconds() {
    for told in [true, false] {
        let (hub, fake) = (Hub::default(), Fake::new(Script { agent: vec![(ms(40_137), EVER)], ..vm() }));
        let mut notices = vec![(ms(10), Notice::Connected)];
        notices.extend(told.then(|| (ms(40_140), event("instance-agent-started", "web"))));
        let wait = Wait::default();
        let (result, elapsed) = with_events(&hub, notices, run(&fake, &hub, &LIMITS, &wait)).await;
        result.unwrap();
        at(elapsed, ms(40_137), if told { ms(100) } else { ms(5100) });
        assert!(fake.looks.load(Ordering::Relaxed) < 14, "{:?}", fake.looks);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_ends_a_look_that_hangs_on_the_agent_that_was_down() {
    let script = Script { agent: vec![(ms(20_000), EVER)], hangs: vec![(s(0), ms(20_000))], ..vm() };
    let (hub, fake, wait) = (Hub::default(), Fake::new(script), Wait::default());
    let work = run(&fake, &hub, &LIMITS, &wait);
    let (result, elapsed) = with_events(&hub, vec![(ms(20_010), event("instance-agent-started", "web"))], work).await;
    result.unwrap();
    at(elapsed, ms(20_010), ms(300));
}

#[tokio::test(start_paused = true)]
async fn events_that_come_twice_early_or_for_others_change_nothing() {
    let (hub, fake) = (Hub::default(), Fake::new(Script { agent: vec![(s(30), EVER)], ..vm() }));
    let mut notices = vec![(s(1), event("instance-agent-started", "web")), (s(2), event("instance-started", "web"))];
    notices.extend((0..50).map(|_| (s(3), event("instance-agent-started", "web"))));
    notices.extend((0..1000).map(|count| (s(4) + ms(count), event("instance-agent-started", "other"))));
    let wait = Wait::default();
    let (result, elapsed) = with_events(&hub, notices, run(&fake, &hub, &LIMITS, &wait)).await;
    result.unwrap();
    at(elapsed, s(30), ms(500));
    assert!(fake.looks.load(Ordering::Relaxed) < 160, "{:?}", fake.looks);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_lost_and_is_back_is_a_reason_to_look() {
    for notice in [Notice::Connected, Notice::Lost] {
        let (hub, fake) = (Hub::default(), Fake::new(Script { agent: vec![(s(30), EVER)], ..vm() }));
        let others: Vec<_> = (0..200).map(|_| hub.scripted()).collect();
        let wait = Wait::default();
        let (result, elapsed) = with_events(&hub, vec![(ms(30_100), notice)], run(&fake, &hub, &LIMITS, &wait)).await;
        result.unwrap();
        at(elapsed, ms(30_100), ms(100));
        drop(others);
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_takes_a_few_percent_of_a_processor_however_many_wait() {
    for waits in [1_u32, 10, 100] {
        let (hub, fake, shared) = (Hub::default(), Fake::new(vm()), Waits::default());
        let others = vec![shared.clone(); usize::try_from(waits - 1).unwrap()];
        let (result, _) = run_beside(&shared, &fake, &hub, &LIMITS, &Wait::default()).await;
        unready(result);
        let busy = ms(15) * u32::try_from(fake.looks.load(Ordering::Relaxed)).unwrap() * waits;
        let early = (s(3) / 20 + ms(30)) * waits;
        assert!(busy <= s(60) / 20 + early, "{busy:?} of 60s with {waits}");
        drop(others);
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_goes_down_again_is_waited_for_again() {
    let agent = vec![(s(10), ms(10_700)), (s(14), EVER)];
    let script = Script { agent, address: Some(s(11)), ..vm() };
    let (result, elapsed) = outcome(script, Limits { addresses: Addresses::Dhcp(s(30)), ..LIMITS }).await;
    result.unwrap();
    at(elapsed, s(14), ms(500));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_never_answers_is_an_error_at_its_limit() {
    let (result, elapsed) = outcome(Script { address: Some(s(20)), ..vm() }, LIMITS).await;
    let unready = unready(result);
    assert_eq!((unready.phase, &unready.why), (Phase::Agent, &Why::Limit(s(60))));
    assert_eq!(unready.last, "Running, no answer of the agent");
    assert_eq!(unready.address.as_deref(), Some("10.0.0.9"));
    assert_eq!(unready.console, ["the last line"]);
    at(elapsed, s(60), ms(100));
}

#[tokio::test(start_paused = true)]
async fn a_limit_holds_while_a_look_hangs() {
    let (result, elapsed) = outcome(Script { hangs: vec![(s(1), EVER)], ..vm() }, LIMITS).await;
    assert_eq!(unready(result).why, Why::Limit(s(60)));
    at(elapsed, s(60), ms(100));
}

#[tokio::test(start_paused = true)]
async fn the_calls_limit_is_told_apart() {
    let wait = Wait::within(s(7), CancellationToken::new());
    let (result, elapsed) = run(&Fake::new(vm()), &Hub::default(), &LIMITS, &wait).await;
    assert_eq!(unready(result).why, Why::Call);
    at(elapsed, s(7), ms(10));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_it_at_once() {
    for hangs in [vec![], vec![(s(0), EVER)]] {
        let stop = CancellationToken::new();
        let wait = Wait { deadline: None, stop: stop.clone() };
        let fake = Fake::new(Script { hangs, ..vm() });
        tokio::spawn(async move {
            tokio::time::sleep(ms(4_321)).await;
            stop.cancel();
        });
        let (result, elapsed) = run(&fake, &Hub::default(), &LIMITS, &wait).await;
        assert!(result.unwrap_err().is_stopped());
        at(elapsed, ms(4_321), ms(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_noticed_long_before_the_limit() {
    let (result, elapsed) = outcome(Script { running: vec![(s(0), s(20))], ..vm() }, LIMITS).await;
    assert_eq!(unready(result).why, Why::Stopped);
    at(elapsed, s(40), s(1));
}

#[tokio::test(start_paused = true)]
async fn a_crash_that_an_event_tells_is_noticed_at_once() {
    // Also where the event overtakes a look that still saw it running.
    for (ended, told) in [(s(20), ms(20_100)), (s(20), ms(20_003)), (ms(20_010), ms(20_001))] {
        let fake = Fake::new(Script { running: vec![(s(0), ended)], ..vm() });
        let hub = Hub::default();
        let told_of = vec![(told, event("instance-shutdown", "web"))];
        let wait = Wait::default();
        let (result, elapsed) = with_events(&hub, told_of, run(&fake, &hub, &LIMITS, &wait)).await;
        assert_eq!(unready(result).why, Why::Stopped);
        at(elapsed, s(20), ms(500));
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_told_before_it_was_seen_up_is_past() {
    let running = vec![(s(2), s(20)), (s(35), EVER)];
    let fake = Fake::new(Script { running, agent: vec![(s(40), EVER)], ..vm() });
    let hub = Hub::default();
    let told = vec![(s(3), event("instance-shutdown", "web")), (s(4), event("instance-started", "web"))];
    let (result, elapsed) = with_events(&hub, told, run(&fake, &hub, &LIMITS, &Wait::default())).await;
    result.unwrap();
    at(elapsed, s(40), ms(500));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_ends_stopped_is_a_crash_too() {
    let (result, elapsed) = outcome(Script::default(), LIMITS).await;
    let unready = unready(result);
    assert_eq!((unready.phase, unready.why), (Phase::Running, Why::Stopped));
    at(elapsed, s(20), s(1));
}

#[tokio::test(start_paused = true)]
async fn a_reboot_from_inside_is_no_crash() {
    let running = vec![(s(0), s(20)), (s(35), EVER)];
    let (result, elapsed) = outcome(Script { running, agent: vec![(s(40), EVER)], ..vm() }, LIMITS).await;
    result.unwrap();
    at(elapsed, s(40), ms(500));
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_instance_that_stopped_is_gone() {
    let (result, elapsed) = outcome(Script { gone: Some(s(5)), ..vm() }, LIMITS).await;
    let unready = unready(result);
    assert_eq!((unready.why, unready.console.len()), (Why::Gone, 0));
    at(elapsed, s(5), ms(500));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_does_not_run_in_time_is_an_error() {
    let limits = Limits { boot: s(2), ..LIMITS };
    let (result, _) = outcome(Script::default(), limits).await;
    let unready = unready(result);
    assert_eq!((unready.phase, unready.why, &*unready.last), (Phase::Running, Why::Limit(s(2)), "Stopped"));
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_tried_again() {
    let script = Script { broken: vec![(s(2), s(12))], agent: vec![(s(5), EVER)], ..vm() };
    let (result, elapsed) = outcome(script, LIMITS).await;
    result.unwrap();
    at(elapsed, s(12), ms(500));
}

#[tokio::test(start_paused = true)]
async fn a_look_that_is_refused_while_the_guest_reboots_is_tried_again() {
    let script = Script { refused: vec![(s(20), s(22))], agent: vec![(s(5), s(20)), (s(30), EVER)], ..vm() };
    let (result, elapsed) = outcome(Script { address: Some(s(29)), ..script }, LIMITS_WITH_ADDRESS).await;
    result.unwrap();
    at(elapsed, s(30), ms(500));
}

#[tokio::test(start_paused = true)]
async fn without_metrics_a_command_tells_whether_the_agent_answers() {
    let script = Script { metrics_off: true, agent: vec![(s(25), EVER)], ..vm() };
    let (result, elapsed) = outcome(script, LIMITS).await;
    assert_eq!(result.unwrap().state.unwrap().processes, -1);
    at(elapsed, s(25), s(1));
}

#[tokio::test(start_paused = true)]
async fn a_link_local_address_is_none_and_a_missing_one_is_told() {
    let limits = Limits { addresses: Addresses::Dhcp(s(30)), ..LIMITS };
    let (result, elapsed) = outcome(Script { agent: vec![(s(59), EVER)], ..vm() }, limits).await;
    let ready = result.unwrap();
    assert!(ready.without_address == Some(s(30)) && ready.state.is_some());
    at(elapsed, s(89), s(1));
}

#[tokio::test(start_paused = true)]
async fn cloud_init_is_asked_once_and_again_where_the_agent_went_down_under_it() {
    let limits = Limits { cloud_init: true, ..LIMITS };
    let script = Script { agent: vec![(s(10), EVER)], cloud_init: Some((s(200), Some(0))), ..vm() };
    let (result, elapsed) = outcome(script, limits).await;
    assert_eq!(result.unwrap().cloud_init, Some(CloudInit::Done));
    at(elapsed, s(210), s(1));
    let agent = vec![(s(10), s(12)), (s(30), EVER)];
    let script = Script { agent, cloud_init: Some((s(5), Some(2))), ..vm() };
    let (result, elapsed) = outcome(script, limits).await;
    assert_eq!(result.unwrap().cloud_init, Some(CloudInit::Degraded));
    at(elapsed, s(35), s(1));
}

#[tokio::test(start_paused = true)]
async fn a_failed_module_and_a_missing_cloud_init_are_errors() {
    for (code, why) in [(1, Why::CloudInitFailed(1)), (127, Why::NoCloudInit)] {
        let script = Script { agent: vec![(s(1), EVER)], cloud_init: Some((s(2), Some(code))), ..vm() };
        let (result, _) = outcome(script, Limits { cloud_init: true, ..LIMITS }).await;
        let unready = unready(result);
        assert_eq!((unready.phase, unready.why), (Phase::CloudInit, why));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_waited_for_is_not_asked() {
    let fake = Fake::new(vm());
    let limits = Limits { agent: None, ..LIMITS };
    let (result, _) = run(&fake, &Hub::default(), &limits, &Wait::default()).await;
    assert_eq!(result.unwrap().state, None);
    assert_eq!(fake.looks.load(Ordering::Relaxed), 1);
}
