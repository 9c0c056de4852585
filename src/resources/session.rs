//! What one configured provider knows: where Incus is, whose marks it writes, and what it has seen.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::domain::Addressing;
use super::notes::Notes;
use super::provider::Nft;
use super::refusal;
use super::uid::Uid;
use super::walk::Walk;
use crate::incus::server::Server;
use crate::incus::{self, Client, Wait, remote};
use crate::plugin::{Diagnostic, Diagnostics, Failure, Path, Private, Problem, Stored, Value};

/// Private state: the certificate fingerprint of the server that has the object.
const SERVER: &str = "server";

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageReference {
    /// An alias or a fingerprint on the Incus server itself.
    Local {
        /// The alias or fingerprint.
        name: String,
    },
    /// An alias on an image server.
    Remote {
        /// Its URL.
        server: String,
        /// `simplestreams`, `incus` or `oci`.
        protocol: String,
        /// The alias.
        alias: String,
    },
}

/// An image server of the provider block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageServer {
    /// `https://...`.
    pub address: String,
    /// `simplestreams`, `incus` or `oci`.
    pub protocol: String,
}

/// A default of the provider block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Preset<T> {
    /// The block sets none.
    #[default]
    Unset,
    /// Known only after an apply, and so is what depends on it.
    Unknown,
    /// Set.
    To(T),
}

impl<T> Preset<T> {
    /// `value` as it was decoded, unless `configured` is unknown.
    pub fn of(configured: &Value, value: Option<T>) -> Self {
        match value {
            _ if configured.is_unknown() => Self::Unknown,
            Some(value) => Self::To(value),
            None => Self::Unset,
        }
    }
}

/// The provider block, read.
#[derive(Clone, Default)]
pub struct Options {
    /// An attribute that is known only after an apply, and without which nothing may be asked of any Incus.
    pub unknown: Option<&'static str>,
    /// Where Incus is.
    pub remote: remote::Settings,
    /// Name of the one state that this configuration is applied to; a part of each fingerprint.
    pub owner: String,
    /// The default `owner` of versions before the backend record was read, `<working directory>:<workspace>`, whatever
    /// `owner` is. Objects that those versions created carry its hash. Different states may share it.
    pub legacy_owner: String,
    /// Whether a create continues finished objects of this state, too: `ANKLUME_RECOVER=1`.
    pub recovers: bool,
    /// The certificate fingerprint of a server that may have none of the objects of the state.
    pub accept_server: Option<String>,
    /// How zones are laid out.
    pub addressing: Addressing,
    /// `""`, or three digits and `-`.
    pub prefix: String,
    /// For instances without an image of their own.
    pub default_image: Preset<String>,
    /// For instances and volumes without a value of their own.
    pub delete_protection: Preset<bool>,
    /// Image servers by name.
    pub images: BTreeMap<String, ImageServer>,
    /// Whether there may be more of them, known only after an apply.
    pub images_unknown: bool,
    /// Where nft runs.
    pub nft: Nft,
}

/// One configured provider. Connects at the first call that needs it.
pub struct Session {
    options: Options,
    client: OnceCell<Client>,
    /// Creates of domains are serialised: each looks for a free subnet.
    pub(super) domains: tokio::sync::Mutex<()>,
    /// Of volumes that were taken from instances.
    pub(super) notes: Notes,
    /// The objects of this walk.
    pub(super) walk: Walk,
    known: Mutex<Known>,
}

/// What this process has applied.
#[derive(Default)]
struct Known {
    /// By kind and id.
    created: HashSet<(String, String)>,
    /// The marks, by kind, of objects that a create has adopted.
    adopted: HashSet<(String, String)>,
    /// Whether it was reported that the server is another one.
    elsewhere: bool,
    /// Whether a read has found an object of the state.
    found: bool,
}

