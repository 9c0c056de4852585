//! `anklume_profile`: configuration and devices that instances of a domain share.

mod schema;
mod users;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use self::users::Used;
use super::cloud_init::{self, CloudInit};
use super::marks::{self, Found, Marks};
use super::session::Session;
use super::timeouts::{self, Timeouts};
use super::uid::{self, Uid};
use super::{keys, meanwhile, refusal};
use crate::incus::{self, Client, Devices, Wait, profile};
use crate::plugin::{
    Action, Call, Create, Diagnostic, Diagnostics, Failure, Path, Plan, Private, Resource, Schema, Stored, Update,
    Value,
};

const KIND: &str = "anklume_profile";
const LIMIT: Duration = Duration::from_secs(120);

/// The resource `anklume_profile`.
pub struct Profile;

#[derive(Deserialize)]
struct Model {
    name: String,
    domain: String,
    description: Option<String>,
    config: Option<BTreeMap<String, String>>,
    devices: Option<Devices>,
    cloud_init: Option<CloudInit>,
    timeouts: Timeouts,
}

impl Model {
    fn read(value: &Value) -> Result<Self, Diagnostic> {
        value.decode().map_err(|error| refusal::defect("the profile", error))
    }

    /// Writes everything but the name and the marks; returns whether anything changed.
    fn apply(&self, profile: &mut profile::Profile) -> bool {
        let before = profile.clone();
        profile.description = self.description.clone().unwrap_or_default();
        keys::bring(&mut profile.config, &self.config.clone().unwrap_or_default(), cloud_init::OWN);
        self.cloud_init.clone().unwrap_or_default().write(&mut profile.config);
        timeouts::store(&mut profile.config, &self.timeouts);
        profile.devices = self.devices.clone().unwrap_or_default();
        *profile != before
    }
}

