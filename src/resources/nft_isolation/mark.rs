//! The mark of the table, the comment of its first rule: 16 digits of the owner, 16 of the configuration, and 32 that
//! name this one table, its `uid`, which begin with the time of its create.

use std::fmt;

use time::{Duration, OffsetDateTime};

use super::{ID, KIND};
use crate::nft::Fingerprint;
use crate::plugin::{Diagnostic, Private, Value};
use crate::resources::session::Session;
use crate::resources::{marks, refusal};

/// Private state of versions without `uid`: the whole mark.
const KEPT: &str = "mark";
const OWNER: usize = 16;
const CONFIGURED: usize = 16;
/// Hexadecimal digits of a [`Uid`], and how many of them are the time: seconds since 1970.
const UID: usize = 32;
const TIME: usize = 8;
/// The end of `uid` after a create that failed, until a read has found the table as it should be.
const INCOMPLETE: &str = "+incomplete";
/// The attributes that the digits of the configuration are made from.
const CONFIGURABLE: [&str; 4] = ["domains", "endpoints", "policies", "persist_path"];
/// Age up to which a create continues a table without being asked to.
const FRESH: Duration = Duration::hours(24);
/// 2026-01-01, in seconds since 1970: no mark with a time is older. Earlier versions wrote random digits in its place.
const FIRST: i64 = 1_767_225_600;

/// The digits of a mark that name one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uid(String);

impl Uid {
    /// The name of a table that is created now.
    pub(super) fn new() -> Self {
        Self::at(OffsetDateTime::now_utc(), rand::random())
    }

    fn at(time: OffsetDateTime, random: [u8; 12]) -> Self {
        let seconds = u32::try_from(time.unix_timestamp()).unwrap_or_default();
        let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("{seconds:08x}{random}"))
    }

    /// The name of the table with this mark; `None` if the mark is none of this provider.
    pub(super) fn of(mark: &Fingerprint) -> Option<Self> {
        let is_whole = mark.to_string().len() == OWNER + CONFIGURED + UID;
        is_whole.then(|| Self(mark.incarnation().to_owned()))
    }

    /// The name in `uid` of a state; `None` in a state that was written before there was `uid`.
    pub(super) fn of_state(state: &Value) -> Result<Option<Self>, Diagnostic> {
        let Some(text) = state.get("uid").as_str() else { return Ok(None) };
        let uid = Self(text.strip_suffix(INCOMPLETE).unwrap_or(text).to_owned());
        match Self::of(&uid.mark()?) {
            Some(uid) => Ok(Some(uid)),
            None => Err(refusal::defect("`uid` of the isolation", format!("{text:?} has not {UID} digits"))),
        }
    }

    /// A mark by which the table is recognised, whatever the rest of its mark.
    pub(super) fn mark(&self) -> Result<Fingerprint, Diagnostic> {
        parse(&format!("{}{self}", "0".repeat(OWNER + CONFIGURED)))
    }

    /// The value of `uid` after a create that failed.
    pub(super) fn incomplete(&self) -> String {
        format!("{self}{INCOMPLETE}")
    }

    fn created(&self) -> Option<OffsetDateTime> {
        let seconds = i64::from_str_radix(self.0.get(..TIME)?, 16).ok()?;
        OffsetDateTime::from_unix_timestamp(seconds).ok()
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether `uid` of a state says that the create of its table failed.
pub(super) fn is_incomplete(state: &Value) -> bool {
    state.get("uid").as_str().is_some_and(|uid| uid.ends_with(INCOMPLETE))
}

/// The mark of the table `uid` with the present owner and the planned configuration.
pub(super) fn of_planned(session: &Session, planned: &Value, uid: &Uid) -> Result<Fingerprint, Diagnostic> {
    let configured = fingerprint(session.owner(), &configured(session, planned));
    let digits: String = configured.chars().take(CONFIGURED).collect();
    parse(&format!("{}{digits}{uid}", of_owner(session.owner())))
}

/// The planned values that were or could have been configured, with every default filled in.
fn configured(session: &Session, planned: &Value) -> Value {
    let mut configured = Value::object();
    for name in CONFIGURABLE {
        let value = planned.get(name);
        configured.set(name, if value.is_unknown() { Value::Null } else { value.clone() });
    }
    if let Some(domains) = planned.get("domains").as_map() {
        let bridge = |(name, bridge): (&String, &Value)| {
            let bridge = if bridge.is_null() { session.bridge(name).into() } else { bridge.clone() };
            (name.clone(), bridge)
        };
        configured.set("domains", Value::Map(domains.iter().map(bridge).collect()));
    }
    configured
}

fn of_owner(owner: &str) -> String {
    fingerprint(owner, &Value::Null).chars().take(OWNER).collect()
}

fn fingerprint(owner: &str, configured: &Value) -> String {
    marks::fingerprint(owner, KIND, ID, configured)
}

/// Whoever may have written the mark of a table whose state says neither `uid` nor mark.
fn owners(session: &Session) -> Vec<&str> {
    vec![session.owner()]
}

/// Whether a mark has one of the `owners` of this state.
pub(super) fn is_of_owner(session: &Session, mark: &Fingerprint) -> bool {
    let mark = mark.to_string();
    owners(session).into_iter().any(|owner| mark.starts_with(&of_owner(owner)))
}

/// What a create may do with a table that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// Continue it: a create of this configuration was interrupted, or its state was lost.
    Continue,
    /// Leave it, as the same configuration created it too long ago to be an interrupted create; when, if the mark says so.
    Old(Option<OffsetDateTime>),
    /// Leave it: nothing shows that the same configuration created it.
    None,
}

