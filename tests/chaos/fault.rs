//! What can go wrong, and where.

use std::fmt;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

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
}

impl Who {
    /// Whether the provider's connections end with it.
    pub(crate) fn cuts(self) -> bool {
        matches!(self, Self::Provider | Self::Both)
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
}

impl Fault {
    /// Whether it is a kill or a cut, and not only a delay.
    pub(crate) fn interrupts(self) -> bool {
        !matches!(self, Self::Slow(_) | Self::Busy | Self::CutEvents | Self::RollBack)
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

const WHO: [Who; 4] = [Who::Provider, Who::Client, Who::Both, Who::Interrupted];
const WHEN: [When; 3] = [When::Before, When::Sent, When::Answered];

/// A kill or a cut at `step`.
pub(crate) fn interruption(dice: &mut StdRng, step: &str) -> Fault {
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

/// Anything anywhere, `step` being the write that was drawn.
pub(crate) fn any(dice: &mut StdRng, step: &str, nth: usize) -> (At, Fault) {
    let write = || At::Write(step.to_owned(), nth);
    match dice.random_range(0..11) {
        0 if !is_nft(step) => (write(), Fault::Slow(dice.random_range(1000..4000))),
        1 if step.contains("/1.0/instances/") => (write(), Fault::Busy),
        2 if !is_nft(step) => (write(), Fault::CutEvents),
        3 => {
            let faults = [Fault::CutBefore, Fault::DropAnswer, Fault::CutAnswer, Fault::Away(1500)];
            (At::Read(dice.random_range(1..60)), *faults.choose(dice).unwrap())
        }
        4 | 5 => (At::Time(dice.random_range(300..4000)), Fault::End(*WHO.choose(dice).unwrap(), When::Sent)),
        6 => (At::End, Fault::RollBack),
        _ => (write(), interruption(dice, step)),
    }
}

/// Whether a step is a change of the ruleset, which does not pass the proxy.
pub(crate) fn is_nft(step: &str) -> bool {
    step.starts_with("nft ")
}
