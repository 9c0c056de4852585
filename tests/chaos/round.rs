//! One round: a change that something interrupts, then the same configuration until it stands, then nothing is left.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::cli::{APPLY, Client, Workspace};
use crate::control::{Control, Step};
use crate::fault::{self, At, Draw, Fault, Next, Who};
use crate::lab::Lab;
use crate::picture::{self, Picture};
use crate::scene::Phase;
use crate::stranger::{Place, Stranger};
use crate::{nft, proxy};

/// The longest that any run of the client may take.
const LIMIT: Duration = Duration::from_secs(120);
/// The longest that a client takes to end after Ctrl-C.
const INTERRUPTED: Duration = Duration::from_secs(20);
/// The longest that a provider outlives its client.
const ORPHAN: Duration = Duration::from_secs(20);
/// How often the unchanged configuration may be applied after the interruption.
const APPLIES: usize = 2;
/// The summary of a replacement that `create_before_destroy` makes impossible.
const REFUSED: &str = "Nothing was replaced";
/// The kind of a write that followed a look before the stranger came.
const RACED: &str = "a write raced with the arrival of a stranger";
/// The summary of a create that found its object.
const CONTINUED: &str = "Continued an interrupted create";
/// Each of these words of an error reports that a stranger is in the way.
const IN_THE_WAY: [&str; 4] = ["already in use", "exists already", "replaced outside Terraform", "is not empty"];
const DESTROY: &[&str] = &["destroy", "-auto-approve", "-input=false", "-no-color"];

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
    /// The same configuration, applied from nothing.
    anew: Picture,
}

/// Clean runs by phase.
pub(crate) type Cleans = BTreeMap<Phase, Clean>;

/// What one round was.
pub(crate) struct Round {
    pub(crate) phase: Phase,
    pub(crate) draw: Draw,
    pub(crate) fired: bool,
    /// The report of the stranger.
    pub(crate) stranger: Option<String>,
    /// The kinds of everything that happened.
    pub(crate) kinds: Vec<String>,
    /// How many applies of the unchanged configuration it took.
    pub(crate) applies: usize,
    /// Why it failed, with the whole output.
    pub(crate) failure: Option<String>,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Draw { at, fault, next, between, again, .. } = &self.draw;
        write!(f, "{:?}, {fault:?} at {at}", self.phase)?;
        if !self.fired {
            f.write_str(" (not reached)")?;
        }
        if *next == Next::Destroy {
            f.write_str(", then destroy")?;
        }
        if between.is_some() {
            f.write_str(", then a stranger")?;
        }
        if let Some(stranger) = &self.stranger {
            write!(f, " ({stranger})")?;
        }
        if let Some((at, fault)) = again {
            write!(f, ", then {fault:?} at {at}")?;
        }
        Ok(())
    }
}

/// How a run of the client ended.
struct Ended {
    succeeded: bool,
    took: Duration,
    text: String,
}

impl Ended {
    /// Whether its output contains this, frames and line breaks aside.
    fn says(&self, words: &str) -> bool {
        let words_of_it = self.text.split_whitespace().filter(|word| !["│", "╷", "╵"].contains(word));
        words_of_it.collect::<Vec<_>>().join(" ").contains(words)
    }
}

impl Stage {
    /// Puts a proxy before `lab`, and the files that are uploaded beside its workspaces.
    pub(crate) fn new(lab: Arc<Lab>, client: Arc<Client>) -> Self {
        let control = Arc::new(Control::new(Arc::downgrade(&lab)));
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
        fs::write(picture::of_volume(&stage.lab, "default", "default_saved"), "saved").unwrap();
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

    fn play(&self) -> Play<'_> {
        *self.control.stranger() = None;
        Play { stage: self, run: self.workspace(), log: String::new(), has_continued: false }
    }

