//! Reads that overlap are answered from one list.
//!
//! A lone read is one GET of the object. A read that begins while another of the same collection is under way, or less
//! than 2 s after the beginning of the last lone read of another object, asks for the list, or joins the list that is
//! under way: a refresh is a train of short reads that overlap only by chance. A list is kept for 2 s after its answer. It answers only reads between which and its own
//! beginning no write of ours began or ended in the projects it depends on; while one runs, every read is a GET of its
//! own. A custom volume that is made or deleted is no write to profiles.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared as SharedFuture, WeakShared};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::client::Client;
use super::error::Error;
use super::instance::Instance;
use super::network::{Lease, Network};
use super::profile::Profile;
use super::project::Project;
use super::request::{Request, volumes_of};
use super::run::Wait;
use super::volume::Volume;
use super::{instance, network, profile, project, volume};

/// How long a list is kept after its answer, and a lone read remembered from its beginning.
const FRESH: Duration = Duration::from_secs(2);

/// Something that can be listed: the request that lists it, and the projects whose writes change it.
#[derive(Debug, Clone)]
pub(crate) struct Collection {
    pub(crate) list: Request,
    pub(crate) scopes: Vec<String>,
}

/// A list as it came: items by name, as JSON text.
struct List {
    items: Vec<(String, Box<RawValue>)>,
}

type Answer = BoxFuture<'static, Result<Arc<List>, Error>>;
/// A list under way: it goes on as long as one reader waits for it, whoever asked first.
type Pending = SharedFuture<Answer>;

enum Held {
    Under(WeakShared<Answer>),
    Kept(Arc<List>, Instant),
}

#[derive(Default)]
struct Cell {
    reading: usize,
    held: Option<(Vec<u64>, Held)>,
    lone: Option<LoneRead>,
}

/// The last read that was answered alone.
struct LoneRead {
    name: String,
    epochs: Vec<u64>,
    until: Instant,
}

impl Cell {
    /// Whether a read of `name` finds no other beside it or shortly before it.
    fn is_lone(&self, name: &str, epochs: &[u64]) -> bool {
        let follows = |last: &LoneRead| last.name != name && last.epochs == epochs && Instant::now() < last.until;
        self.reading == 0 && !self.lone.as_ref().is_some_and(follows)
    }
}

#[derive(Default, Clone, Copy)]
struct Scope {
    writing: usize,
    epoch: u64,
}

#[derive(Default)]
struct Inner {
    scopes: HashMap<String, Scope>,
    cells: HashMap<String, Cell>,
}

impl Inner {
    /// The epochs of `scopes`; `None` while one of them is being written.
    fn epochs(&self, scopes: &[String]) -> Option<Vec<u64>> {
        scopes
            .iter()
            .map(|scope| {
                let scope = self.scopes.get(scope).copied().unwrap_or_default();
                (scope.writing == 0).then_some(scope.epoch)
            })
            .collect()
    }

    /// A write to `scopes` begins or ends: their lists are stale from here on. Drops what nobody needs.
    fn turn(&mut self, scopes: &[String], turn: impl Fn(&mut Scope)) {
        for scope in scopes {
            let scope = self.scopes.entry(scope.clone()).or_default();
            scope.epoch += 1;
            turn(scope);
        }
        self.cells.retain(|_, cell| {
            if matches!(&cell.held, Some((_, Held::Kept(_, until))) if *until <= Instant::now()) {
                cell.held = None;
            }
            if cell.lone.as_ref().is_some_and(|last| last.until <= Instant::now()) {
                cell.lone = None;
            }
            cell.reading > 0 || cell.held.is_some() || cell.lone.is_some()
        });
    }
}

/// The lists of one client.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    inner: Arc<Mutex<Inner>>,
}

/// While it lives, its projects count as being written.
#[must_use]
pub struct WriteGuard {
    shared: Shared,
    scopes: Vec<String>,
}

impl std::fmt::Debug for WriteGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteGuard").field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

