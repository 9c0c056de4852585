//! The host whose packets are filtered: apply, read back, remove.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use super::drift::Drift;
use super::error::{self, Error, OLDEST};
use super::file;
use super::limit::Limit;
use super::listing::Present;
use super::place::{PersistPath, Sudo, Via};
use super::ruleset::Ruleset;
use super::shell::{Answer, Shell};
use super::value::Fingerprint;

/// Pause between two tries to get the lock.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a transaction is made anew, when somebody changed the table between reading and writing.
const TRIES: usize = 3;

/// Marks of other tables, which the table and the file to be written may bear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Before {
    /// Of the table.
    pub table: Option<Fingerprint>,
    /// Of the file.
    pub file: Option<Fingerprint>,
}

/// How a table came to be as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// There was none.
    Created,
    /// There was ours.
    Continued,
}

/// What a removal found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// Ours, and it is gone.
    Done,
    /// Nothing.
    Absent,
    /// Another's, and it was left alone.
    Foreign,
}

/// What stands on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// No table, and no file of ours.
    Absent,
    /// Another's table.
    Foreign {
        /// The comment of its first rule.
        comment: Option<String>,
    },
    /// Our table, or our file alone, and what differs.
    Ours(Drift),
}

/// The mark of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableMark {
    /// There is no table.
    NoTable,
    /// The table carries none.
    Unmarked,
    /// The table carries this one.
    Marked(Fingerprint),
}

/// Where nft runs.
#[derive(Debug, Clone)]
pub struct Host {
    via: Via,
    sudo: Sudo,
    path: Option<OsString>,
}

impl Host {
    /// Connects with each call.
    #[must_use]
    pub fn new(via: Via, sudo: Sudo) -> Self {
        Self { via, sudo, path: None }
    }

    /// Another `PATH` for what is run on this machine: `sh` and nft, `sudo`, `ssh`.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<OsString>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The network interfaces where nft runs, each with its MAC address in lower case, or `""`.
    ///
    /// # Errors
    ///
    /// No connection.
    pub async fn interfaces(&self, limit: &Limit) -> Result<BTreeMap<String, String>, Error> {
        limit
            .ends("listing interfaces", async {
                let mut shell = self.open().await?;
                let answer = shell.ask("interfaces", &[]).await?;
                shell.close().await;
                match answer.code {
                    0 => {}
                    127 => return Err(Error::NoProgram { program: "ip" }),
                    _ => return Err(Error::Garbled { said: answer.text.trim().to_owned() }),
                }
                Ok(answer.text.lines().filter_map(interface).collect())
            })
            .await
    }

    /// Brings the table, and then the file, to `ruleset`: `nft -c`, one transaction, and a look at what stands, all
    /// under a lock of the host.
    ///
    /// # Errors
    ///
    /// [`Error::Foreign`], [`Error::ForeignFile`] and [`Error::File`] before anything is touched; [`Error::NotAsWritten`].
    pub async fn apply(&self, ruleset: &Ruleset, file: Option<&PersistPath>, limit: &Limit) -> Result<Applied, Error> {
        self.take_over(ruleset, &Before::default(), file, limit).await
    }

    /// [`Host::apply`], also where table or file still bear the marks `before`: they bear that of `ruleset` afterwards.
    ///
    /// # Errors
    ///
    /// As [`Host::apply`].
    pub async fn take_over(
        &self,
        ruleset: &Ruleset,
        before: &Before,
        file: Option<&PersistPath>,
        limit: &Limit,
    ) -> Result<Applied, Error> {
        let with_own = |mark: &Option<Fingerprint>| -> Vec<Fingerprint> {
            [Some(ruleset.fingerprint()), mark.as_ref()].into_iter().flatten().cloned().collect()
        };
        let (tables, files) = (with_own(&before.table), with_own(&before.file));
        let mut shell = limit.ends("connecting", self.open()).await?;
        limit.ends("asking for the version of nft", version(&mut shell)).await?;
        lock(&mut shell, limit).await?;
        let found = limit
            .ends("reading the rules", async {
                if let Some(path) = file {
                    file::ours_or_absent(&mut shell, path, &files).await?;
                    file::room(&mut shell, path).await?;
                }
                owned(&mut shell, &tables).await
            })
            .await?;
        limit.finishes("applying the rules", write(&mut shell, ruleset, &tables, found.as_ref())).await?;
        if let Some(path) = file {
            limit.finishes("writing the file", file::store(&mut shell, path, &file::text(ruleset))).await?;
        }
        shell.close().await;
        Ok(if found.is_some() { Applied::Continued } else { Applied::Created })
    }

