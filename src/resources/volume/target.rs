//! One volume on the server, and what is done to it. The marks of an ISO, which takes no keys, stand on its project.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::incus::operation::Operation;
use crate::incus::project::{self, Project};
use crate::incus::volume::{self, Volume};
use crate::incus::{Client, Config, Error, Refusal, Wait, is_true};
use crate::plugin::{Diagnostic, Path, Private, Value};
use crate::resources::session::Session;
use crate::resources::uid::Uid;
use crate::resources::{marks, notes, pool, refusal};

/// What all keys of ours begin with.
const OURS: &str = "user.anklume.";
/// The mark of when an ISO was made: the marks stand under its name, and stay when it is deleted by hand.
pub(super) const MADE: &str = "made";
/// The mark of an ISO whose upload has not ended, as far as is known.
pub(super) const UPLOADING: &str = "uploading";

/// A volume by name.
#[derive(Clone)]
pub(super) struct Target<'c> {
    pub(super) client: &'c Client,
    /// As it is configured.
    pub(super) domain: String,
    /// Its Incus project.
    pub(super) project: String,
    pub(super) pool: String,
    pub(super) name: String,
    /// The owners of which an instance of this state carries one.
    pub(super) owners: Vec<String>,
}

/// `domain`, `pool` and `name` of a state.
pub(super) fn names(state: &Value) -> [&str; 3] {
    ["domain", "pool", "name"].map(|name| state.get(name).as_str().unwrap_or_default())
}

impl<'c> Target<'c> {
    /// `private` is what is kept beside the state of the volume.
    pub(super) fn new(
        session: &Session,
        client: &'c Client,
        [domain, pool, name]: [&str; 3],
        private: &Private,
    ) -> Self {
        let (project, owners) = (session.project(domain), marks::owners(session, private));
        Self { client, domain: domain.to_owned(), project, pool: pool.to_owned(), name: name.to_owned(), owners }
    }

    /// The key of its note on instances that it was detached from.
    pub(super) fn note(&self) -> String {
        format!("{}{}.{}", notes::VOLUME, pool_in_key(&self.pool), self.name)
    }

