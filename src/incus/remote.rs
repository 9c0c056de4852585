//! Which Incus is meant: settings, environment, the CLI's configuration, the local socket.

mod config;
mod identity;
mod socket;
mod token;

use std::path::{Path, PathBuf};

pub use token::Token;

use super::endpoint::{Endpoint, Identity, Pin};
use config::{Cli, Remote};

/// What the user wrote. A certificate or key is PEM text or a path to it.
#[derive(Clone, Default)]
pub struct Settings {
    /// A remote of the CLI's `config.yml`.
    pub remote: Option<String>,
    /// `unix:///path` or `https://host:8443`.
    pub address: Option<String>,
    /// The CLI's directory.
    pub config_dir: Option<PathBuf>,
    /// Our certificate.
    pub client_certificate: Option<String>,
    /// Its key.
    pub client_key: Option<String>,
    /// The server's certificate.
    pub server_certificate: Option<String>,
    /// SHA-256 of the server's certificate in hex.
    pub server_fingerprint: Option<String>,
    /// A one-time trust token.
    pub token: Option<String>,
    /// Takes any certificate of the server.
    pub accept_remote_certificate: Option<bool>,
}

/// What the process finds around it.
#[derive(Clone, Default)]
pub struct Environment {
    /// `INCUS_REMOTE`.
    pub remote: Option<String>,
    /// `INCUS_ADDR`.
    pub address: Option<String>,
    /// `INCUS_SOCKET`.
    pub socket: Option<PathBuf>,
    /// `INCUS_DIR`.
    pub dir: Option<PathBuf>,
    /// `INCUS_CONF`.
    pub config_dir: Option<PathBuf>,
    /// `INCUS_TOKEN`.
    pub token: Option<String>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// Where a daemon keeps its socket, in order: `/run/incus`, `/var/lib/incus`.
    pub daemon_dirs: Vec<PathBuf>,
}

impl Environment {
    /// That of this process; an empty variable counts as unset.
    pub fn of_process() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            remote: text("INCUS_REMOTE"),
            address: text("INCUS_ADDR"),
            socket: path("INCUS_SOCKET"),
            dir: path("INCUS_DIR"),
            config_dir: path("INCUS_CONF"),
            token: text("INCUS_TOKEN"),
            home: path("HOME"),
            daemon_dirs: vec!["/run/incus".into(), "/var/lib/incus".into()],
        }
    }
}

/// Which Incus is meant, and how to talk to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// To be used before the first request.
    pub token: Option<Token>,
}

/// Why it cannot be told which Incus is meant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The CLI's configuration has no such remote.
    #[error("unknown remote {name:?}")]
    UnknownRemote {
        /// What was asked for.
        name: String,
        /// What there is, sorted.
        known: Vec<String>,
    },
    /// The remote logs in through OpenID Connect.
    #[error("remote {name:?} needs a login through OIDC, use a trust token")]
    NeedsOidc {
        /// The remote.
        name: String,
    },
    /// The remote serves images only.
    #[error("remote {name:?} is an image server, not an Incus")]
    ImageServer {
        /// The remote.
        name: String,
    },
    /// Of the local daemon only the socket may be written that is confined to one project, `user-<uid>`.
    #[error("only the restricted socket {} may be written", .path.display())]
    Restricted {
        /// The socket.
        path: PathBuf,
    },
    /// Neither `unix://` nor `https://`.
    #[error("address {text:?} begins neither with unix:// nor with https://")]
    BadAddress {
        /// What was written.
        text: String,
    },
    /// Nothing tells which certificate the server must show.
    #[error("nothing tells which certificate {address} must show: set the server's certificate or fingerprint")]
    NoPin {
        /// The address.
        address: String,
    },
    /// The fingerprint is not 64 hex digits.
    #[error("the server's fingerprint must be the 64 hex digits of a SHA-256")]
    BadFingerprint,
    /// The server's certificate is no PEM certificate.
    #[error("the server's certificate is no PEM certificate")]
    BadCertificate {
        /// The error below.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate without its key, or the other way round.
    #[error("a client certificate and its key must be given together")]
    HalfIdentity,
    /// The token is not base64 of the JSON that Incus makes.
    #[error("the trust token cannot be read")]
    BadToken,
    /// The file that a field of [`Settings`] names cannot be read. Its value may be a key, so it is not said.
    #[error("cannot read the file that {setting} names")]
    ReadSetting {
        /// The field.
        setting: &'static str,
        /// The error below.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error below.
        #[source]
        source: std::io::Error,
    },
    /// A new client certificate cannot be made or kept.
    #[error("cannot make a client certificate in {}", .path.display())]
    Generate {
        /// The directory.
        path: PathBuf,
        /// The error below.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The CLI's configuration cannot be understood.
    #[error("{} is no configuration of the Incus CLI", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The error below.
        #[source]
        source: Option<yaml_rust2::ScanError>,
    },
}

/// Finds out which Incus is meant. Reads files; writes a client certificate only where a token needs one and there is
/// none. Connects to nothing.
///
/// Precedence: settings, `INCUS_REMOTE`, `INCUS_ADDR`, `INCUS_SOCKET`, `INCUS_DIR`, the CLI's default remote, the local
/// socket.
///
/// # Errors
///
/// [`Error`], each naming what to mend.
pub fn resolve(settings: &Settings, environment: &Environment) -> Result<Target, Error> {
    find(settings, environment, Pair::Made)
}

