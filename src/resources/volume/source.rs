//! Filling a volume: from another volume, from a file of this machine, or from one of a web server. Under which name, and
//! the rename, is the caller's.

use std::path::Path as FilePath;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::filled::Filled;
use super::form::{self, Form};
use super::model::{self, Model, SIZE, Source};
use super::schema::digits;
use super::stream::{Broken, Origin, Stream};
use super::target::Target;
use crate::incus::backup::Frame;
use crate::incus::volume::{self, Content, Volume};
use crate::incus::{Error, Refusal, Wait};
use crate::plugin::{Diagnostic, Path};
use crate::resources::session::Session;
use crate::resources::{marks::Marks, pool, refusal, size};
use crate::web::{self, Headers, Location};

/// Why a volume was not filled.
pub(super) struct Unfilled {
    pub(super) told: Diagnostic,
    /// What Incus made of the request.
    pub(super) cause: Option<Error>,
    /// Whether it was sent all there is, so that it may have made a volume of it.
    pub(super) whole: bool,
}

impl From<Diagnostic> for Unfilled {
    fn from(told: Diagnostic) -> Self {
        Self { told, cause: None, whole: false }
    }
}

/// Fills `into` and writes everything that is configured on it, but nothing on an ISO.
pub(super) async fn fill(
    session: &Session,
    into: &Target<'_>,
    model: &Model,
    headers: &Headers,
    marks: &Marks,
    wait: &Wait,
) -> Result<(), Unfilled> {
    let source = model.source.as_ref().cloned().unwrap_or_default();
    match &source.volume {
        Some(name) => copy(original(session, into, &source, name).await?, into, model, marks, wait).await?,
        None => {
            let (upload, stream, length) = begin(into, model, &source, headers, wait).await?;
            upload.run(stream, length).await?;
        }
    }
    if model.is_iso() {
        return Ok(());
    }
    let found = into.fetch().await.map_err(|error| into.failed("create", &error))?;
    let found = found.ok_or_else(|| {
        problem("source", "it is gone", "The volume vanished while it was filled. Apply again.".into())
    })?;
    if found.content_type != model.content_type {
        return Err(other_content(model, &found.content_type).into());
    }
    large_enough(model, found.config.get(SIZE))?;
    let write = |volume: &mut Volume| {
        let before = volume.config.clone();
        marks.write(&mut volume.config);
        let filled = Filled::beside(volume, model);
        model.apply(volume, &filled) | (before != volume.config)
    };
    into.modify(false, write, wait).await.map_err(|error| into.failed("create", &error).into())
}

/// How long that is what an ISO is filled with, in bytes, where its server says so.
pub(super) async fn length(
    session: &Session,
    into: &Target<'_>,
    model: &Model,
    headers: &Headers,
    wait: &Wait,
) -> Result<Option<u64>, Diagnostic> {
    let Some(source) = &model.source else { return Ok(None) };
    match &source.volume {
        Some(name) => Ok(model::length(&original(session, into, source, name).await?.found)),
        None => Ok(begin(into, model, source, headers, wait).await?.2),
    }
}

/// Opens the file of `source`: its upload, its beginning, and its length in bytes.
async fn begin<'u>(
    into: &'u Target<'u>,
    model: &'u Model,
    source: &'u Source,
    headers: &Headers,
    wait: &'u Wait,
) -> Result<(Upload<'u>, Stream, Option<u64>), Diagnostic> {
    let upload = |name, at| Upload { into, model, sha256: source.sha256.as_ref(), name, at, wait };
    match (&source.file, &source.url) {
        (Some(file), _) => {
            let upload = upload(file.clone(), at("file"));
            let (stream, length) = upload.begin_file().await?;
            Ok((upload, stream, Some(length)))
        }
        (None, Some(url)) => {
            let location = Location::parse(url).map_err(|error| refusal::defect("the URL", error))?;
            let upload = upload(location.to_string(), at("url"));
            let (stream, length) = upload.begin_web(&location, headers).await?;
            Ok((upload, stream, length))
        }
        (None, None) => Err(problem("source", "a source that names nothing", "Set `volume`, `file` or `url`.".into())),
    }
}

fn at(member: &str) -> Path {
    Path::from("source").attribute(member)
}

