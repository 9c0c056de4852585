//! Create: the whole table in one transaction, or the one that an interrupted create of the same configuration left.

use super::mark::{self, Claim, Uid};
use super::place::{self, Place};
use super::{ID, KIND, model, neighbours, told};
use crate::incus::Wait;
use crate::nft::{Applied, Before, Error, Fingerprint, Isolation, PersistPath, Ruleset, Standing};
use crate::plugin::{Call, Create, Diagnostic, Diagnostics, Failure, Path, Stored, Value};
use crate::resources::refusal;
use crate::resources::session::Session;

pub(super) async fn create(session: &Session, call: &Call, input: Create) -> Result<Stored, Failure> {
    session.create_once(KIND, ID)?;
    let result = make(session, call, input).await;
    session.made(KIND, ID, &result);
    result
}

async fn make(session: &Session, call: &Call, input: Create) -> Result<Stored, Failure> {
    let uid = Uid::new();
    let mark = mark::of_planned(session, &input.planned, &uid)?;
    let wanted = Wanted::of(session.prefix(), &input.planned, mark.clone())?;
    let place = place::find(session, call, &input.planned, "create", "create").await?;
    // Only the create of a replacement has private state, and only where core hands it over.
    let is_replacement = !input.private.is_empty();
    let may_continue = |found: &Fingerprint| !is_replacement && mark::claim(session, found, &mark) == Claim::Continue;
    let mut private = mark::keep(session);
    session.keep_server(&place.client, &mut private).await;
    let mut stored = Stored::new(wanted.state(&input.planned, &uid), private);
    match wanted.bring(session, &place, may_continue).await {
        Ok(None) => {}
        Ok(Some(continued)) => {
            if let Some(old) = Uid::of(&continued) {
                session.take_over(KIND, &old.to_string());
            }
            stored.warnings.warning(
                Path::root(),
                "Continued an interrupted create",
                format!("The table `{ID}` existed already, created by an earlier apply of this configuration."),
            );
        }
        Err(error) => {
            let diagnostic = match &error {
                Error::Foreign { comment } => told::in_use(session, comment.as_deref(), &mark),
                _ => told::failed("create", session, &error),
            };
            let failure = Failure::from(diagnostic);
            return match stands(&place, &error, &wanted).await {
                true => {
                    stored.state.set("uid", uid.incomplete());
                    Err(failure.with_partial(stored))
                }
                false => Err(failure),
            };
        }
    }
    neighbours::warn(session, &place.client, &input.planned, &mut stored.warnings).await;
    Ok(stored)
}

/// Whether a failed apply may have left a table of ours. What ended it must not keep the table out of the state.
async fn stands(place: &Place, error: &Error, wanted: &Wanted) -> bool {
    if !error.may_have_been_applied() {
        return false;
    }
    let standing = place.host.read(&wanted.ruleset, wanted.file.as_ref(), &place::limit(&Wait::afterwards())).await;
    !matches!(standing, Ok(Standing::Absent | Standing::Foreign { .. }))
}

/// The table and the file that an isolation asks for.
pub(super) struct Wanted {
    pub(super) ruleset: Ruleset,
    /// As the state shows it.
    pub(super) text: String,
    pub(super) file: Option<PersistPath>,
}

impl Wanted {
    /// The table and the file of `values`, all known.
    pub(super) fn of(prefix: &str, values: &Value, mark: Fingerprint) -> Result<Self, Diagnostics> {
        let parsed = Isolation::parse(&model::input(prefix, values));
        let problems = model::errors(&parsed.problems);
        if problems.has_errors() {
            return Err(problems);
        }
        let parts = parsed.isolation.and_then(|isolation| Some((isolation.compile(mark)?, isolation.ruleset()?)));
        let (ruleset, text) = parts.ok_or_else(|| refusal::defect("the isolation", "a value is not known"))?;
        Ok(Self { ruleset, text, file: file(values)? })
    }

    /// Brings table and file to this. Returns the mark of another table that was continued, which `may_continue` allows. A
    /// file that an earlier isolation of the same owner left is overwritten.
    pub(super) async fn bring(
        &self,
        session: &Session,
        place: &Place,
        may_continue: impl Fn(&Fingerprint) -> bool,
    ) -> Result<Option<Fingerprint>, Error> {
        let mut before = Before::default();
        loop {
            let applied = place.host.take_over(&self.ruleset, &before, self.file.as_ref(), &place.limit).await;
            let error = match applied {
                Ok(applied) => return Ok(before.table.filter(|_| applied == Applied::Continued)),
                Err(error) => error,
            };
            let known = before.clone();
            let mark = |comment: &Option<String>| Fingerprint::of_comment(comment.as_deref()?);
            match &error {
                Error::Foreign { comment } => {
                    before.table = mark(comment).filter(&may_continue).or(before.table);
                }
                Error::ForeignFile { comment, .. } => {
                    before.file = mark(comment).filter(|found| mark::is_of_owner(session, found)).or(before.file);
                }
                _ => {}
            }
            if before == known {
                return Err(error);
            }
        }
    }

    /// The state of the table `uid` that stands as wanted; what is configured is as in `values`.
    pub(super) fn state(&self, values: &Value, uid: &Uid) -> Value {
        let mut state = values.clone();
        state.set("id", ID);
        state.set("uid", uid.to_string());
        state.set("rules", self.ruleset.rules().clone());
        state.set("ruleset", self.text.as_str());
        state
    }
}

/// The file for the next boot.
pub(super) fn file(values: &Value) -> Result<Option<PersistPath>, Diagnostic> {
    let path = values.get("persist_path").as_str();
    let path = path.map(|path| path.parse().map_err(|error| refusal::defect("`persist_path`", error)));
    path.transpose()
}
