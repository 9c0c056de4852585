//! Making a volume: empty in one request, or filled under a temporary name and renamed.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::model::{self, Filled, Model};
use super::schema::read_headers;
use super::target::Target;
use super::{KIND, LIMIT, read, source, users};
use crate::incus::volume::{self, Volume};
use crate::incus::{Config, Error, Wait};
use crate::plugin::{Call, Create, Diagnostic, Failure, Path, Private, Stored};
use crate::resources::marks::{self, Found, Marks};
use crate::resources::session::Session;
use crate::resources::{pool, refusal, timeouts};
use crate::web::Headers;

/// How long clearing up after a failure may take: its own time, the call's may be over.
const CLEAR: Duration = Duration::from_secs(30);

/// Makes a volume, or goes on with one that an interrupted create of the same configuration made.
pub(super) async fn create(session: &Session, call: &Call, input: Create) -> Result<Stored, Failure> {
    let model = Model::of(&input.planned).map_err(|error| refusal::defect("the volume", error))?;
    let client = session.client_until(&timeouts::of_stop(call)).await?;
    let pool = match &model.pool {
        Some(pool) => pool.clone(),
        None => pool::choose(&client, &session.project(&model.domain), "pool".into()).await?,
    };
    let target = Target::new(session, &client, &model.domain, &pool, &model.name);
    let id = target.id();
    session.create_once(KIND, &id)?;
    let marks = Marks::new(model::fingerprint(session.owner(), &id, &input.config));
    let private = read::private(session, &marks.incarnation);
    let wait = timeouts::wait(call, &input.planned, "create", LIMIT);
    let headers = read_headers(input.config.get("source").get("headers"));
    let headers = headers.map_err(|error| refusal::defect("the headers", error))?;
    let creation = Creation { session, target, model, headers, marks, private, wait };
    let result = creation.run(&input).await;
    if result.as_ref().is_err_and(|failure| failure.partial.is_none()) {
        session.forget(KIND, &id);
    }
    result
}

struct Creation<'s> {
    session: &'s Session,
    target: Target<'s>,
    model: Model,
    /// For the server of its source.
    headers: Headers,
    marks: Marks,
    private: Private,
    wait: Wait,
}

/// What came of the request that makes a volume.
enum Made {
    /// A new one.
    New,
    /// One of this name and fingerprint was there.
    Adopted(Box<Volume>),
}

