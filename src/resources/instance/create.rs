//! Making an instance: one request where nothing goes wrong, and an object in the state wherever one exists.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::body::{Inherited, Model, PROTECTION};
use super::state::{self, Seen};
use super::target::{self, Target};
use super::update::{self, Change, Restart, Unconverged};
use super::wait::{self, Up};
use super::{KIND, preflight, read, unready};
use crate::incus::instance::{self, Instance, Source};
use crate::incus::{Client, Config, Devices, Error, Refusal, Wait};
use crate::plugin::{Call, Create, Diagnostic, Diagnostics, Failure, Path, Private, Stored, Value};
use crate::resources::marks::{self, Found, Marks};
use crate::resources::session::{ImageReference, Session};
use crate::resources::uid::{self, Uid};
use crate::resources::{refusal, timeouts};

/// The download of an image included.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// How long taking away the protection of what has just failed may take.
const LIFT: Duration = Duration::from_secs(10);

/// Makes an instance, or goes on with one that an interrupted create of the same configuration made.
pub(super) async fn create(session: &Session, call: &Call, input: Create) -> Result<Stored, Failure> {
    let model = Model::of(&input.config, &input.planned).map_err(|error| refusal::defect("the instance", error))?;
    let id = model.id();
    let client = session.client_until(&timeouts::of_stop(call)).await?;
    session.create_once(KIND, &id)?;
    let result = Creation::prepare(session, &client, call, &input, model).await;
    let result = match result {
        Ok(creation) => creation.run(&input).await,
        Err(failure) => Err(failure),
    };
    session.made(KIND, &id, &result);
    result
}

struct Creation<'s> {
    target: Target<'s>,
    model: Model,
    inherited: Inherited,
    source: Source,
    marks: Marks,
    uid: Uid,
    /// Hash of the owner, stored as [`marks::OWNER`].
    owner: String,
    private: Private,
    session: &'s Session,
    wait: Wait,
}

impl<'s> Creation<'s> {
    async fn prepare(
        session: &'s Session,
        client: &'s Client,
        call: &Call,
        input: &Create,
        mut model: Model,
    ) -> Result<Self, Failure> {
        let source = source(session, &model)?;
        let target = Target::new(session, client, &model.domain, &model.name);
        preflight::place(&target, &mut model).await?;
        let inherited = match model.inherits() {
            true => preflight::inherited("create", &target, &model).await?,
            false => Inherited::default(),
        };
        let id = model.id();
        let marks = Marks::new(target::fingerprint(session, &id, &input.config, &input.planned, &Value::Null));
        let uid = Uid::new(session.prefix(), &marks.incarnation);
        let private = target::private(session, &model);
        let wait = timeouts::wait(call, &input.planned, "create", LIMIT);
        let owner = marks::of_owner(session.owner());
        Ok(Self { target, model, inherited, source, marks, uid, owner, private, session, wait })
    }

    async fn run(mut self, input: &Create) -> Result<Stored, Failure> {
        let has_start = match self.target.client.server().await {
            Ok(server) => server.has("instance_create_start"),
            Err(error) => return Err(self.target.failure("create", &error)),
        };
        self.session.keep_server(self.target.client, &mut self.private).await;
        preflight::address("create", &self.target, &self.model, &self.inherited).await?;
        let mut starts = has_start;
        let body = self.body(has_start);
        let create = || self.target.client.run(instance::create(&self.target.project, &body), &self.wait);
        let mut made = create().await;
        let mut anew = false;
        if made.as_ref().is_err_and(Error::is_already_exists) {
            anew = match self.clear_half_made().await {
                Ok(cleared) => cleared,
                Err(error) => return Err(self.failure(&error).await),
            };
            if anew {
                made = create().await;
            }
        }
        match made {
            Ok(_) => {}
            Err(error) if error.is_operation_gone() => match self.target.fetch().await {
                // What would have told that the name is taken is lost.
                Ok(Some(found)) if marks::carried(&found.config) != self.marks.incarnation => {
                    return self.adopt(input, &error).await;
                }
                // A daemon that restarts makes it, but need not start it any more.
                Ok(_) => starts = false,
                Err(error) => return self.not_up(input, error).await,
            },
            Err(error) if error.is_already_exists() => return self.adopt(input, &error).await,
            Err(error) => return self.not_up(input, error).await,
        }
        if self.model.running
            && !starts
            && let Err(error) = self.target.start(&self.wait).await
        {
            return self.not_up(input, error).await;
        }
        match wait::until_up(&self.target, &self.model, Instant::now(), &self.wait).await {
            // Its name may have changed hands while it was waited for.
            Ok(up) if !self.uid.has_mark_of(&up.found.config) => Err(self.taken(&Found::Foreign).into()),
            Ok(mut up) => {
                if anew {
                    up.warnings.warning(
                        Path::root(),
                        "An interrupted create was begun anew",
                        format!(
                            "The instance \"{}\" was there already, made by an earlier apply of this configuration, without a whole root disk. It was deleted and made anew.",
                            self.model.id()
                        ),
                    );
                }
                Ok(self.stored(&input.planned, up))
            }
            Err(error) => self.not_up(input, error).await,
        }
    }