    /// The same under another name.
    pub(super) fn named(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.clone() }
    }

    /// `<domain>/<pool>/<name>`.
    pub(super) fn id(&self) -> String {
        format!("{}/{}/{}", self.domain, self.pool, self.name)
    }

    /// `<pool>/<name>`.
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.pool, self.name)
    }

    /// A GET of its own, and one of the project for an ISO; `None` when it is gone.
    pub(super) async fn fetch(&self) -> Result<Option<Volume>, Error> {
        let request = volume::get(&self.project, &self.pool, &self.name);
        let Some(mut found) = self.client.find::<Volume>(request).await? else { return Ok(None) };
        if found.content_type == "iso" {
            self.add_marks(&mut found, self.client.find::<Project>(project::get(&self.project)).await?);
        }
        Ok(Some(found))
    }

    /// The same by another client.
    pub(super) fn by<'d>(&self, client: &'d Client) -> Target<'d> {
        let Self { client: _, domain, project, pool, name, owners } = self.clone();
        Target { client, domain, project, pool, name, owners }
    }

    /// [`Self::fetch`] after a failure, which may have been the end of the call's own time.
    pub(super) async fn look_back(&self) -> Result<Option<Volume>, Error> {
        self.by(&self.client.reading(&Wait::afterwards())).fetch().await
    }

    /// [`Self::fetch`], from the lists that overlapping reads share.
    pub(super) async fn read(&self) -> Result<Option<Volume>, Error> {
        let found = self.client.read_volume(&self.project, &self.pool, &self.name).await?;
        let Some(mut found) = found else { return Ok(None) };
        if found.content_type == "iso" {
            self.add_marks(&mut found, self.client.read_project(&self.project).await?);
        }
        Ok(Some(found))
    }

    /// The marks of the ISO of this name, whoever has it by now.
    fn marks(&self, project: Option<Project>) -> Config {
        let lead = iso_lead(&self.pool, &self.name);
        let all = project.into_iter().flat_map(|project| project.config);
        all.filter_map(|(key, value)| iso_mark(&lead, &key).map(|mark| (format!("{OURS}{mark}"), value))).collect()
    }

    /// Gives an ISO its marks, unless another one has its name by now.
    fn add_marks(&self, found: &mut Volume, project: Option<Project>) {
        let marks = self.marks(project);
        if marks.get(&marks::stored(MADE)).is_none_or(|made| is_same_time(made, made_at(found))) {
            found.config.extend(marks);
        }
    }

    /// Takes the marks of an ISO away that is gone, if they are those of `uid`.
    pub(super) async fn sweep(&self, uid: &Uid, wait: &Wait) -> Result<(), Error> {
        let marks = self.marks(self.client.find::<Project>(project::get(&self.project)).await?);
        if marks.is_empty() || !uid.owns(&marks, None) {
            return Ok(());
        }
        self.write_marks(&Config::new(), wait).await
    }

    /// Reads the volume, lets `change` edit it, and writes it back. Of an ISO only the description and the marks are
    /// written.
    pub(super) async fn modify(
        &self,
        is_iso: bool,
        mut change: impl FnMut(&mut Volume) -> bool,
        wait: &Wait,
    ) -> Result<(), Error> {
        let get = volume::get(&self.project, &self.pool, &self.name);
        if !is_iso {
            return self.client.modify(get, change, wait).await.map(|_| ());
        }
        let reader = self.client.reading(&Wait { deadline: None, stop: wait.stop.clone() });
        let mut found = reader.get::<Volume>(get.clone()).await?.value;
        let project = reader.find::<Project>(project::get(&self.project)).await?;
        self.add_marks(&mut found, project);
        let described = found.description.clone();
        if !change(&mut found) {
            return Ok(());
        }
        if let Some(made) = made_at(&found).map(str::to_owned) {
            found.config.insert(marks::stored(MADE), made);
        }
        self.write_marks(&found.config, wait).await?;
        if found.description == described {
            return Ok(());
        }
        let describe = |volume: &mut Volume| {
            volume.description.clone_from(&found.description);
            true
        };
        self.client.modify(get, describe, wait).await.map(|_| ())
    }

    /// Makes the marks in `config` those of the ISO of this name; none takes them away.
    pub(super) async fn write_marks(&self, config: &Config, wait: &Wait) -> Result<(), Error> {
        let lead = iso_lead(&self.pool, &self.name);
        let write = |project: &mut Project| {
            let before = project.config.clone();
            project.config.retain(|key, _| iso_mark(&lead, key).is_none());
            for (key, value) in config {
                if let Some(rest) = key.strip_prefix(OURS) {
                    project.config.insert(format!("{lead}{rest}"), value.clone());
                }
            }
            before != project.config
        };
        self.client.modify(project::get(&self.project), write, wait).await.map(|_| ())
    }

    /// Deletes it; gone already is fine. The marks of an ISO go after it.
    pub(super) async fn delete(&self, is_iso: bool, wait: &Wait) -> Result<(), Error> {
        match self.client.run(volume::delete(&self.project, &self.pool, &self.name), wait).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        if is_iso { self.write_marks(&Config::new(), wait).await } else { Ok(()) }
    }

    /// Deletes a half-made volume, once what an interrupted call started on it has ended.
    pub(super) async fn clear(&self, wait: &Wait) -> Result<(), Error> {
        self.settle(wait).await?;
        self.delete(false, wait).await
    }

    /// Waits until what was started on it has ended: Incus takes back what fails by its name, whoever has that by then
    /// (6.0 to 7.3).
    pub(super) async fn settle(&self, wait: &Wait) -> Result<(), Error> {
        let get = volume::get(&self.project, &self.pool, &self.name);
        let reader = self.client.reading(wait);
        let stands = reader.find::<Volume>(get.clone()).await?.is_some();
        let concerns = |operation: &Operation| operation.names(&get) || stands && operation.may_copy_a_volume();
        reader.settle(&self.project, concerns, wait).await
    }

    /// The diagnostic of a request that failed.
    pub(super) fn failed(&self, verb: &str, error: &Error) -> Diagnostic {
        let mut diagnostic = refusal::diagnostic(format!("Unable to {verb} volume"), error);
        if diagnostic.path == Path::from("storage_pool") {
            diagnostic.path = Path::from("pool");
        }
        diagnostic.detail = format!(
            "Volume \"{}\" in pool \"{}\" of domain \"{}\". {}",
            self.name, self.pool, self.domain, diagnostic.detail
        );
        diagnostic
    }

    /// [`Self::failed`], with what is missing looked up: Incus answers alike whether it is the project or something else.
    pub(super) async fn explain(&self, verb: &str, error: &Error) -> Diagnostic {
        match error.refusal() {
            Some(Refusal::PoolNotFound) => self.no_pool(verb, error).await,
            Some(Refusal::NotFound) => {
                match self.client.reading(&Wait::afterwards()).find::<Project>(project::get(&self.project)).await {
                    Ok(None) => Diagnostic::error(
                        Path::from("domain"),
                        format!("Unable to {verb} volume: no such domain"),
                        format!(
                            "There is no domain \"{}\". Refer to it as `anklume_domain.<name>.name`, so that it is made first.\n\n{}",
                            self.domain,
                            refusal::causes(error)
                        ),
                    ),
                    _ => self.failed(verb, error),
                }
            }
            _ => self.failed(verb, error),
        }
    }

    async fn no_pool(&self, verb: &str, error: &Error) -> Diagnostic {
        let names = pool::names(self.client).await.unwrap_or_default();
        Diagnostic::error(
            Path::from("pool"),
            format!("Unable to {verb} volume: no such storage pool"),
            format!(
                "There is no storage pool \"{}\". There are: {}.\n\n{}",
                self.pool,
                names.join(", "),
                refusal::causes(error)
            ),
        )
    }
}