/// What the create of a table with the mark `ours` may do with one that has the mark `found`.
pub(super) fn claim(session: &Session, found: &Fingerprint, ours: &Fingerprint) -> Claim {
    claim_at(OffsetDateTime::now_utc(), session.recovers(), found, ours)
}

fn claim_at(now: OffsetDateTime, recovers: bool, found: &Fingerprint, ours: &Fingerprint) -> Claim {
    let digits = |mark: &Fingerprint| mark.to_string().chars().take(OWNER + CONFIGURED).collect::<String>();
    let Some(uid) = Uid::of(found).filter(|_| digits(found) == digits(ours)) else { return Claim::None };
    let created = uid.created().filter(|created| created.unix_timestamp() >= FIRST && *created <= now + FRESH);
    let is_fresh = created.is_some_and(|created| created >= now - FRESH);
    if is_fresh || recovers { Claim::Continue } else { Claim::Old(created) }
}

/// The values to be kept beside the state.
pub(super) fn keep(session: &Session) -> Private {
    let mut private = Private::default();
    private.set("prefix", session.prefix());
    private
}

/// The mark that an earlier version kept; `None` where there was none, or where the client lost it.
pub(super) fn kept(private: &Private) -> Result<Option<Fingerprint>, Diagnostic> {
    private.get(KEPT).map(parse).transpose()
}

fn parse(text: &str) -> Result<Fingerprint, Diagnostic> {
    text.parse().map_err(|error| refusal::defect("the mark of the isolation", error))
}

#[cfg(test)]
mod tests {
    use super::super::schema::schema;
    use super::*;
    use crate::resources::session::Options;
    use serde_json::json;

    fn session(owner: &str) -> Session {
        Session::new(Options { owner: owner.into(), ..Options::default() })
    }

    fn planned(json: &serde_json::Value) -> Value {
        Value::from_json(json)
    }

    fn of(owner: &str, planned: &Value, uid: &Uid) -> Fingerprint {
        of_planned(&session(owner), planned, uid).unwrap()
    }

    fn domains(name: &str) -> Value {
        planned(&json!({"domains": {name: null}, "policies": null}))
    }

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    const NOW: i64 = FIRST + 100_000_000;

