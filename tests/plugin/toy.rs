//! A provider that keeps its objects in memory: enough to see every rule of the layer from outside.

use std::sync::Arc;
use std::time::Duration;

use anklume::plugin::*;
use async_trait::async_trait;
use tokio::sync::Notify;

/// The provider.
#[derive(Default)]
pub(crate) struct Toy {
    /// Told when a slow creation has begun.
    pub(crate) begun: Arc<Notify>,
}

/// What the things share.
pub(crate) struct Session {
    begun: Arc<Notify>,
}

struct Thing;

fn lower_case(value: &Value) -> Option<Value> {
    value.as_str().map(|text| text.to_lowercase().into())
}

fn not_bad(value: &Value) -> Result<(), Problem> {
    match value.as_str() {
        Some("bad") => Err(Problem::new("Bad name", "Choose another.")),
        _ => Ok(()),
    }
}

impl Provider for Toy {
    type Session = Session;

    fn schema(&self) -> Schema {
        Schema::new(0, "A toy.", vec![Attribute::string("remote").optional()])
    }

    fn configure(&self, _config: Value, _client_version: &str) -> Result<Session, Diagnostics> {
        Ok(Session { begun: Arc::clone(&self.begun) })
    }

    fn resources(&self) -> Vec<Box<dyn Resource<Session>>> {
        vec![Box::new(Thing)]
    }
}

#[async_trait]
impl Resource<Session> for Thing {
    fn type_name(&self) -> &'static str {
        "toy_thing"
    }

    fn schema(&self) -> Schema {
        Schema::new(
            1,
            "A thing.",
            vec![
                Attribute::string("id").computed(),
                Attribute::string("name").required().canonical(lower_case).check(not_bad),
                Attribute::string("kind").default("plain").replace(),
                Attribute::string("note").optional(),
                Attribute::string("secret").optional().write_only(),
                Attribute::number("size").optional_computed(),
                Attribute::list("tags", Type::String).optional(),
                Attribute::of("anything", Type::Dynamic).optional(),
                Attribute::nested_map(
                    "nics",
                    vec![Attribute::number("mtu").default(1500), Attribute::string("mac").computed()],
                )
                .optional(),
            ],
        )
    }

    fn plan(&self, _session: &Session, plan: &mut Plan<'_>) {
        let note = plan.config.get("note").as_str().map(str::to_owned);
        match note.as_deref() {
            Some("breach-value") => plan.set("note", "other"),
            Some("breach-null") => plan.set("tags", vec!["x"]),
            Some("breach-size") => plan.set("tags", vec!["x", "y"]),
            Some("breach-keys") => plan.set("nics", Value::object()),
            Some("breach-secret") => plan.set("secret", "hush"),
            Some("breach-path") => plan.replace("absent"),
            Some("breach-name") => plan.set("undeclared", 1),
            _ => {}
        }
        if plan.action == Action::Update && plan.replaces() {
            plan.private.set("replaces", "yes");
        }
        if plan.is_replacement() {
            plan.diagnostics.warning("kind", "Replaced", "The object is made anew.");
        }
        if plan.action == Action::Destroy && plan.prior.get("note").as_str() == Some("breach-destroy") {
            plan.planned = plan.prior.clone();
        }
        if plan.action == Action::Destroy && plan.prior.get("note").as_str() == Some("protected") {
            plan.diagnostics.error("note", "Protected", "Unprotect it first.");
        }
    }

    async fn create(&self, session: &Session, call: &Call, input: Create) -> Result<Stored, Failure> {
        let mut state = input.planned.clone();
        let name = state.get("name").as_str().unwrap_or_default().to_owned();
        state.set("id", format!("toy/{name}"));
        state.set("name", name.to_uppercase());
        state.set("secret", input.config.get("secret").clone());
        let mut private = input.private;
        private.set("made", "here");
        match input.config.get("note").as_str() {
            Some("panic") => panic!("the toy is broken"),
            Some("partial") => {
                let failure = Failure::from(Diagnostic::error("note", "Half made", "It exists."));
                return Err(failure.with_partial(Stored::new(state, private)));
            }
            Some("fail") => return Err(Diagnostic::error("note", "Not made", "It does not exist.").into()),
            Some("slow") => {
                session.begun.notify_one();
                tokio::select! {
                    () = call.stop.cancelled() => state.set("size", -1),
                    () = tokio::time::sleep(Duration::from_secs(60)) => {}
                }
            }
            _ => {}
        }
        Ok(Stored::new(state, private))
    }

    async fn read(&self, _session: &Session, _call: &Call, current: Stored) -> Result<Option<Stored>, Failure> {
        let mut state = current.state;
        if state.get("note").as_str() == Some("gone") {
            return Ok(None);
        }
        let name = state.get("name").as_str().unwrap_or_default().to_uppercase();
        state.set("name", name);
        state.set("secret", "hush");
        if state.get("note").as_str() == Some("unreadable") {
            return Err(Diagnostic::error("note", "Not read", "It may be there.").into());
        }
        Ok(Some(Stored::new(state, Private::default())))
    }

    async fn update(&self, _session: &Session, _call: &Call, input: Update) -> Result<Stored, Failure> {
        let mut state = input.planned.clone();
        match input.config.get("note").as_str() {
            Some("partial") => {
                state.set("name", "half");
                let failure = Failure::from(Diagnostic::error("note", "Half changed", "Some of it is as it was."));
                Err(failure.with_partial(Stored::new(state, input.private)))
            }
            Some("fail") => Err(Diagnostic::error("note", "Not changed", "It is as it was.").into()),
            _ => {
                let name = state.get("name").as_str().unwrap_or_default().to_uppercase();
                state.set("name", name);
                state.set("secret", "hush");
                Ok(Stored::new(state, input.private))
            }
        }
    }

    async fn delete(&self, _session: &Session, _call: &Call, prior: Stored) -> Result<(), Failure> {
        match prior.state.get("note").as_str() {
            Some("stuck") => Err(Diagnostic::error("note", "Not deleted", "It is still there.").into()),
            _ => Ok(()),
        }
    }

    async fn import(&self, _session: &Session, _call: &Call, id: &str) -> Result<Stored, Failure> {
        let mut state = Value::object();
        state.set("id", format!("toy/{id}"));
        state.set("name", id);
        state.set("kind", "plain");
        state.set("secret", "hush");
        state.set("undeclared", true);
        Ok(Stored::new(state, Private::default()))
    }

    fn upgrade(&self, version: i64, mut state: serde_json::Value) -> Result<serde_json::Value, Problem> {
        if version == 0
            && let Some(state) = state.as_object_mut()
        {
            let title = state.remove("title").unwrap_or_default();
            state.insert("name".to_owned(), title);
        }
        Ok(state)
    }
}
