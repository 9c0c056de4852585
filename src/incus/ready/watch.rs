//! Looking again and again: woken by events, insured by a poll, ended by limits.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Why;
use super::guest::About;
use crate::incus::error::Error;
use crate::incus::events::{Notice, Subscription};
use crate::incus::run::Wait;

/// Shortest pause between looks.
const SHORTEST: Duration = Duration::from_millis(50);
/// A look is repeated after so many times what it took, and after [`EARLY`] as many waits as there are: 5 % of one
/// processor in all.
const SHARE: u32 = 20;
/// How long after a look the next one insures an announced agent: each costs the agent a handshake, which keeps the one of
/// an emulated machine from coming up.
const INSURANCE: Duration = Duration::from_secs(5);
/// How long a wait is too young to share: most containers are up by then.
const EARLY: Duration = Duration::from_secs(3);
/// What a look costs the server at most; one that takes longer waits for a guest, which costs nothing.
const COST: Duration = Duration::from_millis(20);
/// How long a look that began before an event is waited for: it may hang on an agent that was down.
const PATIENCE: Duration = Duration::from_millis(250);

/// Events after which a look may show something new (Incus 6.0 to 7.3; `instance-agent-started` from 6.23).
const WAKING: [&str; 8] = [
    "instance-started",
    "instance-agent-started",
    "instance-agent-stopped",
    "instance-ready",
    "instance-restarted",
    "instance-shutdown",
    "instance-stopped",
    "instance-deleted",
];

/// A guest that went down by itself, and does not come back as after a reboot (Incus 6.0.4 to 7.3; `instance-stopped` comes
/// with a reboot too on 6.0).
const DOWN: &str = "instance-shutdown";

/// What ends a wait before its time.
#[derive(Debug)]
pub(super) enum Ended {
    Stop,
    Unready(Why),
    Error(Error),
}

/// The waits of one client: as many as there are clones, besides its own.
#[derive(Clone, Default)]
pub(crate) struct Waits(Arc<()>);

impl Waits {
    fn count(&self) -> u32 {
        u32::try_from(Arc::strong_count(&self.0).saturating_sub(1)).unwrap_or(u32::MAX).max(1)
    }
}

/// One wait for one instance.
pub(super) struct Watch<'w> {
    about: &'w dyn About,
    events: Option<Subscription>,
    waits: Waits,
    begun: Instant,
    wait: &'w Wait,
    limit: Option<(Instant, Duration)>,
    last: String,
    took: Duration,
    woken: bool,
    news: News,
}

/// What events told so far.
#[derive(Clone, Copy, Default)]
struct News {
    /// They arrive.
    connected: bool,
    /// Of its agent, that it answers.
    agent: bool,
    /// Of it, that it went down by itself.
    down: bool,
}

impl<'w> Watch<'w> {
    pub(super) fn new(about: &'w dyn About, events: Option<Subscription>, waits: Waits, wait: &'w Wait) -> Self {
        Self {
            about,
            events,
            waits,
            begun: Instant::now(),
            wait,
            limit: None,
            last: String::new(),
            took: Duration::ZERO,
            woken: false,
            news: News::default(),
        }
    }

    /// The present phase may last so long from `since` on.
    pub(super) fn limit(&mut self, since: Instant, length: Duration) {
        self.limit = Some((since + length, length));
    }

    /// The present phase may last as long as the call.
    pub(super) fn no_limit(&mut self) {
        self.limit = None;
    }

    /// Notes what was seen.
    pub(super) fn saw(&mut self, what: String) {
        self.last = what;
    }

    /// Whether an event said that it went down by itself, and nothing since that it is up.
    pub(super) fn is_down(&self) -> bool {
        self.news.down
    }

    /// Its agent answers: what was said of its end before the last look began is past. That it runs says less: Incus tells
    /// of the end while it still calls it running.
    pub(super) fn is_up(&mut self) {
        self.news.down &= self.woken;
    }

    /// What was last seen.
    pub(super) fn last(&self) -> &str {
        &self.last
    }

    /// Asks until there is an answer. An event under way asks anew where the answer is slow; a broken connection, and what
    /// Incus refuses while a guest comes or goes, is tried again.
    pub(super) async fn look<T, F>(&mut self, ask: impl Fn() -> F) -> Result<T, Ended>
    where
        F: Future<Output = Result<T, Error>>,
    {
        loop {
            let asked = Instant::now();
            let answer = ask();
            tokio::pin!(answer);
            let mut woken = false;
            let answer = loop {
                let ended = ended(self.wait, self.limit);
                tokio::select! {
                    biased;
                    answer = &mut answer => break Some(answer),
                    ended = ended => return Err(ended),
                    told = wake(self.events.as_mut(), self.about), if !woken => {
                        woken = true;
                        self.news.note(told);
                    }
                    () = tokio::time::sleep_until(asked + PATIENCE), if woken => break None,
                }
            };
            self.woken = woken;
            self.took = asked.elapsed();
            if let Some(answer) = answer
                && let Some(answer) = self.heard(answer).await?
            {
                return Ok(answer);
            }
        }
    }

