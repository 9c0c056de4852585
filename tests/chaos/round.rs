//! One round: a change that something interrupts, then the same configuration until it stands, then nothing is left.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::cli::{APPLY, Client, Workspace};
use crate::control::{Control, Step};
use crate::fault::{self, At, Fault, Who};
use crate::lab::Lab;
use crate::picture::{self, Picture};
use crate::scene::Phase;
use crate::{nft, proxy};

/// The longest that any run of the client may take.
const LIMIT: Duration = Duration::from_secs(120);
/// The longest that a client takes to end after Ctrl-C.
const INTERRUPTED: Duration = Duration::from_secs(20);
/// The longest that a provider outlives its client.
const ORPHAN: Duration = Duration::from_secs(20);
/// How often the unchanged configuration may be applied after the interruption.
const APPLIES: usize = 2;

/// One Incus with a proxy before it, which every round uses.
pub(crate) struct Stage {
    lab: Arc<Lab>,
    client: Arc<Client>,
    control: Arc<Control>,
    socket: PathBuf,
    path: String,
    fingerprint: String,
}

/// What an uninterrupted change does, and where it ends.
pub(crate) struct Clean {
    /// Its writes, sorted.
    pub(crate) steps: Vec<Step>,
    picture: Picture,
}

/// Clean runs by phase.
pub(crate) type Cleans = BTreeMap<Phase, Clean>;

/// What one round was.
pub(crate) struct Round {
    pub(crate) phase: Phase,
    pub(crate) at: At,
    pub(crate) fault: Fault,
    /// What happens in the next apply, too.
    pub(crate) again: Option<(At, Fault)>,
    pub(crate) fired: bool,
    /// How many applies of the unchanged configuration it took.
    pub(crate) applies: usize,
    /// Why it failed, with the whole output.
    pub(crate) failure: Option<String>,
}

impl Round {
    /// What more there is to say of its fault.
    pub(crate) fn but(&self) -> String {
        let reached = if self.fired { "" } else { " (not reached)" };
        let again = self.again.as_ref().map(|(at, fault)| format!(", then {fault:?} at {at}")).unwrap_or_default();
        format!("{reached}{again}")
    }
}

/// How a run of the client ended.
struct Ended {
    succeeded: bool,
    took: Duration,
}

impl Stage {
    /// Puts a proxy before `lab`, and the files that are uploaded beside its workspaces.
    pub(crate) fn new(lab: Arc<Lab>, client: Arc<Client>) -> Self {
        let control = Arc::new(Control::default());
        let work = lab.dir().join("work");
        fs::create_dir_all(&work).unwrap();
        let socket = work.join("proxy.socket");
        proxy::open(&socket, &lab, Arc::clone(&control)).unwrap();
        let nft = nft::put(work.join("bin"), Arc::clone(&control));
        let path = format!("{}:{}", nft.display(), std::env::var("PATH").unwrap_or_default());
        let stage = Self { lab, client, control, socket, path, fingerprint: String::new() };
        let run = stage.workspace();
        let incus = run.incus();
        let file = work.join("saved.tar.gz");
        if !incus.list("/1.0/storage-pools").iter().any(|pool| pool.ends_with("/second")) {
            incus.run(&["storage", "create", "second", "dir", "-q"]);
        }
        incus.run(&["storage", "volume", "create", "default", "saved", "size=16MiB", "-q"]);
        fs::write(picture::of_volume(&run, "default", "default_saved"), "saved").unwrap();
        incus.run(&["storage", "volume", "export", "default", "saved", file.to_str().unwrap(), "-q"]);
        incus.run(&["storage", "volume", "delete", "default", "saved", "-q"]);
        fs::write(work.join("cd.iso"), vec![7; 256 << 10]).unwrap();
        let image = incus.query("/1.0/images/aliases/busybox")["target"].as_str().unwrap().to_owned();
        Self { fingerprint: image, ..stage }
    }