impl Drop for WriteGuard {
    fn drop(&mut self) {
        self.shared.lock().turn(&self.scopes, |scope| scope.writing = scope.writing.saturating_sub(1));
    }
}

/// Counts a read of an object under way.
struct Reading {
    shared: Shared,
    key: String,
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(cell) = self.shared.lock().cells.get_mut(&self.key) {
            cell.reading = cell.reading.saturating_sub(1);
        }
    }
}

enum Way {
    Alone(Option<Reading>),
    Ready(Arc<List>),
    Join(Pending),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self, scopes: Vec<String>) -> WriteGuard {
        self.lock().turn(&scopes, |scope| scope.writing += 1);
        WriteGuard { shared: self.clone(), scopes }
    }

    /// How a read that begins now is answered.
    fn way(&self, client: &Client, collection: &Collection, wanted: Wanted<'_>) -> Way {
        let key = collection.list.target();
        let mut inner = self.lock();
        let Some(epochs) = inner.epochs(&collection.scopes) else {
            return Way::Alone(None);
        };
        let cell = inner.cells.entry(key.clone()).or_default();
        if let Some((began, held)) = &cell.held
            && *began == epochs
        {
            match held {
                Held::Under(pending) => {
                    if let Some(pending) = pending.upgrade() {
                        return Way::Join(pending);
                    }
                }
                Held::Kept(list, until) if Instant::now() < *until => return Way::Ready(list.clone()),
                Held::Kept(..) => {}
            }
        }
        cell.held = None;
        if let Wanted::Object(name) = wanted
            && cell.is_lone(name, &epochs)
        {
            cell.lone = Some(LoneRead { name: name.to_owned(), epochs, until: Instant::now() + FRESH });
            cell.reading += 1;
            return Way::Alone(Some(Reading { shared: self.clone(), key }));
        }
        let pending = self.start(client, collection.clone(), key, epochs.clone());
        cell.held = pending.downgrade().map(|pending| (epochs, Held::Under(pending)));
        Way::Join(pending)
    }

    /// Asks for a list, without an end of its own: each reader brings one.
    fn start(&self, client: &Client, collection: Collection, key: String, epochs: Vec<u64>) -> Pending {
        let shared = self.clone();
        let client = client.reading(&Wait::default());
        async move {
            let result = fetch(&client, &collection.list, &Wait::default()).await;
            let mut inner = shared.lock();
            let current = inner.epochs(&collection.scopes).is_some_and(|now| now == epochs);
            if let Some(cell) = inner.cells.get_mut(&key)
                && cell.held.as_ref().is_some_and(|(began, _)| *began == epochs)
            {
                cell.held = match &result {
                    Ok(list) if current => Some((epochs, Held::Kept(list.clone(), Instant::now() + FRESH))),
                    _ => None,
                };
            }
            result
        }
        .boxed()
        .shared()
    }
}

/// What a read wants.
#[derive(Clone, Copy)]
enum Wanted<'n> {
    /// The object of this name.
    Object(&'n str),
    /// All of them.
    All,
}

async fn fetch(client: &Client, list: &Request, wait: &Wait) -> Result<Arc<List>, Error> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        name: String,
    }
    let items = client.list(list, wait).await?;
    let items = items.into_iter().map(|item| {
        let name = serde_json::from_str::<Named>(item.get()).map(|named| named.name).unwrap_or_default();
        (name, item)
    });
    Ok(Arc::new(List { items: items.collect() }))
}

fn parse<T: DeserializeOwned>(collection: &Collection, item: &RawValue) -> Result<T, Error> {
    serde_json::from_str(item.get()).map_err(|source| super::client::garbled(&collection.list, source))
}

impl Client {
    /// Marks `project` as being written until the guard is dropped. `run`, `send` and `modify` do so themselves; this is
    /// for several requests that belong together.
    pub fn write_guard(&self, project: &str) -> WriteGuard {
        self.shared().write(vec![project.to_owned()])
    }

