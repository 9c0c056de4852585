//! `anklume_volume`: data that outlives its machine.

mod carry;
mod create;
mod delete;
mod exposed;
mod filled;
mod form;
mod model;
mod plan;
mod read;
mod schema;
mod source;
mod stream;
mod target;
mod update;
mod users;
mod validate;

use std::time::Duration;

use async_trait::async_trait;

use super::session::Session;
use crate::plugin::{self, Call, Diagnostics, Failure, Plan, Resource, Schema, Stored, Value};

const KIND: &str = "anklume_volume";
/// Moving a large volume to another pool copies it.
const LIMIT: Duration = Duration::from_secs(30 * 60);

pub(crate) use target::iso_is_protected;

/// The resource `anklume_volume`.
pub struct Volume;

#[async_trait]
impl Resource<Session> for Volume {
    fn type_name(&self) -> &'static str {
        KIND
    }

    fn schema(&self) -> Schema {
        schema::schema()
    }

    fn validate(&self, config: &Value, problems: &mut Diagnostics) {
        validate::validate(config, problems);
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
        read::import(session, call, id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_sound() {
        assert_eq!(schema::schema().problems(), Vec::<String>::new());
    }
}