    fn workspace(&self) -> Workspace {
        let run = Workspace::new(Arc::clone(&self.lab), Arc::clone(&self.client));
        run.set("PATH", &self.path);
        run
    }

    fn configure(&self, run: &Workspace, hcl: &str) {
        run.configure_provider(&format!("  address = \"unix://{}\"\n", self.socket.display()), hcl);
    }

    /// What each phase does when nothing interrupts it.
    pub(crate) fn clean(&self, phase: Phase) -> Result<Clean, String> {
        let mut play = Play { stage: self, run: self.workspace(), log: String::new() };
        play.begin(phase)?;
        self.control.arm(None);
        play.succeed("apply", APPLY)?;
        let mut steps = self.control.outcome().1;
        steps.sort();
        play.plan_is_empty()?;
        let picture = picture::take(&play.run);
        play.finish()?;
        // A replacement that comes first goes on with what it replaces.
        if phase != Phase::Swap && play.log.contains("Continued an interrupted") {
            return Err(format!("{}\nnothing was interrupted", play.log));
        }
        Ok(Clean { steps, picture })
    }

    /// The round of `seed`; it depends on nothing else. The first seeds go through all steps, one after the other.
    pub(crate) fn round(&self, cleans: &Cleans, seed: u64) -> Round {
        let mut dice = StdRng::seed_from_u64(seed);
        let all: Vec<_> =
            cleans.iter().flat_map(|(phase, clean)| clean.steps.iter().map(move |step| (*phase, step))).collect();
        let count = all.len();
        // Neighbouring seeds are far apart, so that few rounds see every phase.
        let stride = (count * 2 / 5..).find(|stride| gcd(*stride, count) == 1).unwrap();
        let index = usize::try_from(seed % count as u64).unwrap();
        let (phase, (step, nth)) = all[index * stride % count];
        let (at, fault) = match seed / count as u64 {
            0 => (At::Write(step.clone(), *nth), fault::interruption(&mut dice, step)),
            _ => fault::any(&mut dice, step, *nth),
        };
        let again = (seed >= count as u64 && dice.random_bool(0.25)).then(|| fault::any(&mut dice, step, *nth));
        let again = again.filter(|(_, fault)| *fault != Fault::RollBack);
        let mut round = Round { phase, at, fault, again, fired: false, applies: 0, failure: None };
        let mut play = Play { stage: self, run: self.workspace(), log: String::new() };
        if let Err(reason) = play.through(&mut round, &cleans[&phase], &mut dice) {
            round.failure = Some(format!("{}\n{reason}\n", play.log));
        }
        round
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A round that is being played.
struct Play<'s> {
    stage: &'s Stage,
    run: Workspace,
    log: String,
}

impl Play<'_> {
    fn through(&mut self, round: &mut Round, clean: &Clean, dice: &mut StdRng) -> Result<(), String> {
        self.begin(round.phase)?;
        let file = self.run.dir().join("terraform.tfstate");
        let before = fs::read(&file).ok();
        round.fired = self.disturbed(&round.at, round.fault)?;
        if round.fault == Fault::RollBack {
            round.fired = true;
            match before {
                Some(bytes) => fs::write(&file, bytes),
                None => fs::remove_file(&file),
            }
            .unwrap();
        }
        // Half of the users wait until nothing of the first apply runs any more.
        if dice.random_bool(0.5) {
            self.alone()?;
        }
        if let Some((at, fault)) = &round.again {
            self.disturbed(at, *fault)?;
        }
        loop {
            round.applies += 1;
            if self.client(APPLY, None)?.succeeded {
                break;
            }
            if round.applies == APPLIES {
                return Err(format!("not applied after {APPLIES} times"));
            }
        }
        self.alone()?;
        self.plan_is_empty()?;
        let different = picture::differences(&clean.picture, &picture::take(&self.run));
        if !different.is_empty() {
            return Err(different.join("\n"));
        }
        self.finish()
    }

