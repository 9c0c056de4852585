//! Writes that are waited for: operations, busy instances, merges under `If-Match`.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Fetched, Response, Running, open};
use super::error::Error;
use super::operation::{self, Operation};
use super::pool::Raw;
use super::request::Request;

/// The longest that one `wait` request hangs on the server, in seconds.
const WAIT_S: u64 = 60;
/// How long a lost connection to a running operation is tried again: a restart of the daemon.
const RECONNECT: Duration = Duration::from_secs(30);
/// How long a busy instance is tried again where no deadline is given.
const BUSY: Duration = Duration::from_secs(120);
/// How often a merge is tried again after 412.
const MERGES: u32 = 12;
/// First and longest pause between tries.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How often a merge whose outcome is unclear is looked at and, where it was not carried out, made anew.
const UNCLEAR: u32 = 3;

/// How long a call may take, and what ends it before.
#[derive(Debug, Clone, Default)]
pub struct Wait {
    /// Until when; `None` = without end.
    pub deadline: Option<Instant>,
    /// Ends the wait; the operation is cancelled where it may be.
    pub stop: CancellationToken,
}

impl Wait {
    /// At most `limit` from now.
    pub fn within(limit: Duration, stop: CancellationToken) -> Self {
        Self { deadline: Some(Instant::now() + limit), stop }
    }

    /// 5 s that no stop ends: to look at what a call that is over left behind.
    pub fn afterwards() -> Self {
        Self::within(Duration::from_secs(5), CancellationToken::new())
    }

    /// Ends when the deadline has passed; never without one.
    pub(crate) async fn passed(&self) {
        match self.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }

    /// What `answer` gives, unless the deadline or the stop comes first; nothing is written by it.
    pub(crate) async fn ends<T>(&self, what: &str, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            result = answer => result,
            () = self.stop.cancelled() => Err(Error::Stopped { what: what.to_owned(), may_have_been_sent: false }),
            () = self.passed() => {
                Err(Error::Deadline { what: what.to_owned(), last: None, may_have_been_sent: false })
            }
        }
    }

    /// Sleeps, unless the deadline or the stop comes first.
    ///
    /// # Errors
    ///
    /// [`Error::Deadline`] or [`Error::Stopped`], naming `what` and the `last` thing seen.
    pub async fn pause(&self, length: Duration, what: &str, last: Option<String>) -> Result<(), Error> {
        self.sleep(length, what, last, true).await
    }

    /// [`Self::pause`] before what was not carried out is sent again.
    pub(crate) async fn ends_after(&self, length: Duration, what: &str, last: String) -> Result<(), Error> {
        self.sleep(length, what, Some(last), false).await
    }

    async fn sleep(
        &self,
        length: Duration,
        what: &str,
        last: Option<String>,
        may_have_been_sent: bool,
    ) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Error::Stopped { what: what.to_owned(), may_have_been_sent }),
            () = self.passed() => Err(Error::Deadline { what: what.to_owned(), last, may_have_been_sent }),
            () = tokio::time::sleep(length) => Ok(()),
        }
    }
}

/// What [`Client::modify`] left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modified<T> {
    /// The object as it was sent, or as it was read when nothing was to change.
    pub value: T,
    /// Whether a `PUT` was sent.
    pub changed: bool,
}

pub(super) fn backoff(tries: u32) -> Duration {
    PAUSE.0.saturating_mul(1 << tries.min(10)).min(PAUSE.1)
}

