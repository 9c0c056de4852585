//! `anklume_nft_isolation`: domains cannot talk, except where a policy says so.

mod create;
mod delete;
mod import;
mod mark;
mod model;
mod neighbours;
mod place;
mod plan;
mod read;
mod schema;
mod told;
mod update;

use std::time::Duration;

use async_trait::async_trait;

use super::session::Session;
use crate::plugin::{self, Call, Diagnostics, Failure, Plan, Resource, Schema, Stored, Value};

const KIND: &str = "anklume_nft_isolation";
/// The table: there is one on a host.
const ID: &str = "inet anklume";
const LIMIT: Duration = Duration::from_secs(120);

/// The resource `anklume_nft_isolation`.
pub struct NftIsolation;

#[async_trait]
impl Resource<Session> for NftIsolation {
    fn type_name(&self) -> &'static str {
        KIND
    }

    fn schema(&self) -> Schema {
        schema::schema()
    }

    fn validate(&self, config: &Value, problems: &mut Diagnostics) {
        plan::validate(config, problems);
    }

    fn plan(&self, session: &Session, plan: &mut Plan<'_>) {
        plan::plan(session, plan);
    }

    async fn create(&self, session: &Session, call: &Call, input: plugin::Create) -> Result<Stored, Failure> {
        create::create(session, call, input).await
    }

    fn seen(&self, session: &Session, prior: &Value) -> Diagnostics {
        session.walk.pass(KIND, prior).map(Diagnostics::from).unwrap_or_default()
    }

    async fn read(&self, session: &Session, call: &Call, current: Stored) -> Result<Option<Stored>, Failure> {
        let before = current.state.clone();
        let read = read::read(session, call, current).await;
        session.walk.has_read(KIND, &before, &read);
        read
    }

    async fn update(&self, session: &Session, call: &Call, input: plugin::Update) -> Result<Stored, Failure> {
        update::update(session, call, input).await
    }

    async fn delete(&self, session: &Session, call: &Call, prior: Stored) -> Result<(), Failure> {
        delete::delete(session, call, prior).await
    }

    async fn import(&self, session: &Session, call: &Call, id: &str) -> Result<Stored, Failure> {
        import::import(session, call, id).await
    }
}
