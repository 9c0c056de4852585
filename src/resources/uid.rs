//! `uid`: which object a state holds, whatever the client has kept or dropped beside the state.

use std::fmt;

use super::marks;
use super::refusal;
use super::session::Session;
use crate::incus::{Client, Config};
use crate::plugin::{Action, Attribute, Diagnostics, Failure, Plan, Private, Stored, Value};

/// The name of the attribute.
pub const NAME: &str = "uid";
/// The mark part of an import without a mark.
const UNMARKED: &str = "unmarked";
const INCOMPLETE: &str = "+incomplete";
/// Private state of a plan: the identity of the object that it starts from.
const REPLACES: &str = "replaces";

/// The identity of one object: `[<prefix>]<mark>[,<mark>...][/<witness>][+incomplete]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uid {
    /// The nesting prefix with its dash, or nothing.
    prefix: String,
    /// The marks of which one is on the object; an empty one stands for no mark.
    marks: Vec<String>,
    /// What Incus itself tells objects apart by: `volatile.uuid` of an instance, the time of creation of a volume without a
    /// mark.
    witness: Option<String>,
    /// Whether the create failed, and no read has found the object usable since.
    incomplete: bool,
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let marks = self.marks.iter().map(|mark| if mark.is_empty() { UNMARKED } else { mark });
        write!(f, "{}{}", self.prefix, marks.collect::<Vec<_>>().join(","))?;
        if let Some(witness) = &self.witness {
            write!(f, "/{witness}")?;
        }
        if self.incomplete { f.write_str(INCOMPLETE) } else { Ok(()) }
    }
}

impl From<&Uid> for Value {
    fn from(uid: &Uid) -> Self {
        uid.to_string().into()
    }
}

