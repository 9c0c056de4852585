//! What the proxy and nft ask before and after each step: it counts, and lets the armed fault happen once.

use std::collections::HashMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::fault::{At, Fault, Who};

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
#[derive(Default)]
pub(crate) struct Control(Mutex<State>);

impl Control {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        if who == Who::Interrupted {
            client.map(|pid| kill_process_group(pid, Signal::INT));
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
