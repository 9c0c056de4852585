//! The life of the process: cookie, handshake, requests, end.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fmt};

use base64::Engine as _;
use rustix::process::{Pid, getppid};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::provider::Provider;
use super::server::Server;
use super::service::{Controller, Service};
use super::socket::SocketDirectory;
use super::wire::controller::grpc_controller_server::GrpcControllerServer;
use super::wire::tfplugin6::provider_server::ProviderServer;
use super::{log, tls};

const COOKIE: (&str, &str) =
    ("TF_PLUGIN_MAGIC_COOKIE", "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2");

/// The largest message, in bytes: what the core sends at most.
const MESSAGE_BYTES: usize = 256 << 20;

/// How long a caller may take for its TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How long requests may go on after a shutdown; the core kills after 2 s.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// How often a look tells whether the core is still there.
const CORE_CHECK: Duration = Duration::from_millis(500);

/// How long requests may go on after the core is gone.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);

/// Between a connection that could not be accepted and the next one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The longest path that fits a unix socket address on every system, in bytes.
const SOCKET_PATH_BYTES: usize = 100;

/// Why the process cannot serve.
#[derive(Debug)]
pub enum ServeError {
    /// The core sent no certificate.
    NoCoreCertificate,
    /// The core's certificate is no PEM.
    CoreCertificate(tokio_rustls::rustls::pki_types::pem::Error),
    /// No certificate could be made.
    Certificate(rcgen::Error),
    /// TLS refuses its settings.
    Tls(tokio_rustls::rustls::Error),
    /// The socket, standard output or a signal.
    Io(io::Error),
    /// The server ended.
    Transport(tonic::transport::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServeError::NoCoreCertificate => {
                "PLUGIN_CLIENT_CERT is not set: only a core that proves who it is is served"
            }
            ServeError::CoreCertificate(_) => "PLUGIN_CLIENT_CERT is not a certificate in PEM",
            ServeError::Certificate(_) => "certificate cannot be made",
            ServeError::Tls(_) => "TLS cannot be set up",
            ServeError::Io(_) => "socket, standard output or signal cannot be used",
            ServeError::Transport(_) => "server ended early",
        })
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServeError::NoCoreCertificate => None,
            ServeError::CoreCertificate(error) => Some(error),
            ServeError::Certificate(error) => Some(error),
            ServeError::Tls(error) => Some(error),
            ServeError::Io(error) => Some(error),
            ServeError::Transport(error) => Some(error),
        }
    }
}