    /// An object of a collection by `name`; `None` where it does not exist.
    async fn read<T: DeserializeOwned>(
        &self,
        name: &str,
        object: Request,
        collection: Collection,
    ) -> Result<Option<T>, Error> {
        let list = match self.shared().way(self, &collection, Wanted::Object(name)) {
            Way::Alone(_reading) => return self.find(object).await,
            Way::Ready(list) => list,
            Way::Join(pending) => match self.joined(&collection, pending).await {
                Ok(list) => list,
                Err(error) if error.is_connection() || error.is_stopped() || error.is_deadline() => return Err(error),
                // A client that may read the object may still not list it.
                Err(_) => return self.find(object).await,
            },
        };
        list.items.iter().find(|(key, _)| key == name).map(|(_, item)| parse(&collection, item)).transpose()
    }

    /// Waits for a list as long as this reader may.
    async fn joined(&self, collection: &Collection, pending: Pending) -> Result<Arc<List>, Error> {
        self.read_wait().ends(&format!("GET {}", collection.list.path), pending).await
    }

    /// All of a collection.
    async fn read_all<T: DeserializeOwned>(&self, collection: Collection) -> Result<Vec<T>, Error> {
        let list = match self.shared().way(self, &collection, Wanted::All) {
            Way::Ready(list) => list,
            Way::Join(pending) => self.joined(&collection, pending).await?,
            Way::Alone(_reading) => fetch(self, &collection.list, &self.read_wait()).await?,
        };
        list.items.iter().map(|(_, item)| parse(&collection, item)).collect()
    }

    /// An instance; `None` where it does not exist.
    ///
    /// # Errors
    ///
    /// As [`Client::get`], but for "not found".
    pub async fn read_instance(&self, project: &str, name: &str) -> Result<Option<Instance>, Error> {
        self.read(name, instance::get(project, name), of_project(project, instance::list(project))).await
    }

    /// All instances of a project.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub async fn read_instances(&self, project: &str) -> Result<Vec<Instance>, Error> {
        self.read_all(of_project(project, instance::list(project))).await
    }

    /// A profile; `None` where it does not exist.
    ///
    /// # Errors
    ///
    /// As [`Client::get`], but for "not found".
    pub async fn read_profile(&self, project: &str, name: &str) -> Result<Option<Profile>, Error> {
        self.read(name, profile::get(project, name), of_profiles(project)).await
    }

    /// All profiles of a project.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub async fn read_profiles(&self, project: &str) -> Result<Vec<Profile>, Error> {
        self.read_all(of_profiles(project)).await
    }

    /// A custom volume; `None` where it does not exist.
    ///
    /// # Errors
    ///
    /// As [`Client::get`], but for "not found".
    pub async fn read_volume(&self, project: &str, pool: &str, name: &str) -> Result<Option<Volume>, Error> {
        let collection = of_project(project, volume::list(project, pool));
        self.read(name, volume::get(project, pool, name), collection).await
    }

    /// A project; `None` where it does not exist.
    ///
    /// # Errors
    ///
    /// As [`Client::get`], but for "not found".
    pub async fn read_project(&self, name: &str) -> Result<Option<Project>, Error> {
        self.read(name, project::get(name), of_project("default", project::list())).await
    }

    /// A network of project `default`; `None` where it does not exist.
    ///
    /// # Errors
    ///
    /// As [`Client::get`], but for "not found".
    pub async fn read_network(&self, name: &str) -> Result<Option<Network>, Error> {
        self.read(name, network::get(name), of_project("default", network::list())).await
    }

    /// The leases that instances of `project` have on `network`: one request answers for all of them.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub async fn leases(&self, network: &str, project: &str) -> Result<Vec<Lease>, Error> {
        let mut collection = of_project(project, network::leases(network).project(project));
        if project != "default" {
            collection.scopes.push("default".to_owned());
        }
        self.read_all(collection).await
    }
}

fn of_project(project: &str, list: Request) -> Collection {
    Collection { list, scopes: vec![project.to_owned(), volumes_of(project)] }
}

fn of_profiles(project: &str) -> Collection {
    Collection { list: profile::list(project), scopes: vec![project.to_owned()] }
}
