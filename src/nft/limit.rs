//! How long a call may take.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::Error;

/// How long a transaction that was sent may still take when a stop comes.
const GRACE: Duration = Duration::from_secs(5);

/// How long a call may take, and what ends it before.
#[derive(Debug, Clone, Default)]
pub struct Limit {
    /// Until when; `None` = without end.
    pub deadline: Option<Instant>,
    /// Ends it; a transaction that was sent is still waited for, at most 5 s.
    pub stop: CancellationToken,
}

impl Limit {
    async fn passed(&self) {
        match self.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }

    pub(super) async fn ends<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            result = work => result,
            () = self.stop.cancelled() => Err(Error::Stopped { what, may_have_been_applied: false }),
            () = self.passed() => Err(Error::Deadline { what, may_have_been_applied: false }),
        }
    }

    /// As [`Limit::ends`], for what is better finished than left.
    pub(super) async fn finishes<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let stopped = async {
            self.stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            result = work => result,
            () = stopped => Err(Error::Stopped { what, may_have_been_applied: true }),
            () = self.passed() => Err(Error::Deadline { what, may_have_been_applied: true }),
        }
    }
}
