//! Until an instance is usable: it runs, its agent answers, it has its address, cloud-init is through.
//!
//! Events wake, an adaptive poll insures: Incus 6.0 announces no agent, a restricted certificate sees no event, and
//! events are not replayed.

mod guest;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::client::Client;
use super::error::{Error, Refusal};
use super::instance::{Instance, Kind, State};
use super::is_false;
use super::run::Wait;
use super::server::Server;
use guest::{Guest, Remote};
pub(crate) use watch::Waits;
use watch::{Ended, Watch};

/// How long an instance may be seen stopped before it counts as crashed, where no event says so: a reboot from inside
/// passes through it. That of a virtual machine is a stop and a start of QEMU, and its agent reboots it once where
/// cloud-init has something to do.
fn reboot(kind: Kind) -> Duration {
    Duration::from_secs(if kind == Kind::VirtualMachine { 20 } else { 3 })
}

/// How far an instance that was started has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Its start is under way.
    Started,
    /// It is not seen running yet.
    Running,
    /// It runs, and its agent does not answer yet.
    Agent,
    /// Its address is missing.
    Addresses,
    /// Its cloud-init is not through.
    CloudInit,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "started",
            Self::Running => "running",
            Self::Agent => "agent",
            Self::Addresses => "addresses",
            Self::CloudInit => "cloud-init",
        })
    }
}

/// Whether an address is waited for, and how long. An instance without the NIC is not kept waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// Not at all.
    No,
    /// Where DHCP gives it: the NIC has no `ipv4.address`.
    Dhcp(Duration),
    /// Wherever it comes from.
    Any(Duration),
}

impl Addresses {
    fn limit(self, instance: &Instance, device: &str) -> Option<Duration> {
        let keys = instance.expanded_devices.get(device)?;
        let is_nic = keys.get("type").is_some_and(|kind| kind == "nic");
        match self {
            Self::Dhcp(limit) if is_nic && !keys.contains_key("ipv4.address") => Some(limit),
            Self::Any(limit) if is_nic => Some(limit),
            _ => None,
        }
    }
}

/// What is waited for, and how long. The call's own [`Wait`] bounds all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until it runs, from the start on.
    pub boot: Duration,
    /// Until the agent answers, from running on; `None` = not waited for.
    pub agent: Option<Duration>,
    /// Until the NIC has a global IPv4 address, from the agent's answer (or running) on.
    pub addresses: Addresses,
    /// Whether cloud-init must be through.
    pub cloud_init: bool,
}

/// How cloud-init ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudInit {
    /// All of it.
    Done,
    /// With recoverable errors (exit code 2, cloud-init 23.4 and later).
    Degraded,
}

/// An instance that is usable.
#[derive(Debug, Clone, PartialEq)]
pub struct Ready {
    /// As it was when it was first seen running.
    pub instance: Instance,
    /// As it was at the end, where that was asked.
    pub state: Option<State>,
    /// How long an address was waited for in vain.
    pub without_address: Option<Duration>,
    /// How cloud-init ended, where that was waited for.
    pub cloud_init: Option<CloudInit>,
}

/// Why an instance is not usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The phase's own limit passed.
    Limit(Duration),
    /// The limit of the whole call passed.
    Call,
    /// It stopped after it had run or right at its start.
    Stopped,
    /// It is gone, as an ephemeral one is after its stop.
    Gone,
    /// Cloud-init failed; the exit code of `cloud-init status --wait`.
    CloudInitFailed(i64),
    /// There is no cloud-init inside.
    NoCloudInit,
}

/// An instance that is not usable, and what was last seen of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unready {
    /// What was waited for.
    pub phase: Phase,
    /// What went wrong.
    pub why: Why,
    /// The last thing seen, in words; empty where nothing was.
    pub last: String,
    /// An address that the host knows of, where the agent was waited for: the system is up, its agent is not.
    pub address: Option<String>,
    /// The console's last lines, may be none.
    pub console: Vec<String>,
}