fn problem(at: &str, what: &str, detail: String) -> Diagnostic {
    Diagnostic::error(Path::from(at), format!("Unable to create volume: {what}"), detail)
}

fn other_content(model: &Model, found: &str) -> Diagnostic {
    problem(
        "content_type",
        "the source has another content type",
        format!(
            "The source is a {found} volume and `content_type` is \"{}\". Write \"{found}\", or name another source.",
            model.content_type
        ),
    )
}

/// Incus would leave a copy as large as its source, without a word.
fn large_enough(model: &Model, source: Option<&String>) -> Result<(), Diagnostic> {
    let bytes = |text: Option<&String>| text.and_then(|text| size::parse(text).ok());
    match (bytes(model.size.as_ref()), bytes(source), source) {
        (Some(wanted), Some(needed), Some(text)) if wanted < needed => Err(problem(
            "size",
            "its source is larger",
            format!(
                "The source has {text} ({needed} bytes). Write at least that much, or leave `size` out: the volume is as large as its source then."
            ),
        )),
        _ => Ok(()),
    }
}

/// A volume, or a snapshot of one, that another is made of.
struct Original<'s> {
    project: String,
    pool: String,
    name: &'s str,
    snapshot: Option<&'s str>,
    found: Volume,
}

/// Looks for the volume `name` of `source`.
async fn original<'s>(
    session: &Session,
    into: &Target<'_>,
    source: &'s Source,
    name: &'s str,
) -> Result<Original<'s>, Diagnostic> {
    let domain = source.domain.as_deref().unwrap_or(&into.domain);
    let project = session.project(domain);
    let pool = match &source.pool {
        Some(pool) => pool.clone(),
        None => pool::choose(into.client, &project, at("pool")).await?,
    };
    let snapshot = source.snapshot.as_deref();
    let (request, what, member) = match snapshot {
        Some(snapshot) => (
            volume::snapshot(&project, &pool, name, snapshot),
            format!("snapshot \"{snapshot}\" of the volume \"{name}\""),
            "snapshot",
        ),
        None => (volume::get(&project, &pool, name), format!("volume \"{name}\""), "volume"),
    };
    match into.client.find::<Volume>(request).await {
        Ok(Some(found)) => Ok(Original { project, pool, name, snapshot, found }),
        Ok(None) => Err(Diagnostic::error(
            at(member),
            "Unable to create volume: no such source",
            format!(
                "There is no {what} in the pool \"{pool}\" of the domain \"{domain}\". Refer to a volume of this configuration as \
                 `anklume_volume.<name>.name`, so that it is made first; or look:\n\n    incus storage volume list {pool} --project {project}"
            ),
        )),
        Err(error) => Err(into.explain("create", &error).await),
    }
}

async fn copy(
    original: Original<'_>,
    into: &Target<'_>,
    model: &Model,
    marks: &Marks,
    wait: &Wait,
) -> Result<(), Diagnostic> {
    let Original { project, pool, name, snapshot, found } = original;
    if found.content_type != model.content_type {
        return Err(other_content(model, &found.content_type));
    }
    large_enough(model, found.config.get(SIZE))?;
    let mut wanted = Volume::default();
    if let Some(size) = found.config.get(SIZE) {
        wanted.config.insert(SIZE.to_owned(), size.clone());
    }
    model.apply(&mut wanted, &Filled::default());
    // Incus takes none of them from the source, and a copy of its blocks has its filesystem.
    for key in ["block.filesystem", "block.mount_options"] {
        if let Some(value) = found.config.get(key).filter(|_| pool == into.pool) {
            wanted.config.entry(key.to_owned()).or_insert_with(|| value.clone());
        }
    }
    marks.write(&mut wanted.config);
    let mut body = volume::Create {
        name: into.name.clone(),
        content_type: model.content_type.clone(),
        description: wanted.description,
        config: wanted.config,
        source: Some(volume::Source::copy(&project, &pool, name, snapshot)),
    };
    let mut made = into.client.run(volume::create(&into.project, &into.pool, &body), wait).await;
    // On btrfs a quota of an ISO's own length has no room for the rest of its subvolume (Incus 6.0.4).
    if model.is_iso() && made.as_ref().is_err_and(|error| error.refusal() == Some(&Refusal::QuotaTooSmall)) {
        body.config.remove(SIZE);
        made = into.client.run(volume::create(&into.project, &into.pool, &body), wait).await;
    }
    match made {
        Ok(_) => Ok(()),
        Err(error) => Err(into.explain("create", &error).await),
    }
}

