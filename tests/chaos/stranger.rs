//! A stranger: an object without marks that an operator creates with the `incus` command under a name of the scene.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::Message;
use crate::incus::Incus;
use crate::lab::Lab;
use crate::picture;
use crate::scene::{DOMAIN, Phase};

/// The longest that the operator tries to take a name: Incus may still be creating the object that has it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest between a look of the provider and the write that follows: Incus has no conditional DELETE, rename or
/// change of state, so that a stranger who comes in between cannot be spared.
const RACE: Duration = Duration::from_millis(500);
/// The mark of a stranger: description, content and the value of [`KEY`].
const THEIRS: &str = "theirs";
const KEY: &str = "user.whose=theirs";
/// Its ISO is smaller than that of the scene.
const ISO_BYTES: usize = 64 << 10;

/// A name that a stranger can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Instance(&'static str),
    Volume {
        pool: &'static str,
        name: &'static str,
    },
    /// A volume of the pool `default`.
    Iso(&'static str),
    Profile(&'static str),
    /// The project of the domain.
    Project,
    /// The bridge of the domain.
    Bridge,
}

/// When a name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// At a step of an apply.
    Step,
    /// Between two applies.
    Between,
}

impl Subject {
    /// Its kind, as the tally lists it.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Instance(_) => "instance",
            Self::Volume { .. } => "volume",
            Self::Iso(_) => "ISO",
            Self::Profile(_) => "profile",
            Self::Project | Self::Bridge => "domain",
        }
    }

    /// Its path in the API of Incus.
    fn path(self) -> String {
        let volume = |pool: &str, name: &str| format!("/1.0/storage-pools/{pool}/volumes/custom/{name}");
        match self {
            Self::Instance(name) => format!("/1.0/instances/{name}"),
            Self::Volume { pool, name } => volume(pool, name),
            Self::Iso(name) => volume("default", name),
            Self::Profile(name) => format!("/1.0/profiles/{name}"),
            Self::Project => format!("/1.0/projects/{DOMAIN}"),
            Self::Bridge => format!("/1.0/networks/net-{DOMAIN}"),
        }
    }

    fn find(self, incus: &Incus<'_>) -> Option<Value> {
        match self {
            Self::Project | Self::Bridge => incus.find(&self.path()),
            _ => incus.find(&format!("{}?project={DOMAIN}", self.path())),
        }
    }

    /// The object without the fields that change by themselves, with its content and its process.
    fn look(self, lab: &Lab) -> Value {
        let incus = Incus::new(lab);
        let Some(mut seen) = self.find(&incus) else { return Value::Null };
        let content = self.content(lab, &seen).and_then(|file| fs::read(file).ok());
        let Some(object) = seen.as_object_mut() else { return seen };
        for computed in ["used_by", "expanded_config", "expanded_devices"] {
            object.remove(computed);
        }
        if let Some(config) = object.get_mut("config").and_then(Value::as_object_mut) {
            config.retain(|key, _| !key.starts_with("volatile.") || key == "volatile.uuid");
        }
        match self {
            Self::Instance(name) => {
                let state = incus.find(&format!("/1.0/instances/{name}/state?project={DOMAIN}"));
                object.insert("pid".to_owned(), state.map_or(Value::Null, |mut state| state["pid"].take()));
            }
            Self::Project => {
                let profile = incus.profile(DOMAIN, "default").map_or(Value::Null, |mut profile| {
                    profile["used_by"].take();
                    profile
                });
                object.insert("default profile".to_owned(), profile);
            }
            _ => {}
        }
        object.insert("content".to_owned(), content.map_or(Value::Null, |bytes| summary(&bytes).into()));
        seen
    }

    /// The file that holds its content.
    fn content(self, lab: &Lab, object: &Value) -> Option<PathBuf> {
        match self {
            Self::Iso(name) => {
                Some(lab.dir().join(format!("incus/storage-pools/default/custom/{DOMAIN}_{name}.iso/root.img")))
            }
            Self::Instance(_) | Self::Volume { .. } => picture::text(lab, &self.path(), object),
            Self::Profile(_) | Self::Project | Self::Bridge => None,
        }
    }

    /// Deletes the object, whoever created it, after detaching it from its users.
    fn delete(self, incus: &Incus<'_>) -> Result<(), String> {
        let Some(found) = self.find(incus) else { return Ok(()) };
        let project = ["--project", DOMAIN];
        let run = |arguments: &[&str]| incus.try_run(arguments).map(drop);
        let within = |arguments: &[&str]| run(&[arguments, &project].concat());
        let users =
            || found["used_by"].as_array().into_iter().flatten().filter_map(Value::as_str).filter_map(instance_of);
        match self {
            Self::Instance(name) => {
                // It fails where the key is not set.
                let _ = within(&["config", "unset", name, "security.protection.delete"]);
                within(&["delete", name, "--force"])
            }
            Self::Volume { pool, name } => {
                for user in users() {
                    for device in disks(incus, user, pool, name) {
                        within(&["config", "device", "remove", user, &device])?;
                    }
                }
                within(&["storage", "volume", "delete", pool, name])
            }
            Self::Iso(name) => within(&["storage", "volume", "delete", "default", name]),
            Self::Profile(name) => {
                for user in users() {
                    within(&["profile", "remove", user, name])?;
                }
                within(&["profile", "delete", name])
            }
            Self::Project => run(&["project", "delete", DOMAIN]),
            Self::Bridge => run(&["network", "delete", &format!("net-{DOMAIN}")]),
        }
    }

    /// Creates the object of the stranger.
    fn create(self, lab: &Lab, is_running: bool) -> Result<(), String> {
        let incus = Incus::new(lab);
        let project = ["--project", DOMAIN];
        let run = |arguments: &[&str]| incus.try_run(arguments).map(drop);
        let within = |arguments: &[&str]| run(&[arguments, &project].concat());
        match self {
            Self::Instance(name) => {
                within(&["create", "busybox", name, "--no-profiles", "-s", "default", "-c", KEY, "-q"])?;
                if is_running {
                    within(&["start", name])?;
                }
            }
            Self::Volume { pool, name } => {
                within(&["storage", "volume", "create", pool, name, "size=16MiB", KEY, "-q"])?
            }
            Self::Iso(name) => {
                let file = lab.dir().join("work/their.iso");
                fs::write(&file, vec![9; ISO_BYTES]).map_err(|error| error.to_string())?;
                within(&["storage", "volume", "import", "default", file.to_str().unwrap(), name, "--type=iso", "-q"])?;
                let described = format!("description={THEIRS}");
                within(&["storage", "volume", "set", "default", name, "--property", &described])?;
            }
            Self::Profile(name) => {
                within(&["profile", "create", name, "-q"])?;
                within(&["profile", "set", name, KEY, "limits.memory=80MiB"])?;
            }
            Self::Project => run(&["project", "create", DOMAIN, "-c", "features.images=false", "-c", KEY, "-q"])?,
            Self::Bridge => {
                let bridge = format!("net-{DOMAIN}");
                run(&["network", "create", &bridge, "ipv4.address=none", "ipv6.address=none", KEY, "-q"])?;
            }
        }
        let written = self.find(&incus).and_then(|found| picture::text(lab, &self.path(), &found));
        written.map_or(Ok(()), |file| fs::write(file, THEIRS).map_err(|error| error.to_string()))
    }

    /// Whether a stranger has the name.
    fn is_theirs(self, incus: &Incus<'_>) -> bool {
        let is_marked = |found: Value| found["config"]["user.whose"] == THEIRS || found["description"] == THEIRS;
        self.find(incus).is_some_and(is_marked)
    }
}