/// Serves `provider` until the core ends the process. `name` is the source address, such as `anklume/anklume`.
pub fn serve<P: Provider>(name: &'static str, provider: P) -> ExitCode {
    let debug = env::args().skip(1).any(|argument| argument == "--debug");
    if !debug && env::var(COOKIE.0).as_deref() != Ok(COOKIE.1) {
        let text = format!(
            "This is the provider {name}. OpenTofu and Terraform start it themselves; it does nothing on its own.\n\n\
             Name it under `required_providers` and run `tofu init`, or start it with --debug to attach to it.\n"
        );
        let _ = io::stderr().write_all(text.as_bytes());
        return ExitCode::FAILURE;
    }
    log::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let served = runtime.map_err(ServeError::Io).and_then(|runtime| {
        let served = runtime.block_on(run(name, provider, debug));
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            let _ = io::stderr().write_all(format!("{name}: {error}{cause}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

async fn run<P: Provider>(name: &str, provider: P, debug: bool) -> Result<(), ServeError> {
    let core_id = getppid();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Io)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Io)?;
    let listening = if debug {
        Listening::plain(name, provider)?
    } else {
        let core = env::var("PLUGIN_CLIENT_CERT").map_err(|_| ServeError::NoCoreCertificate)?;
        Listening::new(name, provider, &core)?
    };
    let line = if debug { listening.reattach_line(name) } else { listening.handshake_line() };
    let mut out = io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(ServeError::Io)?;
    let (end, server) = (listening.end.clone(), Arc::clone(&listening.server));
    tokio::spawn(async move {
        if !debug {
            tokio::spawn(end_with_core(core_id, server, end.clone()));
        }
        loop {
            tokio::select! {
                // The terminal sends it to the whole group; the core says itself when to stop.
                _ = interrupt.recv() => if debug { break },
                _ = terminate.recv() => break,
            }
        }
        end.cancel();
    });
    listening.run().await
}

/// Ends the process when the core that started it is gone without a word: killed, it says no `Shutdown`. Requests under
/// way are told to stop first.
async fn end_with_core<P: Provider>(core_id: Option<Pid>, server: Arc<Server<P>>, end: CancellationToken) {
    let mut ticks = tokio::time::interval(CORE_CHECK);
    // An orphan is given another parent, whoever that is.
    while getppid() == core_id {
        ticks.tick().await;
    }
    tracing::warn!("the core is gone");
    if tokio::time::timeout(ORPHAN_GRACE, server.wind_up()).await.is_err() {
        tracing::warn!("requests are left unfinished");
    }
    end.cancel();
}

/// A provider behind its private socket, whose directory goes with it.
pub struct Listening<P: Provider> {
    server: Arc<Server<P>>,
    directory: SocketDirectory,
    listener: UnixListener,
    tls: Option<tls::Identity>,
    end: CancellationToken,
}

impl<P: Provider> Listening<P> {
    /// Opens the socket for the one caller that holds the key of `core_pem`. Needs a runtime.
    ///
    /// # Errors
    ///
    /// [`ServeError`] when the certificate cannot be read or the socket not be made.
    pub fn new(name: &str, provider: P, core_pem: &str) -> Result<Listening<P>, ServeError> {
        Listening::open(name, provider, Some(tls::identity(core_pem)?))
    }

    fn plain(name: &str, provider: P) -> Result<Listening<P>, ServeError> {
        Listening::open(name, provider, None)
    }

    fn open(name: &str, provider: P, tls: Option<tls::Identity>) -> Result<Listening<P>, ServeError> {
        let mut parent = env::var_os("PLUGIN_UNIX_SOCKET_DIR").map_or_else(env::temp_dir, PathBuf::from);
        if parent.as_os_str().len() + name.len() > SOCKET_PATH_BYTES - 20 {
            parent = PathBuf::from("/tmp");
        }
        let prefix = format!("{}-", name.rsplit('/').next().unwrap_or(name));
        let directory = SocketDirectory::new(&parent, &prefix).map_err(ServeError::Io)?;
        let listener = UnixListener::bind(directory.socket()).map_err(ServeError::Io)?;
        let server = Arc::new(Server::new(provider, tls.is_none()));
        Ok(Listening { server, directory, listener, tls, end: CancellationToken::new() })
    }

    /// Where the socket is.
    pub fn socket(&self) -> PathBuf {
        self.directory.socket()
    }

    /// What the core reads from standard output.
    pub fn handshake_line(&self) -> String {
        let certificate = self.tls.as_ref().map(|tls| tls.certificate.as_ref()).unwrap_or_default();
        let certificate = base64::engine::general_purpose::STANDARD_NO_PAD.encode(certificate);
        format!("1|6|unix|{}|grpc|{certificate}", self.socket().display())
    }

    fn reattach_line(&self, name: &str) -> String {
        let address = serde_json::json!({"Network": "unix", "String": self.socket().display().to_string()});
        let reattach = serde_json::json!({
            name: {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": std::process::id(), "Test": true, "Addr": address}
        });
        format!("TF_REATTACH_PROVIDERS='{reattach}'")
    }

    /// Serves until the core says to end, and a little longer for requests in flight.
    ///
    /// # Errors
    ///
    /// [`ServeError::Transport`] when the server ends early.
    pub async fn run(self) -> Result<(), ServeError> {
        let (accepted, connections) = mpsc::channel(16);
        let acceptor = self.tls.map(|tls| tls.acceptor);
        let listener = self.listener;
        let accept = tokio::spawn(async move {
            loop {
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    // Such as no descriptor left: for now, not for good.
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                let (accepted, acceptor) = (accepted.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let connection = match acceptor {
                        None => Some(Connection(Box::pin(stream))),
                        Some(acceptor) => match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
                            Ok(Ok(stream)) => Some(Connection(Box::pin(stream))),
                            Ok(Err(_)) | Err(_) => None,
                        },
                    };
                    match connection {
                        Some(connection) => drop(accepted.send(Ok::<_, io::Error>(connection)).await),
                        None => tracing::warn!("a caller without the right certificate was turned away"),
                    }
                });
            }
        });
        let provider = ProviderServer::new(Service(self.server))
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let serving = tonic::transport::Server::builder()
            .add_service(provider)
            .add_service(GrpcControllerServer::new(Controller(self.end.clone())))
            .serve_with_incoming_shutdown(ReceiverStream::new(connections), self.end.clone().cancelled_owned());
        let overdue = async {
            self.end.cancelled().await;
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        };
        let ended = tokio::select! {
            ended = serving => ended.map_err(ServeError::Transport),
            () = overdue => Ok(()),
        };
        accept.abort();
        ended
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// A connection, encrypted or not.
struct Connection(Pin<Box<dyn Duplex>>);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        self.0.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(context)
    }
}