#[async_trait]
impl Resource<Session> for Profile {
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
        session.walk.plan(KIND, plan);
        uid::refuse_unmarked("profile", plan);
        if plan.action == Action::Destroy {
            return;
        }
        match (plan.planned.get("domain").as_str(), plan.planned.get("name").as_str()) {
            (Some(domain), Some(name)) => {
                let id = format!("{domain}/{name}");
                plan.set("id", id);
            }
            _ => plan.unknown("id"),
        }
        uid::plan(plan);
    }

    fn seen(&self, session: &Session, prior: &Value) -> Diagnostics {
        session.walk.pass(KIND, prior).map(Diagnostics::from).unwrap_or_default()
    }

    async fn create(&self, session: &Session, call: &Call, input: Create) -> Result<Stored, Failure> {
        let model = Model::read(&input.planned)?;
        let id = format!("{}/{}", model.domain, model.name);
        session.create_once(KIND, &id)?;
        let result = self.make(session, call, input, &model, &id).await;
        session.made(KIND, &id, &result);
        result
    }

    async fn read(&self, session: &Session, call: &Call, current: Stored) -> Result<Option<Stored>, Failure> {
        let before = current.state.clone();
        let read = self.refresh(session, call, current).await;
        session.walk.has_read(KIND, &before, &read);
        read
    }

    async fn update(&self, session: &Session, call: &Call, input: Update) -> Result<Stored, Failure> {
        let uid = uid::expect(session, "profile", &input.prior, &input.private)?;
        let model = Model::read(&input.planned)?;
        let client = &session.client_until(&timeouts::of_stop(call)).await?;
        let wait = timeouts::wait(call, &input.planned, "update", LIMIT);
        let project = session.project(&model.domain);
        let old = input.prior.get("name").as_str().unwrap_or(&model.name);
        let id = format!("{}/{}", model.domain, model.name);
        let marks = Marks::new(fingerprint(session, &id, &input.planned, &input.prior)).of(&uid);
        let failure = |error: &incus::Error| failed("update", old, &model.domain, error);
        let mut refused = Diagnostics::default();
        client
            .modify(
                profile::get(&project, old),
                |profile: &mut profile::Profile| {
                    refused = match uid.owns(&profile.config, None) {
                        true => {
                            let now = [&state(profile, &input.prior), &state(profile, &input.planned)];
                            meanwhile::changes(&input, &["description", "config", "devices", "cloud_init"], now)
                        }
                        false => refusal::stranger("profile", old).into(),
                    };
                    if !refused.is_empty() {
                        return false;
                    }
                    let before = profile.config.clone();
                    marks.write(&mut profile.config);
                    model.apply(profile) | (before != profile.config)
                },
                &wait,
            )
            .await
            .map_err(|error| failure(&error))?;
        if !refused.is_empty() {
            return Err(refused.into());
        }
        if old != model.name {
            client.run(profile::rename(&project, old, &model.name), &wait).await.map_err(|error| failure(&error))?;
        }
        let (mut private, uid) = (input.private, Uid::new(session.prefix(), &marks.incarnation));
        marks::written(session, &mut private);
        self.stored(session, client, &input.planned, &uid, private).await.map_err(|error| failure(&error).into())
    }

    async fn delete(&self, session: &Session, call: &Call, prior: Stored) -> Result<(), Failure> {
        let uid = uid::expect(session, "profile", &prior.state, &prior.private)?;
        let client = &session.client_until(&timeouts::of_stop(call)).await?;
        let wait = timeouts::wait(call, &prior.state, "delete", LIMIT);
        let (domain, name) = names(&prior.state);
        let (id, project) = (format!("{domain}/{name}"), session.project(domain));
        let failure = |error: &incus::Error| failed("delete", name, domain, error);
        let fetch = async || {
            let found = client.find::<profile::Profile>(profile::get(&project, name)).await;
            found.map(|found| found.filter(|found| uid.owns(&found.config, None))).map_err(|error| failure(&error))
        };
        let Some(found) = fetch().await? else {
            session.replaced(KIND, "profile", &id, &uid)?;
            return uid::deleted(session, client, "profile", &prior.private).await;
        };
        if uid.is_indistinct(&found.config) {
            return Err(refusal::unmarked("profile", &id).into());
        }
        let owners = marks::owners(session, &prior.private);
        let used =
            Used { client, notes: &session.notes, project: &project, domain, name, owners: &owners, wait: &wait };
        if !found.used_by.is_empty() {
            used.detach(&found).await?;
            if fetch().await?.is_none() {
                return Ok(());
            }
        }
        match client.run(profile::delete(&project, name), &wait).await {
            Err(error) if !error.is_not_found() => {
                used.attach(&Wait::afterwards()).await;
                return Err(failure(&error).into());
            }
            _ => {}
        }
        session.forget(KIND, &id);
        Ok(())
    }

    async fn import(&self, session: &Session, call: &Call, id: &str) -> Result<Stored, Failure> {
        let Some((domain, name)) = id.split_once('/').filter(|(domain, name)| !domain.is_empty() && !name.is_empty())
        else {
            return Err(Diagnostic::error(
                Path::root(),
                "Invalid import id",
                format!("\"{id}\" is not `<domain>/<name>`, such as \"pro/vm-resources\"."),
            )
            .into());
        };
        let client = session.client_until(&timeouts::of_read(call, &Value::Null)).await?;
        let found = client
            .find::<profile::Profile>(profile::get(&session.project(domain), name))
            .await
            .map_err(|error| failed("import", name, domain, &error))?;
        let Some(found) = found else {
            return Err(Diagnostic::error(
                Path::root(),
                "Unable to import profile: it does not exist",
                format!("There is no profile \"{name}\" in the domain \"{domain}\"."),
            )
            .into());
        };
        let mut prior = Value::object();
        prior.set("id", id);
        prior.set("domain", domain);
        prior.set("timeouts", timeouts::stored(&found.config));
        let mut state = state(&found, &prior);
        let uid = Uid::new(session.prefix(), marks::carried(&found.config));
        state.set(uid::NAME, &uid.confirmed(&found.config, None));
        Ok(Stored::new(state, marks::private(session)))
    }
}

