//! `anklume_nft_isolation`: domains cannot talk, except where a policy says so.

mod create;
mod delete;
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
use crate::plugin::{self, Call, Diagnostic, Diagnostics, Failure, Path, Plan, Resource, Schema, Stored, Value};

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

    async fn read(&self, session: &Session, call: &Call, current: Stored) -> Result<Option<Stored>, Failure> {
        read::read(session, call, current).await
    }

    async fn update(&self, session: &Session, call: &Call, input: plugin::Update) -> Result<Stored, Failure> {
        update::update(session, call, input).await
    }

    async fn delete(&self, session: &Session, call: &Call, prior: Stored) -> Result<(), Failure> {
        delete::delete(session, call, prior).await
    }

    async fn import(&self, session: &Session, _call: &Call, _id: &str) -> Result<Stored, Failure> {
        Err(Diagnostic::error(
            Path::root(),
            "An isolation cannot be imported",
            format!(
                "nftables keeps addresses and ports, and no names of domains and policies. Remove the table, and apply right after it; \
                 the domains can talk in between:\n\n{}",
                place::removal(session)
            ),
        )
        .into())
    }
}