    /// Compares what stands with `ruleset`; changes nothing and takes no lock. A mark of the same table is no difference.
    ///
    /// # Errors
    ///
    /// No connection, no nft, no permission.
    pub async fn read(&self, ruleset: &Ruleset, file: Option<&PersistPath>, limit: &Limit) -> Result<Standing, Error> {
        limit
            .ends("reading the rules", async {
                let mut shell = self.open().await?;
                version(&mut shell).await?;
                let ours = match list(&mut shell).await? {
                    None => Err(Standing::Absent),
                    Some(present) => match present.mark().filter(|mark| mark.is_same_table(ruleset.fingerprint())) {
                        Some(mark) => Ok((present, ruleset.with_mark(mark))),
                        None => Err(Standing::Foreign { comment: present.comment() }),
                    },
                };
                let (present, ruleset) = match ours {
                    Ok(ours) => ours,
                    Err(standing) => {
                        // Where the file stands, there is still something that a removal takes away, and that puts our table
                        // in the place of any other when the host boots.
                        let is_ours = is_our_file(&mut shell, ruleset, file).await?;
                        shell.close().await;
                        return Ok(if is_ours { Standing::Ours(Drift::of_no_table()) } else { standing });
                    }
                };
                let mut drift = Drift::between(&ruleset, &present);
                if let Some(path) = file {
                    let difference = match file::content(&mut shell, path).await? {
                        None => Some(format!("{path} is missing")),
                        Some(found) => found.difference(&file::text(&ruleset)).map(|what| format!("{path} {what}")),
                    };
                    drift = drift.with_file(difference);
                }
                shell.close().await;
                Ok(Standing::Ours(drift))
            })
            .await
    }

    /// The mark of the table that is there; takes no lock.
    ///
    /// # Errors
    ///
    /// No connection, no nft, no permission.
    pub async fn mark(&self, limit: &Limit) -> Result<TableMark, Error> {
        limit
            .ends("reading the rules", async {
                let mut shell = self.open().await?;
                version(&mut shell).await?;
                let present = list(&mut shell).await?;
                shell.close().await;
                Ok(present.map_or(TableMark::NoTable, |present| {
                    present.mark().map_or(TableMark::Unmarked, TableMark::Marked)
                }))
            })
            .await
    }

    /// Removes the whole table and the file, each only if it carries a mark of the same table as `owner`.
    ///
    /// # Errors
    ///
    /// No connection, no nft, no permission, a busy lock.
    pub async fn remove(
        &self,
        owner: &Fingerprint,
        file: Option<&PersistPath>,
        limit: &Limit,
    ) -> Result<Removed, Error> {
        let mut shell = limit.ends("connecting", self.open()).await?;
        limit.ends("asking for the version of nft", version(&mut shell)).await?;
        lock(&mut shell, limit).await?;
        let removed = match limit.ends("reading the rules", owned(&mut shell, std::slice::from_ref(owner))).await {
            Err(Error::Foreign { .. }) => Removed::Foreign,
            Err(error) => return Err(error),
            Ok(None) => Removed::Absent,
            Ok(Some(_)) => Removed::Done,
        };
        // First the file: a boot in between would bring the rules back, and nobody would know.
        if let Some(path) = file {
            limit.finishes("removing the file", file::unlink(&mut shell, path, owner)).await?;
        }
        if removed == Removed::Done {
            let deleted = async {
                let answer = shell.ask("delete", &[]).await?;
                if answer.code == 0 || error::says_absent(&answer.text) { Ok(()) } else { Err(refused(&answer)) }
            };
            limit.finishes("removing the table", deleted).await?;
        }
        shell.close().await;
        Ok(removed)
    }

    /// Removes a file that is `owner`'s: where the table has another one from now on, or none.
    ///
    /// # Errors
    ///
    /// No connection, a busy lock, [`Error::File`].
    pub async fn remove_file(&self, owner: &Fingerprint, file: &PersistPath, limit: &Limit) -> Result<Removed, Error> {
        let mut shell = limit.ends("connecting", self.open()).await?;
        lock(&mut shell, limit).await?;
        let removed = limit.finishes("removing the file", file::unlink(&mut shell, file, owner)).await?;
        shell.close().await;
        Ok(removed)
    }

    /// What the first line of a file says of whose it is; `None` where it says nothing, or there is no file.
    ///
    /// # Errors
    ///
    /// No connection, [`Error::File`].
    pub async fn comment_of_file(&self, file: &PersistPath, limit: &Limit) -> Result<Option<String>, Error> {
        let mut shell = limit.ends("connecting", self.open()).await?;
        let found = limit.ends("reading the file", file::content(&mut shell, file)).await?;
        shell.close().await;
        Ok(found.and_then(|found| found.comment()))
    }

    async fn open(&self) -> Result<Shell, Error> {
        Shell::open(&self.via, self.sudo, self.path.as_deref()).await
    }
}

/// A line of `ip -o link`: `3: net-a: <...> ... link/ether 00:16:3e:...`; behind an `@` of the name stands another.
fn interface(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    let name = words.nth(1)?.strip_suffix(':')?;
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let address = words.skip_while(|word| !word.trim_start_matches('\\').starts_with("link/")).nth(1);
    Some((name.to_owned(), address.unwrap_or_default().to_ascii_lowercase()))
}

async fn is_our_file(shell: &mut Shell, ruleset: &Ruleset, file: Option<&PersistPath>) -> Result<bool, Error> {
    let Some(path) = file else { return Ok(false) };
    let left = file::content(shell, path).await?;
    Ok(left.is_some_and(|left| left.is_of(std::slice::from_ref(ruleset.fingerprint()))))
}