impl Uid {
    /// The identity of an object that carries `mark`; of one without a mark where that is empty.
    #[must_use]
    pub fn new(prefix: &str, mark: &str) -> Self {
        Self { prefix: prefix.to_owned(), marks: vec![mark.to_owned()], ..Self::default() }
    }

    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let is_prefix = |text: &&str| text.bytes().take(3).all(|byte| byte.is_ascii_digit()) && text.ends_with('-');
        let prefix = text.get(..4).filter(is_prefix).unwrap_or_default();
        let rest = &text[prefix.len()..];
        let (rest, incomplete) = rest.strip_suffix(INCOMPLETE).map_or((rest, false), |rest| (rest, true));
        let (marks, witness) = rest.split_once('/').map_or((rest, None), |(marks, witness)| (marks, Some(witness)));
        let marks = marks.split(',').map(|mark| if mark == UNMARKED { String::new() } else { mark.to_owned() });
        Self { prefix: prefix.to_owned(), marks: marks.collect(), witness: witness.map(str::to_owned), incomplete }
    }

    /// The identity that a state holds; of a state of before 0.1.0, which has no `uid`, the one that was kept beside it.
    /// `None` where neither is known.
    #[must_use]
    pub fn of(state: &Value, private: &Private) -> Option<Self> {
        if let Some(text) = state.get(NAME).as_str() {
            return Some(Self::parse(text));
        }
        let (kept, before) = marks::kept(private)?;
        let mut uid = Self::new(private.get("prefix").unwrap_or_default(), kept);
        uid.marks.extend(before.split(',').filter(|mark| !mark.is_empty()).map(str::to_owned));
        Some(uid)
    }

    /// The mark that a write puts on the object; `None` where it carries none yet.
    #[must_use]
    pub fn mark(&self) -> Option<&str> {
        self.marks.iter().map(String::as_str).find(|mark| !mark.is_empty())
    }

    /// The marks of which one is on the object.
    #[must_use]
    pub fn marks(&self) -> &[String] {
        &self.marks
    }

    /// Whether an object without a mark was imported, and no read has found a mark on it since.
    #[must_use]
    pub fn is_unmarked(&self) -> bool {
        self.marks.iter().any(String::is_empty)
    }

    /// Whether nothing tells an object with these keys from another one of its name.
    #[must_use]
    pub fn is_indistinct(&self, config: &Config) -> bool {
        self.witness.is_none() && marks::carried(config).is_empty()
    }

    /// Whether the create failed, and no read has found the object usable since.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// The nesting prefix with its dash, or nothing.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What Incus itself tells the object by.
    #[must_use]
    pub fn witness(&self) -> Option<&str> {
        self.witness.as_deref()
    }

    /// The same object, of which Incus says `witness`.
    #[must_use]
    pub fn with_witness(mut self, witness: Option<&str>) -> Self {
        if let Some(witness) = witness {
            self.witness = Some(witness.to_owned());
        }
        self
    }

    /// The same object, whose create failed.
    #[must_use]
    pub fn incomplete(mut self) -> Self {
        self.incomplete = true;
        self
    }

    /// The same object, found usable.
    #[must_use]
    pub fn complete(mut self) -> Self {
        self.incomplete = false;
        self
    }

    /// The same object while it is not known whether its mark was written: those of `found` may still be there.
    #[must_use]
    pub fn or_still<'c>(mut self, found: impl IntoIterator<Item = &'c Config>) -> Self {
        for config in found {
            let mark = marks::carried(config);
            if !self.marks.iter().any(|known| known == mark) {
                self.marks.push(mark.to_owned());
            }
        }
        self
    }

    /// Whether this is the object with these keys, of which Incus says `witness`.
    ///
    /// A copy has the marks of its original and another witness, unless a move of the root disk has made it. A restored snapshot brings an older mark back, or none; a
    /// newer mark was written by a resource that has adopted the object since.
    #[must_use]
    pub fn owns(&self, config: &Config, witness: Option<&str>) -> bool {
        let mark = marks::carried(config);
        let is_known = self.marks.iter().any(|known| known == mark);
        match (&self.witness, witness) {
            (Some(kept), Some(found)) if kept != found => is_known && marks::had_uuid(config, kept),
            (Some(_), Some(_)) => {
                // Of an import without a mark nobody has restored one.
                let is_restored = || mark.is_empty() || self.marks.iter().any(|known| marks::is_older(mark, known));
                is_known || !self.is_unmarked() && is_restored()
            }
            _ => is_known,
        }
    }

    /// Whether an object carries a mark of ours, whatever Incus tells it by: for the copy by which a root disk moves.
    #[must_use]
    pub fn has_mark_of(&self, config: &Config) -> bool {
        let mark = marks::carried(config);
        !mark.is_empty() && self.marks.iter().any(|known| known == mark)
    }

    /// The identity of the object once it was found with these keys. One without a mark gets that which the first apply
    /// writes, so that it is known whatever becomes of that apply.
    #[must_use]
    pub fn confirmed(mut self, config: &Config, witness: Option<&str>) -> Self {
        let mark = marks::carried(config);
        if !mark.is_empty() && self.marks.iter().any(|known| known == mark) {
            self.marks.retain(|known| known == mark);
        } else if self.mark().is_none() {
            self.marks.insert(0, marks::Marks::new(String::new()).incarnation);
        }
        self.with_witness(witness)
    }

    /// Whether both are one object, as far as they say.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.witness, &other.witness) {
            (Some(left), Some(right)) if left != right => false,
            (Some(_), Some(_)) => self.marks.iter().any(|mark| other.marks.contains(mark)),
            _ => self.marks.iter().any(|mark| !mark.is_empty() && other.marks.contains(mark)),
        }
    }
}

/// The attribute of every resource.
#[must_use]
pub fn attribute() -> Attribute {
    Attribute::string(NAME).computed().describe(
        "Identifies the object itself, so that another one of the same name is never taken for it. Of no use in a configuration.",
    )
}

/// Completes the plan: an update gives an identity, or a mark, to a state that has none.
pub fn plan(plan: &mut Plan<'_>) {
    if plan.action != Action::Update {
        return;
    }
    let text = plan.prior.get(NAME).as_str();
    plan.private.set(REPLACES, text.unwrap_or_default());
    if text.is_none_or(|text| Uid::parse(text).is_unmarked()) && plan.planned != *plan.prior {
        plan.unknown(NAME);
    }
}

/// Refuses to destroy or to replace an import that nothing tells from another object of its name.
pub fn refuse_unmarked(noun: &str, plan: &mut Plan<'_>) {
    let goes = plan.action == Action::Destroy || plan.replaces();
    if goes && Uid::of(plan.prior, &plan.private).is_some_and(|uid| uid.is_unmarked()) {
        let id = plan.prior.get("id").as_str().unwrap_or_default();
        plan.diagnostics.extend(refusal::unmarked(noun, id));
    }
}

