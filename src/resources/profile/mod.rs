//! `anklume_profile`: configuration and devices that instances of a domain share.

mod schema;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use super::cloud_init::{self, CloudInit};
use super::marks::{self, Found, Marks};
use super::session::Session;
use super::timeouts::{self, Timeouts};
use super::{keys, meanwhile, refusal};
use crate::incus::{self, Client, Devices, Wait, profile};
use crate::plugin::{
    Action, Call, Create, Diagnostic, Diagnostics, Failure, Path, Plan, Private, Resource, Schema, Stored, Update,
    Value,
};

const KIND: &str = "anklume_profile";
/// Attributes that are in no fingerprint.
const SECRET: &[&str] = &["cloud_init"];
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
        if plan.action == Action::Destroy {
            return;
        }
        let id = match (plan.planned.get("domain").as_str(), plan.planned.get("name").as_str()) {
            (Some(domain), Some(name)) => format!("{domain}/{name}"),
            _ => return plan.unknown("id"),
        };
        session.plan_once(KIND, &id, plan);
        plan.set("id", id);
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
        refusal::same_prefix(current.private.get("prefix"), session.prefix())?;
        let client = session.client_until(&timeouts::of_read(call, &current.state)).await?;
        let (domain, name) = names(&current.state);
        let found = client.read_profile(&session.project(domain), name).await;
        let found = found.map_err(|error| failed("read", name, domain, &error))?;
        let own = found.filter(|profile| marks::same_incarnation(&profile.config, &current.private));
        Ok(own.map(|profile| {
            let private = match marks::is_lost(&current.private) {
                true => private(session, marks::carried(&profile.config)),
                false => current.private,
            };
            Stored::new(state(&profile, &current.state), private)
        }))
    }

    async fn update(&self, session: &Session, call: &Call, input: Update) -> Result<Stored, Failure> {
        refusal::same_prefix(input.private.get("prefix"), session.prefix())?;
        let model = Model::read(&input.planned)?;
        let client = &session.client_until(&timeouts::of_stop(call)).await?;
        let wait = timeouts::wait(call, &input.planned, "update", LIMIT);
        let project = session.project(&model.domain);
        let old = input.prior.get("name").as_str().unwrap_or(&model.name);
        let renamed = old != model.name;
        let fingerprint = renamed.then(|| {
            marks::fingerprint(
                session.owner(),
                KIND,
                &format!("{}/{}", model.domain, model.name),
                &input.config,
                SECRET,
            )
        });
        let failure = |error: &incus::Error| failed("update", old, &model.domain, error);
        let mut refused = Diagnostics::default();
        client
            .modify(
                profile::get(&project, old),
                |profile: &mut profile::Profile| {
                    refused = match marks::same_incarnation(&profile.config, &input.private) {
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
                    keys_of_rename(&mut profile.config, fingerprint.as_deref());
                    model.apply(profile) | (before != profile.config)
                },
                &wait,
            )
            .await
            .map_err(|error| failure(&error))?;
        if !refused.is_empty() {
            return Err(refused.into());
        }
        if renamed {
            client.run(profile::rename(&project, old, &model.name), &wait).await.map_err(|error| failure(&error))?;
        }
        self.stored(client, &project, &input.planned, input.private).await.map_err(|error| failure(&error).into())
    }

    async fn delete(&self, session: &Session, call: &Call, prior: Stored) -> Result<(), Failure> {
        refusal::same_prefix(prior.private.get("prefix"), session.prefix())?;
        let client = &session.client_until(&timeouts::of_stop(call)).await?;
        let wait = timeouts::wait(call, &prior.state, "delete", LIMIT);
        let (domain, name) = names(&prior.state);
        let project = session.project(domain);
        let failure = |error: &incus::Error| failed("delete", name, domain, error);
        let Some(found) =
            client.find::<profile::Profile>(profile::get(&project, name)).await.map_err(|error| failure(&error))?
        else {
            return Ok(());
        };
        if !marks::same_incarnation(&found.config, &prior.private) {
            return Ok(());
        }
        if !found.used_by.is_empty() {
            return Err(in_use(name, domain, &found.used_by).into());
        }
        match client.run(profile::delete(&project, name), &wait).await {
            Err(error) if !error.is_not_found() => return Err(failure(&error).into()),
            _ => {}
        }
        session.forget(KIND, &format!("{domain}/{name}"));
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
        Ok(Stored::new(state(&found, &prior), private(session, marks::carried(&found.config))))
    }
}

