//! Making a volume: empty in one request, filled under a temporary name and renamed, or an ISO under its own.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::filled::Filled;
use super::model::{self, Model};
use super::schema::read_headers;
use super::source::Unfilled;
use super::target::{Target, UPLOADING};
use super::{KIND, LIMIT, read, source, users};
use crate::incus::volume::{self, Volume};
use crate::incus::{Config, Error, Wait};
use crate::plugin::{Call, Create, Diagnostic, Failure, Path, Private, Stored, Value};
use crate::resources::marks::{self, Found, Marks};
use crate::resources::session::Session;
use crate::resources::uid::{self, Uid};
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
    let private = marks::private(session);
    let target = Target::new(session, &client, [&model.domain, &pool, &model.name], &private);
    let id = target.id();
    session.create_once(KIND, &id)?;
    let marks = Marks::new(model::fingerprint(session, &id, &input.config, &input.planned, &Value::Null));
    let uid = Uid::new(session.prefix(), &marks.incarnation);
    let wait = timeouts::wait(call, &input.planned, "create", LIMIT);
    let headers = read_headers(input.config.get("source").get("headers"));
    let headers = headers.map_err(|error| refusal::defect("the headers", error))?;
    let replaces = input.private.clone();
    let creation = Creation { session, target, model, headers, marks, uid, private, replaces, wait };
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
    uid: Uid,
    private: Private,
    /// What the plan kept of the object that this create replaces.
    replaces: Private,
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
            Some(_) if self.model.is_iso() => self.iso().await?,
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
            self.marks.supersede(&found.config);
            self.uid = Uid::new(self.session.prefix(), &self.marks.incarnation);
            match self.bring(marks::carried(&found.config)).await {
                Ok(true) => {}
                Ok(false) => return Err(self.taken(&Found::Foreign).into()),
                Err(error) => {
                    self.uid = self.uid.or_still([&found.config]);
                    return Err(self.failed(input, &error).await);
                }
            }
            self.session.take_over(KIND, marks::carried(&found.config));
            warnings.extend(refusal::continued("volume", &self.target.id()));
        }
        self.session.keep_server(self.target.client, &mut self.private).await;
        match self.fetch_whole(&made).await {
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

    /// What was made, with what Incus filled in by itself marked as such.
    async fn fetch_whole(&self, made: &Made) -> Result<Option<Volume>, Error> {
        // Its name may have changed hands since.
        let mut found = self.target.fetch().await?.filter(|found| self.uid.has_mark_of(&found.config));
        if let (Some(found), Made::New) = (&mut found, made) {
            let filled = Filled::beside(found, &self.model);
            if self.model.apply(found, &filled) {
                self.describe().await?;
            }
        }
        Ok(found)
    }

    fn stored(&self, input: &Create, found: &Volume) -> Stored {
        let mut private = self.private.clone();
        model::keep_rigid(found, &mut private);
        let mut state = read::state(self.session, &self.target, found, &input.planned);
        state.set(uid::NAME, &self.uid);
        Stored::new(state, private)
    }

    /// What stands after a failure goes into the state.
    async fn failed(&mut self, input: &Create, error: &Error) -> Failure {
        self.uid = std::mem::take(&mut self.uid).incomplete();
        let failure = Failure::from(self.target.failed("create", error));
        let partial = match self.target.look_back().await {
            Ok(Some(found)) => self.stored(input, &found),
            Ok(None) => return failure,
            Err(_) => {
                let mut state = input.planned.clone();
                state.set("id", self.target.id());
                state.set("pool", self.target.pool.as_str());
                state.set(uid::NAME, &self.uid);
                Stored::new(state, self.private.clone())
            }
        };
        failure.with_partial(partial)
    }

    /// Takes the protection off what this call made, so that the tainted object can go.
    async fn lift(&self) {
        let brief = Wait::within(CLEAR, CancellationToken::new());
        let lift = |volume: &mut Volume| self.uid.has_mark_of(&volume.config) && model::lift(volume);
        if let Err(error) = self.target.modify(self.model.is_iso(), lift, &brief).await {
            tracing::warn!(volume = %self.target.id(), %error, "protection not lifted");
        }
    }

    /// Brings an adopted one that carries the mark `before` to what is configured; false where it carries another by now.
    async fn bring(&self, before: &str) -> Result<bool, Error> {
        let mut is_it = true;
        let write = |volume: &mut Volume| {
            is_it = self.marks.may_replace(before, &volume.config);
            if !is_it {
                return false;
            }
            volume.config.remove(&marks::stored(UPLOADING));
            self.marks.write(&mut volume.config);
            let filled = Filled::beside(volume, &self.model);
            self.model.apply(volume, &filled);
            true
        };
        self.target.modify(self.model.is_iso(), write, &self.wait).await?;
        Ok(is_it)
    }

    fn taken(&self, found: &Found) -> Diagnostic {
        refusal::taken("volume", &self.target.name, KIND, &self.target.id(), found)
    }

    /// Brings a new one to what is configured. An ISO is uploaded without its description, and is known by when it was made
    /// from then on.
    async fn describe(&self) -> Result<(), Error> {
        let describe = |volume: &mut Volume| {
            if !self.uid.has_mark_of(&volume.config) {
                return false;
            }
            volume.config.remove(&marks::stored(UPLOADING));
            let filled = Filled::beside(volume, &self.model);
            self.model.apply(volume, &filled);
            true
        };
        self.target.modify(self.model.is_iso(), describe, &self.wait).await
    }

    /// Whether what is there was made by an interrupted create of ours.
    fn recognise(&self, found: &Volume) -> Result<Made, Diagnostic> {
        if marks::carried(&found.config) == self.marks.incarnation {
            return Ok(Made::New);
        }
        match marks::recognise(self.session, &found.config, &self.marks.fingerprint) {
            Found::Ours if !uid::is_being_replaced(&self.replaces, &found.config) => {
                Ok(Made::Adopted(Box::new(found.clone())))
            }
            known => Err(self.taken(&known)),
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

    /// Filled under a temporary name, and renamed once it is whole.
    async fn filled(&self) -> Result<Made, Failure> {
        let temporary = self.target.named(&model::temporary(self.session.owner(), &self.target.id()));
        let found = self.target.fetch().await.map_err(|error| self.target.failed("create", &error))?;
        let made = found.map(|found| self.recognise(&found)).transpose()?;
        if let Err(error) = temporary.clear(&self.wait).await {
            return Err(self.target.explain("create", &error).await.into());
        }
        if let Some(made) = made {
            return Ok(made);
        }
        let mut result = self.fill_and_rename(&temporary).await;
        if let Err(failure) = &mut result {
            let brief = Wait::within(CLEAR, CancellationToken::new());
            if let Err(error) = temporary.clear(&brief).await {
                failure.diagnostics.warning(
                    Path::root(),
                    "A half-made volume stays",
                    format!(
                        "What was made so far stands as \"{}\" and could not be deleted. The next create of the volume does that, or the \
                         destruction of the domain.\n\n{}",
                        temporary.name,
                        refusal::causes(&error)
                    ),
                );
            }
        }
        result
    }

    async fn fill_and_rename(&self, temporary: &Target<'_>) -> Result<Made, Failure> {
        let filled = source::fill(self.session, temporary, &self.model, &self.headers, &self.marks, &self.wait).await;
        filled.map_err(|unfilled| unfilled.told)?;
        let target = &self.target;
        let rename = volume::rename(&target.project, &target.pool, &temporary.name, &target.name);
        match target.client.run(rename, &self.wait).await {
            Ok(_) => Ok(Made::New),
            Err(error) => self.unclear(error).await,
        }
    }

    /// Under its own name at once: the end of the upload is the commit, and a rename would lose the content before Incus
    /// 6.0.5 and 6.15. One that an interrupted create left is made anew where nobody knows whether it is whole.
    async fn iso(&self) -> Result<Made, Failure> {
        let (target, wait) = (&self.target, &self.wait);
        let failed = |error: &Error| target.failed("create", error);
        target.settle(wait).await.map_err(|error| failed(&error))?;
        if let Some(found) = target.fetch().await.map_err(|error| failed(&error))? {
            let made = self.recognise(&found)?;
            if !found.used_by.is_empty() || marks::read_stored(&found.config, UPLOADING).is_none() {
                return Ok(made);
            }
            // What others made under the name meanwhile is not of its length.
            let length = source::length(self.session, target, &self.model, &self.headers, wait).await?;
            // One without a length is a copy on btrfs.
            if length.is_none() || model::length(&found).is_some_and(|found| Some(found) != length) {
                return Err(self.taken(&Found::Foreign).into());
            }
            target.delete(true, wait).await.map_err(|error| failed(&error))?;
        }
        let mut wanted = Volume::default();
        self.model.apply(&mut wanted, &Filled::default());
        self.marks.write(&mut wanted.config);
        wanted.config.insert(marks::stored(UPLOADING), "true".to_owned());
        if let Err(error) = target.write_marks(&wanted.config, wait).await {
            return Err(target.explain("create", &error).await.into());
        }
        let filled = source::fill(self.session, target, &self.model, &self.headers, &self.marks, wait).await;
        let Err(Unfilled { told, cause, whole }) = filled else { return Ok(Made::New) };
        let brief = Wait::within(CLEAR, CancellationToken::new());
        let stands = async {
            target.settle(&brief).await?;
            Ok::<_, Error>(target.look_back().await?.is_some())
        };
        let taken = cause.as_ref().is_some_and(Error::is_already_exists);
        if whole && !taken && stands.await.unwrap_or(true) {
            return Ok(Made::New);
        }
        // The marks stand under the name, whoever has it: they would make it ours. Incus may still take what it has whole.
        if (taken || !whole)
            && let Err(error) = target.write_marks(&Config::new(), &brief).await
        {
            tracing::warn!(volume = %target.id(), %error, "the marks of an ISO were not taken away");
        }
        Err(match taken {
            true => self.taken(&Found::Foreign).into(),
            false => told.into(),
        })
    }
}