/// Whether a create that meets an object with these keys is to replace that very object: where core hands the private
/// state of the plan to a create (Terraform from 1.16 on).
#[must_use]
pub fn is_being_replaced(private: &Private, config: &Config) -> bool {
    let replaced = private.get(REPLACES).map(Uid::parse);
    replaced.is_some_and(|uid| uid.marks().iter().any(|mark| mark == marks::carried(config)))
}

/// The identity that a state holds, by which an update or a delete knows its object.
///
/// # Errors
///
/// The provider has another nesting prefix than the one under which the object was created; nothing says which object is meant.
pub fn expect(session: &Session, noun: &str, state: &Value, private: &Private) -> Result<Uid, Diagnostics> {
    let uid = find(session, state, private)?;
    uid.ok_or_else(|| refusal::unidentified(noun, state.get("id").as_str().unwrap_or_default()).into())
}

/// [`expect`] for a read, which finds out.
///
/// # Errors
///
/// The provider has another nesting prefix than the one under which the object was created.
pub fn find(session: &Session, state: &Value, private: &Private) -> Result<Option<Uid>, Diagnostics> {
    let uid = Uid::of(state, private);
    let prefix = uid.as_ref().map(Uid::prefix).or(private.get("prefix"));
    refusal::same_prefix(prefix, session.prefix())?;
    Ok(uid)
}

/// The answer of a read that has not found its object; `there` are the keys of another one under its name.
///
/// # Errors
///
/// Once: this is another server.
pub async fn absent(
    session: &Session,
    client: &Client,
    noun: &str,
    current: Stored,
    there: Option<&Config>,
) -> Result<Option<Stored>, Failure> {
    let elsewhere = session.another_server(client, &current.private).await;
    match elsewhere.map_err(|error| refusal::diagnostic(format!("Unable to read {noun}"), &error))? {
        Some(told) if session.reports_server() => Err(told.into()),
        Some(_) => Ok(Some(current)),
        None => {
            let id = current.state.get("id").as_str().unwrap_or_default();
            let uid = Uid::of(&current.state, &current.private).unwrap_or_default();
            let is_of_another = |mark: &str| !mark.is_empty() && !uid.marks.iter().any(|known| known == mark);
            Ok(there.map(|config| {
                Stored::gone(match is_of_another(marks::carried(config)) {
                    true => refusal::of_another_resource(noun, id),
                    false => refusal::replaced(noun, id, config),
                })
            }))
        }
    }
}

