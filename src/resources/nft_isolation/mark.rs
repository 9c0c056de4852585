//! The mark of the table: the comment of its first rule, which tells whose it is.

use super::{ID, KIND};
use crate::nft::Fingerprint;
use crate::plugin::{Diagnostic, Private, Value};
use crate::resources::session::Session;
use crate::resources::{marks, refusal};

/// Private state: the mark, 64 hexadecimal digits.
const KEPT: &str = "mark";
/// How many of its digits say who made it from which configuration; the others are its incarnation.
const CONFIGURED: usize = 32;

/// A mark for a new table of this configuration.
pub(super) fn new(session: &Session, config: &Value) -> Result<Fingerprint, Diagnostic> {
    let fingerprint = marks::fingerprint(session.owner(), KIND, ID, config, &[]);
    parse(&format!("{}{}", fingerprint.get(..CONFIGURED).unwrap_or(&fingerprint), marks::incarnation()))
}

/// Whether a table with the mark `found` was begun by an apply of the same configuration as `ours`.
pub(super) fn is_continued(found: &Fingerprint, ours: &Fingerprint) -> bool {
    let (found, ours) = (found.to_string(), ours.to_string());
    found.len() == ours.len() && found.get(..CONFIGURED) == ours.get(..CONFIGURED)
}

/// The mark in the comment of a table's first rule.
pub(super) fn of_comment(comment: &str) -> Option<Fingerprint> {
    comment.strip_prefix("anklume ")?.parse().ok()
}

/// What is kept beside the state.
pub(super) fn keep(session: &Session, mark: &Fingerprint) -> Private {
    let mut private = Private::default();
    private.set(KEPT, mark.to_string());
    private.set("prefix", session.prefix());
    private
}

/// The mark that was kept.
pub(super) fn kept(private: &Private) -> Result<Fingerprint, Diagnostic> {
    parse(private.get(KEPT).unwrap_or_default())
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
        assert!(!is_continued(&first, &mark("me", &config("b"))));
        assert_eq!(of_comment(&format!("anklume {first}")), Some(first));
        assert_eq!(of_comment("somebody else"), None);
    }
}
