//! What the proxy and nft ask before and after each step: it counts, and lets the armed fault happen once.

use std::collections::HashMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::fault::{At, Fault, Who};
use crate::http::Message;
use crate::lab::Lab;
use crate::scene::Phase;
use crate::stranger::{Place, Stranger};

/// The longest that a stranger takes to take a name.
const SETTLED: Duration = Duration::from_secs(30);

/// A write of one apply: what it is about, and which of these, from 1.
pub(crate) type Step = (String, usize);

#[derive(Default)]
struct State {
    armed: Option<(At, Fault)>,
    fired: bool,
    counts: HashMap<String, usize>,
    reads: usize,
    steps: Vec<Step>,
    client: Option<Pid>,
    provider: Option<Pid>,
    away_until: Option<Instant>,
    events: Vec<UnixStream>,
}

/// One for the proxy, the nft that is put before the real one, and the round.
pub(crate) struct Control {
    state: Mutex<State>,
    lab: Weak<Lab>,
    /// Held for reading by each request; a stranger holds it for writing while it takes a name.
    gate: RwLock<()>,
    stranger: Mutex<Option<Stranger>>,
}

impl Control {
    /// The control of the proxy before `lab`.
    pub(crate) fn new(lab: Weak<Lab>) -> Self {
        Self { state: Mutex::default(), lab, gate: RwLock::default(), stranger: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no stranger is taking a name; none takes one before the guard is dropped.
    pub(crate) fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no stranger is taking a name any more; `false` after [`SETTLED`].
    pub(crate) fn is_settled(&self) -> bool {
        let begun = Instant::now();
        while matches!(self.gate.try_read(), Err(TryLockError::WouldBlock)) {
            if begun.elapsed() > SETTLED {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// The stranger of this round.
    pub(crate) fn stranger(&self) -> MutexGuard<'_, Option<Stranger>> {
        self.stranger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a stranger take a name of `phase` while the requests of the provider are held back.
    pub(crate) fn intrude(&self, phase: Phase, place: Place, roll: u32) {
        let _held_back = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(lab) = self.lab.upgrade() {
            *self.stranger() = Some(Stranger::take(&lab, phase, place, roll));
        }
    }

    /// Notes whether the provider looks at the stranger, or writes without a look.
    pub(crate) fn watch(&self, request: &Message) {
        if let Some(stranger) = self.stranger().as_mut() {
            stranger.watch(request);
        }
    }

    /// Begins to count anew, with a fault or without.
    pub(crate) fn arm(&self, fault: Option<(At, Fault)>) {
        let mut state = self.state();
        let events = std::mem::take(&mut state.events);
        *state = State { armed: fault, events, ..State::default() };
    }

    /// The client that runs now.
    pub(crate) fn client(&self, client: Pid) {
        self.state().client = Some(client);
    }

    /// The process at the other end of a connection.
    pub(crate) fn provider(&self, provider: Pid) {
        self.state().provider = Some(provider);
    }

    /// Whether the fault has happened, and the steps so far.
    pub(crate) fn outcome(&self) -> (bool, Vec<Step>) {
        let state = self.state();
        (state.fired, state.steps.clone())
    }

    /// Counts a step, or a read; what shall happen to it.
    pub(crate) fn meet(&self, step: Option<&str>) -> Option<Fault> {
        let mut state = self.state();
        let at = match step {
            None => {
                state.reads += 1;
                At::Read(state.reads)
            }
            Some(step) => {
                let count = state.counts.entry(step.to_owned()).or_default();
                *count += 1;
                let step = (step.to_owned(), *count);
                state.steps.push(step.clone());
                At::Write(step.0, step.1)
            }
        };
        if state.fired || state.armed.as_ref().is_none_or(|(armed, _)| *armed != at) {
            return None;
        }
        state.fired = true;
        let fault = state.armed.as_ref().map(|(_, fault)| *fault);
        if let Some(Fault::Away(ms)) = fault {
            state.away_until = Some(Instant::now() + Duration::from_millis(ms));
        }
        if matches!(fault, Some(Fault::Away(_) | Fault::CutEvents)) {
            for stream in state.events.drain(..) {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
        fault
    }

    /// Whether nobody answers now.
    pub(crate) fn is_away(&self) -> bool {
        self.state().away_until.is_some_and(|until| Instant::now() < until)
    }

    /// Keeps a stream of events, so that it can be cut.
    pub(crate) fn keep(&self, stream: UnixStream) {
        self.state().events.push(stream);
    }

    /// Ends whom a timer ends.
    pub(crate) fn end_now(&self, who: Who) {
        self.state().fired = true;
        self.end(who);
    }

    /// Ends `who`, if it runs.
    pub(crate) fn end(&self, who: Who) {
        let (client, provider) = {
            let state = self.state();
            (state.client, state.provider.filter(|pid| is_provider(*pid)))
        };
        let to_group = match who {
            Who::Interrupted => Some(Signal::INT),
            Who::Terminated => Some(Signal::TERM),
            Who::Provider | Who::Client | Who::Both => None,
        };
        if let Some(signal) = to_group {
            client.map(|pid| kill_process_group(pid, signal));
            return;
        }
        // The client first: it would restart nothing, but tell of the provider's end.
        if who != Who::Provider {
            client.map(|pid| kill_process(pid, Signal::KILL));
        }
        if who != Who::Client {
            provider.map(|pid| kill_process(pid, Signal::KILL));
        }
    }
}

fn is_provider(pid: Pid) -> bool {
    let exe = fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero()));
    exe.is_ok_and(|exe| exe == Path::new(env!("CARGO_BIN_EXE_terraform-provider-anklume")))
}