/// The end of a delete that has not found its object: done, unless another server has it.
///
/// # Errors
///
/// This is another server.
pub async fn deleted(session: &Session, client: &Client, noun: &str, private: &Private) -> Result<(), Failure> {
    let elsewhere = session.another_server(client, private).await;
    let elsewhere = elsewhere.map_err(|error| refusal::diagnostic(format!("Unable to delete {noun}"), &error))?;
    match elsewhere {
        Some(told) => Err(told.into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The identity of an import.
    fn imported(mark: &str, witness: Option<&str>) -> Uid {
        Uid::new("", mark).confirmed(&carrying(mark), witness)
    }

    const OLD: &str = "5f000000-aaaaaaaaaaaaaaaaaaaaaaaa";
    const NEW: &str = "6f000000-bbbbbbbbbbbbbbbbbbbbbbbb";

    fn carrying(mark: &str) -> Config {
        match mark {
            "" => Config::new(),
            mark => [(marks::INCARNATION.to_owned(), mark.to_owned())].into(),
        }
    }

    #[test]
    fn a_uid_is_read_as_it_was_written() {
        let first = "0123456789abcdef0123456789abcdef";
        for text in [
            OLD.to_owned(),
            first.to_owned(),
            format!("001-{OLD},{first}/u-1+incomplete"),
            "unmarked/1796077555391891315".to_owned(),
            "123-unmarked".to_owned(),
        ] {
            assert_eq!(Uid::parse(&text).to_string(), text);
        }
        assert_eq!(Uid::parse(&format!("001-{OLD}")).prefix(), "001-");
        assert_eq!(Uid::parse(first).prefix(), "");
    }

    #[test]
    fn an_object_of_another_mark_or_of_none_is_another_object() {
        let uid = Uid::new("", OLD);
        assert!(uid.owns(&carrying(OLD), None) && uid.owns(&carrying(OLD), Some("u")));
        assert!(!uid.owns(&carrying(NEW), None) && !uid.owns(&carrying(""), None));
    }

    #[test]
    fn a_restored_snapshot_is_the_instance_and_a_copy_is_not() {
        let uid = Uid::new("", NEW).with_witness(Some("u"));
        assert!(uid.owns(&carrying(NEW), Some("u")));
        for restored in [OLD, "", "0123456789abcdef0123456789abcdef"] {
            assert!(uid.owns(&carrying(restored), Some("u")), "{restored}");
        }
        assert!(!uid.owns(&carrying(NEW), Some("another")));
        let mut moved = carrying(NEW);
        marks::write_moved(&mut moved, &[("volatile.uuid".to_owned(), "u".to_owned())].into());
        assert!(uid.owns(&moved, Some("another")), "the copy of a move");
    }

    #[test]
    fn an_instance_that_another_resource_has_adopted_is_not_ours_any_more() {
        let uid = Uid::new("", OLD).with_witness(Some("u"));
        assert!(!uid.owns(&carrying(NEW), Some("u")));
        let first = Uid::new("", "0123456789abcdef0123456789abcdef").with_witness(Some("u"));
        assert!(!first.owns(&carrying(NEW), Some("u")));
    }

    #[test]
    fn an_import_without_a_mark_is_another_object_once_somebody_has_marked_it() {
        for witness in [None, Some("u")] {
            let uid = imported("", witness);
            assert!(
                uid.is_unmarked()
                    && uid.owns(&carrying(""), witness)
                    && !uid.owns(&carrying(""), Some("v")) | witness.is_none()
            );
            for other in [OLD, NEW] {
                assert!(!uid.owns(&carrying(other), witness), "{other}");
            }
        }
        assert!(Uid::new("", "").is_indistinct(&carrying("")) && !imported("", Some("u")).is_indistinct(&carrying("")));
    }

    #[test]
    fn an_import_without_a_mark_knows_the_one_that_the_first_apply_writes() {
        let uid = imported("", Some("u"));
        let mark = uid.mark().unwrap().to_owned();
        assert!(uid.owns(&carrying(&mark), Some("u")) && uid.to_string().ends_with(",unmarked/u"), "{uid}");
        assert_eq!(uid.clone().confirmed(&carrying(""), Some("u")), uid, "as long as it is not written");
        let written = uid.confirmed(&carrying(&mark), Some("u"));
        assert!(!written.is_unmarked() && written.owns(&carrying(""), Some("u")), "{written}");
    }

    #[test]
    fn until_a_read_has_confirmed_one_every_mark_that_may_be_there_is_ours() {
        let uid = Uid::new("", NEW).or_still([&carrying(OLD)]).incomplete();
        assert_eq!(uid.to_string(), format!("{NEW},{OLD}+incomplete"));
        assert!(uid.owns(&carrying(OLD), None) && uid.owns(&carrying(NEW), None) && !uid.owns(&carrying(""), None));
        let confirmed = uid.confirmed(&carrying(OLD), Some("u")).complete();
        assert_eq!(confirmed.to_string(), format!("{OLD}/u"));
    }

    #[test]
    fn a_state_without_a_uid_has_the_identity_that_was_kept_beside_it() {
        let mut private = Private::default();
        assert_eq!(Uid::of(&Value::object(), &private), None);
        for (name, value) in [("incarnation", "a"), ("incarnation_before", "b,"), ("prefix", "001-")] {
            private.set(name, value);
        }
        assert_eq!(Uid::of(&Value::object(), &private).unwrap().to_string(), "001-a,b");
        let mut state = Value::object();
        state.set(NAME, OLD);
        assert_eq!(Uid::of(&state, &private).unwrap().to_string(), OLD);
    }

    #[test]
    fn two_states_of_one_object_say_the_same() {
        let one = Uid::new("", OLD).with_witness(Some("u"));
        assert!(one.is_same(&one) && one.is_same(&Uid::new("", OLD)));
        assert!(!one.is_same(&Uid::new("", OLD).with_witness(Some("v"))), "a copy");
        assert!(!one.is_same(&Uid::new("", NEW).with_witness(Some("u"))), "adopted since");
        assert!(imported("", Some("u")).is_same(&imported("", Some("u"))));
        assert!(!imported("", None).is_same(&imported("", None)));
    }
}