/// Says what [`resolve`] would say is wrong. Reads files, writes none, connects to nothing.
///
/// A remote is not looked for where the CLI has none: such a machine may plan without reaching Incus.
///
/// # Errors
///
/// As [`resolve`], but for [`Error::Generate`].
pub fn check(settings: &Settings, environment: &Environment) -> Result<(), Error> {
    match find(settings, environment, Pair::Left) {
        Err(Error::UnknownRemote { known, .. }) if known == ["local"] => Ok(()),
        found => found.map(drop),
    }
}

/// What becomes of a client certificate that a token needs and that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pair {
    /// It is made.
    Made,
    /// It is made another time.
    Left,
}

fn find(settings: &Settings, environment: &Environment, pair: Pair) -> Result<Target, Error> {
    let dir = settings
        .config_dir
        .clone()
        .or_else(|| environment.config_dir.clone())
        .or_else(|| environment.home.as_ref().map(|home| home.join(".config/incus")));
    let token = settings.token.as_ref().or(environment.token.as_ref()).map(|text| Token::parse(text)).transpose()?;
    let context = Context { settings, environment, dir: dir.as_deref(), token, pair };
    if let Some(address) = &settings.address {
        return context.address(address, None);
    }
    if let Some(name) = &settings.remote {
        return context.remote(name);
    }
    if let Some(name) = &environment.remote {
        return context.remote(name);
    }
    if let Some(address) = &environment.address {
        return context.address(address, None);
    }
    if environment.socket.is_some() || environment.dir.is_some() {
        return context.local();
    }
    if let Some(token) = context.token.as_ref().filter(|token| !token.addresses().is_empty()) {
        return context.https(token.addresses().to_vec(), None);
    }
    let cli = Cli::read(context.dir)?;
    context.remote(&cli.default_remote)
}

struct Context<'a> {
    settings: &'a Settings,
    environment: &'a Environment,
    dir: Option<&'a Path>,
    token: Option<Token>,
    pair: Pair,
}

impl Context<'_> {
    fn local(&self) -> Result<Target, Error> {
        socket::local(self.environment)
    }

    fn remote(&self, name: &str) -> Result<Target, Error> {
        let cli = Cli::read(self.dir)?;
        let Some(remote) = cli.remotes.get(name) else {
            let known = cli.remotes.into_keys().collect();
            return Err(Error::UnknownRemote { name: name.to_owned(), known });
        };
        if remote.auth_type == "oidc" {
            return Err(Error::NeedsOidc { name: name.to_owned() });
        }
        if !matches!(remote.protocol.as_str(), "" | "incus") || remote.public {
            return Err(Error::ImageServer { name: name.to_owned() });
        }
        self.address(&remote.addr, Some((name, remote)))
    }

    fn address(&self, text: &str, remote: Option<(&str, &Remote)>) -> Result<Target, Error> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return self.local();
            }
            return Ok(Target { endpoint: Endpoint::Unix(path.into()), token: None });
        }
        let bad = || Error::BadAddress { text: text.to_owned() };
        let mut addresses = Vec::new();
        for part in text.split(',') {
            let host = part.trim().strip_prefix("https://").ok_or_else(bad)?.trim_end_matches('/');
            if host.is_empty() || host.contains('/') {
                return Err(bad());
            }
            addresses.push(host.to_owned());
        }
        self.https(addresses, remote.map(|(name, _)| name))
    }

    fn https(&self, addresses: Vec<String>, remote: Option<&str>) -> Result<Target, Error> {
        let pin = self.pin(&addresses, remote)?;
        let identity = self.identity(remote)?;
        let endpoint = Endpoint::Https { addresses, identity, pin };
        Ok(Target { endpoint, token: self.token.clone() })
    }

    /// A token's fingerprint wins over "accept any": it is what the server's owner handed out.
    fn pin(&self, addresses: &[String], remote: Option<&str>) -> Result<Pin, Error> {
        if let Some(certificate) = &self.settings.server_certificate {
            return identity::der(&identity::text("server_certificate", certificate)?).map(Pin::Exact);
        }
        if let Some(fingerprint) = &self.settings.server_fingerprint {
            return identity::sha256(fingerprint).map(Pin::Sha256);
        }
        if let (Some(dir), Some(name)) = (self.dir, remote) {
            let path = dir.join("servercerts").join(format!("{name}.crt"));
            if path.is_file() {
                return identity::der(&identity::file(&path)?).map(Pin::Exact);
            }
        }
        if let Some(token) = &self.token {
            return identity::sha256(token.fingerprint()).map(Pin::Sha256);
        }
        if self.settings.accept_remote_certificate == Some(true) {
            return Ok(Pin::AcceptAny);
        }
        Err(Error::NoPin { address: addresses.first().cloned().unwrap_or_default() })
    }

    fn identity(&self, remote: Option<&str>) -> Result<Option<Identity>, Error> {
        match (&self.settings.client_certificate, &self.settings.client_key) {
            (Some(certificate), Some(key)) => {
                let (certificate_pem, key_pem) =
                    (identity::text("client_certificate", certificate)?, identity::text("client_key", key)?);
                return Ok(Some(Identity { certificate_pem, key_pem }));
            }
            (None, None) => {}
            _ => return Err(Error::HalfIdentity),
        }
        let Some(dir) = self.dir else { return Ok(None) };
        let own = remote.map(|name| (dir.join("clientcerts"), name));
        for (dir, name) in own.into_iter().chain([(dir.to_owned(), "client")]) {
            let (certificate, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
            if certificate.is_file() && key.is_file() {
                let (certificate_pem, key_pem) = (identity::file(&certificate)?, identity::file(&key)?);
                return Ok(Some(Identity { certificate_pem, key_pem }));
            }
        }
        if self.token.is_some() && self.pair == Pair::Made {
            return identity::generate(dir).map(Some);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