    /// [`Self::look`] at what takes its time: no event asks anew.
    pub(super) async fn follow<T, F>(&mut self, ask: impl Fn() -> F) -> Result<T, Ended>
    where
        F: Future<Output = Result<T, Error>>,
    {
        loop {
            let answer = tokio::select! {
                biased;
                answer = ask() => answer,
                ended = ended(self.wait, self.limit) => return Err(ended),
            };
            if let Some(answer) = self.heard(answer).await? {
                return Ok(answer);
            }
        }
    }

    /// The answer; `None` where it is worth asking again, after a pause.
    async fn heard<T>(&mut self, answer: Result<T, Error>) -> Result<Option<T>, Ended> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.is_not_found() => Err(Ended::Unready(Why::Gone)),
            Err(error) if error.is_stopped() => Err(Ended::Stop),
            Err(error) if error.is_forbidden() => Err(Ended::Error(error)),
            // A read's own limit, shorter than ours, has taken its time already.
            Err(error) if error.is_deadline() => {
                self.last = error.to_string();
                Ok(None)
            }
            Err(error) if error.is_connection() || error.refusal().is_some() => {
                self.last = error.to_string();
                self.pause().await?;
                Ok(None)
            }
            Err(error) => Err(Ended::Error(error)),
        }
    }

    /// Until something may have changed, of what no event tells.
    pub(super) async fn pause(&mut self) -> Result<(), Ended> {
        self.rest(SHORTEST).await
    }

    /// Until the agent may answer, which an event tells where one `announces` it.
    pub(super) async fn pause_for_agent(&mut self, announces: bool) -> Result<(), Ended> {
        let is_due = self.news.agent || !self.news.connected;
        let shortest = if announces && !is_due { INSURANCE } else { SHORTEST };
        self.rest(shortest).await
    }

    async fn rest(&mut self, shortest: Duration) -> Result<(), Ended> {
        let waits = if self.begun.elapsed() < EARLY { 1 } else { self.waits.count() };
        let share = self.took.min(COST) * SHARE * waits;
        let length = if std::mem::take(&mut self.woken) { SHORTEST } else { share.max(shortest) };
        let ended = ended(self.wait, self.limit);
        tokio::select! {
            biased;
            ended = ended => Err(ended),
            told = wake(self.events.as_mut(), self.about) => {
                self.news.note(told);
                Ok(())
            }
            () = tokio::time::sleep(length) => Ok(()),
        }
    }
}

/// Resolves when the wait is over: the stop, the phase's limit, the call's.
async fn ended(wait: &Wait, limit: Option<(Instant, Duration)>) -> Ended {
    let phase = async {
        match limit {
            Some((until, length)) => {
                tokio::time::sleep_until(until).await;
                Ended::Unready(Why::Limit(length))
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = wait.stop.cancelled() => Ended::Stop,
        () = wait.passed() => Ended::Unready(Why::Call),
        ended = phase => ended,
    }
}

/// What an event tells beyond that a look is due.
#[derive(Clone, Copy)]
enum Told {
    /// Whether events arrive from now on.
    Connected(bool),
    /// Whether its agent answers.
    Agent(bool),
    /// It was started, or went down.
    Down(bool),
    Nothing,
}

impl News {
    fn note(&mut self, told: Told) {
        match told {
            Told::Connected(yes) => self.connected = yes,
            Told::Agent(yes) => self.agent = yes,
            Told::Down(yes) => (self.down, self.agent) = (yes, false),
            Told::Nothing => {}
        }
    }
}

/// Resolves at an event after which a look is due; never without a stream.
async fn wake(events: Option<&mut Subscription>, about: &dyn About) -> Told {
    let Some(events) = events else { return std::future::pending().await };
    loop {
        match events.next().await {
            Notice::Connected => return Told::Connected(true),
            Notice::Lost => return Told::Connected(false),
            Notice::Event(event) if WAKING.contains(&event.action()) && about.concerns(&event) => {
                return match event.action() {
                    DOWN => Told::Down(true),
                    "instance-started" | "instance-restarted" => Told::Down(false),
                    "instance-agent-started" => Told::Agent(true),
                    "instance-agent-stopped" => Told::Agent(false),
                    _ => Told::Nothing,
                };
            }
            Notice::Event(_) => {}
        }
    }
}
