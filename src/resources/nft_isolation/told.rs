//! The texts of errors and warnings.

use time::OffsetDateTime;

use super::mark::{self, Claim};
use super::{ID, KIND, place};
use crate::nft::{Error, Fingerprint};
use crate::plugin::{Diagnostic, Path};
use crate::resources::refusal;
use crate::resources::session::Session;

/// `Unable to <verb> isolation`.
pub(super) fn summary(verb: &str) -> String {
    format!("Unable to {verb} isolation")
}

/// An error of nft: what to do, and the cause.
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

/// The table of this resource has gone, and there is another one under its name.
fn foreign(verb: &str, session: &Session, comment: Option<&str>) -> Diagnostic {
    Diagnostic::error(
        Path::root(),
        format!("{}: it was replaced outside Terraform", summary(verb)),
        format!("{} Nothing was changed. {}", another(comment), way_out(session, comment)),
    )
}

/// The warning of a read that finds another table, or a table that another create of the same owner continued.
pub(super) fn replaced(session: &Session, comment: Option<&str>) -> Diagnostic {
    let is_of_owner = comment.and_then(Fingerprint::of_comment).is_some_and(|found| mark::is_of_owner(session, &found));
    let gone = format!("{} It counts as gone, and nothing was changed.", another(comment));
    let detail = if is_of_owner {
        format!("{gone} Another create of the same `owner` wrote that mark.")
    } else {
        format!("{gone} {}", way_out(session, comment))
    };
    Diagnostic::warning(Path::root(), "The isolation was replaced outside Terraform", detail)
}

fn another(comment: Option<&str>) -> String {
    let carried = match comment {
        Some(comment) => format!("the mark {comment:?}"),
        None => "no mark".to_owned(),
    };
    format!("The table `{ID}` carries {carried}, so it is not the one of this resource.")
}

fn way_out(session: &Session, comment: Option<&str>) -> String {
    match comment.and_then(Fingerprint::of_comment) {
        Some(_) => format!(
            "A host has one isolation, in one state: if another state manages this table, add its domains there. Otherwise remove this \
             resource from the state and import the table, which keeps its rules until an apply replaces them:\n\n    \
             tofu state rm {KIND}.<name>\n\n{}",
            block()
        ),
        None => look(session),
    }
}

/// A create whose table exists already, and that may not continue it; a replacement may not even where another create may.
pub(super) fn in_use(session: &Session, comment: Option<&str>, ours: &Fingerprint) -> Diagnostic {
    let found = comment.and_then(Fingerprint::of_comment);
    let claim = found.map(|found| mark::claim(session, &found, ours));
    let detail = match claim {
        Some(Claim::Continue) => return not_replaced(),
        Some(Claim::Old(since)) => format!(
            "The table \"{ID}\" exists already, with the mark of this state and configuration{}. Nothing was changed. If its state was \
             lost, continue it:\n\n    ANKLUME_RECOVER=1 tofu apply",
            since.map(|since| format!(", since {}", rfc3339(since))).unwrap_or_default()
        ),
        Some(Claim::None) => format!(
            "The table \"{ID}\" exists already, without a mark that proves that this configuration created it. Nothing was changed. A \
             host has one isolation, in one state: if another state manages this table, add its domains there. Otherwise import it, \
             which keeps its rules until an apply replaces them:\n\n{}",
            block()
        ),
        None => unmarked(session),
    };
    let replacing = "If this plan replaces the isolation, remove `create_before_destroy` from it and from what depends on it: the name of the \
                     table is fixed.";
    Diagnostic::error(
        Path::root(),
        format!("{}: the name is already in use", summary("create")),
        format!("{detail}\n\n{replacing}"),
    )
}

/// A table that nothing shows to be of this provider.
pub(super) fn unmarked(session: &Session) -> String {
    format!(
        "The table \"{ID}\" exists and carries no mark of this provider, so it can be neither continued nor imported. Nothing was \
         changed. {}",
        look(session)
    )
}

fn look(session: &Session) -> String {
    format!(
        "Look at the table, and delete it once nothing needs it:\n\n{}\n{}",
        place::command(session, "list"),
        place::command(session, "delete")
    )
}