impl Creation<'_> {
    async fn run(mut self, input: &Create) -> Result<Stored, Failure> {
        let made = match self.model.source {
            None => self.empty().await?,
            Some(_) => self.filled().await?,
        };
        if let Made::New = made
            && self.model.is_iso()
            && let Err(error) = self.describe().await
        {
            self.lift().await;
            return Err(self.failed(input, &error).await);
        }
        let mut warnings = users::attach(&self.session.notes, &self.target, &self.wait).await;
        if let Made::Adopted(found) = &made {
            if let Err(error) = self.bring().await {
                marks::keep_before(&mut self.private, [&found.config]);
                return Err(self.failed(input, &error).await);
            }
            warnings.warning(
                Path::root(),
                "Continued an interrupted create",
                format!(
                    "The volume \"{}\" was there already, made by an earlier apply of this configuration.",
                    self.target.id()
                ),
            );
        }
        match self.target.fetch().await {
            Ok(Some(found)) => Ok(Stored { warnings, ..self.stored(input, &found) }),
            Ok(None) => Err(Diagnostic::error(
                Path::root(),
                "Unable to read volume",
                "It vanished right after it was made. Apply again.",
            )
            .into()),
            Err(error) => {
                if let Made::New = made {
                    self.lift().await;
                }
                Err(self.failed(input, &error).await)
            }
        }
    }

    fn stored(&self, input: &Create, found: &Volume) -> Stored {
        let filled = Filled::found(found, &input.config);
        let mut private = self.private.clone();
        filled.keep(&mut private);
        Stored::new(read::state(self.session, &self.target, found, &input.planned, &Filled::of(&private)), private)
    }

    /// What stands after a failure goes into the state.
    async fn failed(&self, input: &Create, error: &Error) -> Failure {
        let failure = Failure::from(self.target.failed("create", error));
        let partial = match self.target.look_back().await {
            Ok(Some(found)) => self.stored(input, &found),
            Ok(None) => return failure,
            Err(_) => {
                let mut state = input.planned.clone();
                state.set("id", self.target.id());
                state.set("pool", self.target.pool.as_str());
                Stored::new(state, self.private.clone())
            }
        };
        failure.with_partial(partial)
    }

    /// Takes the protection off what this call made, so that the tainted object can go.
    async fn lift(&self) {
        let brief = Wait::within(CLEAR, CancellationToken::new());
        if let Err(error) = self.target.modify(self.model.is_iso(), model::lift, &brief).await {
            tracing::warn!(volume = %self.target.id(), %error, "protection not lifted");
        }
    }

    async fn bring(&self) -> Result<(), Error> {
        let write = |volume: &mut Volume| {
            self.marks.write(&mut volume.config);
            let filled = Filled::beside(volume, &self.model);
            self.model.apply(volume, &filled);
            true
        };
        self.target.modify(self.model.is_iso(), write, &self.wait).await
    }

    /// An ISO is uploaded without its description.
    async fn describe(&self) -> Result<(), Error> {
        let describe = |volume: &mut Volume| {
            let filled = Filled::beside(volume, &self.model);
            self.model.apply(volume, &filled)
        };
        self.target.modify(true, describe, &self.wait).await
    }

    /// Whether what is there was made by an interrupted create of ours.
    fn recognise(&self, found: &Volume) -> Result<Made, Diagnostic> {
        if marks::carried(&found.config) == self.marks.incarnation {
            return Ok(Made::New);
        }
        match marks::recognise(&found.config, &self.marks.fingerprint) {
            Found::Ours => Ok(Made::Adopted(Box::new(found.clone()))),
            Found::Foreign => Err(refusal::taken("volume", &self.target.name, KIND, &self.target.id())),
        }
    }

    async fn empty(&self) -> Result<Made, Failure> {
        let mut wanted = Volume::default();
        self.model.apply(&mut wanted, &Filled::default());
        self.marks.write(&mut wanted.config);
        let body = volume::Create {
            name: self.target.name.clone(),
            content_type: self.model.content_type.clone(),
            description: wanted.description,
            config: wanted.config,
            source: None,
        };
        match self.target.client.run(volume::create(&self.target.project, &self.target.pool, &body), &self.wait).await {
            Ok(_) => Ok(Made::New),
            Err(error) => self.unclear(error).await,
        }
    }

    /// The name is taken, or the answer was lost: the volume itself tells.
    async fn unclear(&self, error: Error) -> Result<Made, Failure> {
        if !error.is_already_exists() && !error.may_have_been_sent() {
            return Err(self.target.explain("create", &error).await.into());
        }
        match self.target.look_back().await {
            Ok(Some(found)) => Ok(self.recognise(&found)?),
            Ok(None) => Err(self.target.failed("create", &error).into()),
            Err(unread) => Err(self.target.failed("create", &unread).into()),
        }
    }

    async fn filled(&self) -> Result<Made, Failure> {
        let is_iso = self.model.is_iso();
        let temporary = self.target.named(&format!("anklume-{}", &self.marks.fingerprint[..16]));
        let found = self.target.fetch().await.map_err(|error| self.target.failed("create", &error))?;
        let made = found.map(|found| self.recognise(&found)).transpose()?;
        let half_made = match temporary.clear(false, &self.wait).await {
            Ok(half_made) => half_made,
            Err(error) => return Err(self.target.explain("create", &error).await.into()),
        };
        match made {
            // What an ISO was copied from stays until the copy is whole.
            Some(_) if is_iso && half_made => {
                self.target.clear(true, &self.wait).await.map_err(|error| self.target.failed("create", &error))?;
            }
            Some(made) => return Ok(made),
            None => {}
        }
        let result = self.fill_and_rename(&temporary).await;
        if result.is_err() {
            let brief = Wait::within(CLEAR, CancellationToken::new());
            if let Err(error) = temporary.clear(false, &brief).await {
                tracing::warn!(volume = %temporary.id(), %error, "a half-made volume was not deleted");
            }
            if is_iso && let Ok(None) = self.target.look_back().await {
                self.unmark(&brief).await;
            }
        }
        result
    }

    /// Takes the marks of an ISO away.
    async fn unmark(&self, wait: &Wait) {
        if let Err(error) = self.target.write_marks(&Config::new(), wait).await {
            tracing::warn!(volume = %self.target.id(), %error, "the marks of an ISO were not taken away");
        }
    }

    /// The volume as a copy of `temporary`, which is `filled`: Incus takes no size from an ISO that it copies.
    fn copied(&self, temporary: &Target<'_>, filled: Volume) -> volume::Create {
        volume::Create {
            name: self.target.name.clone(),
            content_type: self.model.content_type.clone(),
            description: String::new(),
            config: filled.config.into_iter().filter(|(key, _)| key == model::SIZE).collect(),
            source: Some(volume::Source::copy(&temporary.project, &temporary.pool, &temporary.name, None)),
        }
    }

    async fn fill_and_rename(&self, temporary: &Target<'_>) -> Result<Made, Failure> {
        if self.model.is_iso() {
            let mut wanted = Volume::default();
            self.model.apply(&mut wanted, &Filled::default());
            self.marks.write(&mut wanted.config);
            if let Err(error) = self.target.write_marks(&wanted.config, &self.wait).await {
                return Err(self.target.explain("create", &error).await.into());
            }
        }
        source::fill(self.session, temporary, &self.model, &self.headers, &self.marks, &self.wait).await?;
        let target = &self.target;
        let server = target.client.server().await.map_err(|error| target.failed("create", &error))?;
        let copies = self.model.is_iso() && server.loses_renamed_isos();
        let commit = match copies {
            true => {
                let filled = temporary.fetch().await.map_err(|error| target.failed("create", &error))?;
                volume::create(&target.project, &target.pool, &self.copied(temporary, filled.unwrap_or_default()))
            }
            false => volume::rename(&target.project, &target.pool, &temporary.name, &target.name),
        };
        let made = match target.client.run(commit, &self.wait).await {
            Ok(_) => Made::New,
            Err(error) if self.model.is_iso() && error.is_already_exists() => {
                // The marks stand under the name, whoever has it: they would make it ours.
                self.unmark(&self.wait).await;
                return Err(refusal::taken("volume", &target.name, KIND, &target.id()).into());
            }
            // The record of a copy stands before its content does.
            Err(error) if copies => return Err(target.failed("create", &error).into()),
            Err(error) => self.unclear(error).await?,
        };
        if copies && let Err(error) = temporary.discard(&self.wait).await {
            tracing::warn!(volume = %temporary.id(), %error, "the temporary volume was not deleted");
        }
        Ok(made)
    }
}
