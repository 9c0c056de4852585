//! A server that answers what the test says.

use std::future::Future;
use std::sync::{Arc, Mutex};

use anklume::incus::{Client, Endpoint};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub if_match: Option<String>,
    pub body: Value,
    /// `X-Incus-name`, the name of what is uploaded.
    pub name: Option<String>,
    /// How many requests with this line came before.
    pub nth: usize,
}

pub struct Answer {
    pub status: u16,
    pub body: String,
    pub etag: Option<String>,
}

pub fn raw(status: u16, body: &str) -> Answer {
    Answer { status, body: body.to_owned(), etag: None }
}

pub fn sync(metadata: Value) -> Answer {
    raw(200, &json!({"type": "sync", "status_code": 200, "metadata": metadata}).to_string())
}

pub fn error(status: u16, text: &str) -> Answer {
    raw(status, &json!({"type": "error", "error_code": status, "error": text}).to_string())
}

pub fn operation(status_code: u16, may_cancel: bool, err: &str) -> Value {
    json!({"id": "op1", "status": "Running", "status_code": status_code, "may_cancel": may_cancel, "err": err,
        "metadata": {"return": 0}})
}

pub fn started(may_cancel: bool) -> Answer {
    let metadata = operation(103, may_cancel, "");
    let body = json!({"type": "async", "status_code": 100, "operation": "/1.0/operations/op1", "metadata": metadata});
    raw(202, &body.to_string())
}

pub struct Fake {
    pub client: Client,
    seen: Arc<Mutex<Vec<Seen>>>,
    dir: tempfile::TempDir,
}

impl Fake {
    pub async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(Seen) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("unix.socket");
        let listener = UnixListener::bind(&path).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (seen.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, log.clone(), answer.clone()));
            }
        });
        Self { client: Client::new(Endpoint::Unix(path)), seen, dir }
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("unix.socket")
    }

    pub fn lines(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.line.clone()).collect()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

pub async fn serve<S, F, A>(stream: S, log: Arc<Mutex<Vec<Seen>>>, answer: Arc<F>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Seen) -> A + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (log, answer) = (log.clone(), answer.clone());
        async move {
            let line = format!("{} {}", request.method(), request.uri());
            let if_match = request.headers().get("if-match").map(|tag| tag.to_str().unwrap().to_owned());
            let name = request.headers().get("x-incus-name").map(|name| name.to_str().unwrap().to_owned());
            let bytes = request.into_body().collect().await?.to_bytes();
            let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            let seen = {
                let mut log = log.lock().unwrap();
                let nth = log.iter().filter(|seen: &&Seen| seen.line == line).count();
                let seen = Seen { line, if_match, body, name, nth };
                log.push(seen.clone());
                seen
            };
            let answer = answer(seen).await;
            let mut response = hyper::Response::builder().status(answer.status);
            if let Some(etag) = answer.etag {
                response = response.header("etag", etag);
            }
            Ok::<_, hyper::Error>(response.body(Full::new(Bytes::from(answer.body))).unwrap())
        }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