/// The disks of an instance that are this volume.
fn disks(incus: &Incus<'_>, instance: &str, pool: &str, volume: &str) -> Vec<String> {
    let found = incus.instance(DOMAIN, instance).unwrap_or_default();
    let devices = found["devices"].as_object().cloned().unwrap_or_default();
    let is_it = |device: &Value| device["pool"] == pool && device["source"] == volume;
    devices.into_iter().filter(|(_, device)| is_it(device)).map(|(name, _)| name).collect()
}

/// The name of the instance at a path of `used_by`.
fn instance_of(path: &str) -> Option<&str> {
    path.strip_prefix("/1.0/instances/")?.split('?').next()
}

/// A few bytes as they are; of many, their number and the one that they all are.
fn summary(bytes: &[u8]) -> String {
    match bytes {
        [first, ..] if bytes.len() > 100 && bytes.iter().all(|byte| byte == first) => {
            format!("{} bytes of {first}", bytes.len())
        }
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// The names that a stranger took, and its objects.
#[derive(Debug)]
pub(crate) struct Stranger {
    place: Place,
    phase: Phase,
    subjects: Vec<Subject>,
    is_running: bool,
    /// Its objects as they were created, one per subject; or the reason why it took no name.
    seen: Result<Vec<Value>, String>,
    since: Instant,
    has_been_looked_at: bool,
    /// Unconditional writes that followed a look before the stranger came.
    raced: Vec<String>,
}

impl Stranger {
    /// Takes a name of `phase` that can be taken now; `roll` chooses it.
    pub(crate) fn take(lab: &Lab, phase: Phase, place: Place, roll: u32) -> Self {
        let subjects = choose(&Incus::new(lab), phase, place, roll);
        let mut stranger = Self {
            place,
            phase,
            subjects,
            is_running: roll & 0x8000 != 0,
            seen: Err(String::new()),
            since: Instant::now(),
            has_been_looked_at: false,
            raced: Vec::new(),
        };
        stranger.settle(lab);
        stranger
    }

    /// Creates its objects in place of whatever has the names.
    fn settle(&mut self, lab: &Lab) {
        let incus = Incus::new(lab);
        let begun = Instant::now();
        self.seen = loop {
            let taken = self
                .subjects
                .iter()
                .try_for_each(|subject| subject.delete(&incus))
                .and_then(|()| self.subjects.iter().try_for_each(|subject| subject.create(lab, self.is_running)));
            match taken {
                Ok(()) => break Ok(self.look(lab)),
                Err(reason) if begun.elapsed() > PATIENCE => break Err(reason),
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        };
        self.since = Instant::now();
    }

    fn look(&self, lab: &Lab) -> Vec<Value> {
        self.subjects.iter().map(|subject| subject.look(lab)).collect()
    }

    /// Whether it has a name.
    pub(crate) fn has_come(&self) -> bool {
        self.seen.is_ok()
    }

    /// The kind of object and of moment, as the tally lists it.
    pub(crate) fn kind(&self) -> String {
        let place = if self.place == Place::Step { "at a step" } else { "between two applies" };
        match self.subjects.first().filter(|_| self.has_come()) {
            Some(subject) => format!("stranger {place}: {}", subject.kind()),
            None => format!("no name for a stranger {place}"),
        }
    }

    /// The names that it took, or the reason why it took none.
    pub(crate) fn report(&self) -> String {
        match &self.seen {
            Ok(_) => format!("{:?}", self.subjects),
            Err(reason) => format!("not {:?}: {reason}", self.subjects),
        }
    }

    /// Whether the text of the object at this path is lost, or can be that of the stranger.
    pub(crate) fn spoils(&self, url: &str) -> bool {
        let path = url.split('?').next().unwrap_or_default();
        self.subjects.iter().any(|subject| match subject {
            // Its copies hold what it held when they were made.
            Subject::Volume { .. } => path.contains("/volumes/custom/"),
            subject => path == subject.path(),
        })
    }

    /// Notes a request of the provider about a name of the stranger.
    pub(crate) fn watch(&mut self, request: &Message) {
        let path = request.word(1).split('?').next().unwrap_or_default();
        let is_look = request.word(0) == "GET";
        let is_about = |own: &str| {
            let collection = own.rsplit_once('/').map_or("", |(collection, _)| collection);
            match is_look {
                true => path == own || path == collection || Some(path) == collection.strip_suffix("/custom"),
                false => path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            }
        };
        if !self.subjects.iter().map(|subject| subject.path()).any(|own| is_about(&own)) {
            return;
        }
        if is_look {
            self.has_been_looked_at = true;
        } else if !self.has_been_looked_at && request.header("if-match").is_none() && self.since.elapsed() < RACE {
            self.raced.push(format!("{} {}", request.word(0), request.word(1)));
        }
    }

    /// Compares the stranger with what it was. Where a write raced with its arrival, it comes again, and these writes
    /// are returned.
    ///
    /// # Errors
    ///
    /// The change that the provider made.
    pub(crate) fn is_unharmed(&mut self, lab: &Lab) -> Result<Option<String>, String> {
        let Ok(seen) = &self.seen else { return Ok(None) };
        let now = self.look(lab);
        if *seen == now {
            return Ok(None);
        }
        let changed = |(was, is)| format!("  was {was}\n  is  {is}");
        let changes: Vec<_> = seen.iter().zip(&now).filter(|(was, is)| was != is).map(changed).collect();
        let changes = format!("the stranger {:?} was changed:\n{}", self.subjects, changes.join("\n"));
        if self.raced.is_empty() {
            return Err(changes);
        }
        let raced = std::mem::take(&mut self.raced).join(", ");
        self.leave(lab)?;
        self.settle(lab);
        Ok(Some(raced))
    }

    /// Deletes its objects, under whatever name of the phase they are.
    pub(crate) fn leave(&self, lab: &Lab) -> Result<(), String> {
        let incus = Incus::new(lab);
        let names = self.phase.names().into_iter().chain([Subject::Project, Subject::Bridge]);
        names.filter(|subject| subject.is_theirs(&incus)).try_for_each(|subject| subject.delete(&incus))
    }
}

/// Chooses a name inside the domain; or the domain itself, where it is missing or holds nothing.
fn choose(incus: &Incus<'_>, phase: Phase, place: Place, roll: u32) -> Vec<Subject> {
    let pick = |length: usize| (roll >> 16) as usize % length;
    let is_free = |subject: Subject| subject.find(incus).is_none();
    let pieces = || {
        let pieces = [Subject::Project, Subject::Bridge];
        // At a step, the apply has created these pieces itself and continues inside of them.
        let free: Vec<_> = pieces.into_iter().filter(|piece| place == Place::Between || is_free(*piece)).collect();
        // The project uses the bridge.
        let choices: &[&[Subject]] = if is_free(Subject::Project) {
            &[&[Subject::Project], &[Subject::Bridge], &pieces]
        } else {
            &[&[Subject::Project], &pieces]
        };
        let chosen = choices[pick(choices.len())].iter().copied().filter(|piece| free.contains(piece));
        let chosen: Vec<_> = chosen.collect();
        if chosen.is_empty() { free } else { chosen }
    };
    let Some(project) = incus.project(DOMAIN) else { return pieces() };
    let used_by = project["used_by"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let is_empty = used_by.filter(|user| !user.starts_with("/1.0/profiles/default")).count() == 0;
    if place == Place::Between && is_empty && roll.is_multiple_of(2) {
        return pieces();
    }
    let names = phase.names();
    vec![names[pick(names.len())]]
}
