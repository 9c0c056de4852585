//! One instance on the server, and what is done to it.

use std::time::Duration;

use super::body::{Inherited, Model, ROOT};
use super::{KIND, plan, schema};
use crate::incus::instance::{self, Instance};
use crate::incus::{Client, Config, Error, Refusal, Wait};
use crate::plugin::{Diagnostic, Failure, Path, Private, Value};
use crate::resources::session::Session;
use crate::resources::{duration, marks, name, refusal};

/// An instance by name.
#[derive(Clone)]
pub(super) struct Target<'c> {
    pub(super) client: &'c Client,
    /// Its Incus project.
    pub(super) project: String,
    /// Its Incus name, with the nesting prefix.
    pub(super) name: String,
    /// `domain` and `name` as they are configured.
    pub(super) shown: (String, String),
}

impl<'c> Target<'c> {
    pub(super) fn new(session: &Session, client: &'c Client, domain: &str, name: &str) -> Self {
        let shown = (domain.to_owned(), name.to_owned());
        Self { client, project: session.project(domain), name: session.incus_name(name), shown }
    }

    /// The same under the name that it has while its root disk moves.
    pub(super) fn interim(&self) -> Self {
        let (domain, shown) = &self.shown;
        let prefix = self.name.strip_suffix(shown.as_str()).unwrap_or_default();
        let interim = match name::is_half_made(shown) {
            true => shown.clone(),
            false => format!("{}{}", name::HALF_MADE, marks::of_owner(&format!("{}/{}", self.project, self.name))),
        };
        Self { name: format!("{prefix}{interim}"), shown: (domain.clone(), interim), ..self.clone() }
    }

    /// A GET of its own; `None` when it is gone.
    pub(super) async fn fetch(&self) -> Result<Option<Instance>, Error> {
        self.client.find(instance::get(&self.project, &self.name)).await
    }

    /// Whether Incus still does something to the instance, such as creating it.
    pub(super) async fn is_busy(&self) -> Result<bool, Error> {
        let get = instance::get(&self.project, &self.name);
        self.client.is_busy(&self.project, |operation| operation.names(&get)).await
    }

    /// Waits until Incus has ended what it does to the instance.
    pub(super) async fn settle(&self, wait: &Wait) -> Result<(), Error> {
        let get = instance::get(&self.project, &self.name);
        self.client.settle(&self.project, |operation| operation.names(&get), wait).await
    }

    /// [`Self::fetch`] after a failure, which may have been the end of the call's own time.
    pub(super) async fn look_back(&self) -> Result<Option<Instance>, Error> {
        self.client.reading(&Wait::afterwards()).find(instance::get(&self.project, &self.name)).await
    }

    /// The devices of `profiles`, read through the shared list.
    pub(super) async fn inherited(&self, profiles: &[String]) -> Result<Inherited, Error> {
        let mut devices = Vec::with_capacity(profiles.len());
        let mut missing = Vec::new();
        for name in profiles {
            match self.client.read_profile(&self.project, name).await? {
                Some(profile) => devices.push(profile.devices),
                None => missing.push(name.clone()),
            }
        }
        Ok(Inherited { missing, ..Inherited::of(&devices) })
    }

    /// Starts it; running already is a success.
    pub(super) async fn start(&self, wait: &Wait) -> Result<(), Error> {
        match self.client.start(&self.project, &self.name, wait).await {
            Err(error) => Err(self.client.at_start(&self.project, &self.name, error).await),
            Ok(_) => Ok(()),
        }
    }

    /// Asks the guest to stop, and forces it after `graceful`. Stopped or gone already is a success.
    pub(super) async fn stop(&self, graceful: Duration, wait: &Wait) -> Result<(), Error> {
        self.client.stop(&self.project, &self.name, graceful, wait).await
    }

    /// The diagnostic of a request that failed.
    pub(super) fn failed(&self, verb: &str, error: &Error) -> Diagnostic {
        let mut diagnostic = refusal::diagnostic(format!("Unable to {verb} instance"), error);
        if diagnostic.path == Path::from("storage_pool") {
            diagnostic.path = Path::from("root_disk.pool");
        }
        let log = match error.refusal() {
            Some(Refusal::StartFailed) => format!(
                "It does not start; its log says why:\n\n    incus info {} --project {} --show-log\n\n",
                self.name, self.project
            ),
            _ => String::new(),
        };
        let (domain, name) = &self.shown;
        diagnostic.detail = format!("Instance \"{name}\" in domain \"{domain}\". {log}{}", diagnostic.detail);
        diagnostic
    }

