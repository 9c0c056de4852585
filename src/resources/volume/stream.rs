//! A file of this machine or of a web server on its way to Incus: a few chunks in memory, none on disk, its checksum
//! computed as it passes.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio_util::task::AbortOnDropHandle;

use crate::incus::backup::Frame;
use crate::incus::upload::{self, Chunks, Giver};
use crate::web;

/// Length of a chunk of a file, in bytes.
const CHUNK_BYTES: usize = 128 << 10;

/// Where bytes come from.
#[derive(Debug)]
pub(super) enum Origin {
    /// A file of this machine, of which so many bytes are left.
    File { file: tokio::fs::File, left: u64 },
    /// A file of a web server.
    Web(Box<web::Body>),
}

/// Why they do not come any more.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The file of this machine.
    #[error("the file cannot be read")]
    File(#[source] Arc<io::Error>),
    /// The file of this machine is not as long as it was.
    #[error("the file became longer or shorter while it was read")]
    FileChanged,
    /// The web server.
    #[error(transparent)]
    Web(web::Error),
    /// All of it came, and it is not what was asked for.
    #[error("the checksum differs")]
    Differs(Passed),
}

impl Origin {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        match self {
            Self::File { file, left } => {
                let mut chunk = Vec::with_capacity(CHUNK_BYTES);
                let read = file.read_buf(&mut chunk).await.map_err(|error| Broken::File(Arc::new(error)))?;
                // What follows would pass for no part of it, and what lacks for a broken connection.
                match left.checked_sub(read as u64) {
                    Some(0) if read == 0 => Ok(None),
                    Some(rest) if read > 0 => {
                        *left = rest;
                        Ok(Some(chunk.into()))
                    }
                    _ => Err(Broken::FileChanged),
                }
            }
            Self::Web(body) => body.next().await.map_err(Broken::Web),
        }
    }
}

/// A source whose beginning was looked at.
#[derive(Debug)]
pub(super) struct Stream {
    origin: Origin,
    /// What was read of it.
    first: Vec<u8>,
}

impl Stream {
    /// Reads `telling` bytes, or all there are.
    ///
    /// # Errors
    ///
    /// Why not even these can be read.
    pub(super) async fn begin(mut origin: Origin, telling: usize) -> Result<Self, Broken> {
        let mut first = Vec::new();
        while first.len() < telling {
            let Some(chunk) = origin.next().await? else { break };
            first.extend_from_slice(&chunk);
        }
        Ok(Self { origin, first })
    }

    /// How it begins.
    pub(super) fn first(&self) -> &[u8] {
        &self.first
    }

    /// Sends it on its way, with `frame` around it, and reads as fast as it is taken. Its end goes out only if all of it
    /// has the `sha256`, in lower-case digits.
    pub(super) fn send(self, frame: Option<Frame>, sha256: Option<String>) -> Sending {
        let (giver, chunks) = upload::channel();
        let broken = Arc::default();
        let task = tokio::spawn(give(self, frame, sha256, giver, Arc::clone(&broken)));
        Sending { chunks: Some(chunks), broken, task: AbortOnDropHandle::new(task) }
    }
}

/// A source on its way; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Sending {
    chunks: Option<Chunks>,
    broken: Arc<Mutex<Option<Broken>>>,
    task: AbortOnDropHandle<Option<Passed>>,
}

/// What has passed, the frame not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// SHA-256 in lower-case hexadecimal digits.
    pub(super) sha256: String,
    /// How many bytes.
    pub(super) bytes: u64,
}

impl Sending {
    /// What goes to Incus; once.
    pub(super) fn chunks(&mut self) -> Chunks {
        self.chunks.take().unwrap_or_else(|| upload::channel().1)
    }

    /// Why the source broke off, if it did.
    pub(super) fn broken(&self) -> Option<Broken> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What has passed, when all of it has; `None` where nobody took it to the end.
    pub(super) async fn passed(self) -> Option<Passed> {
        self.task.await.ok().flatten()
    }
}

