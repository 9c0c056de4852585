//! A web server that does as it is told: whole files, parts of them, and everything a server may do wrong.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub body: Vec<u8>,
    headers: Vec<(String, String)>,
    /// How many of the same path came before it.
    pub nth: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Every value of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The first byte that `Range` asks for.
    pub fn from(&self) -> Option<u64> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What a file holds.
#[derive(Clone)]
pub enum Content {
    Bytes(Arc<Vec<u8>>),
    Zeros(u64),
}

impl Content {
    pub fn text(text: &str) -> Self {
        Self::Bytes(Arc::new(text.as_bytes().to_vec()))
    }

    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(length) => *length,
        }
    }

    fn write(&self, to: &mut impl Write, mut from: u64, end: u64) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => to.write_all(&bytes[usize::try_from(from).unwrap()..usize::try_from(end).unwrap()]),
            Self::Zeros(_) => {
                let zeros = vec![0; 256 << 10];
                while from < end {
                    let length = (end - from).min(zeros.len() as u64);
                    to.write_all(&zeros[..usize::try_from(length).unwrap()])?;
                    from += length;
                }
                Ok(())
            }
        }
    }
}

/// What is answered.
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    content: Content,
    from: u64,
    /// Of the whole file, where the connection is cut.
    cut: Option<u64>,
    /// Says nothing more from the cut on, and leaves the connection open.
    hang: bool,
}

impl Answer {
    /// A text with a status.
    pub fn text(status: u16, text: &str) -> Self {
        let content = Content::text(text);
        let length = content.length().to_string();
        Self { status, headers: vec![("content-length", length)], content, from: 0, cut: None, hang: false }
    }

    /// A body of any bytes.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::whole(&Content::Bytes(Arc::new(bytes.to_vec())))
    }

    pub fn redirect(to: &str) -> Self {
        Self::text(302, "elsewhere").with("location", to)
    }

    /// The file, or the part of it that is asked for.
    pub fn file(request: &Request, content: &Content, tag: &str) -> Self {
        let (length, from) = (content.length(), request.from());
        let stale = request.header("if-range").is_some_and(|seen| seen != tag);
        let base = Self { status: 200, headers: Vec::new(), content: content.clone(), from: 0, cut: None, hang: false };
        match from.filter(|_| !stale) {
            Some(from) if from >= length => Self::text(416, "").with("content-range", &format!("bytes */{length}")),
            Some(from) => Self { status: 206, from, ..base }
                .with("content-length", &(length - from).to_string())
                .with("content-range", &format!("bytes {from}-{}/{length}", length - 1))
                .with("etag", tag),
            None => base.with("content-length", &length.to_string()).with("etag", tag),
        }
    }

    /// The whole file, whatever is asked for.
    pub fn whole(content: &Content) -> Self {
        let length = content.length().to_string();
        Self {
            status: 200,
            headers: vec![("content-length", length)],
            content: content.clone(),
            from: 0,
            cut: None,
            hang: false,
        }
    }

    /// With a header, or another value for it.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Does not say how long it is: it ends where the connection does.
    pub fn without_length(mut self) -> Self {
        self.headers.retain(|(name, _)| *name != "content-length");
        self
    }

    /// Cuts the connection where so many bytes of the file were sent.
    pub fn cut(mut self, at: u64) -> Self {
        self.cut = Some(at);
        self
    }

    pub fn hang(mut self) -> Self {
        self.hang = true;
        self
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Whatever\r\nconnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        to.write_all((head + "\r\n").as_bytes())?;
        let end = self.cut.unwrap_or(u64::MAX).clamp(self.from, self.content.length());
        self.content.write(to, self.from, end)?;
        to.flush()
    }
}

/// A server; it ends with the value.
pub struct Server {
    pub port: u16,
    secure: bool,
    seen: Arc<Mutex<Vec<Request>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Where it listens, and how.
#[derive(Default)]
pub struct Place<'p> {
    /// A network namespace; unset = ours.
    pub namespace: Option<&'p Path>,
    /// Certificate and key; unset = plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
}

impl Server {
    pub fn start(place: Place<'_>, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let namespace = place.namespace.map(|path| std::fs::File::open(path).unwrap());
        let (seen, end) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::<AtomicBool>::default());
        let (tell, port) = std::sync::mpsc::channel();
        let (log, ended, tls) = (Arc::clone(&seen), Arc::clone(&end), place.tls.clone());
        let thread = std::thread::spawn(move || {
            if let Some(namespace) = namespace {
                // Of this thread alone; what it opens stays there.
                use std::os::fd::AsFd as _;
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            }
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            tell.send(listener.local_addr().unwrap().port()).unwrap();
            let answer = Arc::new(answer);
            while !ended.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                let (log, tls, answer) = (Arc::clone(&log), tls.clone(), Arc::clone(&answer));
                // A client that goes away is no concern of a server.
                std::thread::spawn(move || {
                    let _ = one(stream, tls, &log, &*answer);
                });
            }
        });
        Self { port: port.recv().unwrap(), secure: place.tls.is_some(), seen, end, thread: Some(thread) }
    }

    pub fn url(&self, path: &str) -> String {
        let (scheme, host) = if self.secure { ("https", "localhost") } else { ("http", "127.0.0.1") };
        format!("{scheme}://{host}:{}{path}", self.port)
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn one(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    log: &Mutex<Vec<Request>>,
    answer: &dyn Fn(&Request) -> Answer,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    match tls {
        None => speak(stream, log, answer),
        Some(config) => {
            let session = ServerConnection::new(config).map_err(io::Error::other)?;
            speak(StreamOwned::new(session, stream), log, answer)
        }
    }
}

fn speak<S: Read + Write>(stream: S, log: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Answer) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let Some(first) = lines.first() else { return Ok(()) };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers = lines[1..].iter().filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    let mut request = Request { method, path, body: Vec::new(), headers, nth: 0 };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    request.body.resize(length, 0);
    stream.read_exact(&mut request.body)?;
    {
        let mut log = log.lock().unwrap();
        request.nth = log.iter().filter(|seen| seen.path == request.path).count();
        log.push(request.clone());
    }
    let answer = answer(&request);
    answer.write(stream.get_mut())?;
    if answer.hang {
        std::thread::sleep(Duration::from_secs(600));
    }
    Ok(())
}
