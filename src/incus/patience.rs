//! Which requests are sent again after a failure, how often and for how long.

use std::time::Duration;

use tokio::time::Instant;

use super::client::{Client, open};
use super::error::{ConnectFault, Error, Refusal};
use super::pool::Raw;
use super::request::Request;
use super::run::{Wait, backoff};

/// How long a daemon that restarts may take no connection, or answer 503.
const AWAY: Duration = Duration::from_secs(30);
/// How often a read is sent again that broke off, or that the database of Incus had no time for.
const READS: u32 = 5;

/// The tries of one request.
pub(super) struct Patience<'r> {
    request: &'r Request,
    /// The server has answered before: that it is away now is a restart.
    answered: bool,
    since: Instant,
    tries: u32,
    broken: u32,
}

impl<'r> Patience<'r> {
    pub(super) fn new(request: &'r Request, answered: bool) -> Self {
        Self { request, answered, since: Instant::now(), tries: 0, broken: 0 }
    }

    /// After which pause the request is sent again, and what stood in the way; `None` where `result` is what there is.
    pub(super) fn again(&mut self, result: &Result<Raw, Error>) -> Option<(Duration, String)> {
        let last = match result {
            Err(error @ Error::Connect { fault: ConnectFault::NoDaemon, source, .. }) => {
                let refused = source.as_ref().and_then(|source| source.downcast_ref::<std::io::Error>());
                let refused = refused.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
                // A socket that nobody ever made is a wrong address.
                if !(self.answered || refused) || self.since.elapsed() > AWAY {
                    return None;
                }
                error.to_string()
            }
            Err(error @ Error::Lost { may_have_been_sent: false, .. }) => self.broken(error)?,
            Ok(raw) if raw.status >= 500 => match open(self.request, raw) {
                Err(error) if error.is_unavailable() && self.since.elapsed() <= AWAY => error.to_string(),
                Err(error) if error.refusal() == Some(&Refusal::DatabaseBusy) && self.request.is_read() => {
                    self.broken(&error)?
                }
                _ => return None,
            },
            _ => return None,
        };
        let length = backoff(self.tries);
        self.tries += 1;
        Some((length, last))
    }

    fn broken(&mut self, error: &Error) -> Option<String> {
        self.broken += 1;
        (self.broken <= READS).then(|| error.to_string())
    }
}

impl Client {
    /// Sends and reads the whole answer, whatever its status; again, for a while, where that is safe: what was not sent, a
    /// read that broke off, and what the server did not take up.
    pub(crate) async fn exchange(&self, request: &Request, wait: &Wait) -> Result<Raw, Error> {
        let mut patience = Patience::new(request, self.was_answered());
        loop {
            // On the heap: reads are joined by the dozen.
            let result = Box::pin(self.exchange_once(request, wait)).await;
            let Some((length, last)) = patience.again(&result) else { return result };
            tracing::debug!(method = %request.method, path = %request.path, last, "request to Incus is sent again");
            let what = format!("{} {}", request.method, request.path);
            wait.ends_after(length, &what, last).await?;
        }
    }
}