    async fn not_up(self, input: &Create, error: Error) -> Result<Stored, Failure> {
        let error = self.target.client.at_start(&self.target.project, &self.target.name, error).await;
        if error.unready().is_some() && self.model.warns() {
            return self.carry_on(input, &error, Diagnostics::default()).await;
        }
        Err(self.refused(input, &error).await)
    }

    fn body(&self, has_start: bool) -> instance::Create {
        let model = &self.model;
        let mut config = Config::new();
        model.bring(&mut config);
        self.marks.write(&mut config);
        target::write_all(&mut config, &[(marks::OWNER, &self.owner)]);
        if let Some(image) = &model.image {
            target::write_all(&mut config, &[(&marks::stored("image"), image)]);
        }
        instance::Create {
            name: self.target.name.clone(),
            kind: model.kind(),
            description: model.description.clone().unwrap_or_default(),
            source: self.source.clone(),
            config,
            devices: model.all_devices(&self.inherited, &Devices::new()),
            profiles: model.profiles(),
            ephemeral: model.ephemeral,
            start: model.running && has_start,
        }
    }

    fn stored(self, planned: &Value, up: Up) -> Stored {
        let mut state = state::state(&up.found, planned, read::owned(&self.private), &up.seen);
        state.set(uid::NAME, &self.uid.with_witness(up.found.uuid()));
        Stored { state, private: self.private, warnings: up.warnings }
    }

    /// As planned, of what could not be looked at.
    fn unseen(self, input: &Create) -> Stored {
        let mut state = input.planned.clone();
        state.set(uid::NAME, &self.uid.incomplete());
        Stored::new(state, self.private)
    }

    /// What is not usable is accepted as it is.
    async fn carry_on(self, input: &Create, error: &Error, mut warnings: Diagnostics) -> Result<Stored, Failure> {
        let found = match self.target.look_back().await {
            Ok(Some(found)) if self.uid.has_mark_of(&found.config) => found,
            Ok(Some(_)) => return Err(self.taken(&Found::Foreign).into()),
            Ok(None) => return Err(self.failure(error).await),
            Err(_) => return Err(self.failure(error).await.with_partial(self.unseen(input))),
        };
        if let Some(unready) = error.unready() {
            warnings.extend(unready::warning("create", &self.target, &self.model, unready));
        }
        let seen = read::leased(&self.target, &found, read::owned(&self.private)).await.unwrap_or(Seen::Nothing);
        Ok(self.stored(&input.planned, Up { found, seen, warnings }))
    }

    /// Takes away what an interrupted create of ours left without a whole root disk, once Incus works on it no more; returns
    /// whether the name is free again.
    async fn clear_half_made(&self) -> Result<bool, Error> {
        let (client, target) = (self.target.client, &self.target);
        let get = instance::get(&target.project, &target.name);
        let is_ours = |found: &Instance| {
            found.is_half_made()
                && marks::recognise(self.session, &found.config, &self.marks.fingerprint) == Found::Ours
        };
        if target.fetch().await?.is_some_and(|found| !is_ours(&found)) {
            return Ok(false);
        }
        client.settle(&target.project, |operation| operation.names(&get), &self.wait).await?;
        let Some(mut found) = target.fetch().await? else { return Ok(true) };
        if !is_ours(&found) {
            return Ok(false);
        }
        self.lift(&mut found).await;
        client.delete_instance(&target.project, &target.name, is_ours, &self.wait).await?;
        Ok(true)
    }

