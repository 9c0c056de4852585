//! Import: the table by its name, whoever has written its mark.

use super::mark::{self, Uid};
use super::{ID, place, told};
use crate::nft::TableMark;
use crate::plugin::{Call, Diagnostic, Failure, Path, Stored, Value};
use crate::resources::session::Session;

pub(super) async fn import(session: &Session, call: &Call, id: &str) -> Result<Stored, Failure> {
    let refused = |summary: String, detail: String| Failure::from(Diagnostic::error(Path::root(), summary, detail));
    let unable = |why: &str| format!("{}: {why}", told::summary("import"));
    if id != ID {
        let detail = format!("\"{id}\" is no isolation. A host has one, the table `{ID}`. Write:\n\n{}", told::block());
        return Err(refused("Invalid import id".to_owned(), detail));
    }
    let place = place::find(session, call, &Value::Null, "read", "import").await?;
    let mark = place.host.mark(&place.limit).await.map_err(|error| told::failed("import", session, &error))?;
    let uid = match &mark {
        TableMark::NoTable => {
            let detail = format!("There is no table `{ID}`. Remove the import; an apply then creates the table.");
            return Err(refused(unable("it does not exist"), detail));
        }
        TableMark::Unmarked => None,
        TableMark::Marked(mark) => Uid::of(mark),
    };
    let Some(uid) = uid else {
        return Err(refused(unable("the table carries no mark"), told::unmarked(session)));
    };
    let mut state = Value::object();
    state.set("id", ID);
    state.set("uid", uid.to_string());
    Ok(Stored::new(state, mark::keep(session)))
}

/// Whether the table was imported and no apply has written its mark yet: nftables keeps no names of domains, so the state
/// has none.
pub(super) fn is_unapplied(state: &Value) -> bool {
    state.get("domains").is_null()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::session::Options;

    #[tokio::test]
    async fn any_other_id_is_rejected_with_the_block_to_write() {
        let session = Session::new(Options::default());
        for id in ["", "anklume", "inet other"] {
            let failure = import(&session, &Call::default(), id).await.unwrap_err();
            let told = failure.diagnostics.iter().next().unwrap();
            assert_eq!(told.summary, "Invalid import id");
            assert!(told.detail.contains("id = \"inet anklume\""), "{}", told.detail);
        }
    }
}
