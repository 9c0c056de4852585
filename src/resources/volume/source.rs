//! Filling a volume under a temporary name: from another volume, or from a file of this machine. The rename is the
//! caller's.

use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time::Instant;

use super::model::{Filled, Model, SIZE, Source};
use super::schema::digits;
use super::target::Target;
use crate::incus::volume::{self, Content, Volume};
use crate::incus::{Refusal, Wait, upload};
use crate::plugin::{Diagnostic, Path};
use crate::resources::session::Session;
use crate::resources::{marks::Marks, pool, refusal, size};

/// How a qcow2 disk begins. Incus 6.0.4 never answers the upload of one.
const QCOW2: [u8; 4] = *b"QFI\xfb";

/// Fills `into`, which has the temporary name, and writes everything that is configured on it.
pub(super) async fn fill(
    session: &Session,
    into: &Target<'_>,
    model: &Model,
    marks: &Marks,
    wait: &Wait,
) -> Result<(), Diagnostic> {
    let source = model.source.as_ref().cloned().unwrap_or_default();
    match (&source.volume, &source.file) {
        (Some(name), _) => copy(session, into, model, marks, &source, name, wait).await?,
        (None, Some(file)) => read_file(into, model, &source, file, wait).await?,
        (None, None) => return Err(problem("source", "a source that names nothing", "Set `volume` or `file`.".into())),
    }
    if model.is_iso() {
        return Ok(());
    }
    let found = into.fetch().await.map_err(|error| into.failed("create", &error))?;
    let found = found.ok_or_else(|| {
        problem("source", "it is gone", "The volume vanished while it was filled. Apply again.".into())
    })?;
    if found.content_type != model.content_type {
        return Err(other_content(model, &found.content_type));
    }
    large_enough(model, found.config.get(SIZE))?;
    let write = |volume: &mut Volume| {
        let before = volume.config.clone();
        marks.write(&mut volume.config);
        model.apply(volume, &Filled::default()) | (before != volume.config)
    };
    into.modify(false, write, wait).await.map_err(|error| into.failed("create", &error))
}

fn problem(at: &str, what: &str, detail: String) -> Diagnostic {
    Diagnostic::error(Path::from(at), format!("Unable to create volume: {what}"), detail)
}

fn qcow2(at: Path, file: &str) -> Diagnostic {
    Diagnostic::error(
        at,
        "Unable to create volume: Incus does not take qcow2",
        format!(
            "\"{file}\" is a qcow2 disk, and Incus takes backups and ISO images only. Write it into a block volume that is attached to \
             nothing else, on the Incus host:\n\n    qemu-img convert -O raw {file} disk.img"
        ),
    )
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

async fn copy(
    session: &Session,
    into: &Target<'_>,
    model: &Model,
    marks: &Marks,
    source: &Source,
    name: &str,
    wait: &Wait,
) -> Result<(), Diagnostic> {
    let at = |member: &str| Path::from("source").attribute(member);
    let domain = source.domain.as_deref().unwrap_or(&into.domain);
    let project = session.project(domain);
    let pool = match &source.pool {
        Some(pool) => pool.clone(),
        None => pool::choose(into.client, &project, at("pool")).await?,
    };
    let request = match &source.snapshot {
        Some(snapshot) => volume::snapshot(&project, &pool, name, snapshot),
        None => volume::get(&project, &pool, name),
    };
    let (what, member) = match &source.snapshot {
        Some(snapshot) => (format!("snapshot \"{snapshot}\" of the volume \"{name}\""), "snapshot"),
        None => (format!("volume \"{name}\""), "volume"),
    };
    let found = match into.client.find::<Volume>(request).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            return Err(Diagnostic::error(
                at(member),
                "Unable to create volume: no such source",
                format!(
                    "There is no {what} in the pool \"{pool}\" of the domain \"{domain}\". Refer to a volume of this configuration as \
                     `anklume_volume.<name>.name`, so that it is made first; or look:\n\n    incus storage volume list {pool} --project {project}"
                ),
            ));
        }
        Err(error) => return Err(into.explain("create", &error).await),
    };
    if found.content_type != model.content_type {
        return Err(other_content(model, &found.content_type));
    }
    large_enough(model, found.config.get(SIZE))?;
    let mut wanted = Volume::default();
    if let Some(size) = found.config.get(SIZE) {
        wanted.config.insert(SIZE.to_owned(), size.clone());
    }
    model.apply(&mut wanted, &Filled::default());
    marks.write(&mut wanted.config);
    let body = volume::Create {
        name: into.name.clone(),
        content_type: model.content_type.clone(),
        description: wanted.description,
        config: wanted.config,
        source: Some(volume::Source::copy(&project, &pool, name, source.snapshot.as_deref())),
    };
    match into.client.run(volume::create(&into.project, &into.pool, &body), wait).await {
        Ok(_) => Ok(()),
        Err(error) => Err(into.explain("create", &error).await),
    }
}

/// Streams a file to Incus, a few chunks in memory, and holds its checksum against the one that is configured.
async fn read_file(
    into: &Target<'_>,
    model: &Model,
    source: &Source,
    file: &str,
    wait: &Wait,
) -> Result<(), Diagnostic> {
    let at = Path::from("source").attribute("file");
    let unreadable = |error: std::io::Error| {
        Diagnostic::error(
            at.clone(),
            "Unable to create volume: its source cannot be read",
            format!(
                "\"{file}\" has to be a file on this machine that this user may read.\n\n{}",
                refusal::causes(&error)
            ),
        )
    };
    let mut open = tokio::fs::File::open(FilePath::new(file)).await.map_err(unreadable)?;
    let about = open.metadata().await.map_err(unreadable)?;
    if !about.is_file() || about.len() == 0 {
        return Err(unreadable(std::io::Error::other("not a file, or an empty one")));
    }
    let mut first = [0; 4];
    let length = open.read(&mut first).await.map_err(unreadable)?;
    if first[..length] == QCOW2 {
        return Err(qcow2(at, file));
    }
    open.rewind().await.map_err(unreadable)?;
    let hash = Arc::new(Mutex::new(Sha256::new()));
    let seen = Arc::clone(&hash);
    let chunks = upload::chunks(open, move |chunk| seen.lock().unwrap_or_else(PoisonError::into_inner).update(chunk));
    let content = if model.is_iso() { Content::Iso } else { Content::Backup };
    let request = volume::upload(&into.project, &into.pool, &into.name, content);
    let sent = into.client.upload(request, about.len(), chunks, wait).await;
    if let (Ok(_), Some(wanted)) = (&sent, &source.sha256) {
        let found: String = hash
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if found != digits(wanted) {
            return Err(Diagnostic::error(
                Path::from("source").attribute("sha256"),
                "Unable to create volume: the checksum differs",
                format!(
                    "\"{file}\" has the SHA-256\n\n    {found}\n\nand not the one that is written. Nothing was made. Look whether it is the file that was meant."
                ),
            ));
        }
    }
    match sent {
        Ok(_) => Ok(()),
        Err(error)
            if !model.is_iso()
                && (error.refusal() == Some(&Refusal::Other)
                    || error.is_deadline() && wait.deadline.is_none_or(|end| Instant::now() < end)) =>
        {
            Err(Diagnostic::error(
                at.clone(),
                "Unable to create volume: Incus does not take the file",
                format!(
                    "\"{file}\" is no whole backup as `incus storage volume export` writes it, which is all that Incus takes for this `content_type`.\n\n{}",
                    refusal::causes(&error)
                ),
            ))
        }
        Err(error) => Err(into.explain("create", &error).await),
    }
}