impl Profile {
    async fn refresh(&self, session: &Session, call: &Call, current: Stored) -> Result<Option<Stored>, Failure> {
        let uid = uid::find(session, &current.state, &current.private)?;
        let client = session.client_until(&timeouts::of_read(call, &current.state)).await?;
        let (domain, name) = names(&current.state);
        let failure = |error: &incus::Error| failed("read", name, domain, error);
        let found = client.read_profile(&session.project(domain), name).await.map_err(|error| failure(&error))?;
        let is_ours = |found: &&profile::Profile| uid.as_ref().is_none_or(|uid| uid.owns(&found.config, None));
        let Some(profile) = found.as_ref().filter(is_ours) else {
            return uid::absent(session, &client, "profile", current, found.as_ref().map(|found| &found.config)).await;
        };
        let mut private = match marks::is_lost(&current.private) {
            true => marks::private(session),
            false => current.private,
        };
        session.found_here(&client, &mut private).await;
        let mut state = state(profile, &current.state);
        state.set(uid::NAME, uid.map(|uid| uid.confirmed(&profile.config, None).complete().to_string()));
        Ok(Some(Stored::new(state, private)))
    }

    /// Creates the profile, or continues one that an interrupted create of the same configuration left.
    async fn make(
        &self,
        session: &Session,
        call: &Call,
        input: Create,
        model: &Model,
        id: &str,
    ) -> Result<Stored, Failure> {
        let client = &session.client_until(&timeouts::of_stop(call)).await?;
        let wait = timeouts::wait(call, &input.planned, "create", LIMIT);
        let project = session.project(&model.domain);
        let mut marks = Marks::new(fingerprint(session, id, &input.planned, &Value::Null));
        let mut private = marks::private(session);
        let mut uid = Uid::new(session.prefix(), &marks.incarnation);

        let mut wanted = profile::Profile::default();
        model.apply(&mut wanted);
        marks.write(&mut wanted.config);
        let body = profile::Create {
            name: model.name.clone(),
            description: wanted.description,
            config: wanted.config,
            devices: wanted.devices,
        };
        let failure = |error: &incus::Error| Failure::from(failed("create", &model.name, &model.domain, error));
        let partial = |uid: Uid, private: Private| {
            let mut state = input.planned.clone();
            state.set(uid::NAME, &uid.incomplete());
            Stored::new(state, private)
        };
        let mut warnings = Diagnostics::default();
        match client.run(profile::create(&project, &body), &wait).await {
            Ok(_) => {}
            Err(error) if error.is_already_exists() || error.may_have_been_sent() => {
                // Its own time: what ended the call must not keep the profile out of the state.
                let look = client.reading(&Wait::afterwards());
                let found: profile::Profile = match look.find(profile::get(&project, &model.name)).await {
                    Ok(Some(found)) => found,
                    Ok(None) => return Err(failure(&error)),
                    Err(_) if error.may_have_been_sent() => {
                        return Err(failure(&error).with_partial(partial(uid, private)));
                    }
                    Err(unread) => return Err(failure(&unread)),
                };
                if marks::carried(&found.config) != marks.incarnation {
                    adoptable(session, &input, &found.config, &marks.fingerprint, model, id)?;
                    marks.supersede(&found.config);
                    uid = Uid::new(session.prefix(), &marks.incarnation);
                    let before = marks::carried(&found.config).to_owned();
                    let mut is_same = true;
                    let write = |profile: &mut profile::Profile| {
                        is_same = marks.may_replace(&before, &profile.config);
                        if is_same {
                            marks.write(&mut profile.config);
                            model.apply(profile);
                        }
                        is_same
                    };
                    if let Err(error) = client.modify(profile::get(&project, &model.name), write, &wait).await {
                        let uid = uid.or_still([&found.config]);
                        return Err(failure(&error).with_partial(partial(uid, private)));
                    }
                    if !is_same {
                        return Err(refusal::taken("profile", &model.name, KIND, id, &Found::Foreign).into());
                    }
                    session.take_over(KIND, &before);
                    warnings.extend(refusal::continued("profile", id));
                }
            }
            Err(error) if error.is_not_found() => return Err(no_domain(&model.domain, &error).into()),
            Err(error) => return Err(failure(&error)),
        }
        let owners = marks::owners(session, &private);
        let used = Used {
            client,
            notes: &session.notes,
            project: &project,
            domain: &model.domain,
            name: &model.name,
            owners: &owners,
            wait: &wait,
        };
        warnings.extend(used.attach(&wait).await);
        session.keep_server(client, &mut private).await;
        match self.stored(session, client, &input.planned, &uid, private.clone()).await {
            Ok(stored) => Ok(Stored { warnings, ..stored }),
            // It exists: without a state it could not be destroyed.
            Err(error) => {
                Err(Failure::from(failed("read", &model.name, &model.domain, &error))
                    .with_partial(partial(uid, private)))
            }
        }
    }

