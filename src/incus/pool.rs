//! HTTP/1.1 connections, kept alive and used again.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::endpoint::{Connector, Endpoint};
use super::error::{Cause, Error};
use super::request::{Body, Request};

/// Idle connections kept: enough for a parallelism of 30.
const IDLE: usize = 32;

type Sender = SendRequest<Full<Bytes>>;

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) etag: Option<String>,
    pub(crate) body: Bytes,
}

pub(crate) struct Pool {
    connector: Connector,
    body_bytes: usize,
    idle: Mutex<Vec<Sender>>,
}

impl Pool {
    pub(crate) fn new(connector: Connector, body_bytes: usize) -> Self {
        Self { connector, body_bytes, idle: Mutex::default() }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        self.connector.endpoint()
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Sends `request` on an idle connection, else on a new one. Sent again on a new one only where the first was closed
    /// before it took the request, or where it is a read.
    pub(crate) async fn send(&self, request: &Request) -> Result<Raw, Error> {
        let body = match &request.body {
            Body::Empty => Bytes::new(),
            Body::Json(Ok(bytes)) => bytes.clone(),
            Body::Json(Err(source)) => {
                return Err(Error::Body {
                    method: request.method.to_string(),
                    path: request.path.clone(),
                    source: Some(source.clone()),
                });
            }
        };
        loop {
            let (mut sender, reused) = match self.take() {
                Some(sender) => (sender, true),
                None => (self.connect(request).await?, false),
            };
            if let Err(source) = sender.ready().await {
                if reused {
                    continue;
                }
                return Err(lost(request, false, source));
            }
            let message = self.message(request, body.clone())?;
            let answer = match sender.try_send_request(message).await {
                Ok(answer) => answer,
                Err(mut failed) => {
                    let unsent = failed.take_message().is_some();
                    if reused && (unsent || request.is_read()) {
                        continue;
                    }
                    return Err(lost(request, !unsent, failed.into_error()));
                }
            };
            return self.read(request, answer, sender).await;
        }
    }

    async fn read(
        &self,
        request: &Request,
        answer: http::Response<hyper::body::Incoming>,
        sender: Sender,
    ) -> Result<Raw, Error> {
        let status = answer.status().as_u16();
        let etag = answer.headers().get(http::header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        match Limited::new(answer.into_body(), self.body_bytes).collect().await {
            Ok(collected) => {
                self.give_back(sender);
                Ok(Raw { status, etag, body: collected.to_bytes() })
            }
            Err(source) if source.is::<LengthLimitError>() => Err(Error::TooLarge {
                method: request.method.to_string(),
                path: request.path.clone(),
                limit_bytes: self.body_bytes,
            }),
            Err(source) => Err(Error::Lost {
                method: request.method.to_string(),
                path: request.path.clone(),
                may_have_been_sent: !request.is_read(),
                source: Some(Cause::from(source)),
            }),
        }
    }

    fn message(&self, request: &Request, body: Bytes) -> Result<http::Request<Full<Bytes>>, Error> {
        let mut message = http::Request::builder()
            .method(request.method.clone())
            .uri(request.target())
            .header(http::header::HOST, self.endpoint().host())
            .header(http::header::USER_AGENT, concat!("anklume/", env!("CARGO_PKG_VERSION")));
        if !matches!(request.body, Body::Empty) {
            message = message.header(http::header::CONTENT_TYPE, "application/json");
        }
        if let Some(etag) = &request.if_match {
            message = message.header(http::header::IF_MATCH, etag);
        }
        for (name, value) in &request.headers {
            message = message.header(*name, value);
        }
        message.body(Full::new(body)).map_err(|source| Error::Body {
            method: request.method.to_string(),
            path: request.path.clone(),
            source: Some(Arc::new(source)),
        })
    }

    async fn connect(&self, request: &Request) -> Result<Sender, Error> {
        let stream = self.connector.connect().await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|source| lost(request, false, source))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "connection to Incus ended");
            }
        });
        Ok(sender)
    }

    fn take(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(sender) = idle.pop() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn give_back(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE && !sender.is_closed() {
            idle.push(sender);
        }
    }
}

fn lost(request: &Request, may_have_been_sent: bool, source: hyper::Error) -> Error {
    Error::Lost {
        method: request.method.to_string(),
        path: request.path.clone(),
        may_have_been_sent: may_have_been_sent && !request.is_read(),
        source: Some(Arc::new(source)),
    }
}