fn refused(answer: &Answer) -> Error {
    error::of_nft(answer.code, &answer.text)
}

async fn version(shell: &mut Shell) -> Result<(), Error> {
    let answer = shell.ask("version", &[]).await?;
    if answer.code != 0 {
        return Err(refused(&answer));
    }
    let word = answer.text.split_whitespace().find_map(|word| word.strip_prefix('v')).unwrap_or_default();
    let mut numbers = word.split('.').map(|number| number.parse::<u32>());
    let mut next = || numbers.next().unwrap_or(Ok(0));
    match (next(), next(), next()) {
        (Ok(major), Ok(minor), Ok(patch)) if !word.is_empty() => {
            if (major, minor, patch) < OLDEST {
                return Err(Error::TooOld { version: word.to_owned() });
            }
            Ok(())
        }
        _ => Err(Error::Garbled { said: answer.text.trim().to_owned() }),
    }
}

/// Takes the lock, or says that it is busy when the deadline comes.
async fn lock(shell: &mut Shell, limit: &Limit) -> Result<(), Error> {
    let locked = async {
        loop {
            let answer = shell.ask("lock", &[]).await?;
            match answer.code {
                0 => return Ok(()),
                1 => tokio::time::sleep(PAUSE).await,
                127 => return Err(Error::NoProgram { program: "flock" }),
                _ => return Err(Error::NoPermission { said: answer.text.trim().to_owned() }),
            }
        }
    };
    let locked = limit.ends("waiting for the lock", locked).await;
    locked.map_err(|error| if error.is_deadline() { Error::Busy } else { error })
}

async fn list(shell: &mut Shell) -> Result<Option<Present>, Error> {
    let listed = shell.ask("list", &[]).await?;
    if listed.code != 0 {
        return if error::says_absent(&listed.text) { Ok(None) } else { Err(refused(&listed)) };
    }
    let present = Present::parse(&listed.text)
        .ok_or_else(|| Error::Garbled { said: listed.text.trim().chars().take(200).collect() })?;
    let terse = shell.ask("terse", &[]).await?;
    match terse.code {
        0 => Ok(Some(present.with_flags_of(&terse.text))),
        _ if error::says_absent(&terse.text) => Ok(None),
        _ => Err(refused(&terse)),
    }
}

/// The table of one of `owners`, if there is one at all.
async fn owned(shell: &mut Shell, owners: &[Fingerprint]) -> Result<Option<Present>, Error> {
    let Some(present) = list(shell).await? else { return Ok(None) };
    let is_ours = present.mark().is_some_and(|mark| owners.iter().any(|owner| mark.is_same_table(owner)));
    if is_ours { Ok(Some(present)) } else { Err(Error::Foreign { comment: present.comment() }) }
}

/// One transaction that leads from what is there to `ruleset`.
async fn write(
    shell: &mut Shell,
    ruleset: &Ruleset,
    owners: &[Fingerprint],
    found: Option<&Present>,
) -> Result<(), Error> {
    let mut script = found.map_or_else(|| Some(ruleset.creation()), |present| ruleset.change(present));
    for tries in 1..=TRIES {
        let refusal = match &script {
            None => None,
            Some(script) => {
                let answer = shell.ask("load", &[script, "."]).await?;
                (answer.code != 0).then(|| refused(&answer))
            }
        };
        // Who changes the table by hand knows no lock: look whose it is now, and what is left to do.
        let present = owned(shell, owners).await?;
        let Some(present) = present else {
            match refusal {
                Some(refusal) if tries == TRIES || found.is_none() => return Err(refusal),
                _ => script = Some(ruleset.creation()),
            }
            continue;
        };
        script = ruleset.change(&present);
        if script.is_none() {
            return Ok(());
        }
        if tries == TRIES {
            let lines = Drift::between(ruleset, &present).lines().to_vec();
            return Err(refusal.unwrap_or(Error::NotAsWritten { lines }));
        }
    }
    Err(Error::NotAsWritten { lines: vec!["the table is gone".to_owned()] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_known_by_its_name_and_its_address() {
        let of = |line| interface(line).map(|(name, address)| format!("{name} {address}"));
        let lo = "1: lo: <LOOPBACK,UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000\\    link/loopback \
                  00:00:00:00:00:00 brd 00:00:00:00:00:00";
        assert_eq!(of(lo).unwrap(), "lo 00:00:00:00:00:00");
        let veth = "7: v0@if6: <BROADCAST> mtu 1500 state UP \\    link/ether 02:AA:00:00:00:01 brd ff:ff:ff:ff:ff:ff link-netns b";
        assert_eq!(of(veth).unwrap(), "v0 02:aa:00:00:00:01");
        assert_eq!(of("8: tun0: <POINTOPOINT> mtu 1420 state UNKNOWN\\    link/none ").unwrap(), "tun0 ");
        assert_eq!(of("Cannot open netlink socket"), None);
    }
}
