//! `anklume_domain`: a project, its bridge and its `default` profile, as one object with one life.

mod body;
mod create;
mod delete;
mod neighbours;
mod plan;
mod schema;
mod state;
mod subnet;
mod update;

use std::time::Duration;

use async_trait::async_trait;

use self::state::Pieces;
use super::session::Session;
use super::{marks, refusal, timeouts};
use crate::incus;
use crate::plugin::{
    Call, Create, Diagnostic, Diagnostics, Failure, Path, Plan, Private, Resource, Schema, Stored, Update, Value,
};

pub use self::subnet::{Addressing, Trust};

const KIND: &str = "anklume_domain";
const LIMIT: Duration = Duration::from_secs(300);

/// The resource `anklume_domain`.
pub struct Domain;

#[async_trait]
impl Resource<Session> for Domain {
    fn type_name(&self) -> &'static str {
        KIND
    }

    fn schema(&self) -> Schema {
        schema::schema()
    }

    fn validate(&self, config: &Value, problems: &mut Diagnostics) {
        schema::validate(config, problems);
    }

    fn plan(&self, session: &Session, plan: &mut Plan<'_>) {
        plan::plan(session, plan);
    }

    async fn create(&self, session: &Session, call: &Call, input: Create) -> Result<Stored, Failure> {
        create::create(session, call, input).await
    }

    async fn read(&self, session: &Session, call: &Call, current: Stored) -> Result<Option<Stored>, Failure> {
        refusal::same_prefix(current.private.get("prefix"), session.prefix())?;
        let name = current.state.get("name").as_str().unwrap_or_default();
        let client = session.client_until(&timeouts::of_read(call, &current.state)).await?;
        let pieces = Pieces::shared(&client, session, name).await.map_err(|error| failed("read", name, &error))?;
        let pieces = own(pieces, &current.private);
        if pieces.is_gone() {
            return Ok(None);
        }
        let mut state = pieces.state(session, name, &current.state);
        let private = match marks::is_lost(&current.private) {
            true => pieces.found_again(session),
            false => current.private,
        };
        let private = pieces.private(private, &state);
        pieces.show_moved(&mut state, &private);
        Ok(Some(Stored::new(state, private)))
    }

    async fn update(&self, session: &Session, call: &Call, input: Update) -> Result<Stored, Failure> {
        update::update(session, call, input).await
    }

    async fn delete(&self, session: &Session, call: &Call, prior: Stored) -> Result<(), Failure> {
        delete::delete(session, call, prior).await
    }

    async fn import(&self, session: &Session, call: &Call, id: &str) -> Result<Stored, Failure> {
        super::name::domain(&Value::from(id)).map_err(|problem| {
            Diagnostic::error(
                Path::root(),
                "Invalid import id",
                format!("Write the name of the domain. {}", problem.detail),
            )
        })?;
        let client = session.client_until(&timeouts::of_read(call, &Value::Null)).await?;
        let pieces = Pieces::fetch(&client, session, id).await.map_err(|error| failed("import", id, &error))?;
        let (Some(project), Some(network)) = (&pieces.project, &pieces.network) else {
            return Err(Diagnostic::error(
                Path::root(),
                "Unable to import domain: it does not exist",
                format!(
                    "A domain \"{id}\" is the project `{}` and the bridge `{}`. One of them is missing.",
                    session.project(id),
                    session.bridge(id)
                ),
            )
            .into());
        };
        state::adoptable(project, network)?;
        let mut prior = Value::object();
        prior.set("timeouts", timeouts::stored(&project.config));
        let state = pieces.state(session, id, &prior);
        let private = pieces.private(pieces.found_again(session), &state);
        Ok(Stored::new(state, private))
    }
}

/// The pieces without those of another incarnation: what others made under a name of ours counts as missing.
fn own(pieces: Pieces, private: &Private) -> Pieces {
    let Pieces { project, network, profile } = pieces;
    let project = project.filter(|project| marks::same_incarnation(&project.config, private));
    Pieces {
        network: network.filter(|network| marks::same_incarnation(&network.config, private)),
        profile: profile.filter(|_| project.is_some()),
        project,
    }
}

fn failed(verb: &str, name: &str, error: &incus::Error) -> Diagnostic {
    let mut diagnostic = refusal::diagnostic(format!("Unable to {verb} domain"), error);
    diagnostic.detail = format!("Domain \"{name}\". {}", diagnostic.detail);
    diagnostic
}
