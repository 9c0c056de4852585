//! The raw API: the requests that the work needs and no other, over kept connections, without the provider's client.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::Fault;

/// As many at once as the clients do by default.
const PARALLEL: usize = 10;

/// Longer than any answer takes; [`Raw::operate`] waits at most 60 s for one.
const PATIENCE: Duration = Duration::from_secs(90);

/// One connection to Incus.
pub(crate) struct Raw {
    sender: SendRequest<Full<Bytes>>,
}

impl Raw {
    /// To be used at once: Incus 6.0 takes no other connection while one is new and silent.
    pub(crate) async fn connect(socket: &Path) -> Result<Self, Fault> {
        let stream = UnixStream::connect(socket).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    async fn send(&mut self, method: &str, target: &str, body: Option<&Value>) -> Result<Value, Fault> {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(target)
            .header("host", "incus")
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let exchange = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await?.into_body().collect().await
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await;
        let answer =
            answer.map_err(|_| format!("{method} {target}: no answer for {} s", PATIENCE.as_secs()))??.to_bytes();
        let answer: Value = serde_json::from_slice(&answer)?;
        match answer["error"].as_str() {
            Some(error) if !error.is_empty() => Err(format!("{method} {target}: {error}").into()),
            _ => Ok(answer),
        }
    }

    /// Sends what starts an operation, and waits for its end.
    async fn operate(&mut self, method: &str, target: &str, body: Option<&Value>) -> Result<(), Fault> {
        let started = self.send(method, target, body).await?;
        let id = started["metadata"]["id"].as_str().ok_or("an answer without an operation")?;
        let ended = self.send("GET", &format!("/1.0/operations/{id}/wait?timeout=60"), None).await?;
        let operation = &ended["metadata"];
        if operation["status_code"] == 200 { Ok(()) } else { Err(format!("{method} {target}: {operation}").into()) }
    }

    /// Gives the instance `name` the first `count` volumes, and no other; how long that takes.
    pub(crate) async fn attach(&mut self, project: &str, name: &str, count: usize) -> Result<Duration, Fault> {
        let target = format!("/1.0/instances/{name}?project={project}");
        let start = Instant::now();
        let mut found = self.send("GET", &target, None).await?["metadata"].take();
        let device = |index| json!({"type": "disk", "pool": "default", "source": format!("raw-{index}"), "path": format!("/srv/d{index}")});
        let devices = (0..count).map(|index| (format!("d{index}"), device(index)));
        found["devices"] = Value::Object(devices.collect());
        self.operate("PUT", &target, Some(&found)).await?;
        Ok(start.elapsed())
    }

    /// How long one GET takes.
    pub(crate) async fn get(&mut self, target: &str) -> Result<Duration, Fault> {
        let start = Instant::now();
        self.send("GET", target, None).await?;
        Ok(start.elapsed())
    }
}

/// What is done to one container, or to one volume.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// Create with `start`.
    Create,
    /// Stop by force, delete.
    Destroy,
    /// An empty filesystem.
    CreateVolume,
    /// Delete.
    DestroyVolume,
}

async fn one(raw: &mut Raw, work: Work, project: &str, name: &str) -> Result<(), Fault> {
    let target = format!("/1.0/instances/{name}");
    match work {
        Work::Create => {
            let body = json!({
                "name": name, "type": "container", "start": true, "profiles": ["default"],
                "source": {"type": "image", "alias": "busybox"},
            });
            raw.operate("POST", &format!("/1.0/instances?project={project}"), Some(&body)).await
        }
        Work::Destroy => {
            let body = json!({"action": "stop", "timeout": -1, "force": true});
            raw.operate("PUT", &format!("{target}/state?project={project}"), Some(&body)).await?;
            raw.operate("DELETE", &format!("{target}?project={project}"), None).await
        }
        Work::CreateVolume => {
            let body = json!({"name": name, "content_type": "filesystem", "config": {"size": "16MiB"}});
            let target = format!("/1.0/storage-pools/default/volumes/custom?project={project}");
            raw.send("POST", &target, Some(&body)).await.map(drop)
        }
        Work::DestroyVolume => {
            let target = format!("/1.0/storage-pools/default/volumes/custom/{name}?project={project}");
            raw.send("DELETE", &target, None).await.map(drop)
        }
    }
}

/// Does `work` to `count` containers of `project`, ten at a time; how long that takes.
pub(crate) async fn all(socket: &Path, work: Work, project: &'static str, count: usize) -> Result<Duration, Fault> {
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let workers = (0..PARALLEL).map(|_| {
        let (socket, next): (PathBuf, _) = (socket.to_owned(), Arc::clone(&next));
        tokio::spawn(async move {
            let mut raw = Raw::connect(&socket).await?;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return Ok::<(), Fault>(());
                }
                one(&mut raw, work, project, &format!("raw-{index}")).await?;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await??;
    }
    Ok(start.elapsed())
}