    /// What each phase does when nothing interrupts it.
    pub(crate) fn clean(&self, phase: Phase) -> Result<Clean, String> {
        let mut play = self.play();
        play.clean(phase).map_err(|reason| format!("{}\n{reason}", play.log))
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
        let draw = match seed / count as u64 {
            0 => fault::first(&mut dice, seed, step, *nth),
            _ => fault::later(&mut dice, phase, step, *nth),
        };
        let mut round =
            Round { phase, draw, fired: false, stranger: None, kinds: Vec::new(), applies: 0, failure: None };
        let mut play = self.play();
        if let Err(reason) = play.through(&mut round, &cleans[&phase]) {
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
    /// Whether a create continued an interrupted one since the configuration changed last.
    has_continued: bool,
}

impl Play<'_> {
    fn clean(&mut self, phase: Phase) -> Result<Clean, String> {
        self.begin(phase)?;
        self.stage.control.arm(None);
        let ended = self.client(APPLY, None)?;
        let mut steps = self.stage.control.outcome().1;
        steps.sort();
        match phase {
            Phase::Swap => {
                if ended.succeeded || !ended.says(REFUSED) {
                    return Err(format!("the replacement was not refused by \"{REFUSED}\""));
                }
                self.texts_are_kept()?;
                self.advise(phase, 2);
                self.succeed("apply without create_before_destroy", APPLY)?;
            }
            _ if !ended.succeeded => return Err("apply failed".to_owned()),
            _ => {}
        }
        // A refused replacement continues what it keeps, before the advice is followed.
        if self.has_continued {
            return Err("nothing was interrupted".to_owned());
        }
        self.plan_is_empty()?;
        let picture = picture::take(&self.stage.lab);
        let mut anew = picture.clone();
        if phase == Phase::Update {
            self.succeed("destroy", DESTROY)?;
            self.succeed("apply from nothing", APPLY)?;
            anew = picture::take(&self.stage.lab);
        }
        self.finish()?;
        Ok(Clean { steps, picture, anew })
    }

    fn through(&mut self, round: &mut Round, clean: &Clean) -> Result<(), String> {
        let (phase, draw) = (round.phase, round.draw.clone());
        self.begin(phase)?;
        let file = self.run.dir().join("terraform.tfstate");
        let before = fs::read(&file).ok();
        round.fired = self.disturbed(phase, &draw.at, draw.fault)?;
        if draw.fault == Fault::RollBack {
            round.fired = true;
            match before {
                Some(bytes) => fs::write(&file, bytes),
                None => fs::remove_file(&file),
            }
            .unwrap();
        }
        if round.fired && !matches!(draw.fault, Fault::Stranger(..)) {
            round.kinds.push(draw.fault.kind());
            if draw.is_at_once() {
                round.kinds.push(format!("Ctrl-C, then {:?} at once", draw.next));
            }
        }
        match draw.next {
            Next::Wait => self.alone()?,
            Next::Apply => {}
            Next::Destroy => {
                self.succeed("the destroy right after it", DESTROY)?;
                self.nothing_is_left()?;
            }
        }
        if let Some(roll) = draw.between {
            self.stage.control.intrude(phase, Place::Between, roll);
            self.log += &format!("{:?}\n", self.stage.control.stranger().as_ref().map(Stranger::report));
        }
        round.stranger = self.stage.control.stranger().as_ref().map(Stranger::report);
        round.kinds.extend(self.stage.control.stranger().iter().map(Stranger::kind));
        let is_visited = self.stage.control.stranger().is_some();
        if draw.insists && !is_visited && draw.next != Next::Destroy && phase == Phase::Swap {
            self.insist()?;
        }
        self.advise(phase, 2);
        if let Some((at, fault)) = &draw.again
            && self.disturbed(phase, at, *fault)?
        {
            round.kinds.push(fault.kind());
        }
        if is_visited {
            self.beside_the_stranger(round, draw.beside)?;
        }
        loop {
            round.applies += 1;
            if self.client(APPLY, None)?.succeeded {
                break;
            }
            if draw.is_at_once() && draw.again.is_none() && !is_visited {
                return Err("the apply right after Ctrl-C failed".to_owned());
            }
            if round.applies == APPLIES {
                return Err(format!("not applied after {APPLIES} times"));
            }
        }
        self.alone()?;
        // A create that continues an interrupted one replaces nothing, and a killed client does not report it: the operator
        // replaces again.
        if phase == Phase::Swap && (self.has_continued || draw.again.is_some()) {
            self.advise(phase, 3);
            self.succeed("the next replacement", APPLY)?;
            if self.has_continued {
                return Err("the next replacement replaced nothing".to_owned());
            }
        }
        self.plan_is_empty()?;
        self.is_as(clean, draw.next == Next::Destroy)?;
        self.finish()
    }

    /// Compares the objects with those of an uninterrupted change.
    fn is_as(&self, clean: &Clean, is_from_nothing: bool) -> Result<(), String> {
        let stranger = self.stage.control.stranger();
        let is_lost = |url: &str| is_from_nothing || stranger.as_ref().is_some_and(|stranger| stranger.spoils(url));
        let (mut found, mut anew) = (picture::take(&self.stage.lab), clean.anew.clone());
        let mut wanted = if is_from_nothing { anew.clone() } else { clean.picture.clone() };
        for picture in [&mut found, &mut anew, &mut wanted] {
            picture::forget_texts(picture, is_lost);
        }
        for (url, value) in anew.into_iter().filter(|(url, _)| is_lost(url)) {
            if found.get(&url) == Some(&value) {
                wanted.insert(url, value);
            }
        }
        let different = picture::differences(&wanted, &found);
        if different.is_empty() { Ok(()) } else { Err(different.join("\n")) }
    }

    /// Follows the advice of a refused replacement: `create_before_destroy` goes, and the replacement is triggered again.
    fn advise(&mut self, phase: Phase, turn: u8) {
        self.has_continued = false;
        self.stage.configure(&self.run, &phase.advised(&self.stage.fingerprint, turn));
    }

    /// Applies a refused replacement until it succeeds: the objects are kept.
    fn insist(&mut self) -> Result<(), String> {
        // One run may fail after the interruption, and one is refused.
        for _ in 0..3 {
            if self.client(APPLY, None)?.succeeded {
                return Ok(());
            }
        }
        Err("a replacement with create_before_destroy never ends".to_owned())
    }

    /// Applies while a stranger has a name of the configuration and stays unharmed; then deletes the stranger.
    fn beside_the_stranger(&mut self, round: &mut Round, applies: usize) -> Result<(), String> {
        self.is_unharmed(round)?;
        let has_come = self.stage.control.stranger().as_ref().is_some_and(Stranger::has_come);
        for _ in 0..if has_come { applies } else { 0 } {
            let ended = self.client(APPLY, None)?;
            self.is_unharmed(round)?;
            if !ended.succeeded && !IN_THE_WAY.iter().any(|words| ended.says(words)) {
                return Err("no error says that a stranger is in the way".to_owned());
            }
        }
        let stranger = self.stage.control.stranger();
        stranger.as_ref().map_or(Ok(()), |stranger| stranger.leave(&self.stage.lab))
    }

    /// Fails if the provider changed the stranger; a write that raced with its arrival is counted.
    fn is_unharmed(&mut self, round: &mut Round) -> Result<(), String> {
        let mut stranger = self.stage.control.stranger();
        let raced = stranger.as_mut().map_or(Ok(None), |stranger| stranger.is_unharmed(&self.stage.lab))?;
        if let Some(raced) = raced {
            self.log += &format!("{raced} raced with the arrival of the stranger\n");
            round.stranger.get_or_insert_default().push_str(&format!(", raced with {raced}"));
            round.kinds.push(RACED.to_owned());
        }
        Ok(())
    }

    /// Fails if a text of [`Self::begin`] is lost.
    fn texts_are_kept(&self) -> Result<(), String> {
        let lost = |file: &PathBuf| fs::read_to_string(file).map_or(true, |text| text != "written");
        match picture::texts(&self.stage.lab).iter().find(|file| lost(file)) {
            Some(file) => Err(format!("{} was lost", file.display())),
            None => Ok(()),
        }
    }

    /// Applies while something happens; whether it did.
    fn disturbed(&mut self, phase: Phase, at: &At, fault: Fault) -> Result<bool, String> {
        let control = &self.stage.control;
        control.arm(Some((at.clone(), fault)));
        let timer = match (at, fault) {
            (At::Time(ms), Fault::End(who, _)) => Some((Duration::from_millis(*ms), who)),
            _ => None,
        };
        let ended = self.client(APPLY, timer);
        let is_settled = control.is_settled();
        let (fired, steps) = control.outcome();
        control.arm(None);
        self.log += &format!("{fault:?} at {at}: {fired}; steps: {steps:?}\n");
        if matches!(fault, Fault::Stranger(..)) {
            self.log += &format!("{}\n", control.stranger().as_ref().map(Stranger::report).unwrap_or_default());
        }
        let ended = ended?;
        if !is_settled {
            return Err("Incus does not answer the stranger".to_owned());
        }
        if matches!(fault, Fault::End(who, _) if who.is_asked()) && fired && ended.took > INTERRUPTED {
            return Err(format!("after a signal to the group the client took {:?}", ended.took));
        }
        let is_expected = if phase == Phase::Swap { ended.says(REFUSED) } else { ended.succeeded };
        if fault == Fault::RollBack && !is_expected {
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
            for text in picture::texts(&self.stage.lab) {
                fs::write(text, "written").unwrap();
            }
        }
        self.stage.configure(&self.run, &phase.after(&self.stage.fingerprint));
        Ok(())
    }

    /// Destroys everything, and looks whether anything is left.
    fn finish(&mut self) -> Result<(), String> {
        self.succeed("destroy", DESTROY)?;
        self.nothing_is_left()?;
        fs::remove_dir_all(self.run.dir()).map_err(|error| error.to_string())
    }

    fn nothing_is_left(&self) -> Result<(), String> {
        let left = self.run.leftovers();
        if left.is_empty() { Ok(()) } else { Err(format!("left behind: {}", left.join(", "))) }
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
            Some(status) => {
                let ended = Ended { succeeded: status.success(), took, text };
                self.has_continued |= ended.says(CONTINUED);
                Ok(ended)
            }
            None => Err(format!("{} took longer than {LIMIT:?}", arguments[0])),
        }
    }
}