impl Client {
    /// Sends a request and waits until all of it is done; again while the instance is busy.
    ///
    /// Returns the `metadata` of the answer, or that of the ended operation.
    ///
    /// # Errors
    ///
    /// All of [`Client::send`]; [`Error::OperationGone`] where the outcome is to be read off the object; the operation's
    /// failure as [`Error::Refused`]. On a deadline or a stop the operation is cancelled where it may be.
    pub async fn run(&self, request: Request, wait: &Wait) -> Result<Option<serde_json::Value>, Error> {
        let _guard = (!request.is_read()).then(|| self.shared().write(request.scopes()));
        let busy_until = wait.deadline.unwrap_or_else(|| Instant::now() + BUSY);
        let mut tries = 0;
        loop {
            let result = match self.send(request.clone(), wait).await {
                Ok(Response::Sync(metadata)) => Ok(metadata),
                Ok(Response::Async(running)) => self.finish(&running, wait).await.map(|operation| operation.metadata),
                Err(error) => Err(error),
            };
            match result {
                Err(error) if error.is_busy() && Instant::now() + backoff(tries) < busy_until => {
                    wait.pause(backoff(tries), &request.path, Some(error.to_string())).await?;
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    /// Waits until an operation has ended well.
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    pub async fn finish(&self, running: &Running, wait: &Wait) -> Result<Operation, Error> {
        let mut last = running.operation.clone();
        match self.follow(&mut last, running.project.as_deref(), wait).await {
            Ok(()) => outcome(last),
            Err(error @ (Error::Deadline { .. } | Error::Stopped { .. })) => {
                self.cancel(running, &last).await;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether an operation of a project that `concerns` picks is under way.
    ///
    /// # Errors
    ///
    /// All of [`Client::get`].
    pub async fn is_busy(&self, project: &str, concerns: impl Fn(&Operation) -> bool) -> Result<bool, Error> {
        let listed = self.get::<HashMap<String, Vec<Operation>>>(operation::list(project)).await?.value;
        Ok(listed.into_values().flatten().any(|found| !found.is_final() && concerns(&found)))
    }

    /// Waits until the operations of a project that `concerns` picks have ended, well or not: what an interrupted call
    /// started goes on without it. None is cancelled.
    ///
    /// # Errors
    ///
    /// All of [`Client::get`]; [`Error::Deadline`] and [`Error::Stopped`].
    pub async fn settle(&self, project: &str, concerns: impl Fn(&Operation) -> bool, wait: &Wait) -> Result<(), Error> {
        let listed = self.get::<HashMap<String, Vec<Operation>>>(operation::list(project)).await?.value;
        for mut found in listed.into_values().flatten() {
            if found.is_final() || !concerns(&found) {
                continue;
            }
            match self.follow(&mut found, Some(project), wait).await {
                Err(error) if !error.is_operation_gone() && error.refusal().is_none() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Follows an operation to its end: `last` is how it was seen last.
    async fn follow(&self, last: &mut Operation, project: Option<&str>, wait: &Wait) -> Result<(), Error> {
        let id = last.id.clone();
        let mut lost: Option<(Instant, u32)> = None;
        while !last.is_final() {
            let left = wait.deadline.map_or(WAIT_S, |deadline| {
                deadline.saturating_duration_since(Instant::now()).as_secs().saturating_add(1).min(WAIT_S)
            });
            let mut request = operation::wait(&id, left);
            if let Some(project) = project {
                request = request.project(project);
            }
            let asked = Instant::now();
            match self.exchange_once(&request, wait).await.and_then(|raw| ended(&request, &raw, &id)) {
                Ok(operation) => {
                    lost = None;
                    // A timeout of the server takes a second or more; an answer sooner must not become a tight loop.
                    if !operation.is_final() && asked.elapsed() < PAUSE.1 / 4 {
                        wait.pause(PAUSE.0, &what(&operation), Some(operation.status.clone())).await?;
                    }
                    *last = operation;
                }
                Err(error @ (Error::Deadline { .. } | Error::Stopped { .. })) => return Err(given_up(&error, last)),
                Err(error) if error.is_connection() || error.is_unavailable() => {
                    let (since, tries) = lost.unwrap_or((Instant::now(), 0));
                    if since.elapsed() > RECONNECT {
                        return Err(unclear(error));
                    }
                    lost = Some((since, tries + 1));
                    wait.pause(backoff(tries), &what(last), Some(last.status.clone())).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Cancels where that is allowed, as last seen or as it stands now. An error changes nothing: the wait is over.
    async fn cancel(&self, running: &Running, last: &Operation) {
        let in_project = |request: Request| match &running.project {
            Some(project) => request.project(project),
            None => request,
        };
        let brief = Wait::afterwards();
        let mut may = last.may_cancel;
        if !may {
            let request = in_project(operation::get(&last.id));
            may = match self.exchange(&request, &brief).await.and_then(|raw| ended(&request, &raw, &last.id)) {
                Ok(now) => now.may_cancel && !now.is_final(),
                Err(_) => false,
            };
        }
        if !may {
            return;
        }
        let request = in_project(operation::cancel(&last.id));
        let refused = match self.exchange(&request, &brief).await {
            Ok(raw) => open(&request, &raw).err(),
            Err(error) => Some(error),
        };
        if let Some(error) = refused {
            tracing::debug!(operation = %last.id, %error, "operation not cancelled");
        }
    }

    /// Reads an object, lets `change` edit it, and writes it back if that says so; again when it changed meanwhile, and
    /// where a write broke off without having been carried out.
    ///
    /// # Errors
    ///
    /// All of [`Client::get`] and [`Client::run`]; a 412 only after twelve tries.
    pub async fn modify<T>(
        &self,
        get: Request,
        mut change: impl FnMut(&mut T) -> bool,
        wait: &Wait,
    ) -> Result<Modified<T>, Error>
    where
        T: Serialize + DeserializeOwned,
    {
        let (mut tries, mut unclear) = (0, 0);
        let reader = self.reading(&Wait { deadline: None, stop: wait.stop.clone() });
        loop {
            let Fetched { mut value, etag } = reader.get::<T>(get.clone()).await?;
            if !change(&mut value) {
                return Ok(Modified { value, changed: unclear > 0 });
            }
            let mut put = get.clone().json(&value).if_match(etag);
            put.method = http::Method::PUT;
            match self.run(put, wait).await {
                Ok(_) => return Ok(Modified { value, changed: true }),
                Err(error) if error.is_precondition_failed() && tries < MERGES => {
                    wait.pause(backoff(tries), &get.path, Some(error.to_string())).await?;
                    tries += 1;
                }
                // Whether it was carried out shows when the object is read again.
                Err(error) if (error.is_connection() || error.is_operation_gone()) && unclear < UNCLEAR => {
                    wait.pause(backoff(unclear), &get.path, Some(error.to_string())).await?;
                    unclear += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn what(operation: &Operation) -> String {
    if operation.description.is_empty() {
        format!("operation {}", operation.id)
    } else {
        format!("operation {:?}", operation.description)
    }
}

fn given_up(error: &Error, last: &Operation) -> Error {
    match error {
        Error::Stopped { .. } => Error::Stopped { what: what(last), may_have_been_sent: true },
        _ => Error::Deadline { what: what(last), last: Some(last.status.clone()), may_have_been_sent: true },
    }
}

/// A broken wait says nothing of the operation, which was accepted.
fn unclear(error: Error) -> Error {
    let source = Some(std::sync::Arc::new(error) as super::error::Cause);
    Error::Lost { method: "GET".into(), path: "/1.0/operations".into(), may_have_been_sent: true, source }
}

/// Reads what `/wait` answered. Incus 6.0 answers a failed operation with a bare error, 7.x with the operation; both
/// answer a timeout with the operation as it stands.
fn ended(request: &Request, raw: &Raw, id: &str) -> Result<Operation, Error> {
    let envelope = match open(request, raw) {
        Ok(envelope) => envelope,
        Err(error) if error.is_forgotten_operation() => return Err(Error::OperationGone { id: id.to_owned() }),
        Err(error) => return Err(error),
    };
    let text = envelope.metadata.map_or("null", |metadata| metadata.get());
    serde_json::from_str(text).map_err(|source| super::client::garbled(request, source))
}

fn outcome(operation: Operation) -> Result<Operation, Error> {
    match operation.status_code {
        200 => Ok(operation),
        401 => Err(Error::OperationCancelled { id: operation.id }),
        code => Err(Error::refused(code, if operation.err.is_empty() { operation.status } else { operation.err })),
    }
}