impl Profile {
    /// Makes the profile, or goes on with one that an interrupted create of the same configuration made.
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
        let marks = Marks::new(marks::fingerprint(session.owner(), KIND, id, &input.config, SECRET));
        let private = private(session, &marks.incarnation);

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
        let partial = |private: Private| Stored::new(input.planned.clone(), private);
        let mut warnings = Diagnostics::default();
        match client.run(profile::create(&project, &body), &wait).await {
            Ok(_) => {}
            Err(error) if error.is_already_exists() || error.may_have_been_sent() => {
                // Its own time: what ended the call must not keep the profile out of the state.
                let look = client.reading(&Wait::afterwards());
                let found: profile::Profile = match look.find(profile::get(&project, &model.name)).await {
                    Ok(Some(found)) => found,
                    Ok(None) => return Err(failure(&error)),
                    Err(_) if error.may_have_been_sent() => return Err(failure(&error).with_partial(partial(private))),
                    Err(unread) => return Err(failure(&unread)),
                };
                if marks::recognise(&found.config, &marks.fingerprint) == Found::Foreign {
                    return Err(refusal::taken("profile", &model.name, KIND, id).into());
                }
                if marks::carried(&found.config) != marks.incarnation {
                    let write = |profile: &mut profile::Profile| {
                        marks.write(&mut profile.config);
                        model.apply(profile);
                        true
                    };
                    if let Err(error) = client.modify(profile::get(&project, &model.name), write, &wait).await {
                        let mut private = private;
                        marks::keep_before(&mut private, [&found.config]);
                        return Err(failure(&error).with_partial(partial(private)));
                    }
                    warnings.warning(
                        Path::root(),
                        "Continued an interrupted create",
                        format!(
                            "The profile \"{id}\" was there already, made by an earlier apply of this configuration."
                        ),
                    );
                }
            }
            Err(error) if error.is_not_found() => return Err(no_domain(&model.domain, &error).into()),
            Err(error) => return Err(failure(&error)),
        }
        match self.stored(client, &project, &input.planned, private.clone()).await {
            Ok(stored) => Ok(Stored { warnings, ..stored }),
            // It exists: without a state it could not be destroyed.
            Err(error) => Err(Failure::from(failed("read", &model.name, &model.domain, &error))
                .with_partial(Stored::new(input.planned, private))),
        }
    }

    async fn stored(
        &self,
        client: &Client,
        project: &str,
        planned: &Value,
        private: Private,
    ) -> Result<Stored, incus::Error> {
        let (_, name) = names(planned);
        let profile = client.get::<profile::Profile>(profile::get(project, name)).await?.value;
        Ok(Stored::new(state(&profile, planned), private))
    }
}

fn names(state: &Value) -> (&str, &str) {
    (state.get("domain").as_str().unwrap_or_default(), state.get("name").as_str().unwrap_or_default())
}

fn private(session: &Session, incarnation: &str) -> Private {
    let mut private = Private::default();
    marks::keep(&mut private, incarnation);
    private.set("prefix", session.prefix());
    private
}

fn keys_of_rename(config: &mut incus::Config, fingerprint: Option<&str>) {
    if let Some(fingerprint) = fingerprint {
        config.insert(marks::FINGERPRINT.to_owned(), fingerprint.to_owned());
    }
}

fn state(found: &profile::Profile, prior: &Value) -> Value {
    let domain = prior.get("domain").as_str().unwrap_or_default();
    let mut state = Value::object();
    state.set("id", format!("{domain}/{}", found.name));
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

fn in_use(name: &str, domain: &str, used_by: &[String]) -> Diagnostic {
    let users: Vec<_> = used_by.iter().map(|path| format!("    {}", keys::short_user(path))).collect();
    Diagnostic::error(
        Path::root(),
        "Unable to delete profile: it is in use",
        format!(
            "The profile \"{name}\" of domain \"{domain}\" is used by:\n\n{}\n\nRemove it from their `profiles` first. To do both in one apply, give the profile \
             `lifecycle {{ create_before_destroy = true }}` and apply that before: otherwise it is destroyed before its users are updated.",
            users.join("\n")
        ),
    )
}
