//! The one place that sends requests and reads answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::endpoint::{Connector, Endpoint};
use super::error::{ConnectFault, Error};
use super::events::Hub;
use super::operation::Operation;
use super::pool::{Pool, Raw};
use super::ready::Waits;
use super::remote::{Target, Token};
use super::request::Request;
use super::run::Wait;
use super::server::{self, Server};
use super::shared::{Shared, WriteGuard};

/// How long a write that was stopped may still take to say which operation it started.
const STOP_GRACE: Duration = Duration::from_millis(800);

/// Bounds of a client.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until a connection stands, TLS included; 10 s.
    pub connect: Duration,
    /// Until a read is answered; 60 s.
    pub read: Duration,
    /// The longest answer, in bytes; 64 MiB.
    pub body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), read: Duration::from_secs(60), body_bytes: 64 << 20 }
    }
}

/// An object and the ETag that it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched<T> {
    /// The object.
    pub value: T,
    /// For `If-Match`; some objects have none.
    pub etag: Option<String>,
}

/// What Incus made of a request.
#[derive(Debug)]
pub enum Response {
    /// Done; the answer's `metadata`.
    Sync(Option<serde_json::Value>),
    /// Under way.
    Async(Box<Running>),
}

/// An operation under way. Until this is dropped, its project counts as being written.
#[derive(Debug)]
pub struct Running {
    /// As it stood when it began.
    pub operation: Operation,
    pub(crate) project: Option<String>,
    pub(crate) _guard: Option<WriteGuard>,
}

/// A client of one Incus server; clones share connections, lists and the event stream.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// What ends the reads of this clone.
    reads: Wait,
}

pub(crate) struct Inner {
    pool: Pool,
    limits: Limits,
    requests: AtomicU64,
    shared: Shared,
    events: Hub,
    waits: Waits,
    server: OnceCell<Arc<Server>>,
    token: Option<Token>,
    enrolled: OnceCell<()>,
    /// Whether the server has ever answered.
    answered: AtomicBool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.inner.pool.endpoint().to_string()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of `endpoint`; connects at the first request.
    pub fn new(endpoint: Endpoint) -> Self {
        Self::with_limits(endpoint, Limits::default())
    }

    /// A client with bounds of its own.
    pub fn with_limits(endpoint: Endpoint, limits: Limits) -> Self {
        Self::build(endpoint, limits, None)
    }

    /// A client of what [`super::remote::resolve`] found. A trust token is used before the first request, unless the
    /// server trusts us already.
    pub fn for_target(target: Target) -> Self {
        Self::build(target.endpoint, Limits::default(), target.token)
    }

    fn build(endpoint: Endpoint, limits: Limits, token: Option<Token>) -> Self {
        let pool = Pool::new(Connector::new(endpoint, limits.connect), limits.body_bytes);
        Self {
            inner: Arc::new(Inner {
                pool,
                limits,
                requests: AtomicU64::new(0),
                shared: Shared::default(),
                events: Hub::default(),
                waits: Waits::default(),
                server: OnceCell::new(),
                token,
                enrolled: OnceCell::new(),
                answered: AtomicBool::new(false),
            }),
            reads: Wait::default(),
        }
    }

    /// This client with reads that end with `wait`: by its stop, and all of them at its deadline; each after
    /// [`Limits::read`] where it has none. Writes, and reads that others wait for, are not concerned.
    #[must_use]
    pub fn reading(&self, wait: &Wait) -> Self {
        Self { inner: self.inner.clone(), reads: wait.clone() }
    }

    /// The waits of this client and its clones, one more with what this gives.
    pub(crate) fn waits(&self) -> Waits {
        self.inner.waits.clone()
    }

    /// Where it connects to.
    pub fn endpoint(&self) -> &Endpoint {
        self.inner.pool.endpoint()
    }

