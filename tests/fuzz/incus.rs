//! An Incus that answers from the corpus, keeps a little of what is written to it, and lies where it is told to.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::mutate;

/// The file of the corpus that answers a path, below `/1.0`.
const ANSWERS: [(&str, &str); 24] = [
    ("", "server"),
    ("/projects", "projects"),
    ("/projects/pro", "project"),
    ("/networks", "networks"),
    ("/networks/net-pro", "network"),
    ("/networks/net-pro/leases", "leases"),
    ("/profiles", "profiles"),
    ("/profiles/default", "profile_default"),
    ("/profiles/small", "profile"),
    ("/instances", "instances"),
    ("/instances/web", "instance"),
    ("/instances/web/state", "instance_state"),
    ("/storage-pools", "pools"),
    ("/storage-pools/default", "pool"),
    ("/storage-pools/default/volumes", "volumes"),
    ("/storage-pools/default/volumes/custom", "custom_volumes"),
    ("/storage-pools/default/volumes/custom/data", "volume"),
    ("/images", "images"),
    ("/images/aliases/busybox", "alias"),
    ("/operations", "operations"),
    ("started", "started"),
    ("done", "done"),
    ("absent", "absent"),
    ("taken", "taken"),
];

/// A name of the corpus and what it holds.
pub(crate) fn corpus(name: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    serde_json::from_slice(&std::fs::read(&path).expect(name)).expect(name)
}

/// When the answers are not the true ones.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Lies {
    /// Never.
    None,
    /// From this request on, this often in a hundred.
    From(usize, u32),
}

struct State {
    answers: HashMap<&'static str, Json>,
    ended: Json,
    absent: HashSet<String>,
    lies: Lies,
    dice: StdRng,
    requests: usize,
}

/// The server.
pub(crate) struct Incus {
    state: Arc<Mutex<State>>,
    dir: tempfile::TempDir,
    _end: DropGuard,
}

impl Incus {
    /// Starts it on a socket of its own. Needs a runtime.
    pub(crate) fn start(lies: Lies, dice: &mut StdRng) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let answers = ANSWERS
            .iter()
            .map(|(path, name)| (*path, corpus(&format!("answers/{name}.json"))))
            .collect::<HashMap<_, _>>();
        let (ended, dice) = (corpus("answers/ended.json"), StdRng::seed_from_u64(dice.random()));
        let state = State { answers, ended, absent: HashSet::new(), lies, dice, requests: 0 };
        let end = CancellationToken::new();
        let incus = Self { state: Arc::new(Mutex::new(state)), dir, _end: end.clone().drop_guard() };
        let listener = UnixListener::bind(incus.path()).unwrap();
        let state = incus.state.clone();
        tokio::spawn(end.run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, state.clone()));
            }
        }));
        incus
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("unix.socket")
    }

    /// `address` of the provider block.
    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.path().display())
    }

    /// Whether what is at `path` below `/1.0` was made already.
    pub(crate) fn set(&self, path: &str, there: bool) {
        let absent = &mut self.state.lock().unwrap().absent;
        match there {
            true => drop(absent.remove(path)),
            false => drop(absent.insert(path.to_owned())),
        }
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }
}

impl State {
    fn stored(&mut self, path: &str, body: &Json) {
        let Some((_, found)) = self.answers.iter_mut().find(|(known, _)| **known == path) else { return };
        for name in ["config", "devices", "description", "profiles", "ephemeral"] {
            if let Some(value) = body.get(name) {
                found["metadata"][name] = value.clone();
            }
        }
    }

    fn set_running(&mut self, running: bool) {
        let (status, code) = if running { ("Running", 103) } else { ("Stopped", 102) };
        for path in ["/instances/web", "/instances/web/state"] {
            if let Some(found) = self.answers.get_mut(path) {
                found["metadata"]["status"] = status.into();
                found["metadata"]["status_code"] = code.into();
            }
        }
    }