/// Incus tells a time in the zone of its host.
fn is_same_time(made: &str, found: Option<&str>) -> bool {
    let at = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
    found.is_some_and(|found| found == made || at(found).is_some_and(|found| Some(found) == at(made)))
}

/// When Incus made it.
fn made_at(volume: &Volume) -> Option<&str> {
    volume.rest.get("created_at").and_then(|made| made.as_str())
}

/// Whether `found` is the object of `uid`. One without a mark is told by when Incus created it.
pub(super) fn is_of(uid: &Uid, found: &Volume) -> bool {
    uid.owns(&found.config, witness(found).as_deref())
}

/// When Incus created it, in nanoseconds of Unix time: the API gives it in the zone of the host.
pub(super) fn witness(found: &Volume) -> Option<String> {
    found.created_at().map(|at| at.unix_timestamp_nanos().to_string())
}

/// What the keys of an ISO begin with on its project.
fn iso_lead(pool: &str, name: &str) -> String {
    format!("{}.", marks::stored(&format!("iso.{}.{name}", pool_in_key(pool))))
}

/// A pool as a part of a key: with its own dots the pool `a` and the volume `b.c` would be `a.b` and `c`.
fn pool_in_key(pool: &str) -> String {
    pool.replace('%', "%25").replace('.', "%2E")
}

/// The mark that a key of the project is for the ISO of this `lead`. A mark has no dot, and the name of an ISO may: what
/// begins with `cd.` may be of `cd.v2`.
fn iso_mark<'k>(lead: &str, key: &'k str) -> Option<&'k str> {
    key.strip_prefix(lead).filter(|mark| !mark.contains('.'))
}

/// Whether the project says that this ISO is protected.
pub(crate) fn iso_is_protected(project: &Config, pool: &str, name: &str) -> bool {
    project.get(&format!("{}delete_protection", iso_lead(pool, name))).is_some_and(|value| is_true(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iso_is_protected_by_every_word_that_incus_takes_for_yes() {
        let key = format!("{}delete_protection", iso_lead("default", "cd"));
        let says = |value: &str| iso_is_protected(&[(key.clone(), value.to_owned())].into(), "default", "cd");
        assert!(["true", "1", "yes", "On"].into_iter().all(says));
        assert!(!["false", "0", "no", ""].into_iter().any(says));
    }

    #[test]
    fn a_time_is_the_same_in_every_zone() {
        assert!(is_same_time("2026-01-02T03:04:05.123Z", Some("2026-01-02T04:04:05.123+01:00")));
        assert!(!is_same_time("2026-01-02T03:04:05.123Z", Some("2026-01-02T03:04:06.123Z")));
        assert!(!is_same_time("2026-01-02T03:04:05.123Z", None));
    }

    #[test]
    fn the_marks_of_an_iso_are_none_of_one_whose_name_goes_on_behind_a_dot() {
        let key = |name: &str| format!("{}incarnation", iso_lead("default", name));
        let lead = iso_lead("default", "cd");
        assert_eq!(iso_mark(&lead, &key("cd")), Some("incarnation"));
        assert_eq!(iso_mark(&lead, &key("cd.v2")), None);
        assert_eq!(iso_mark(&iso_lead("default", "cd.v2"), &key("cd.v2")), Some("incarnation"));
        assert_eq!(iso_mark(&iso_lead("default", "cd.v2"), &key("cd")), None);
        assert_ne!(iso_lead("a", "b.c"), iso_lead("a.b", "c"));
    }
}