impl std::error::Error for Unready {}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = self.phase;
        match self.why {
            Why::Limit(limit) => write!(f, "the limit of {limit:?} passed in the phase {phase}"),
            Why::Call => write!(f, "the limit of the whole call passed in the phase {phase}"),
            Why::Stopped => write!(f, "it stopped in the phase {phase}"),
            Why::Gone => write!(f, "it was gone in the phase {phase}"),
            Why::CloudInitFailed(code) => write!(f, "`cloud-init status --wait` ended with {code}"),
            Why::NoCloudInit => f.write_str("there is no cloud-init inside"),
        }?;
        if self.last.is_empty() { Ok(()) } else { write!(f, " (last seen: {})", self.last) }
    }
}

impl Client {
    /// What stands behind `error`, the failure of a start: a machine that ended meanwhile is [`Error::Unready`].
    pub async fn at_start(&self, project: &str, name: &str, error: Error) -> Error {
        if error.refusal() != Some(&Refusal::DiedAtStart) {
            return error;
        }
        let console = Remote::new(self, project, name).console().await;
        let (last, address) = (String::new(), None);
        Error::Unready(Box::new(Unready { phase: Phase::Started, why: Why::Stopped, last, address, console }))
    }

    /// Waits until an instance that was started at `started` is usable. Nothing is asked that is not waited for: one GET
    /// where only running is.
    ///
    /// `nic` is the device whose address is waited for.
    ///
    /// # Errors
    ///
    /// [`Error::Unready`] with the phase, [`Error::Stopped`], and refusals of Incus. A broken connection is tried again
    /// until the phase's limit: asking changes nothing.
    pub async fn until_ready(
        &self,
        project: &str,
        name: &str,
        nic: &str,
        limits: &Limits,
        started: Instant,
        wait: &Wait,
    ) -> Result<Ready, Error> {
        let remote = Remote::new(self, project, name);
        // No event tells of a container's address, and a stop is seen by the poll.
        let events = limits.agent.map(|_| self.events());
        let announced = self.known_server().is_some_and(Server::announces_agents);
        let watch = Watch::new(&remote, events, self.waits(), wait);
        let waiter = Waiter { watch, guest: &remote, nic, limits, started, announced, address: None };
        waiter.run().await
    }
}

/// The conditions, in order. All of them hold of the same look at the end: an agent that goes down again is waited for
/// again.
struct Waiter<'w, G> {
    watch: Watch<'w>,
    guest: &'w G,
    nic: &'w str,
    limits: &'w Limits,
    started: Instant,
    /// Whether an event tells of the agent.
    announced: bool,
    /// The last address seen.
    address: Option<String>,
}