    async fn stored(
        &self,
        session: &Session,
        client: &Client,
        planned: &Value,
        uid: &Uid,
        private: Private,
    ) -> Result<Stored, incus::Error> {
        let (domain, name) = names(planned);
        let profile = client.get::<profile::Profile>(profile::get(&session.project(domain), name)).await?.value;
        let mut state = state(&profile, planned);
        state.set(uid::NAME, uid);
        Ok(Stored::new(state, private))
    }
}

/// Refuses to adopt a profile that is not left by an interrupted create of this configuration.
fn adoptable(
    session: &Session,
    input: &Create,
    found: &incus::Config,
    fingerprint: &str,
    model: &Model,
    id: &str,
) -> Result<(), Diagnostic> {
    let known = marks::recognise(session, found, fingerprint);
    match known == Found::Ours && !uid::is_being_replaced(&input.private, found) {
        true => Ok(()),
        false => Err(refusal::taken("profile", &model.name, KIND, id, &known)),
    }
}

fn fingerprint(session: &Session, id: &str, planned: &Value, prior: &Value) -> String {
    marks::fingerprint(session.owner(), KIND, id, &schema::schema().settings(planned, prior))
}

fn names(state: &Value) -> (&str, &str) {
    (state.get("domain").as_str().unwrap_or_default(), state.get("name").as_str().unwrap_or_default())
}

fn state(found: &profile::Profile, prior: &Value) -> Value {
    let domain = prior.get("domain").as_str().unwrap_or_default();
    let mut state = Value::object();
    state.set("id", format!("{domain}/{}", found.name));
    state.set(uid::NAME, prior.get(uid::NAME).clone());
    state.set("name", found.name.as_str());
    state.set("domain", domain);
    state.set("description", keys::description(&found.description, prior.get("description")));
    state.set("config", keys::like_prior(prior.get("config"), keys::visible(&found.config, cloud_init::OWN)));
    state.set("devices", keys::devices_like_prior(prior.get("devices"), found.devices.clone()));
    state.set("cloud_init", cloud_init::read(&found.config, prior.get("cloud_init")));
    state.set("timeouts", prior.get("timeouts").clone());
    state
}

fn failed(verb: &str, name: &str, domain: &str, error: &incus::Error) -> Diagnostic {
    let mut diagnostic = refusal::diagnostic(format!("Unable to {verb} profile"), error);
    if error.refusal() == Some(&incus::Refusal::RootDiskInUse) {
        diagnostic.path = Path::from("devices");
    }
    diagnostic.detail = format!("Profile \"{name}\" in domain \"{domain}\". {}", diagnostic.detail);
    diagnostic
}

fn no_domain(domain: &str, error: &incus::Error) -> Diagnostic {
    Diagnostic::error(
        Path::from("domain"),
        "Unable to create profile: no such domain",
        format!(
            "There is no domain \"{domain}\". Refer to it as `anklume_domain.<name>.name`, so that it is made first.\n\n{}",
            refusal::causes(error)
        ),
    )
}
