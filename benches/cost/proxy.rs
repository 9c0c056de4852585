//! A socket between the provider and Incus that counts the requests on their way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{UnixListener, UnixStream};

use crate::Fault;

/// Requests by method and kind of path.
pub(crate) type Counts = BTreeMap<String, usize>;

/// The counting socket; ends with the runtime.
pub(crate) struct Proxy {
    /// What the provider connects to.
    pub(crate) socket: PathBuf,
    counts: Arc<Mutex<Counts>>,
}

impl Proxy {
    pub(crate) fn open(socket: PathBuf, incus: PathBuf) -> Result<Self, Fault> {
        let listener = UnixListener::bind(&socket)?;
        let counts = Arc::new(Mutex::new(Counts::new()));
        let seen = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, incus.clone(), Arc::clone(&seen)));
            }
        });
        Ok(Self { socket, counts })
    }

    /// What was counted since the last call.
    pub(crate) fn take(&self) -> Counts {
        std::mem::take(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn pass(client: UnixStream, incus: impl AsRef<Path>, counts: Arc<Mutex<Counts>>) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_incus, mut to_incus) = UnixStream::connect(incus).await?.into_split();
    let answers = tokio::spawn(async move { copy(&mut from_incus, &mut to_client).await });
    let mut requests = Requests::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = from_client.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        for line in requests.feed(&buffer[..length]) {
            *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(line).or_default() += 1;
        }
        to_incus.write_all(&buffer[..length]).await?;
    }
    to_incus.shutdown().await?;
    answers.await?.map(drop)
}

/// Finds the requests in the bytes of one connection.
#[derive(Default)]
struct Requests {
    head: Vec<u8>,
    body_left: usize,
    upgraded: bool,
}

impl Requests {
    fn feed(&mut self, mut bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        while !bytes.is_empty() && !self.upgraded {
            let skipped = self.body_left.min(bytes.len());
            self.body_left -= skipped;
            bytes = &bytes[skipped..];
            let Some((&byte, rest)) = bytes.split_first() else { break };
            self.head.push(byte);
            bytes = rest;
            if self.head.ends_with(b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&std::mem::take(&mut self.head)).into_owned();
                let header = |name: &str| {
                    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
                    let mut found = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
                    found.next().map(|(_, value)| value.trim().to_owned())
                };
                self.body_left = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
                self.upgraded = header("upgrade").is_some();
                found.push(kind(head.lines().next().unwrap_or_default()));
            }
        }
        found
    }
}

/// `GET /1.0/instances/box/state?project=p HTTP/1.1` as `GET /1.0/instances/{}/state`; lists keep their `recursion`.
fn kind(line: &str) -> String {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // After the version, nouns and names take turns; the kind of a volume is one noun more.
    let (mut is_name, mut shown) = (false, String::new());
    for (at, segment) in path.split('/').skip(1).enumerate() {
        shown = shown + "/" + if is_name { "{}" } else { segment };
        is_name = at > 0 && !is_name && segment != "volumes";
    }
    let path = shown;
    let recursion = query.split('&').find(|pair| pair.starts_with("recursion=")).map(|pair| format!("?{pair}"));
    format!("{method} {path}{}", recursion.unwrap_or_default())
}
