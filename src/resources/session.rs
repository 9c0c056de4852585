//! What one configured provider knows: where Incus is, whose marks it writes, and what it has seen.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::domain::Addressing;
use super::provider::Nft;
use super::refusal;
use super::volume::Notes;
use crate::incus::{Client, Wait, remote};
use crate::plugin::{Action, Diagnostics, Failure, Path, Plan, Problem, Stored, Value};

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
    /// Whose fingerprints these are.
    pub owner: String,
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
    known: Mutex<Known>,
}

/// What has passed since ConfigureProvider, by kind and id.
#[derive(Default)]
struct Known {
    planned: HashMap<(String, String), usize>,
    created: HashSet<(String, String)>,
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

    /// Whose fingerprints these are.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.options.owner
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

    /// Refuses the second plan of one kind and id since ConfigureProvider.
    pub fn plan_once(&self, kind: &str, id: &str, plan: &mut Plan<'_>) {
        if self.is_planned_twice(kind, id, plan) {
            plan.diagnostics.error(Path::from("name"), "Name used twice", twice(kind, id));
        }
    }

    /// Whether this is the second plan of one kind and id since ConfigureProvider. Destroys do not count, nor does the
    /// second plan of a replacement, which has a null prior and private state.
    pub fn is_planned_twice(&self, kind: &str, id: &str, plan: &Plan<'_>) -> bool {
        if matches!(plan.action, Action::Destroy) || plan.is_replacement() {
            return false;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = known.planned.entry((kind.to_owned(), id.to_owned())).or_insert(0);
        *seen += 1;
        *seen > 1
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

fn twice(kind: &str, id: &str) -> String {
    format!("Two resources of type `{kind}` have the id \"{id}\" in this configuration. Rename or remove one of them.")
}
