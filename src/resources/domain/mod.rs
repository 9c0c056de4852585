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
use super::uid::{self, Uid};
use super::{marks, refusal, timeouts};
use crate::incus;
use crate::plugin::{
    Call, Create, Diagnostic, Diagnostics, Failure, Path, Plan, Resource, Schema, Stored, Update, Value,
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

    fn seen(&self, session: &Session, prior: &Value) -> Diagnostics {
        session.walk.pass(KIND, prior).map(Diagnostics::from).unwrap_or_default()
    }

    async fn create(&self, session: &Session, call: &Call, input: Create) -> Result<Stored, Failure> {
        create::create(session, call, input).await
    }

    async fn read(&self, session: &Session, call: &Call, current: Stored) -> Result<Option<Stored>, Failure> {
        let before = current.state.clone();
        let read = refresh(session, call, current).await;
        session.walk.has_read(KIND, &before, &read);
        read
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
        let mut state = pieces.state(session, id, &prior);
        let uid = Uid::new(session.prefix(), marks::carried(&project.config)).or_still([&network.config]);
        state.set(uid::NAME, &pieces.confirmed(uid));
        let private = pieces.private(marks::private(session), &state);
        Ok(Stored::new(state, private))
    }
}

async fn refresh(session: &Session, call: &Call, current: Stored) -> Result<Option<Stored>, Failure> {
    let uid = uid::find(session, &current.state, &current.private)?;
    let name = current.state.get("name").as_str().unwrap_or_default().to_owned();
    let client = session.client_until(&timeouts::of_read(call, &current.state)).await?;
    let failure = |error: &incus::Error| failed("read", &name, error);
    let pieces = Pieces::shared(&client, session, &name).await.map_err(|error| failure(&error))?;
    if let Some(uid) = &uid {
        pieces.refuse_strangers(&name, uid)?;
        if !pieces.has_any(uid) {
            return uid::absent(session, &client, "domain", current, pieces.configs().next()).await;
        }
    } else if pieces.is_gone() {
        return uid::absent(session, &client, "domain", current, None).await;
    }
    let mut state = pieces.state(session, &name, &current.state);
    let mut private = match marks::is_lost(&current.private) {
        true => marks::private(session),
        false => current.private,
    };
    session.found_here(&client, &mut private).await;
    let private = pieces.private(private, &state);
    pieces.show_moved(&mut state, &private);
    let is_whole = pieces.project.is_some() && pieces.network.is_some() && pieces.profile.is_some();
    let confirmed = uid.map(|uid| pieces.confirmed(uid));
    state.set(uid::NAME, confirmed.map(|uid| if is_whole { uid.complete() } else { uid }.to_string()));
    Ok(Some(Stored::new(state, private)))
}

fn failed(verb: &str, name: &str, error: &incus::Error) -> Diagnostic {
    let mut diagnostic = refusal::diagnostic(format!("Unable to {verb} domain"), error);
    diagnostic.detail = format!("Domain \"{name}\". {}", diagnostic.detail);
    diagnostic
}