impl<G: Guest> Waiter<'_, G> {
    async fn run(mut self) -> Result<Ready, Error> {
        let mut phase = Phase::Running;
        match self.conditions(&mut phase).await {
            Ok(ready) => Ok(ready),
            Err(Ended::Error(error)) => Err(error),
            Err(Ended::Stop) => Err(Error::Stopped { what: format!("{phase}"), may_have_been_sent: true }),
            Err(Ended::Unready(why)) => {
                let console = if why == Why::Gone { Vec::new() } else { self.guest.console().await };
                let address = self.address.filter(|_| phase == Phase::Agent);
                let last = self.watch.last().to_owned();
                Err(Error::Unready(Box::new(Unready { phase, why, last, address, console })))
            }
        }
    }

    async fn conditions(&mut self, phase: &mut Phase) -> Result<Ready, Ended> {
        let instance = self.running().await?;
        let mut ready = Ready { instance, state: None, without_address: None, cloud_init: None };
        let limits = *self.limits;
        let addresses = limits.addresses.limit(&ready.instance, self.nic);
        if limits.agent.is_none() && addresses.is_none() && !limits.cloud_init {
            return Ok(ready);
        }
        let metrics = ready.instance.expanded_config.get("security.agent.metrics").is_none_or(|value| !is_false(value));
        let is_vm = ready.instance.kind == Kind::VirtualMachine;
        let (first, first_limit) = match limits.agent {
            Some(limit) => (Phase::Agent, limit),
            None => (Phase::Running, limits.boot),
        };
        let mut down_since = Some(Instant::now());
        let mut stopped_since = None;
        let mut addressless_since = None;
        loop {
            match down_since {
                Some(since) => {
                    *phase = first;
                    self.watch.limit(since, first_limit);
                }
                None => self.watch.no_limit(),
            }
            let state = self.watch.look(|| self.guest.state()).await?;
            self.watch.saw(seen(&state, is_vm));
            self.address = any_address(&state);
            let up = state.is_running() && (limits.agent.is_none() || self.agent(&state, metrics).await?);
            if !up {
                down_since.get_or_insert_with(Instant::now);
                addressless_since = None;
                self.stopped(ready.instance.kind, state.status_code, &mut stopped_since)?;
                self.watch.pause_for_agent(self.announced && state.is_running()).await?;
                continue;
            }
            (down_since, stopped_since) = (None, None);
            self.watch.is_up();
            if let Some(limit) = addresses
                && !has_address(&ready.instance, self.nic, &state)
            {
                *phase = Phase::Addresses;
                self.watch.limit(*addressless_since.get_or_insert_with(Instant::now), limit);
                match self.watch.pause().await {
                    Ok(()) => continue,
                    Err(Ended::Unready(Why::Limit(limit))) => ready.without_address = Some(limit),
                    Err(ended) => return Err(ended),
                }
            }
            ready.state = Some(state);
            if !limits.cloud_init || ready.cloud_init.is_some() {
                return Ok(ready);
            }
            *phase = Phase::CloudInit;
            self.watch.no_limit();
            ready.cloud_init = self.cloud_init().await?;
            // It may have restarted the agent or changed the addresses: look once more.
            self.watch.pause().await?;
        }
    }

    async fn running(&mut self) -> Result<Instance, Ended> {
        let mut stopped_since = None;
        self.watch.limit(self.started, self.limits.boot);
        loop {
            let instance = self.watch.look(|| self.guest.instance()).await?;
            if instance.is_running() {
                return Ok(instance);
            }
            self.watch.saw(instance.status);
            self.stopped(instance.kind, instance.status_code, &mut stopped_since)?;
            self.watch.pause().await?;
        }
    }

    fn stopped(&self, kind: Kind, status_code: u16, since: &mut Option<Instant>) -> Result<(), Ended> {
        if status_code != 102 {
            *since = None;
        } else if self.watch.is_down() || since.get_or_insert_with(Instant::now).elapsed() >= reboot(kind) {
            return Err(Ended::Unready(Why::Stopped));
        }
        Ok(())
    }

    async fn agent(&mut self, state: &State, metrics: bool) -> Result<bool, Ended> {
        if metrics {
            return Ok(state.processes > 0);
        }
        self.watch.look(|| self.guest.answers()).await
    }

    async fn cloud_init(&mut self) -> Result<Option<CloudInit>, Ended> {
        match self.watch.follow(|| self.guest.cloud_init()).await? {
            // The agent went down under it.
            None => Ok(None),
            Some(0) => Ok(Some(CloudInit::Done)),
            Some(2) => Ok(Some(CloudInit::Degraded)),
            Some(127) => Err(Ended::Unready(Why::NoCloudInit)),
            Some(code) => Err(Ended::Unready(Why::CloudInitFailed(code))),
        }
    }
}

fn seen(state: &State, is_vm: bool) -> String {
    match state.processes {
        processes if is_vm && state.is_running() && processes <= 0 => {
            format!("{}, no answer of the agent", state.status)
        }
        processes if is_vm && state.is_running() => format!("{}, {processes} processes", state.status),
        _ => state.status.clone(),
    }
}

/// Whether the guest has a global IPv4 address on the NIC `device`.
fn has_address(instance: &Instance, device: &str, state: &State) -> bool {
    let Some(keys) = instance.expanded_devices.get(device) else { return false };
    let Some(mac) = keys.get("hwaddr").or_else(|| instance.config.get(&format!("volatile.{device}.hwaddr"))) else {
        return false;
    };
    let nic = state.network.values().find(|nic| nic.hwaddr.eq_ignore_ascii_case(mac));
    nic.is_some_and(|nic| nic.addresses.iter().any(|one| one.family == "inet" && one.scope == "global"))
}

fn any_address(state: &State) -> Option<String> {
    let addresses = state.network.values().flat_map(|nic| &nic.addresses);
    addresses.filter(|one| one.scope == "global" && one.family == "inet").map(|one| one.address.clone()).next()
}