    /// The true answer.
    fn truth(&mut self, method: &str, path: &str, body: &Json) -> (u16, Json) {
        let path = path.split('?').next().unwrap_or_default();
        let path = path.strip_prefix("/1.0").unwrap_or(path);
        if path.starts_with("/operations/") {
            return (200, self.ended.clone());
        }
        let done = if path.starts_with("/instances") { (202, "started") } else { (200, "done") };
        match method {
            "GET" if !self.absent.contains(path) && self.answers.contains_key(path) => {
                (200, self.answers[path].clone())
            }
            "GET" => (404, self.answers["absent"].clone()),
            "POST" => {
                let object = format!("{path}/{}", body["name"].as_str().unwrap_or_default());
                if self.answers.contains_key(object.as_str()) && !self.absent.remove(&object) {
                    return (500, self.answers["taken"].clone());
                }
                self.stored(&object, body);
                (done.0, self.answers[done.1].clone())
            }
            "DELETE" => {
                self.absent.insert(path.to_owned());
                (done.0, self.answers[done.1].clone())
            }
            _ => {
                match path.ends_with("/state") {
                    true => self.set_running(body["action"] != "stop"),
                    false => self.stored(path, body),
                }
                (done.0, self.answers[done.1].clone())
            }
        }
    }

    /// The bytes of an answer, and whether the connection ends with them; `None` where none comes.
    fn answer(&mut self, method: &str, path: &str, body: &Json) -> Option<(Vec<u8>, bool)> {
        let (status, mut truth) = self.truth(method, path, body);
        self.requests += 1;
        let lies = match self.lies {
            Lies::None => false,
            Lies::From(first, percent) => self.requests >= first && self.dice.random_range(0..100) < percent,
        };
        if !lies {
            return Some((whole(status, truth.to_string().as_bytes()), false));
        }
        let dice = &mut self.dice;
        Some(match dice.random_range(0..20) {
            0..9 => {
                mutate::json(dice, &mut truth);
                (whole(status, truth.to_string().as_bytes()), false)
            }
            9..11 => (whole(status, mutate::odd_json(dice, &truth).as_bytes()), false),
            11..14 => {
                let mut text = truth.to_string().into_bytes();
                mutate::bytes(dice, &mut text);
                (whole(status, &text), false)
            }
            14 => (whole(dice.random_range(100..1000), truth.to_string().as_bytes()), false),
            15 => {
                let text = truth.to_string();
                let length = dice.random_range(0..3 * text.len());
                let head = format!("HTTP/1.1 {status} OK\r\nContent-Length: {length}\r\n\r\n{text}");
                (head.into_bytes(), true)
            }
            16 => {
                let chunk = ["0\r\n\r\n", "zz\r\nx\r\n", "ffffffffffffffff\r\nx", "5\r\n{\"typ\r\n", "-1\r\n\r\n"];
                let chunk = chunk[dice.random_range(0..chunk.len())].repeat(dice.random_range(1..50));
                (format!("HTTP/1.1 {status} OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}").into_bytes(), true)
            }
            17 => {
                let mut raw = whole(status, truth.to_string().as_bytes());
                mutate::bytes(dice, &mut raw);
                (raw, true)
            }
            18 => {
                let raw = whole(status, truth.to_string().as_bytes());
                let cut = dice.random_range(0..raw.len());
                (raw[..cut].to_vec(), true)
            }
            _ => match dice.random_range(0..40) {
                0 => return None,
                // Longer than the longest that is read.
                1 => (whole(status, &vec![b' '; 66 << 20]), true),
                2 => (format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).into_bytes(), true),
                _ => (
                    whole(
                        status,
                        json!({"type": "error", "error_code": dice.random_range(0..999),
                        "error": mutate::text(dice, "Failed: Instance is busy running a \"start\" operation")})
                        .to_string()
                        .as_bytes(),
                    ),
                    false,
                ),
            },
        })
    }
}

fn whole(status: u16, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} OK\r\nETag: tag\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn serve(mut stream: UnixStream, state: Arc<Mutex<State>>) {
    let mut read = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break String::from_utf8_lossy(&read.drain(..end + 4).collect::<Vec<_>>()).into_owned();
            }
            match stream.read_buf(&mut read).await {
                Ok(1..) => {}
                _ => return,
            }
        };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        let length: usize = length.unwrap_or(0);
        while read.len() < length {
            match stream.read_buf(&mut read).await {
                Ok(1..) => {}
                _ => return,
            }
        }
        let body: Vec<u8> = read.drain(..length).collect();
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let answer = state.lock().unwrap().answer(method, path, &serde_json::from_slice(&body).unwrap_or_default());
        let Some((bytes, ends)) = answer else { return std::future::pending().await };
        if stream.write_all(&bytes).await.is_err() || ends {
            return;
        }
    }
}