    /// A [`Failure`] of [`Target::failed`].
    pub(super) fn failure(&self, verb: &str, error: &Error) -> Failure {
        self.failed(verb, error).into()
    }

    /// Reads the instance, lets `change` edit it, and writes it back.
    pub(super) async fn modify(&self, change: impl FnMut(&mut Instance) -> bool, wait: &Wait) -> Result<(), Error> {
        self.client.modify(instance::get(&self.project, &self.name), change, wait).await.map(|_| ())
    }

    /// Sets one flag of the configuration, or takes it away.
    pub(super) async fn put(&self, key: &str, value: Option<&str>, wait: &Wait) -> Result<(), Error> {
        self.modify(
            |found| {
                let before: Option<String> = found.config.get(key).cloned();
                crate::resources::keys::put(&mut found.config, key, value.map(str::to_owned));
                before.as_deref() != value
            },
            wait,
        )
        .await
    }
}

/// What is kept beside the state.
pub(super) fn private(session: &Session, model: &Model) -> Private {
    let mut private = marks::private(session);
    overrides(&mut private, model.ipv4_address.is_some(), model.root_disk.is_some());
    private
}

/// Keeps which devices of the instance belong to an attribute.
pub(super) fn overrides(private: &mut Private, nic: bool, root: bool) {
    let mut keep = |name: &str, value: Option<&str>| match value {
        Some(value) => private.set(name, value),
        None => private.remove(name),
    };
    keep(plan::IPV4, nic.then_some("static"));
    keep(plan::ROOT_DISK, root.then_some("own"));
    // Whatever is written copies the device anew.
    keep(plan::STALE, None);
    keep(plan::REPLUG, None);
    keep(plan::ROOT_STALE, None);
}

/// The stored keys of an instance that say which devices belong to an attribute.
pub(super) fn stored_overrides(found: &Instance) -> (bool, bool) {
    let ours = found.config.contains_key(marks::FINGERPRINT);
    let has = |name: &str| marks::read_stored(&found.config, name).is_some();
    if ours {
        return (has("ipv4_address"), has("root_disk"));
    }
    let plain = |device: &super::body::Device| {
        device.keys().all(|key| matches!(key.as_str(), "type" | "path" | "pool" | "size"))
    };
    let nic = found.devices.get(super::body::NIC).is_some_and(|nic| nic.contains_key("ipv4.address"));
    (nic, found.devices.get(ROOT).is_some_and(plain))
}

/// `stop_timeout` of a state or plan; 30 s where it is not set.
pub(super) fn stop_timeout(values: &Value) -> Duration {
    values.get("stop_timeout").as_str().and_then(|text| duration::parse(text).ok()).unwrap_or(Duration::from_secs(30))
}

/// The fingerprint of an instance. Pools and addresses that the server chooses are none of the configuration; whoever
/// writes a pool out changes nothing.
pub(super) fn fingerprint(session: &Session, id: &str, config: &Value, planned: &Value, prior: &Value) -> String {
    let mut settings = schema::schema().settings(planned, prior);
    settings.set("cloud_init", Value::Null);
    if config.get("ipv4_address").is_null() {
        settings.set("ipv4_address", Value::Null);
    }
    if let Some(disk) = settings.get("root_disk").as_map() {
        let disk = disk.iter().filter(|(name, _)| *name != "pool").map(|(name, value)| (name.clone(), value.clone()));
        settings.set("root_disk", Value::Map(disk.collect()));
    }
    if let Some(volumes) = settings.get("volumes").as_map() {
        let placeless = |(key, volume): (&String, &Value)| {
            let mut volume = volume.clone();
            volume.set("pool", Value::Null);
            (key.clone(), volume)
        };
        settings.set("volumes", Value::Map(volumes.iter().map(placeless).collect()));
    }
    marks::fingerprint(session.owner(), KIND, id, &settings)
}

/// `domain` and `name` of a state.
pub(super) fn names(state: &Value) -> (&str, &str) {
    (state.get("domain").as_str().unwrap_or_default(), state.get("name").as_str().unwrap_or_default())
}

/// Keys of the marks that a write has to carry.
pub(super) fn write_all(config: &mut Config, pairs: &[(&str, &str)]) {
    pairs.iter().for_each(|(key, value)| {
        config.insert((*key).to_owned(), (*value).to_owned());
    });
}