    /// How many requests were sent so far, the event stream's not counted.
    pub fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.inner.events
    }

    pub(crate) fn count_request(&self) {
        self.inner.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the server has ever answered.
    pub(crate) fn was_answered(&self) -> bool {
        self.inner.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn body_limit_bytes(&self) -> usize {
        self.inner.limits.body_bytes
    }

    pub(crate) fn connector(&self) -> &Connector {
        self.inner.pool.connector()
    }

    /// What the server says of itself, asked once.
    ///
    /// # Errors
    ///
    /// [`ConnectFault::Untrusted`] where it does not trust us, and all of [`Client::get`].
    pub async fn server(&self) -> Result<Arc<Server>, Error> {
        let server = self.inner.server.get_or_try_init(|| async {
            let server: Server = self.get(server::get()).await?.value;
            if server.is_trusted() { Ok(Arc::new(server)) } else { Err(self.untrusted()) }
        });
        self.read_wait().ends("GET /1.0", server).await.cloned()
    }

    /// What it said of itself, if it was asked.
    pub(crate) fn known_server(&self) -> Option<&Server> {
        self.inner.server.get().map(Arc::as_ref)
    }

    fn untrusted(&self) -> Error {
        Error::Connect { endpoint: self.endpoint().to_string(), fault: ConnectFault::Untrusted, source: None }
    }

    /// Reads one object with a request of its own.
    ///
    /// # Errors
    ///
    /// Connection, refusal ([`Error::is_not_found`]), an answer that is no `T`, no answer within [`Limits::read`], or what
    /// [`Client::reading`] was given: [`Error::Deadline`], [`Error::Stopped`].
    pub async fn get<T: DeserializeOwned>(&self, request: Request) -> Result<Fetched<T>, Error> {
        let raw = self.exchange(&request, &self.read_wait()).await?;
        let envelope = self.open(&request, &raw).await?;
        let text = envelope.metadata.map_or("null", RawValue::get);
        let value = serde_json::from_str(text).map_err(|source| garbled(&request, source))?;
        Ok(Fetched { value, etag: raw.etag })
    }

    /// [`Client::get`] of an object that may be gone: `None` then.
    ///
    /// # Errors
    ///
    /// As [`Client::get`], but for [`Error::is_not_found`].
    pub async fn find<T: DeserializeOwned>(&self, request: Request) -> Result<Option<T>, Error> {
        match self.get(request).await {
            Ok(found) => Ok(Some(found.value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a list, each item as JSON text.
    pub(crate) async fn list(&self, request: &Request, wait: &Wait) -> Result<Vec<Box<RawValue>>, Error> {
        let raw = self.exchange(request, wait).await?;
        let envelope = self.open(request, &raw).await?;
        let text = envelope.metadata.map_or("null", RawValue::get);
        let items: Option<Vec<Box<RawValue>>> =
            serde_json::from_str(text).map_err(|source| garbled(request, source))?;
        Ok(items.unwrap_or_default())
    }

    /// Reads plain text, such as a console log.
    ///
    /// # Errors
    ///
    /// As [`Client::get`]; bytes that are no UTF-8 are replaced.
    pub async fn text(&self, request: Request) -> Result<String, Error> {
        let raw = self.exchange(&request, &self.read_wait()).await?;
        if raw.status >= 400 {
            self.open(&request, &raw).await?;
        }
        Ok(String::from_utf8_lossy(&raw.body).into_owned())
    }

    /// Sends a request without waiting for an operation that it starts.
    ///
    /// Its project counts as being written until the answer is there, or until the [`Running`] is dropped.
    ///
    /// # Errors
    ///
    /// Connection, refusal, deadline or stop; [`Error::may_have_been_sent`] tells whether the object must be looked at.
    pub async fn send(&self, request: Request, wait: &Wait) -> Result<Response, Error> {
        let guard = (!request.is_read()).then(|| self.inner.shared.write(request.scopes()));
        let raw = self.exchange(&request, wait).await?;
        self.response(&request, &raw, guard).await
    }

    /// Reads the answer to a write; an operation keeps `guard`.
    pub(crate) async fn response(
        &self,
        request: &Request,
        raw: &Raw,
        guard: Option<WriteGuard>,
    ) -> Result<Response, Error> {
        let envelope = self.open(request, raw).await?;
        let metadata = envelope.metadata.map_or("null", RawValue::get);
        if envelope.kind != "async" {
            return Ok(Response::Sync(
                serde_json::from_str::<Option<_>>(metadata).map_err(|source| garbled(request, source))?,
            ));
        }
        let mut operation: Operation =
            serde_json::from_str::<Option<_>>(metadata).map_err(|source| garbled(request, source))?.unwrap_or_default();
        if operation.id.is_empty() {
            let path = envelope.operation.split('?').next().unwrap_or_default();
            operation.id = path.rsplit('/').next().unwrap_or_default().to_owned();
        }
        if operation.id.is_empty() {
            return Err(garbled(request, std::io::Error::other("an operation without an id")));
        }
        let project = request.query.iter().find(|(key, _)| key == "project").map(|(_, value)| value.clone());
        Ok(Response::Async(Box::new(Running { operation, project, _guard: guard })))
    }

    pub(crate) fn read_wait(&self) -> Wait {
        let deadline = self.reads.deadline.unwrap_or_else(|| Instant::now() + self.inner.limits.read);
        Wait { deadline: Some(deadline), stop: self.reads.stop.clone() }
    }

    /// Sends once, and reads the whole answer, whatever its status.
    pub(crate) async fn exchange_once(&self, request: &Request, wait: &Wait) -> Result<Raw, Error> {
        // Another call may be enrolling: its end is not this one's.
        wait.ends("GET /1.0", self.enroll(wait)).await?;
        self.exchange_raw(request, wait).await
    }

    async fn exchange_raw(&self, request: &Request, wait: &Wait) -> Result<Raw, Error> {
        let what = || format!("{} {}", request.method, request.path);
        if wait.stop.is_cancelled() {
            return Err(Error::Stopped { what: what(), may_have_been_sent: false });
        }
        self.inner.requests.fetch_add(1, Ordering::Relaxed);
        let start = Instant::now();
        let sent = !request.is_read();
        let answer = self.inner.pool.send(request);
        tokio::pin!(answer);
        let result = tokio::select! {
            biased;
            result = &mut answer => result,
            () = wait.passed() => {
                Err(Error::Deadline { what: what(), last: Some("no answer".to_owned()), may_have_been_sent: sent })
            }
            () = wait.stop.cancelled() => {
                let stopped = Error::Stopped { what: what(), may_have_been_sent: sent };
                if sent {
                    tokio::time::timeout(STOP_GRACE, answer).await.unwrap_or(Err(stopped))
                } else {
                    Err(stopped)
                }
            }
        };
        if result.is_ok() {
            self.inner.answered.store(true, Ordering::Relaxed);
        }
        let status = result.as_ref().map_or(0, |raw| raw.status);
        let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(method = %request.method, path = %request.path, status, duration_ms, "request to Incus");
        result
    }

    /// Reads the envelope; an `error` becomes a refusal.
    async fn open<'a>(&self, request: &Request, raw: &'a Raw) -> Result<Envelope<'a>, Error> {
        match open(request, raw) {
            Err(error) if error.is_forbidden() && matches!(self.endpoint(), Endpoint::Https { .. }) => {
                let trusted = match self.exchange_raw(&server::get(), &self.read_wait()).await {
                    Ok(answer) => open(&server::get(), &answer)
                        .ok()
                        .and_then(|envelope| serde_json::from_str::<Server>(envelope.metadata?.get()).ok())
                        .is_none_or(|server| server.is_trusted()),
                    Err(_) => true,
                };
                Err(if trusted { error } else { self.untrusted() })
            }
            other => other,
        }
    }

    pub(crate) async fn enroll(&self, wait: &Wait) -> Result<(), Error> {
        let (Some(token), Endpoint::Https { identity: Some(identity), .. }) = (&self.inner.token, self.endpoint())
        else {
            return Ok(());
        };
        let enrolled = self.inner.enrolled.get_or_try_init(|| async {
            let request = server::get();
            let raw = self.exchange_raw(&request, wait).await?;
            let text = open(&request, &raw)?.metadata.map_or("null", RawValue::get);
            let server: Server = serde_json::from_str(text).map_err(|source| garbled(&request, source))?;
            if server.is_trusted() {
                return Ok(());
            }
            let certificate = identity.certificate_base64().map_err(|source| Error::Connect {
                endpoint: self.endpoint().to_string(),
                fault: ConnectFault::Identity,
                source: Some(Arc::new(source)),
            })?;
            let request = server::trust(token.as_str(), &certificate, token.client_name());
            let raw = self.exchange_raw(&request, wait).await?;
            open(&request, &raw).map(|_| ())
        });
        enrolled.await.copied()
    }
}

/// What every answer of the API looks like.
#[derive(Deserialize)]
pub(crate) struct Envelope<'a> {
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(borrow, default)]
    pub(crate) metadata: Option<&'a RawValue>,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_code: u16,
}

pub(crate) fn open<'a>(request: &Request, raw: &'a Raw) -> Result<Envelope<'a>, Error> {
    let envelope: Envelope<'a> = match serde_json::from_slice(&raw.body) {
        Ok(envelope) => envelope,
        Err(_) if raw.status >= 400 => return Err(Error::refused(raw.status, plain(&raw.body))),
        Err(source) => return Err(garbled(request, source)),
    };
    match envelope.kind.as_str() {
        "error" => {
            let status = if envelope.error_code == 0 { raw.status } else { envelope.error_code };
            Err(Error::refused(status, envelope.error))
        }
        "sync" | "async" if raw.status < 400 => Ok(envelope),
        _ if raw.status >= 400 => Err(Error::refused(raw.status, plain(&raw.body))),
        _ => Err(garbled(request, std::io::Error::other("an answer of no known type"))),
    }
}

/// The first line of a body that is no JSON.
fn plain(body: &Bytes) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(512)]).into_owned();
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() { "no reason given".to_owned() } else { line.to_owned() }
}

pub(crate) fn garbled(request: &Request, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Answer { method: request.method.to_string(), path: request.path.clone(), source: Some(Arc::new(source)) }
}
