//! The mark of the table: the comment of its first rule, which tells whose it is.

use super::{ID, KIND};
use crate::nft::{Error, Fingerprint};
use crate::plugin::{Diagnostic, Private, Value};
use crate::resources::session::Session;
use crate::resources::{marks, refusal};

/// Private state: the mark, 64 hexadecimal digits.
const KEPT: &str = "mark";
/// How many of its digits say who made it, and how many from which configuration; the others are its incarnation.
const OWNER: usize = 16;
const CONFIGURED: usize = 16;
const INCARNATION: usize = 32;

/// A mark for a new table of this configuration.
pub(super) fn new(session: &Session, config: &Value) -> Result<Fingerprint, Diagnostic> {
    let of = |config: &Value, digits: usize| {
        let fingerprint = marks::fingerprint(session.owner(), KIND, ID, config, &[]);
        fingerprint.chars().take(digits).collect::<String>()
    };
    let incarnation: String = marks::incarnation().chars().take(INCARNATION).collect();
    parse(&format!("{}{}{incarnation}", of(&Value::Null, OWNER), of(config, CONFIGURED)))
}

/// Whether a table with the mark `found` was begun by an apply of the same configuration as `ours`.
fn is_continued(found: &Fingerprint, ours: &Fingerprint) -> bool {
    is_same(found, ours, OWNER + CONFIGURED)
}

/// Whether both marks have the same owner.
fn is_same_owner(found: &Fingerprint, ours: &Fingerprint) -> bool {
    is_same(found, ours, OWNER)
}

fn is_same(found: &Fingerprint, ours: &Fingerprint, digits: usize) -> bool {
    let (found, ours) = (found.to_string(), ours.to_string());
    found.len() == ours.len() && found.get(..digits) == ours.get(..digits)
}

/// The mark of a file that an earlier isolation of the same owner left behind, where `error` says that it is in the way.
pub(super) fn of_file(error: &Error, ours: &Fingerprint) -> Option<Fingerprint> {
    match error {
        Error::ForeignFile { comment, .. } => of_owner(comment.as_deref()?, ours),
        _ => None,
    }
}

/// The mark of a table that an earlier apply of the same configuration made, where `error` says that it is in the way.
pub(super) fn of_table(error: &Error, ours: &Fingerprint) -> Option<Fingerprint> {
    match error {
        Error::Foreign { comment } => of_comment(comment.as_deref()?).filter(|found| is_continued(found, ours)),
        _ => None,
    }
}

/// The mark in the comment of a table's first rule.
fn of_comment(comment: &str) -> Option<Fingerprint> {
    comment.strip_prefix("anklume ")?.parse().ok()
}

/// What is kept beside the state.
pub(super) fn keep(session: &Session, mark: &Fingerprint) -> Private {
    let mut private = Private::default();
    private.set(KEPT, mark.to_string());
    private.set("prefix", session.prefix());
    private
}

/// The mark that was kept; none where what stands beside the state was lost ([`marks::is_lost`]).
pub(super) fn kept(private: &Private) -> Result<Option<Fingerprint>, Diagnostic> {
    private.get(KEPT).map(parse).transpose()
}

/// The mark in the comment of a table, if it has the owner of `ours`.
pub(super) fn of_owner(comment: &str, ours: &Fingerprint) -> Option<Fingerprint> {
    of_comment(comment).filter(|found| is_same_owner(found, ours))
}

fn parse(text: &str) -> Result<Fingerprint, Diagnostic> {
    text.parse().map_err(|error| refusal::defect("the mark of the isolation", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::session::Options;

    fn mark(owner: &str, config: &Value) -> Fingerprint {
        new(&Session::new(Options { owner: owner.into(), ..Options::default() }), config).unwrap()
    }

    #[test]
    fn another_apply_of_the_same_configuration_continues_and_any_other_does_not() {
        let config = |domain: &str| Value::Map([("domains".to_owned(), Value::from(domain))].into());
        let first = mark("me", &config("a"));
        let again = mark("me", &config("a"));
        assert!(first != again && is_continued(&first, &again));
        assert!(!is_continued(&first, &mark("you", &config("a"))));
        let changed = mark("me", &config("b"));
        assert!(!is_continued(&first, &changed) && is_same_owner(&first, &changed));
        assert!(!is_same_owner(&first, &mark("you", &config("a"))));
        assert_eq!(of_comment(&format!("anklume {first}")), Some(first));
        assert_eq!(of_comment("somebody else"), None);
    }
}
