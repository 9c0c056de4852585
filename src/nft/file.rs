//! The file that a boot loads: whose it is, what it holds, and how it is written.

use super::error::Error;
use super::host::Removed;
use super::place::PersistPath;
use super::ruleset::{Ruleset, comment};
use super::shell::{Answer, Shell};
use super::value::Fingerprint;

/// What the file holds: whose it is, then the script.
pub(super) fn text(ruleset: &Ruleset) -> String {
    format!("# {}\n{}", comment(ruleset.fingerprint()), ruleset.script())
}

/// What is in a file, and who may change it.
pub(super) struct Found {
    /// Mode and number of the owner.
    access: String,
    /// Length in bytes, those of NUL too.
    size: Option<usize>,
    /// Without any NUL, which no shell keeps.
    text: String,
}

impl Found {
    pub(super) fn difference(&self, wanted: &str) -> Option<String> {
        let wanted = wanted.trim_end();
        if self.text.trim_end() != wanted || self.size != Some(wanted.len() + 1) {
            return Some("holds something else".to_owned());
        }
        (self.access != "600 0").then(|| format!("has mode and owner {}, not 600 0", self.access))
    }

    /// What its first line says of whose it is.
    pub(super) fn comment(&self) -> Option<String> {
        let said = self.text.lines().next()?.strip_prefix("# ")?;
        said.starts_with("anklume ").then(|| said.to_owned())
    }

    /// Whether it is the file of one of the tables with the marks `owners`.
    pub(super) fn is_of(&self, owners: &[Fingerprint]) -> bool {
        let mark = self.comment().and_then(|said| Fingerprint::of_comment(&said));
        mark.is_some_and(|mark| owners.iter().any(|owner| mark.is_same_table(owner)))
    }
}

/// The file, if there is one.
pub(super) async fn content(shell: &mut Shell, path: &PersistPath) -> Result<Option<Found>, Error> {
    let answer = shell.ask("file", &[path.as_str()]).await?;
    match answer.code {
        0 => {
            let (about, text) = answer.text.split_once('\n').unwrap_or((&answer.text, ""));
            let (access, size) = about.rsplit_once(' ').unwrap_or((about, ""));
            Ok(Some(Found { access: access.to_owned(), size: size.parse().ok(), text: text.to_owned() }))
        }
        44 => Ok(None),
        _ => Err(in_file(path, &answer)),
    }
}

fn in_file(path: &PersistPath, answer: &Answer) -> Error {
    Error::File { path: path.to_string(), said: answer.text.trim().to_owned() }
}

/// Whether the file is there, and ours.
pub(super) async fn ours_or_absent(
    shell: &mut Shell,
    path: &PersistPath,
    owners: &[Fingerprint],
) -> Result<bool, Error> {
    match content(shell, path).await? {
        None => Ok(false),
        Some(found) if found.is_of(owners) => Ok(true),
        Some(found) => Err(Error::ForeignFile { path: path.to_string(), comment: found.comment() }),
    }
}

/// Whether the file can be where it should.
pub(super) async fn room(shell: &mut Shell, path: &PersistPath) -> Result<(), Error> {
    let answer = shell.ask("room", &[path.as_str()]).await?;
    if answer.code == 0 { Ok(()) } else { Err(in_file(path, &answer)) }
}

pub(super) async fn store(shell: &mut Shell, path: &PersistPath, text: &str) -> Result<(), Error> {
    if content(shell, path).await?.is_some_and(|there| there.difference(text).is_none()) {
        return Ok(());
    }
    let answer = shell.ask("store", &[path.as_str(), text, "."]).await?;
    if answer.code == 0 { Ok(()) } else { Err(in_file(path, &answer)) }
}

pub(super) async fn unlink(shell: &mut Shell, path: &PersistPath, owner: &Fingerprint) -> Result<Removed, Error> {
    match ours_or_absent(shell, path, std::slice::from_ref(owner)).await {
        Ok(true) => {}
        Ok(false) => return Ok(Removed::Absent),
        Err(Error::ForeignFile { .. }) => return Ok(Removed::Foreign),
        Err(error) => return Err(error),
    }
    let answer = shell.ask("unlink", &[path.as_str()]).await?;
    if answer.code == 0 { Ok(Removed::Done) } else { Err(in_file(path, &answer)) }
}