    #[test]
    fn another_apply_of_the_same_configuration_continues_and_any_other_does_not() {
        let first = of("me", &domains("a"), &Uid::at(at(NOW), [1; 12]));
        let claim = |found: &Fingerprint, owner: &str, name: &str| {
            claim_at(at(NOW), false, found, &of(owner, &domains(name), &Uid::at(at(NOW), [2; 12])))
        };
        assert_eq!(claim(&first, "me", "a"), Claim::Continue);
        assert_eq!(claim(&first, "you", "a"), Claim::None);
        assert_eq!(claim(&first, "me", "b"), Claim::None);
        let short = first.incarnation().parse().unwrap();
        assert_eq!(claim(&short, "me", "a"), Claim::None);
    }

    #[test]
    fn a_table_older_than_a_day_is_continued_only_where_that_is_asked_for() {
        let found = |seconds: i64| of("me", &domains("a"), &Uid::at(at(seconds), [1; 12]));
        let ours = of("me", &domains("a"), &Uid::at(at(NOW), [2; 12]));
        let day = FRESH.whole_seconds();
        for near in [-day, -1, 0, day] {
            assert_eq!(claim_at(at(NOW), false, &found(NOW + near), &ours), Claim::Continue, "{near}");
        }
        let old = NOW - day - 1;
        assert_eq!(claim_at(at(NOW), false, &found(old), &ours), Claim::Old(Some(at(old))));
        // Digits that are no time of a create.
        for random in [NOW + day + 1, FIRST - 1, 0] {
            assert_eq!(claim_at(at(NOW), false, &found(random), &ours), Claim::Old(None), "{random}");
            assert_eq!(claim_at(at(NOW), true, &found(random), &ours), Claim::Continue, "{random}");
        }
    }

    #[test]
    fn an_update_changes_all_of_a_mark_but_the_name_of_the_table() {
        let uid = Uid::new();
        let (before, after) = (of("me", &domains("a"), &uid), of("you", &domains("b"), &uid));
        assert!(before != after && before.is_same_table(&after) && after.is_same_table(&uid.mark().unwrap()));
        assert_eq!(Uid::of(&after), Some(uid));
        assert!(is_of_owner(&session("me"), &before) && !is_of_owner(&session("me"), &after));
    }

    #[test]
    fn a_default_that_is_written_out_is_the_same_configuration() {
        let uid = Uid::new();
        let left_out = planned(&json!({"domains": {"a": null}, "timeouts": null, "rules": {"x": "y"}, "uid": "1"}));
        let mut written =
            planned(&json!({"domains": {"a": "net-a"}, "timeouts": {"create": "1m"}, "persist_path": null}));
        assert_eq!(of("me", &left_out, &uid), of("me", &written, &uid));
        written.set("policies", Value::Unknown);
        assert_eq!(of("me", &left_out, &uid), of("me", &written, &uid));
        written.set("persist_path", "/etc/x.nft");
        assert_ne!(of("me", &left_out, &uid), of("me", &written, &uid));
        assert_ne!(of("me", &left_out, &uid), of("me", &domains("b"), &uid));
    }

    #[test]
    fn every_attribute_is_of_the_configuration_or_computed() {
        let others = ["id", "rules", "ruleset", "timeouts", "uid"];
        let mut placed: Vec<_> = CONFIGURABLE.into_iter().chain(others).collect();
        placed.sort_unstable();
        let schema = schema();
        let mut names: Vec<_> = schema.attributes().iter().map(|attribute| attribute.name().to_owned()).collect();
        names.sort();
        assert_eq!(names, placed);
    }

    #[test]
    fn a_state_holds_the_name_of_the_table() {
        let uid = Uid::new();
        let state = |uid: Option<String>| {
            let mut state = Value::object();
            state.set("uid", uid);
            state
        };
        assert_eq!(Uid::of_state(&state(None)).unwrap(), None);
        for (text, incomplete) in [(uid.to_string(), false), (uid.incomplete(), true)] {
            let state = state(Some(text));
            assert_eq!(Uid::of_state(&state).unwrap().as_ref(), Some(&uid));
            assert_eq!(is_incomplete(&state), incomplete);
        }
        for wrong in ["", "1234", "x"] {
            assert!(Uid::of_state(&state(Some(wrong.to_owned()))).is_err(), "{wrong}");
        }
        assert_eq!(uid.to_string().len(), UID);
        assert_ne!(uid, Uid::new());
    }
}
