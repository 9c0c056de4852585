//! What can go wrong, and where.

use std::fmt;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::scene::Phase;

/// Who ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// SIGKILL to the provider.
    Provider,
    /// SIGKILL to the client: the provider hears nothing of it.
    Client,
    /// SIGKILL to both.
    Both,
    /// Ctrl-C once: SIGINT to the process group of the client.
    Interrupted,
    /// SIGTERM to the process group of the client, provider included, as a job runner sends it.
    Terminated,
}

impl Who {
    /// Whether the provider's connections end with it.
    pub(crate) fn cuts(self) -> bool {
        matches!(self, Self::Provider | Self::Both)
    }

    /// Whether the client is asked to end, and saves its state.
    pub(crate) fn is_asked(self) -> bool {
        matches!(self, Self::Interrupted | Self::Terminated)
    }
}

/// Where a step stands when somebody ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Nothing was sent.
    Before,
    /// It was sent.
    Sent,
    /// Incus has answered; the answer reaches no provider that was ended.
    Answered,
}

/// What happens at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection is closed before anything is passed on.
    CutBefore,
    /// It is closed in the middle of the request.
    CutRequest,
    /// It is closed instead of the answer.
    DropAnswer,
    /// It is closed in the middle of the answer.
    CutAnswer,
    /// Every connection is closed, and new ones for some time: a daemon that restarts; milliseconds.
    Away(u64),
    /// The answer comes late; milliseconds.
    Slow(u64),
    /// Refused as Incus refuses what meets another operation on an instance.
    Busy,
    /// The streams of events are closed.
    CutEvents,
    /// SIGKILL to the daemon, which starts again.
    Kill(When),
    /// Somebody ends.
    End(Who, When),
    /// The state is again what it was before the apply, which nothing interrupted.
    RollBack,
    /// A stranger takes a name of the phase after the answer of Incus; the number chooses the name.
    Stranger(Phase, u32),
}

impl Fault {
    /// Whether it is a kill or a cut, and not only a delay.
    pub(crate) fn interrupts(self) -> bool {
        !matches!(self, Self::Slow(_) | Self::Busy | Self::CutEvents | Self::RollBack | Self::Stranger(..))
    }

    /// Its kind, as the tally lists it.
    pub(crate) fn kind(self) -> String {
        match self {
            Self::End(who, _) => format!("End({who:?})"),
            _ => format!("{self:?}").split('(').next().unwrap_or_default().to_owned(),
        }
    }
}

/// Where a fault happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum At {
    /// At a write: its step, and which of these within one apply, from 1.
    Write(String, usize),
    /// At a read, counted from 1.
    Read(usize),
    /// Some time after the start; milliseconds.
    Time(u64),
    /// After all steps.
    End,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(step, 1) => f.write_str(step),
            Self::Write(step, nth) => write!(f, "{step} ({nth})"),
            Self::Read(nth) => write!(f, "read {nth}"),
            Self::Time(ms) => write!(f, "{ms} ms"),
            Self::End => f.write_str("the end"),
        }
    }
}

/// The next run of the client after the one that the fault met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// An apply, once no process of that run is left.
    Wait,
    /// An apply at once.
    Apply,
    /// A destroy at once; then the configuration is applied from nothing.
    Destroy,
}

/// Everything that is drawn for a round.
#[derive(Debug, Clone)]
pub(crate) struct Draw {
    pub(crate) at: At,
    pub(crate) fault: Fault,
    pub(crate) next: Next,
    /// The number of the stranger who takes a name before the next apply.
    pub(crate) between: Option<u32>,
    /// The fault of the next apply.
    pub(crate) again: Option<(At, Fault)>,
    /// How many applies meet the stranger before it leaves.
    pub(crate) beside: usize,
    /// Whether the operator applies a refused replacement again before following the advice.
    pub(crate) insists: bool,
}

impl Draw {
    /// Whether the next run follows a Ctrl-C at once, so that it has to succeed.
    pub(crate) fn is_at_once(&self) -> bool {
        matches!(self.fault, Fault::End(Who::Interrupted, _)) && self.next != Next::Wait
    }
}

