//! What virtual machines are seen to do by somebody else than the provider: the events as the `incus` command prints them,
//! and each machine's state, asked again and again: from the event of its agent on where there is one.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anklume::incus::{Client, Endpoint, instance};
use serde_json::Value;

use crate::cli::Workspace;

/// Between two looks at a machine whose agent is not announced; each costs an emulated host a good part of its processor.
const LOOK: Duration = Duration::from_millis(500);
/// How long the watcher may lag behind the provider.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks after the announcement; where several machines are emulated, each look is one handshake more that keeps
/// their agents from answering.
const LOOK_UP: Duration = Duration::from_millis(50);
const LOOK_UP_EMULATED: Duration = Duration::from_secs(2);

/// The event of an agent that answers.
const AGENT: &str = "instance-agent-started";

/// What came when.
#[derive(Debug)]
pub(crate) struct Seen {
    name: String,
    begun: Instant,
    /// The event of its start.
    pub(crate) started: Instant,
    /// The event of its agent, which Incus 6.0 has not.
    pub(crate) agent_event: Option<Instant>,
    answers: Instant,
    address: Instant,
}

impl Seen {
    /// The later of the agent and a global address.
    pub(crate) fn usable(&self) -> Instant {
        self.agent_event.unwrap_or(self.answers).max(self.address)
    }

    /// The same, with the agent as the watcher saw it answer.
    pub(crate) fn answered(&self) -> Instant {
        self.answers.max(self.address)
    }

    pub(crate) fn print(&self, ended: Instant) {
        let at = |instant: Instant| format!("{:.2} s", (instant - self.begun).as_secs_f64());
        println!(
            "{}: started {}, event of the agent {}, agent answers {}, address {}; apply ended {}",
            self.name,
            at(self.started),
            self.agent_event.map_or_else(|| "none".to_owned(), at),
            at(self.answers),
            at(self.address),
            at(ended)
        );
    }
}

/// When the agent first answered, and when the guest first had a global IPv4 address.
#[derive(Debug, Default)]
struct Looked {
    answers: Option<Instant>,
    address: Option<Instant>,
}

/// The events of a project, and when each was heard.
#[derive(Debug)]
pub(crate) struct Events {
    project: String,
    heard: Vec<(Instant, Value)>,
}

impl Events {
    /// When `action` was first told of the instance `name`.
    pub(crate) fn first(&self, name: &str, action: &str) -> Option<Instant> {
        let is_it = |event: &Value| {
            event["metadata"]["action"] == action && event["project"] == self.project && machine_of(event) == name
        };
        self.heard.iter().find(|(_, event)| is_it(event)).map(|(at, _)| *at)
    }
}

/// Watches machines until it is ended.
pub(crate) struct Watcher {
    project: String,
    begun: Instant,
    over: Arc<AtomicBool>,
    monitor: Child,
    events: JoinHandle<Vec<(Instant, Value)>>,
    machines: Vec<(String, JoinHandle<Looked>)>,
}

impl Watcher {
    pub(crate) fn start(run: &Workspace, project: &str, names: &[&str]) -> Self {
        let mut monitor = run.incus().monitor();
        let lines = BufReader::new(monitor.stdout.take().unwrap()).lines();
        let (over, announced) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let announces = run.incus().announces_agents();
        let (heard, of) = (Arc::clone(&announced), project.to_owned());
        let events = thread::spawn(move || {
            let mut events = Vec::new();
            for line in lines.map_while(Result::ok) {
                let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
                if event["metadata"]["action"] == AGENT && event["project"] == of {
                    heard.lock().unwrap().push(machine_of(&event));
                }
                events.push((Instant::now(), event));
            }
            events
        });
        let pause = match (announces, names.len() > 1 && run.is_emulated()) {
            (true, true) => LOOK_UP_EMULATED,
            (true, false) => LOOK_UP,
            (false, _) => LOOK,
        };
        let machines = names.iter().map(|name| {
            let (socket, over, announced) = (run.socket(), Arc::clone(&over), Arc::clone(&announced));
            let (project, machine) = (project.to_owned(), (*name).to_owned());
            let looking = thread::spawn(move || {
                let client = Client::new(Endpoint::Unix(socket));
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                while announces && !over.load(Ordering::Relaxed) && !announced.lock().unwrap().contains(&machine) {
                    thread::sleep(Duration::from_millis(5));
                }
                runtime.block_on(look(&client, &project, &machine, &over, pause))
            });
            ((*name).to_owned(), looking)
        });
        let machines = machines.collect();
        Self { project: project.to_owned(), begun: Instant::now(), over, monitor, events, machines }
    }

    /// What was seen, in the order of the names; fails the test where one never answered.
    pub(crate) fn end(mut self) -> (Vec<Seen>, Events) {
        // The provider may have seen first what is announced only now.
        let patience = Instant::now() + PATIENCE;
        while self.machines.iter().any(|(_, looking)| !looking.is_finished()) && Instant::now() < patience {
            thread::sleep(Duration::from_millis(50));
        }
        self.over.store(true, Ordering::Relaxed);
        self.monitor.kill().unwrap();
        self.monitor.wait().unwrap();
        let events = Events { project: self.project, heard: self.events.join().unwrap() };
        let seen = self.machines.into_iter().map(|(name, looking)| {
            let Looked { answers, address } = looking.join().unwrap();
            Seen {
                begun: self.begun,
                started: events
                    .first(&name, "instance-started")
                    .unwrap_or_else(|| panic!("{name} was not started: {events:?}")),
                agent_event: events.first(&name, AGENT),
                answers: answers.unwrap_or_else(|| panic!("the agent of {name} was never seen to answer")),
                address: address.unwrap_or_else(|| panic!("{name} was never seen with an address")),
                name,
            }
        });
        (seen.collect(), events)
    }
}

/// The name in an event about an instance.
fn machine_of(event: &Value) -> String {
    let path = event["metadata"]["source"].as_str().unwrap_or_default().split('?').next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

async fn look(client: &Client, project: &str, name: &str, over: &AtomicBool, pause: Duration) -> Looked {
    let mut looked = Looked::default();
    while !over.load(Ordering::Relaxed) && (looked.answers.is_none() || looked.address.is_none()) {
        if let Ok(state) = client.get::<instance::State>(instance::state(project, name)).await {
            let state = state.value;
            if state.processes > 0 {
                looked.answers.get_or_insert_with(Instant::now);
            }
            let mut addresses = state.network.values().flat_map(|nic| &nic.addresses);
            if addresses.any(|one| one.family == "inet" && one.scope == "global") {
                looked.address.get_or_insert_with(Instant::now);
            }
        }
        tokio::time::sleep(pause).await;
    }
    looked
}
