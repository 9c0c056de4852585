//! Create: the whole table in one transaction, or what an interrupted create of the same configuration made.

use super::place::{self, Place};
use super::{ID, KIND, mark, model, neighbours, told};
use crate::incus::Wait;
use crate::nft::{Before, Error, Fingerprint, Isolation, PersistPath, Ruleset, Standing};
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
    let mark = mark::new(session, &input.config)?;
    let wanted = Wanted::of(session.prefix(), &input.planned, mark.clone())?;
    let place = place::find(session, call, &input.planned, "create", "create").await?;
    let mut warnings = Diagnostics::default();
    let applied = match wanted.bring(&place, Table::OfSameConfiguration).await {
        Ok(true) => {
            warnings.warning(
                Path::root(),
                "Continued an interrupted create",
                format!("The table `{ID}` was there already, made by an earlier apply of this configuration."),
            );
            Ok(())
        }
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    let private = mark::keep(session, &mark);
    let stored = Stored::new(wanted.state(&input.planned), private);
    if let Err(error) = applied {
        let failure = Failure::from(told::failed("create", session, &error));
        return match stands(&place, &error, &wanted).await {
            true => Err(failure.with_partial(stored)),
            false => Err(failure),
        };
    }
    neighbours::warn(session, &place.client, &input.planned, &mut warnings).await;
    Ok(Stored { warnings, ..stored })
}

/// Whether a failed apply may have left a table of ours. What ended it must not keep the table out of the state.
async fn stands(place: &Place, error: &Error, wanted: &Wanted) -> bool {
    if !error.may_have_been_applied() {
        return false;
    }
    let standing = place.host.read(&wanted.ruleset, wanted.file.as_ref(), &place::limit(&Wait::afterwards())).await;
    !matches!(standing, Ok(Standing::Absent | Standing::Foreign { .. }))
}

/// Which table is gone on with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// The one with exactly this mark.
    Own,
    /// Also one that an interrupted create of the same configuration made.
    OfSameConfiguration,
}

/// What an isolation shall be.
pub(super) struct Wanted {
    pub(super) ruleset: Ruleset,
    /// As the state shows it.
    pub(super) text: String,
    pub(super) file: Option<PersistPath>,
}

impl Wanted {
    /// What `values`, all known, ask for.
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

    /// Brings table and file to what is wanted; returns whether a table was gone on with that is not `Table::Own`. A file
    /// that an earlier isolation of the same owner left behind is written over.
    pub(super) async fn bring(&self, place: &Place, table: Table) -> Result<bool, Error> {
        let ours = self.ruleset.fingerprint();
        let mut before = Before::default();
        loop {
            let applied = place.host.take_over(&self.ruleset, &before, self.file.as_ref(), &place.limit).await;
            let Err(error) = applied else { return Ok(before.table.is_some()) };
            let known = before.clone();
            if table == Table::OfSameConfiguration {
                before.table = mark::of_table(&error, ours).or(before.table);
            }
            before.file = mark::of_file(&error, ours).or(before.file);
            if before == known {
                return Err(error);
            }
        }
    }

    /// The state of a table that stands as wanted; what is configured is as in `values`.
    pub(super) fn state(&self, values: &Value) -> Value {
        let mut state = values.clone();
        state.set("id", ID);
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