    /// Applies while something happens; whether it did.
    fn disturbed(&mut self, at: &At, fault: Fault) -> Result<bool, String> {
        let control = &self.stage.control;
        control.arm(Some((at.clone(), fault)));
        let timer = match (at, fault) {
            (At::Time(ms), Fault::End(who, _)) => Some((Duration::from_millis(*ms), who)),
            _ => None,
        };
        let ended = self.client(APPLY, timer);
        let (fired, steps) = control.outcome();
        control.arm(None);
        self.log += &format!("{fault:?} at {at}: {fired}; steps: {steps:?}\n");
        let ended = ended?;
        if matches!(fault, Fault::End(Who::Interrupted, _)) && fired && ended.took > INTERRUPTED {
            return Err(format!("after Ctrl-C the client took {:?}", ended.took));
        }
        if fault == Fault::RollBack && !ended.succeeded {
            return Err("an apply that nothing interrupted failed".to_owned());
        }
        Ok(fired)
    }

    /// Brings everything to where the change starts.
    fn begin(&mut self, phase: Phase) -> Result<(), String> {
        if let Some(before) = phase.before(&self.stage.fingerprint) {
            self.stage.configure(&self.run, &before);
            self.stage.control.arm(None);
            self.succeed("the first apply", APPLY)?;
            // What they hold has to be there afterwards, unless they are made anew.
            for text in picture::texts(&self.run) {
                fs::write(text, "written").unwrap();
            }
        }
        self.stage.configure(&self.run, &phase.after(&self.stage.fingerprint));
        Ok(())
    }

    /// Destroys everything, and looks whether anything is left.
    fn finish(&mut self) -> Result<(), String> {
        self.succeed("destroy", &["destroy", "-auto-approve", "-input=false", "-no-color"])?;
        let left = self.run.leftovers();
        if !left.is_empty() {
            return Err(format!("left behind: {}", left.join(", ")));
        }
        fs::remove_dir_all(self.run.dir()).map_err(|error| error.to_string())
    }

    fn succeed(&mut self, what: &str, arguments: &[&str]) -> Result<(), String> {
        if self.client(arguments, None)?.succeeded { Ok(()) } else { Err(format!("{what} failed")) }
    }

    fn plan_is_empty(&mut self) -> Result<(), String> {
        self.succeed("an empty plan", &["plan", "-detailed-exitcode", "-input=false", "-no-color"])
    }

    /// Waits until no process of the client or the provider runs in this directory.
    fn alone(&self) -> Result<(), String> {
        let begun = Instant::now();
        while !self.run.processes().is_empty() {
            if begun.elapsed() > ORPHAN {
                return Err(format!("still running: {:?}", self.run.processes()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Runs the client; after a time it, or its provider, may be ended.
    fn client(&mut self, arguments: &[&str], timer: Option<(Duration, Who)>) -> Result<Ended, String> {
        let file = self.run.dir().join("client.log");
        let output = fs::File::create(&file).unwrap();
        let mut command = self.run.command(arguments);
        let streams = (output.try_clone().unwrap(), output);
        let mut child =
            command.process_group(0).stdin(Stdio::null()).stdout(streams.0).stderr(streams.1).spawn().unwrap();
        let pid = Pid::from_child(&child);
        self.stage.control.client(pid);
        let begun = Instant::now();
        let mut timer = timer;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if let Some((_, who)) = timer.take_if(|(after, _)| begun.elapsed() >= *after) {
                self.stage.control.end_now(who);
            }
            if begun.elapsed() > LIMIT {
                // It is our own group.
                let _ = kill_process_group(pid, Signal::KILL);
                child.wait().unwrap();
                break None;
            }
            thread::sleep(Duration::from_millis(10));
        };
        let took = begun.elapsed();
        let text = fs::read_to_string(&file).unwrap_or_default();
        self.log += &format!("$ {} ({took:.1?}, {status:?})\n{text}\n", arguments[0]);
        match status {
            Some(status) => Ok(Ended { succeeded: status.success(), took }),
            None => Err(format!("{} took longer than {LIMIT:?}", arguments[0])),
        }
    }
}
