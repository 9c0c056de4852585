//! What each request does, apart from how it arrives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::path::Path;
use super::plan::Plan;
use super::provider::Provider;
use super::resource::{Call, Create, Failure, Resource, Stored, Update};
use super::schema::{Schema, Type};
use super::value::Value;
use super::wire::tfplugin6 as wire;
use super::{Private, msgpack, planner, settle, state_json};

const DEFECT: &str = "The provider contradicts itself";

/// One kind of object, with its schema.
pub(super) struct Entry<S> {
    pub(super) resource: Box<dyn Resource<S>>,
    pub(super) schema: Schema,
    pub(super) ty: Type,
}

pub(super) struct Catalog<S> {
    pub(super) provider: Schema,
    pub(super) resources: BTreeMap<&'static str, Entry<S>>,
}

/// A provider at work.
pub(super) struct Server<P: Provider> {
    provider: P,
    catalog: OnceLock<Catalog<P::Session>>,
    session: RwLock<Option<Arc<P::Session>>>,
    stop: Mutex<CancellationToken>,
    /// The requests under way.
    pub(super) calls: TaskTracker,
    /// Whether the process outlives the walk that stops it.
    reattached: bool,
}

impl<P: Provider> Server<P> {
    pub(super) fn new(provider: P, reattached: bool) -> Server<P> {
        let (catalog, session, stop) = (OnceLock::new(), RwLock::default(), Mutex::default());
        Server { provider, catalog, session, stop, calls: TaskTracker::new(), reattached }
    }

    /// Every schema; made on first demand, so that starting costs nothing.
    pub(super) fn catalog(&self) -> &Catalog<P::Session> {
        self.catalog.get_or_init(|| {
            let resources = self.provider.resources().into_iter().map(|resource| {
                let schema = resource.schema();
                (resource.type_name(), Entry { ty: schema.ty(), schema, resource })
            });
            Catalog { provider: self.provider.schema(), resources: resources.collect() }
        })
    }

    /// Cancels what waits; lasts, in a process that serves several walks, until the next configuration.
    pub(super) fn stop(&self) {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }

    /// [`Self::stop`], and waits until the requests under way are answered.
    pub(super) async fn wind_up(&self) {
        self.stop();
        self.calls.close();
        self.calls.wait().await;
    }

    fn call(&self) -> Call {
        Call { stop: self.stop.lock().unwrap_or_else(PoisonError::into_inner).clone() }
    }

    fn session(&self) -> Result<Arc<P::Session>, Diagnostics> {
        let session = self.session.read().unwrap_or_else(PoisonError::into_inner).clone();
        session.ok_or_else(|| {
            Diagnostic::error(
                Path::root(),
                "The provider is not configured",
                "A request came before the configuration.",
            )
            .into()
        })
    }

    fn entry(&self, type_name: &str) -> Result<&Entry<P::Session>, Diagnostics> {
        self.catalog().resources.get(type_name).ok_or_else(|| {
            let detail = format!("This version of the provider has no resource type \"{type_name}\".");
            Diagnostic::error(Path::root(), "Unknown resource type", detail).into()
        })
    }

    pub(super) fn schemas(&self) -> wire::get_provider_schema::Response {
        let catalog = self.catalog();
        let mut diagnostics = Diagnostics::default();
        let all = catalog.resources.iter().map(|(name, entry)| (*name, &entry.schema));
        for (name, schema) in std::iter::once(("provider", &catalog.provider)).chain(all) {
            for problem in schema.problems() {
                diagnostics.error(Path::root(), DEFECT, format!("In the schema of `{name}`: {problem}."));
            }
        }
        let resources = catalog.resources.iter().map(|(name, entry)| ((*name).to_owned(), (&entry.schema).into()));
        wire::get_provider_schema::Response {
            provider: Some((&catalog.provider).into()),
            resource_schemas: resources.collect(),
            diagnostics: diagnostics.into(),
            server_capabilities: Some(CAPABILITIES),
        }
    }

    pub(super) fn metadata(&self) -> wire::get_metadata::Response {
        let name = |name: &&str| wire::get_metadata::ResourceMetadata { type_name: (*name).to_owned() };
        wire::get_metadata::Response {
            server_capabilities: Some(CAPABILITIES),
            diagnostics: Vec::new(),
            resources: self.catalog().resources.keys().map(name).collect(),
        }
    }

    pub(super) fn validate_provider(&self, config: Option<wire::DynamicValue>) -> Result<Diagnostics, Diagnostics> {
        let schema = &self.catalog().provider;
        let config = decode(config, &schema.ty())?;
        let mut problems = Diagnostics::default();
        planner::validate(schema.attributes(), &config, &Path::root(), &mut problems);
        self.provider.validate(&config, &mut problems);
        Ok(problems)
    }

