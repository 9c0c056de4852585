//! Bodies that are too large to be held: streamed on a connection of their own, a few chunks in memory.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::client::{Client, Response};
use super::error::{Cause, Error};
use super::operation::Operation;
use super::pool::Raw;
use super::request::Request;
use super::run::Wait;

/// How many chunks wait for the connection.
const CHUNKS: usize = 4;

/// How long Incus may think about a body that it has whole. It answers once it has read how a backup begins; to a
/// truncated one 6.0.4 never answers.
const ANSWER: Duration = Duration::from_secs(120);

/// The chunks of a body as they come; an error breaks the upload off.
pub type Chunks = mpsc::Receiver<io::Result<Bytes>>;

/// Takes the chunks of a body, and waits while four of them have not been sent.
pub type Giver = mpsc::Sender<io::Result<Bytes>>;

/// A way for the chunks of a body; it ends with its giver.
pub fn channel() -> (Giver, Chunks) {
    mpsc::channel(CHUNKS)
}

impl Client {
    /// Sends `request` with `chunks` as its body, of `length` bytes where that is known, and waits until the operation has
    /// ended well.
    ///
    /// # Errors
    ///
    /// As [`Client::run`]; a source that breaks or is shorter than `length` is [`Error::Lost`], and no answer to all of it
    /// within 2 minutes [`Error::Deadline`].
    pub async fn upload(
        &self,
        request: Request,
        length: Option<u64>,
        chunks: Chunks,
        wait: &Wait,
    ) -> Result<Option<Operation>, Error> {
        let guard = self.shared().write(request.scopes());
        let what = format!("{} {}", request.method, request.path);
        wait.ends("GET /1.0", self.enroll(wait)).await?;
        let raw = tokio::select! {
            biased;
            raw = self.stream(&request, length, chunks) => raw?,
            () = wait.passed() => return Err(Error::Deadline { what, last: None, may_have_been_sent: true }),
            () = wait.stop.cancelled() => return Err(Error::Stopped { what, may_have_been_sent: true }),
        };
        match self.response(&request, &raw, Some(guard)).await? {
            Response::Sync(_) => Ok(None),
            Response::Async(running) => self.finish(&running, wait).await.map(Some),
        }
    }

    async fn stream(&self, request: &Request, length: Option<u64>, chunks: Chunks) -> Result<Raw, Error> {
        let lost = |source: Cause| Error::Lost {
            method: request.method.to_string(),
            path: request.path.clone(),
            may_have_been_sent: true,
            source: Some(source),
        };
        self.count_request();
        let stream = self.connector().connect().await?;
        let (whole, sent) = tokio::sync::oneshot::channel::<()>();
        // The connection drops the body, and with it `whole`, once it has sent all of it.
        let frames = ReceiverStream::new(chunks).map(move |chunk| {
            let _ = &whole;
            chunk.map(Frame::data)
        });
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|source| lost(Arc::new(source)))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "connection to Incus ended");
            }
        });
        let mut message = http::Request::builder()
            .method(request.method.clone())
            .uri(request.target())
            .header(http::header::HOST, self.endpoint().host())
            .header(http::header::USER_AGENT, concat!("anklume/", env!("CARGO_PKG_VERSION")))
            .header(http::header::CONTENT_TYPE, "application/octet-stream");
        if let Some(length) = length {
            message = message.header(http::header::CONTENT_LENGTH, length);
        }
        for (name, value) in &request.headers {
            message = message.header(*name, value);
        }
        let message = message.body(StreamBody::new(frames)).map_err(|source| lost(Arc::new(source)))?;
        let answer = tokio::select! {
            biased;
            answer = sender.send_request(message) => answer.map_err(|source| lost(Arc::new(source)))?,
            () = async {
                let _ = sent.await;
                tokio::time::sleep(ANSWER).await;
            } => {
                let what = format!("{} {}", request.method, request.path);
                return Err(Error::Deadline { what, last: Some("all of it was sent".to_owned()), may_have_been_sent: true });
            }
        };
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), self.body_limit_bytes()).collect().await;
        let body = body.map_err(|source| lost(Cause::from(source)))?.to_bytes();
        Ok(Raw { status, etag: None, body })
    }
}