/// A state with neither `uid` nor private state, and a table of another owner.
pub(super) fn unknown(mark: &Fingerprint) -> Diagnostic {
    Diagnostic::error(
        Path::root(),
        format!("{}: nothing shows that it is the one of this resource", summary("delete")),
        format!(
            "The state has no `uid`, and the table `{ID}` carries the mark \"{mark}\" of another `owner`. Nothing was changed. Remove the \
             resource from the state; to delete the table with it, import it again and apply before you destroy it:\n\n    \
             tofu state rm {KIND}.<name>\n\n{}",
            block()
        ),
    )
}

/// A replacement under `create_before_destroy`, whose create continued the table that it was to replace.
pub(super) fn not_replaced() -> Diagnostic {
    Diagnostic::error(
        Path::root(),
        "Nothing was replaced",
        format!(
            "The table `{ID}` was in use when its replacement was to be created, so the existing table was kept. Remove \
             `create_before_destroy` from this resource and from what depends on it, then replace it again."
        ),
    )
}

/// The `import` block, indented.
pub(super) fn block() -> String {
    format!("    import {{\n        to = {KIND}.<name>\n        id = \"{ID}\"\n    }}")
}

fn rfc3339(time: OffsetDateTime) -> String {
    let (date, time) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[cfg(test)]
mod tests {
    use super::super::mark::Uid;
    use super::*;
    use crate::plugin::Value;
    use crate::resources::session::Options;

    fn session() -> Session {
        Session::new(Options::default())
    }

    #[test]
    fn another_table_is_named_with_the_way_to_import_it() {
        let mark = format!("anklume {}", "0".repeat(64));
        for told in [
            failed("update", &session(), &Error::Foreign { comment: Some(mark.clone()) }),
            replaced(&session(), Some(&mark)),
        ] {
            assert!(told.summary.ends_with("replaced outside Terraform"), "{}", told.summary);
            for said in [mark.as_str(), "tofu state rm anklume_nft_isolation.<name>", "id = \"inet anklume\""] {
                assert!(told.detail.contains(said), "{said}: {}", told.detail);
            }
        }
        let mark = mark::of_planned(&session(), &Value::object(), &Uid::new()).unwrap();
        let told = replaced(&session(), Some(&format!("anklume {mark}"))).detail;
        assert!(told.ends_with("Another create of the same `owner` wrote that mark."), "{told}");
    }

    #[test]
    fn a_table_without_a_mark_is_shown_by_a_command() {
        for comment in [None, Some("mine")] {
            let mark = "0".repeat(64).parse().unwrap();
            let told = in_use(&session(), comment, &mark);
            assert_eq!(told.summary, "Unable to create isolation: the name is already in use");
            for told in [told.detail, replaced(&session(), comment).detail] {
                assert!(told.contains("\n\n    nft list table inet anklume\n"), "{told}");
            }
        }
    }

    #[test]
    fn a_table_in_use_is_told_by_its_mark() {
        let session = session();
        let domains = |name: &str| Value::from_json(&serde_json::json!({"domains": {name: null}}));
        let of = |uid: &Uid, name: &str| mark::of_planned(&session, &domains(name), uid).unwrap();
        let old = Uid::of(
            &format!("{}{:08x}{}", "0".repeat(32), 1_793_527_205 - 400 * 86_400, "0".repeat(24)).parse().unwrap(),
        );
        let (old, new) = (old.unwrap(), Uid::new());
        let told = |found: Fingerprint| in_use(&session, Some(&format!("anklume {found}")), &of(&new, "a"));
        let since = told(of(&old, "a")).detail;
        assert!(since.contains("ANKLUME_RECOVER=1 tofu apply"), "{since}");
        assert!(told(of(&old, "b")).detail.contains("id = \"inet anklume\""));
        assert_eq!(told(of(&new, "a")).summary, "Nothing was replaced");
    }

    #[test]
    fn a_time_is_written_as_in_rfc_3339() {
        let time = |seconds| rfc3339(OffsetDateTime::from_unix_timestamp(seconds).unwrap());
        assert_eq!(time(1_793_527_205), "2026-11-01T10:00:05Z");
    }

    #[test]
    fn a_file_in_the_way_is_told_at_its_attribute() {
        let error = Error::ForeignFile { path: "/etc/x".into(), comment: None };
        let told = failed("update", &session(), &error);
        assert_eq!(told.path, Path::from("persist_path"));
        assert!(told.detail.starts_with(&error.what_to_do()) && told.detail.contains("Cause: "), "{}", told.detail);
    }
}