    /// The name is taken: ours goes on, anybody else's is left alone.
    async fn adopt(mut self, input: &Create, error: &Error) -> Result<Stored, Failure> {
        let found = match self.target.fetch().await {
            Ok(Some(found)) => found,
            Ok(None) => return Err(self.failure(error).await),
            Err(error) => return Err(self.failure(&error).await),
        };
        let known = marks::recognise(self.session, &found.config, &self.marks.fingerprint);
        if known != Found::Ours || uid::is_being_replaced(&input.private, &found.config) {
            return Err(self.taken(&known).into());
        }
        self.marks.supersede(&found.config);
        // Until it is known that the new mark was written, either may be there.
        let either = Uid::new(self.session.prefix(), &self.marks.incarnation).or_still([&found.config]);
        let either = either.with_witness(found.uuid());
        let image = marks::stored("image");
        let change = Change {
            target: &self.target,
            renamed: None,
            model: &self.model,
            inherited: &self.inherited,
            restart: Restart::No,
            stop_timeout: target::stop_timeout(&input.planned),
            wait: &self.wait,
            uid: &either,
            update: None,
        };
        let mark = |config: &mut Config| {
            self.marks.write(config);
            marks::write_uuid(config);
            target::write_all(config, &[(marks::OWNER, &self.owner)]);
            if let Some(text) = &self.model.image {
                config.insert(image.clone(), text.clone());
            }
        };
        let adopted = match update::converge(&change, &mark).await {
            Ok(()) => wait::until_up(&self.target, &self.model, Instant::now(), &self.wait).await,
            Err(Unconverged::Stranger) => return Err(self.taken(&Found::Foreign).into()),
            Err(Unconverged::Meanwhile(changes)) => return Err(changes.into()),
            Err(Unconverged::Incus(error)) => Err(error),
        };
        match adopted {
            Ok(up) if !either.has_mark_of(&up.found.config) => Err(self.taken(&Found::Foreign).into()),
            Ok(mut up) => {
                self.adopted(&found);
                up.warnings.extend(refusal::continued("instance", &self.model.id()));
                Ok(self.stored(&input.planned, up))
            }
            Err(error) if error.unready().is_some() && self.model.warns() => {
                self.adopted(&found);
                let warnings = refusal::continued("instance", &self.model.id()).into();
                self.carry_on(input, &error, warnings).await
            }
            Err(error) => {
                self.uid = either.incomplete();
                let told = self.failure(&error).await;
                let found = self.target.look_back().await.ok().flatten().unwrap_or(found);
                let up = Up { found, seen: Seen::Nothing, warnings: Diagnostics::default() };
                Err(told.with_partial(self.stored(&input.planned, up)))
            }
        }
    }

    /// The instance carries the new mark now.
    fn adopted(&mut self, found: &Instance) {
        self.uid = Uid::new(self.session.prefix(), &self.marks.incarnation);
        self.session.take_over(KIND, marks::carried(&found.config));
    }

    fn taken(&self, found: &Found) -> Diagnostic {
        refusal::taken("instance", &self.model.name, KIND, &self.model.id(), found)
    }

    /// A create that failed: what it made is unprotected and goes into the state, tainted, so that it can be destroyed.
    async fn refused(mut self, input: &Create, error: &Error) -> Failure {
        self.uid = self.uid.incomplete();
        let told = self.failure(error).await;
        let mut found = match self.target.look_back().await {
            Ok(Some(found)) if marks::carried(&found.config) == self.marks.incarnation => found,
            Ok(Some(_)) => return told,
            // It may exist, or come to: without a state it could not be destroyed.
            Ok(None) | Err(_) if error.may_have_been_sent() => return told.with_partial(self.unseen(input)),
            Ok(None) | Err(_) => return told,
        };
        self.lift(&mut found).await;
        let up = Up { found, seen: Seen::Nothing, warnings: Diagnostics::default() };
        told.with_partial(self.stored(&input.planned, up))
    }

    /// Takes the protection off what has to be destroyable.
    async fn lift(&self, found: &mut Instance) {
        if !found.config.contains_key(PROTECTION) {
            return;
        }
        // Its own time: the call's may be over.
        let brief = Wait::within(LIFT, CancellationToken::new());
        match self.target.put(PROTECTION, None, &brief).await {
            Ok(()) => {
                found.config.remove(PROTECTION);
            }
            Err(error) => tracing::warn!(instance = %self.target.name, %error, "protection not lifted"),
        }
    }

    async fn failure(&self, error: &Error) -> Failure {
        if let Some(unready) = error.unready() {
            return unready::error("create", &self.target, &self.model, unready).into();
        }
        if error.refusal() == Some(&Refusal::ImageNotFound) {
            return preflight::no_image(&self.target, &self.model, &self.source, error).await.into();
        }
        preflight::explain("create", &self.target, &self.model, error).await.into()
    }
}

fn source(session: &Session, model: &Model) -> Result<Source, Diagnostic> {
    let Some(image) = &model.image else {
        return Err(Diagnostic::error(
            Path::from("image"),
            "No image",
            "Set `image`, such as \"images:debian/13\", or `default_image` in the provider block.",
        ));
    };
    let problem =
        |problem: crate::plugin::Problem| Diagnostic::error(Path::from("image"), problem.summary, problem.detail);
    Ok(match session.image_source(image).map_err(problem)? {
        ImageReference::Local { name } if is_fingerprint(&name) => {
            Source::Local { alias: None, fingerprint: Some(name) }
        }
        ImageReference::Local { name } => Source::Local { alias: Some(name), fingerprint: None },
        ImageReference::Remote { server, protocol, alias } => {
            let (alias, fingerprint) = if is_fingerprint(&alias) { (None, Some(alias)) } else { (Some(alias), None) };
            Source::Remote { mode: "pull", server, protocol, alias, fingerprint }
        }
    })
}

/// A fingerprint, or a prefix of one as `incus image list` shows it.
fn is_fingerprint(text: &str) -> bool {
    (12..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