    pub(super) fn configure(&self, request: wire::configure_provider::Request) -> Result<Diagnostics, Diagnostics> {
        let config = decode(request.config, &self.catalog().provider.ty())?;
        let session = self.provider.configure(config, &request.terraform_version)?;
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(session));
        if self.reattached {
            *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = CancellationToken::new();
        }
        Ok(Diagnostics::default())
    }

    pub(super) fn validate(
        &self,
        request: wire::validate_resource_config::Request,
    ) -> Result<Diagnostics, Diagnostics> {
        let entry = self.entry(&request.type_name)?;
        let config = decode(request.config, &entry.ty)?;
        let mut problems = Diagnostics::default();
        planner::validate(entry.schema.attributes(), &config, &Path::root(), &mut problems);
        entry.resource.validate(&config, &mut problems);
        Ok(problems)
    }

    pub(super) fn upgrade(
        &self,
        request: wire::upgrade_resource_state::Request,
    ) -> Result<wire::upgrade_resource_state::Response, Diagnostics> {
        let entry = self.entry(&request.type_name)?;
        let refuse = |detail: String| Diagnostic::error(Path::root(), "Unable to read the saved state", detail);
        let raw = request.raw_state.unwrap_or_default().json;
        let mut state =
            serde_json::from_slice(&raw).map_err(|error| refuse(format!("The state is no JSON: {error}.")))?;
        if request.version > entry.schema.version {
            let detail = "The state was written by a newer version of the provider. Install that version.";
            return Err(refuse(detail.to_owned()).into());
        }
        if request.version < entry.schema.version {
            let upgraded = entry.resource.upgrade(request.version, state);
            state = upgraded.map_err(|problem| Diagnostic::error(Path::root(), problem.summary, problem.detail))?;
        }
        let state = state_json::decode(&state, &entry.ty, &Path::root())
            .map_err(|error| refuse(format!("The state does not fit the schema: {error}.")))?;
        let state = planner::conform(entry.schema.attributes(), &state);
        // Some walks read the state without a configured provider.
        let noticed = self.session().map(|session| entry.resource.seen(&session, &state)).unwrap_or_default();
        Ok(wire::upgrade_resource_state::Response {
            upgraded_state: Some(encode(&state, &entry.ty)?),
            diagnostics: noticed.into(),
        })
    }

    pub(super) fn plan(
        &self,
        request: wire::plan_resource_change::Request,
    ) -> Result<wire::plan_resource_change::Response, Diagnostics> {
        let (entry, session) = (self.entry(&request.type_name)?, self.session()?);
        let config = decode(request.config, &entry.ty)?;
        let prior = decode(request.prior_state, &entry.ty)?;
        let proposed = decode(request.proposed_new_state, &entry.ty)?;
        let private = Private::from_bytes(request.prior_private);
        let mut plan: Plan<'_> = planner::start(&entry.schema, &config, &prior, &proposed, private);
        entry.resource.plan(&session, &mut plan);
        // By this the second plan of a replacement, which has no prior state, is told from a create.
        if !prior.is_null() && plan.private.is_empty() {
            plan.private.set("planned", "true");
        }
        for (path, breach) in planner::breaches(&entry.schema, &plan) {
            let detail = format!("This is a defect of the provider, please report it. At \"{path}\": {breach}.");
            plan.diagnostics.error(path, DEFECT, detail);
        }
        Ok(wire::plan_resource_change::Response {
            planned_state: Some(encode(&plan.planned, &entry.ty)?),
            requires_replace: plan.replacing().iter().map(wire::AttributePath::from).collect(),
            planned_private: plan.private.into_bytes(),
            diagnostics: plan.diagnostics.into(),
        })
    }

    pub(super) async fn apply(
        &self,
        request: wire::apply_resource_change::Request,
    ) -> Result<wire::apply_resource_change::Response, Diagnostics> {
        let (entry, session) = (self.entry(&request.type_name)?, self.session()?);
        let config = decode(request.config, &entry.ty)?;
        let prior = decode(request.prior_state, &entry.ty)?;
        let planned = decode(request.planned_state, &entry.ty)?;
        let private = Private::from_bytes(request.planned_private);
        self.provider.applies(&session);
        let call = self.call();
        let (resource, target) = (&entry.resource, planned.clone());
        let done = match (prior.is_null(), planned.is_null()) {
            (_, true) => match resource.delete(&session, &call, Stored::new(prior, private)).await {
                Ok(()) => Ok(Stored::default()),
                Err(failure) => Err(failure),
            },
            (true, false) => resource.create(&session, &call, Create { config, planned, private }).await,
            (false, false) => resource.update(&session, &call, Update { config, prior, planned, private }).await,
        };
        let (stored, diagnostics) = match done {
            Ok(stored) => {
                let state = settle::settle(&target, &stored.state);
                (Stored { state, ..stored }, Diagnostics::default())
            }
            Err(failure) => conformed(entry, failure),
        };
        let mut all = stored.warnings;
        all.extend(diagnostics);
        Ok(wire::apply_resource_change::Response {
            new_state: Some(encode(&stored.state, &entry.ty)?),
            private: stored.private.into_bytes(),
            diagnostics: all.into(),
        })
    }

    pub(super) async fn read(
        &self,
        request: wire::read_resource::Request,
    ) -> Result<wire::read_resource::Response, Diagnostics> {
        let (entry, session) = (self.entry(&request.type_name)?, self.session()?);
        let prior = decode(request.current_state, &entry.ty)?;
        let current = Stored::new(prior.clone(), Private::from_bytes(request.private.clone()));
        let read = entry.resource.read(&session, &self.call(), current).await;
        let (stored, diagnostics) = match read {
            Ok(Some(stored)) => (stored, Diagnostics::default()),
            Ok(None) => (Stored::default(), Diagnostics::default()),
            Err(failure) => conformed(entry, failure),
        };
        let attributes = entry.schema.attributes();
        let state = settle::keep_spelling(attributes, &prior, planner::conform(attributes, &stored.state));
        let private = if stored.private.is_empty() { request.private } else { stored.private.into_bytes() };
        let mut all = stored.warnings;
        all.extend(diagnostics);
        Ok(wire::read_resource::Response {
            new_state: Some(encode(&state, &entry.ty)?),
            private,
            diagnostics: all.into(),
        })
    }

    pub(super) async fn import(
        &self,
        request: wire::import_resource_state::Request,
    ) -> Result<wire::import_resource_state::Response, Diagnostics> {
        let (entry, session) = (self.entry(&request.type_name)?, self.session()?);
        let stored = entry.resource.import(&session, &self.call(), &request.id).await;
        let stored = stored.map_err(|failure| failure.diagnostics)?;
        let state = planner::conform(entry.schema.attributes(), &stored.state);
        let imported = wire::import_resource_state::ImportedResource {
            type_name: request.type_name,
            state: Some(encode(&state, &entry.ty)?),
            private: stored.private.into_bytes(),
        };
        Ok(wire::import_resource_state::Response {
            imported_resources: vec![imported],
            diagnostics: stored.warnings.into(),
        })
    }
}