const WHO: [Who; 5] = [Who::Provider, Who::Client, Who::Both, Who::Interrupted, Who::Terminated];
const WHEN: [When; 3] = [When::Before, When::Sent, When::Answered];
/// The period of the special rounds among the first ones; a prime, so that they move over the steps.
const SPECIAL: u64 = 7;

/// The draw of a seed in the first pass over the steps: a kill or a cut at this step.
pub(crate) fn first(dice: &mut StdRng, seed: u64, step: &str, nth: usize) -> Draw {
    let fault = interruption(dice, step);
    let when = *WHEN.choose(dice).unwrap();
    let mut draw = drawn(dice, At::Write(step.to_owned(), nth), fault);
    match seed % SPECIAL {
        1 => draw.fault = Fault::End(Who::Terminated, when),
        2 => draw.between = Some(dice.random()),
        4 => (draw.fault, draw.next) = (Fault::End(Who::Interrupted, when), Next::Destroy),
        5 => (draw.fault, draw.next) = (Fault::End(Who::Interrupted, when), Next::Apply),
        _ => {}
    }
    draw
}

/// The draw of a later seed: any fault, at this step or elsewhere.
pub(crate) fn later(dice: &mut StdRng, phase: Phase, step: &str, nth: usize) -> Draw {
    let (at, fault) = any(dice, phase, step, nth);
    let mut draw = drawn(dice, at, fault);
    let is_stranger = matches!(fault, Fault::Stranger(..));
    if matches!(fault, Fault::End(Who::Interrupted, _)) && dice.random_bool(0.4) {
        draw.next = Next::Destroy;
    } else if !is_stranger && dice.random_bool(0.15) {
        draw.between = Some(dice.random());
    }
    let again = dice.random_bool(0.25).then(|| any(dice, phase, step, nth));
    draw.again = again.filter(|(_, fault)| !matches!(fault, Fault::RollBack | Fault::Stranger(..)));
    draw
}

fn drawn(dice: &mut StdRng, at: At, fault: Fault) -> Draw {
    let next = if dice.random_bool(0.5) { Next::Wait } else { Next::Apply };
    let (beside, insists) = (dice.random_range(1..=2), dice.random_bool(0.3));
    Draw { at, fault, next, between: None, again: None, beside, insists }
}

/// A kill or a cut at `step`.
fn interruption(dice: &mut StdRng, step: &str) -> Fault {
    let when = *WHEN.choose(dice).unwrap();
    let who = *WHO.choose(dice).unwrap();
    if is_nft(step) {
        return Fault::End(who, when);
    }
    match dice.random_range(0..12) {
        0 => Fault::CutBefore,
        1 => Fault::DropAnswer,
        2 => Fault::CutAnswer,
        3 => Fault::CutRequest,
        4 => Fault::Away(dice.random_range(500..3000)),
        5 | 6 => Fault::Kill(when),
        _ => Fault::End(who, when),
    }
}

fn any(dice: &mut StdRng, phase: Phase, step: &str, nth: usize) -> (At, Fault) {
    let write = || At::Write(step.to_owned(), nth);
    match dice.random_range(0..14) {
        0 if !is_nft(step) => (write(), Fault::Slow(dice.random_range(1000..4000))),
        1 if step.contains("/1.0/instances/") => (write(), Fault::Busy),
        2 if !is_nft(step) => (write(), Fault::CutEvents),
        3 => {
            let faults = [Fault::CutBefore, Fault::DropAnswer, Fault::CutAnswer, Fault::Away(1500)];
            (At::Read(dice.random_range(1..60)), *faults.choose(dice).unwrap())
        }
        4 | 5 => (At::Time(dice.random_range(300..4000)), Fault::End(*WHO.choose(dice).unwrap(), When::Sent)),
        6 => (At::End, Fault::RollBack),
        7..10 => (write(), Fault::Stranger(phase, dice.random())),
        _ => (write(), interruption(dice, step)),
    }
}

/// Whether a step is a change of the ruleset, which does not pass the proxy.
pub(crate) fn is_nft(step: &str) -> bool {
    step.starts_with("nft ")
}