async fn give(
    stream: Stream,
    frame: Option<Frame>,
    sha256: Option<String>,
    giver: Giver,
    broken: Arc<Mutex<Option<Broken>>>,
) -> Option<Passed> {
    let Stream { mut origin, first } = stream;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let (head, tail) = frame.map_or_else(Default::default, |frame| (frame.head, frame.tail));
    if !head.is_empty() {
        giver.send(Ok(head.into())).await.ok()?;
    }
    let mut next = Bytes::from(first);
    let ended = loop {
        hash.update(&next);
        bytes += next.len() as u64;
        let read = tokio::select! {
            biased;
            () = giver.closed() => return None,
            read = origin.next() => read,
        };
        match read {
            // The last chunk is held back: Incus makes a volume of what is whole.
            Ok(Some(chunk)) => giver.send(Ok(std::mem::replace(&mut next, chunk))).await.ok()?,
            Ok(None) => {
                let digits = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
                let passed = Passed { sha256: digits, bytes };
                let differs = sha256.is_some_and(|sha256| sha256 != passed.sha256);
                break if differs { Err(Broken::Differs(passed)) } else { Ok(passed) };
            }
            Err(error) => break Err(error),
        }
    };
    match ended {
        Ok(passed) => {
            for chunk in [next, tail.into()].into_iter().filter(|chunk| !chunk.is_empty()) {
                giver.send(Ok(chunk)).await.ok()?;
            }
            Some(passed)
        }
        Err(error) => {
            *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            // Breaks the upload off; where nobody takes it, it has ended already.
            let _ = giver.send(Err(io::Error::other(error))).await;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn file(content: &[u8]) -> Origin {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let left = content.len() as u64;
        Origin::File { file: tokio::fs::File::open(file.path()).await.unwrap(), left }
    }

    async fn taken(mut chunks: Chunks) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            all.extend(chunk?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn every_byte_is_hashed_and_handed_on_in_its_frame() {
        let content: Vec<u8> = (0..CHUNK_BYTES * 3 + 7).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for frame in [None, Some(Frame { head: b"head".into(), tail: b"tail".into(), disk_bytes: 0 })] {
            let stream = Stream::begin(file(&content).await, 512).await.unwrap();
            assert!(stream.first().len() >= 512 && content.starts_with(stream.first()));
            let mut sending = stream.send(frame.clone(), None);
            let got = taken(sending.chunks()).await.unwrap();
            let expected = match frame {
                Some(_) => [b"head", content.as_slice(), b"tail"].concat(),
                None => content.clone(),
            };
            assert!(got == expected);
            let passed = sending.passed().await.unwrap();
            assert_eq!(passed.bytes, content.len() as u64);
            let sha256: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(passed.sha256, sha256);
        }
    }

    #[tokio::test]
    async fn a_source_that_breaks_breaks_the_upload_off() {
        let directory = tempfile::tempdir().unwrap();
        let origin = Origin::File { file: tokio::fs::File::open(directory.path()).await.unwrap(), left: 9 };
        assert!(Stream::begin(origin, 512).await.is_err());
        let origin = Origin::File { file: tokio::fs::File::open(directory.path()).await.unwrap(), left: 9 };
        let mut sending = Stream { origin, first: b"first".into() }.send(None, None);
        let mut chunks = sending.chunks();
        assert!(chunks.recv().await.unwrap().is_err());
        assert!(sending.broken().is_some());
        assert_eq!(sending.passed().await, None);
    }

    #[tokio::test]
    async fn the_end_of_what_has_another_checksum_is_held_back() {
        let content = [7; CHUNK_BYTES + 9];
        let sha256: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        for (wanted, whole) in [(sha256, true), ("0".repeat(64), false)] {
            let mut sending = Stream::begin(file(&content).await, 512).await.unwrap().send(None, Some(wanted));
            let mut chunks = sending.chunks();
            let mut got = Vec::new();
            while let Some(Ok(chunk)) = chunks.recv().await {
                got.extend(chunk);
            }
            assert_eq!(got.len() == content.len(), whole);
            assert_eq!(sending.broken().is_none(), whole);
        }
    }

    #[tokio::test]
    async fn a_file_that_grows_or_shrinks_while_it_is_read_is_not_taken_for_whole() {
        for length in [CHUNK_BYTES as u64 + 6, CHUNK_BYTES as u64 + 8] {
            let Origin::File { file, .. } = file(&[7; CHUNK_BYTES + 7]).await else { unreachable!() };
            let mut sending = Stream::begin(Origin::File { file, left: length }, 512).await.unwrap().send(None, None);
            assert!(taken(sending.chunks()).await.is_err());
            assert!(matches!(sending.broken(), Some(Broken::FileChanged)));
        }
    }

    #[tokio::test]
    async fn what_nobody_takes_has_not_passed() {
        let stream = Stream::begin(file(&[7; CHUNK_BYTES * 9]).await, 512).await.unwrap();
        let mut sending = stream.send(None, None);
        drop(sending.chunks());
        assert!(sending.broken().is_none());
        assert_eq!(sending.passed().await, None);
    }
}