/// A file that is streamed to Incus.
struct Upload<'u> {
    into: &'u Target<'u>,
    model: &'u Model,
    /// What it has to have.
    sha256: Option<&'u String>,
    /// As the operator knows it, without what may be secret.
    name: String,
    /// The attribute that names it.
    at: Path,
    wait: &'u Wait,
}

impl Upload<'_> {
    fn told(&self, what: &str, detail: String) -> Diagnostic {
        Diagnostic::error(self.at.clone(), format!("Unable to create volume: {what}"), detail)
    }

    fn unreadable(&self, error: &(dyn std::error::Error + 'static)) -> Diagnostic {
        let told = format!("\"{}\" has to be a file on this machine that this user may read.", self.name);
        self.told("its source cannot be read", format!("{told}\n\n{}", refusal::causes(error)))
    }

    async fn begin_file(&self) -> Result<(Stream, u64), Diagnostic> {
        let open = async {
            let file = tokio::fs::File::open(FilePath::new(&self.name)).await?;
            let about = file.metadata().await?;
            match about.is_file() && about.len() > 0 {
                true => Ok((Origin::File { file, left: about.len() }, about.len())),
                false => Err(std::io::Error::other("not a file, or an empty one")),
            }
        };
        let (origin, length) = open.await.map_err(|error: std::io::Error| self.unreadable(&error))?;
        let begun = self.in_time(Stream::begin(origin, form::TELLING_BYTES)).await?;
        Ok((begun.map_err(|broken| self.broken(&broken))?, length))
    }

    async fn begin_web(&self, location: &Location, headers: &Headers) -> Result<(Stream, Option<u64>), Diagnostic> {
        let client = web::Client::new();
        let mut is_first = true;
        loop {
            let body = web::Body::open(&client, location.clone(), headers.clone());
            let body = self.in_time(body).await?.map_err(|error| self.unavailable(&error))?;
            let length = body.length();
            match self.in_time(Stream::begin(Origin::Web(Box::new(body)), form::TELLING_BYTES)).await? {
                Ok(stream) => return Ok((stream, length)),
                // Incus has nothing of the old one yet.
                Err(Broken::Web(web::Error::Changed { .. })) if is_first => is_first = false,
                Err(broken) => return Err(self.broken(&broken)),
            }
        }
    }

    /// What `work` gives, unless the call's deadline or the stop comes first.
    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Diagnostic> {
        let what = format!("GET {}", self.name);
        let worked = self.wait.ends(&what, async { Ok(work.await) }).await;
        worked.map_err(|error| refusal::at(self.at.clone(), "Unable to create volume", &error))
    }

    fn unavailable(&self, error: &web::Error) -> Diagnostic {
        let (path, advice) = match error {
            web::Error::Status { status, .. } => match status.as_u16() {
                401 | 403 | 407 => (
                    at("headers"),
                    "The server gives the file to nobody, or not to these `headers`. Set them, such as `headers = { Authorization = \"Bearer ...\" }`.",
                ),
                404 | 410 => (self.at.clone(), "There is no such file. Look whether the URL is right."),
                _ => {
                    (self.at.clone(), "Look whether the URL is right, and apply again once the server gives the file.")
                }
            },
            web::Error::Downgrade { .. } => (
                self.at.clone(),
                "The file would come over a connection that anybody may read and change. Name a URL that stays with https.",
            ),
            web::Error::Redirects { .. } | web::Error::Redirect { .. } | web::Error::Nowhere { .. } => {
                (self.at.clone(), "Write where the file itself is.")
            }
            web::Error::Encoded { .. } => (
                self.at.clone(),
                "What is held against `sha256` and sent on is the file as it is. Name a server that sends it so, or fetch it and set `source = { file = \"...\" }`.",
            ),
            web::Error::Changed { .. } => (
                self.at.clone(),
                "Its beginning and its end would be of two files. Apply again, with the `sha256` of the new one if it is meant to be another.",
            ),
            web::Error::Short { .. } => {
                (self.at.clone(), "The server has not all of the file. Look whether it is whole there.")
            }
            _ => (self.at.clone(), "Nothing was made. Apply again once the server can be reached from this machine."),
        };
        let mut told = self.told("its source cannot be had", format!("{advice}\n\n{}", refusal::causes(error)));
        told.path = path;
        told
    }

    fn broken(&self, broken: &Broken) -> Diagnostic {
        match broken {
            Broken::File(error) => self.unreadable(&**error),
            Broken::FileChanged => self.told(
                "its source changed while it was read",
                format!(
                    "\"{}\" is longer or shorter than when it was opened. Apply again once nothing writes to it.",
                    self.name
                ),
            ),
            Broken::Web(error) => self.unavailable(error),
            Broken::Differs(passed) => Diagnostic::error(
                at("sha256"),
                "Unable to create volume: the checksum differs",
                format!(
                    "\"{}\" has {} bytes with the SHA-256\n\n    {}\n\nand not the one that is written. Nothing was made. Look whether it is the file that was meant.",
                    self.name, passed.bytes, passed.sha256
                ),
            ),
        }
    }

    async fn run(&self, stream: Stream, length: Option<u64>) -> Result<(), Unfilled> {
        if stream.first().is_empty() {
            return Err(self.told("its source is empty", format!("\"{}\" holds nothing.", self.name)).into());
        }
        let first = stream.first().to_vec();
        let form = form::of(&self.model.content_type, &self.name, &first);
        let form = form.map_err(|problem| Diagnostic::error(self.at.clone(), problem.summary, problem.detail))?;
        let (content, frame) = match form {
            Form::Iso => (Content::Iso, None),
            Form::Backup => (Content::Backup, None),
            Form::Raw => (Content::Backup, Some(self.frame(length)?)),
        };
        let bytes = match &frame {
            Some(frame) => length.map(|length| frame.bytes(length)),
            None => length,
        };
        let mut sending = stream.send(frame, self.sha256.map(|text| digits(text)));
        let into = self.into;
        let request = volume::upload(&into.project, &into.pool, &into.name, content);
        let sent = into.client.upload(request, bytes, sending.chunks(), self.wait).await;
        if let Some(broken) = sending.broken() {
            return Err(self.broken(&broken).into());
        }
        let whole = sending.passed().await.is_some();
        match sent {
            // Incus did not read to the end, so that nobody knows what the rest would have been.
            Ok(_) if !whole && self.sha256.is_some() => Err(self.told(
                "Incus has not read all of its source",
                format!("What follows in \"{}\" is no part of it, so that its checksum cannot be told. Name a file that holds it alone.", self.name),
            ).into()),
            Ok(_) => Ok(()),
            Err(error)
                if content == Content::Backup
                    && (error.refusal() == Some(&Refusal::Other)
                        || error.is_deadline() && self.wait.deadline.is_none_or(|end| Instant::now() < end)) =>
            {
                let told = match form {
                    Form::Raw => format!("Incus refuses the disk \"{}\".", self.name),
                    _ => form::no_backup(&self.name, &self.model.content_type, &first),
                };
                Err(self.told("Incus does not take the file", format!("{told}\n\n{}", refusal::causes(&error))).into())
            }
            Err(error) => Err(Unfilled { told: into.explain("create", &error).await, cause: Some(error), whole }),
        }
    }

    /// A raw disk travels in a backup, which says its length before it.
    fn frame(&self, length: Option<u64>) -> Result<Frame, Diagnostic> {
        let Some(length) = length else {
            return Err(self.told(
                "the length of its source is not known",
                format!(
                    "The server of \"{}\" does not say how long the file is (no `Content-Length`), and Incus has to know it before the disk comes. Name a \
                     server that says it, or fetch the file and set `source = {{ file = \"...\" }}`.",
                    self.name
                ),
            ));
        };
        let now = OffsetDateTime::now_utc();
        let created = format!("{}T{:02}:{:02}:{:02}Z", now.date(), now.hour(), now.minute(), now.second());
        let frame = Frame::of_disk(&self.into.name, length, &created);
        large_enough(self.model, Some(&format!("{}B", frame.disk_bytes)))?;
        Ok(frame)
    }
}
