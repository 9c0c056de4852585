//! What the operator is told of an error of nft.

use super::{ID, place};
use crate::nft::Error;
use crate::plugin::{Diagnostic, Path};
use crate::resources::refusal;
use crate::resources::session::Session;

/// `Unable to <verb> isolation`.
pub(super) fn summary(verb: &str) -> String {
    format!("Unable to {verb} isolation")
}

/// What failed, what to do, and the cause.
pub(super) fn failed(verb: &str, session: &Session, error: &Error) -> Diagnostic {
    if let Error::Foreign { comment } = error {
        return foreign(verb, session, comment.as_deref());
    }
    let path = match error {
        Error::ForeignFile { .. } | Error::File { .. } => Path::from("persist_path"),
        _ => Path::root(),
    };
    let advice = error.what_to_do();
    let causes = refusal::causes(error);
    Diagnostic::error(path, summary(verb), if advice.is_empty() { causes } else { format!("{advice}\n\n{causes}") })
}

/// The table is there, and somebody else's.
fn foreign(verb: &str, session: &Session, comment: Option<&str>) -> Diagnostic {
    let whose = match comment {
        Some(comment) => format!("carries another mark ({comment:?})"),
        None => "carries no mark".to_owned(),
    };
    Diagnostic::error(
        Path::root(),
        format!("{}: the table is another's", summary(verb)),
        format!(
            "Table `{ID}` exists and {whose}, so it was not made by this configuration. It was left alone, and nothing was changed. A host \
             has one isolation, in one state: put all its domains there. If nobody needs that table any more, remove it, and the \
             file that brings it back at boot if there is one, and apply again; the domains can talk in between:\n\n{}",
            place::removal(session)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::session::Options;

    #[test]
    fn the_table_of_another_is_told_with_the_command_that_removes_it() {
        let session = Session::new(Options::default());
        for comment in [None, Some("anklume 0123".to_owned())] {
            let told = failed("create", &session, &Error::Foreign { comment: comment.clone() });
            assert_eq!(told.summary, "Unable to create isolation: the table is another's");
            assert!(told.detail.contains("\n\n    nft delete table inet anklume"), "{}", told.detail);
            assert!(comment.is_none_or(|comment| told.detail.contains(&comment)));
        }
    }

    #[test]
    fn a_file_in_the_way_is_told_at_its_attribute() {
        let session = Session::new(Options::default());
        let error = Error::ForeignFile { path: "/etc/x".into(), comment: None };
        let told = failed("update", &session, &error);
        assert_eq!(told.path, Path::from("persist_path"));
        assert!(told.detail.starts_with(&error.what_to_do()) && told.detail.contains("Cause: "), "{}", told.detail);
    }
}