const CAPABILITIES: wire::ServerCapabilities =
    wire::ServerCapabilities { plan_destroy: true, get_provider_schema_optional: true };

/// What is saved after a failure, and why it failed. A failure always says so, or the core would take it for success.
fn conformed<S>(entry: &Entry<S>, failure: Failure) -> (Stored, Diagnostics) {
    let mut diagnostics = failure.diagnostics;
    if !diagnostics.has_errors() {
        diagnostics.error(Path::root(), DEFECT, "A request failed without saying why. Please report it.");
    }
    let mut stored = failure.partial.unwrap_or_default();
    stored.state = planner::conform(entry.schema.attributes(), &stored.state);
    (stored, diagnostics)
}

fn decode(value: Option<wire::DynamicValue>, ty: &Type) -> Result<Value, Diagnostics> {
    let Some(value) = value else { return Ok(Value::Null) };
    let decoded = match (value.msgpack.as_slice(), value.json.as_slice()) {
        ([], []) => Ok(Value::Null),
        ([], json) => match serde_json::from_slice(json) {
            Ok(json) => state_json::decode(&json, ty, &Path::root()),
            Err(_) => Err(msgpack::WireError::Truncated),
        },
        (bytes, _) => msgpack::decode(bytes, ty),
    };
    decoded.map_err(|error| {
        let detail = format!("The request cannot be read: {error}.");
        Diagnostic::error(Path::root(), "Unable to read the request", detail).into()
    })
}

fn encode(value: &Value, ty: &Type) -> Result<wire::DynamicValue, Diagnostics> {
    match msgpack::encode(value, ty) {
        Ok(msgpack) => Ok(wire::DynamicValue { msgpack, json: Vec::new() }),
        Err(error) => {
            let detail = format!("This is a defect of the provider, please report it: {error}.");
            Err(Diagnostic::error(Path::root(), DEFECT, detail).into())
        }
    }
}