impl Session {
    /// A session that has not connected yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            client: OnceCell::new(),
            domains: tokio::sync::Mutex::default(),
            notes: Notes::default(),
            walk: Walk::default(),
            known: Mutex::default(),
        }
    }

    /// The Incus client; resolves the remote at the first call.
    ///
    /// # Errors
    ///
    /// Where Incus is cannot be told, or it does not let us in.
    pub async fn client(&self) -> Result<&Client, Diagnostics> {
        if let Some(name) = self.options.unknown {
            return Err(refusal::undecided(name).into());
        }
        self.client
            .get_or_try_init(|| async {
                let environment = remote::Environment::of_process();
                remote::resolve(&self.options.remote, &environment)
                    .map(Client::for_target)
                    .map_err(|error| refusal::unresolved(&error).into())
            })
            .await
    }

    /// [`Self::client`], with reads that end with `wait`.
    ///
    /// # Errors
    ///
    /// As [`Self::client`].
    pub async fn client_until(&self, wait: &Wait) -> Result<Client, Diagnostics> {
        Ok(self.client().await?.reading(wait))
    }

    /// `address` of the provider block.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.options.remote.address.as_deref()
    }

    /// Name of the one state that this configuration is applied to.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.options.owner
    }

    /// The default owner of before 0.1.0.
    #[must_use]
    pub fn legacy_owner(&self) -> &str {
        &self.options.legacy_owner
    }

    /// Whether a create continues finished objects of this state, too.
    #[must_use]
    pub fn recovers(&self) -> bool {
        self.options.recovers
    }

    /// Keeps which server has an object that was just created. Costs one request of the process.
    pub async fn keep_server(&self, client: &Client, private: &mut Private) {
        // What fails here fails again with the next request.
        if let Ok(server) = client.server().await {
            keep(&server, private);
        }
    }

    /// Notes that an object of the state was found on this server, and keeps which one that is: it is asked where `private`
    /// does not say.
    pub async fn found_here(&self, client: &Client, private: &mut Private) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).found = true;
        match client.known_server() {
            Some(server) => keep(server, private),
            None if private.get(SERVER).is_none() => self.keep_server(client, private).await,
            None => {}
        }
    }

    /// Keeps on which server an object was before.
    pub fn carry_server(&self, before: &Private, private: &mut Private) {
        if let Some(server) = before.get(SERVER) {
            private.set(SERVER, server);
        }
    }

    /// Whether this is another server than the one that has the object of `private`, which then is not gone.
    ///
    /// # Errors
    ///
    /// As [`Client::server`].
    pub async fn another_server(&self, client: &Client, private: &Private) -> Result<Option<Diagnostic>, incus::Error> {
        let Some(kept) = private.get(SERVER) else { return Ok(None) };
        let server = client.server().await?;
        let now = server.environment.certificate_fingerprint.as_str();
        // One that has other objects of the state is the same one with a new certificate. Domains are read before what is in
        // them.
        let has_others = self.known.lock().unwrap_or_else(PoisonError::into_inner).found;
        let is_it = has_others || now.is_empty() || now == kept || self.options.accept_server.as_deref() == Some(now);
        Ok((!is_it).then(|| refusal::another_server(client.endpoint(), kept, now)))
    }

    /// Whether this is the first time that another server is to be reported: once is enough.
    pub fn reports_server(&self) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        !std::mem::replace(&mut known.elsewhere, true)
    }

    /// Notes that a create has adopted the object that carried `mark`.
    pub fn take_over(&self, kind: &str, mark: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.adopted.insert((kind.to_owned(), mark.to_owned()));
    }

    /// Whether a create of this process has adopted the object that carried `mark`.
    #[must_use]
    pub fn was_taken_over(&self, kind: &str, mark: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.adopted.contains(&(kind.to_owned(), mark.to_owned()))
    }

    /// Refuses to delete an object that a create of this process has adopted: nothing was replaced.
    ///
    /// # Errors
    ///
    /// When it was adopted, and was no more than an interrupted create before.
    pub fn replaced(&self, kind: &str, noun: &str, id: &str, uid: &Uid) -> Result<(), Diagnostics> {
        let is_adopted = uid.marks().iter().any(|mark| self.was_taken_over(kind, mark));
        if is_adopted && !uid.is_incomplete() { Err(refusal::nothing_replaced(noun, id).into()) } else { Ok(()) }
    }

    /// What is put before Incus names: `""`, or three digits and `-`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.options.prefix
    }

    /// The Incus project of a domain.
    #[must_use]
    pub fn project(&self, domain: &str) -> String {
        format!("{}{domain}", self.options.prefix)
    }

    /// The bridge of a domain.
    #[must_use]
    pub fn bridge(&self, domain: &str) -> String {
        format!("{}net-{domain}", self.options.prefix)
    }

    /// The Incus name of an instance.
    #[must_use]
    pub fn incus_name(&self, name: &str) -> String {
        format!("{}{name}", self.options.prefix)
    }

    /// How zones are laid out.
    #[must_use]
    pub fn addressing(&self) -> Addressing {
        self.options.addressing
    }

    /// The image of instances without one of their own.
    #[must_use]
    pub fn default_image(&self) -> &Preset<String> {
        &self.options.default_image
    }

    /// Where nft runs.
    #[must_use]
    pub fn nft(&self) -> &Nft {
        &self.options.nft
    }

    /// The provider's default for `delete_protection`; unset = each resource's own.
    #[must_use]
    pub fn delete_protection(&self) -> &Preset<bool> {
        &self.options.delete_protection
    }

    /// Reads an image reference: `server:alias`, or an alias or fingerprint of the Incus server.
    ///
    /// # Errors
    ///
    /// An unknown server, with the known ones.
    pub fn image_source(&self, reference: &str) -> Result<ImageReference, Problem> {
        let Some((server, alias)) = reference.split_once(':') else {
            return Ok(ImageReference::Local { name: reference.to_owned() });
        };
        if server == "local" {
            return Ok(ImageReference::Local { name: alias.to_owned() });
        }
        let known = self.options.images.get(server).cloned().or_else(|| {
            (server == "images").then(|| ImageServer {
                address: "https://images.linuxcontainers.org".to_owned(),
                protocol: "simplestreams".to_owned(),
            })
        });
        known
            .map(|found| ImageReference::Remote { server: found.address, protocol: found.protocol, alias: alias.to_owned() })
            .ok_or_else(|| {
                let mut names: Vec<_> = self.options.images.keys().map(String::as_str).collect();
                names.push("images");
                names.sort_unstable();
                names.dedup();
                Problem::new(
                    "Unknown image server",
                    format!(
                        "\"{server}\" is not an image server of this provider. Known: {}. Add it to `images` in the provider \
                         block, or write the alias of an image on the Incus server without a colon.",
                        names.join(", ")
                    ),
                )
            })
    }

    /// What is wrong with an image reference, as far as that can be told when planning.
    #[must_use]
    pub fn image_problem(&self, reference: &str) -> Option<Problem> {
        if self.options.images_unknown { None } else { self.image_source(reference).err() }
    }

    /// Refuses the second create of one kind and id by this process.
    ///
    /// # Errors
    ///
    /// When it was created before and not deleted since.
    pub fn create_once(&self, kind: &str, id: &str) -> Result<(), Diagnostics> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.created.insert((kind.to_owned(), id.to_owned())) {
            return Ok(());
        }
        let mut diagnostics = Diagnostics::default();
        diagnostics.error(Path::from("name"), "Name used twice", twice(kind, id));
        Err(diagnostics)
    }

    /// Hears the outcome of a create; one that left nothing is forgotten, so that it can be tried again.
    pub fn made(&self, kind: &str, id: &str, result: &Result<Stored, Failure>) {
        if result.as_ref().is_err_and(|failure| failure.partial.is_none()) {
            self.forget(kind, id);
        }
    }

    /// Forgets a create: its object is gone, or was never made.
    pub fn forget(&self, kind: &str, id: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.created.remove(&(kind.to_owned(), id.to_owned()));
    }
}

fn keep(server: &Server, private: &mut Private) {
    if !server.environment.certificate_fingerprint.is_empty() {
        private.set(SERVER, server.environment.certificate_fingerprint.as_str());
    }
}

fn twice(kind: &str, id: &str) -> String {
    format!("Two resources of type `{kind}` have the id \"{id}\" in this configuration. Rename or remove one of them.")
}
