//! Destroying a domain: what it holds, its project, its bridge.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::state::Pieces;
use super::{KIND, LIMIT, failed};
use crate::incus::is_true;
use crate::incus::{
    self, Client, Wait, image, instance, network, network::Network, profile, project, project::Project, volume,
};
use crate::plugin::{Call, Diagnostic, Failure, Path, Stored};
use crate::resources::session::Session;
use crate::resources::{keys, marks, name, refusal, timeouts, uid};

pub(super) async fn delete(session: &Session, call: &Call, prior: Stored) -> Result<(), Failure> {
    let uid = uid::expect(session, "domain", &prior.state, &prior.private)?;
    let name = prior.state.get("name").as_str().unwrap_or_default();
    let client = &session.client_until(&timeouts::of_stop(call)).await?;
    let wait = timeouts::wait(call, &prior.state, "delete", LIMIT);
    let failure = |error: &incus::Error| Failure::from(failed("delete", name, error));
    let there = Pieces::fetch(client, session, name).await.map_err(|error| failure(&error))?;
    let ours = |config: &incus::Config| uid.owns(config, None);
    if !there.has_any(&uid) {
        session.replaced(KIND, "domain", name, &uid)?;
        return uid::deleted(session, client, "domain", &prior.private).await;
    }
    if there.configs().any(|config| ours(config) && uid.is_indistinct(config)) {
        return Err(refusal::unmarked("domain", name).into());
    }
    let network = there.network.as_ref().filter(|network| network.managed && ours(&network.config));
    // A stranger of the same name stays, and what of it is on our bridge is in the way.
    let project = there.project.as_ref().filter(|project| ours(&project.config));
    if let Some(network) = network {
        let strangers = strangers(&network.used_by, project.map(|project| project.name.as_str()));
        if !strangers.is_empty() {
            return Err(shared_bridge(name, &network.name, &strangers).into());
        }
    }
    if let Some(project) = project {
        let force = prior.state.get("force_destroy").as_bool() == Some(true);
        let emptied = empty(client, name, session.prefix(), project, force, &wait).await?;
        // Emptying takes its time, in which another one may have got the name.
        if emptied {
            let still = Pieces::fetch(client, session, name).await.map_err(|error| failure(&error))?;
            let is_other = |before: &incus::Config, now: Option<&incus::Config>| {
                now.is_some_and(|now| marks::carried(now) != marks::carried(before))
            };
            let of_network =
                |network: &Network| is_other(&network.config, still.network.as_ref().map(|network| &network.config));
            if is_other(&project.config, still.project.as_ref().map(|project| &project.config))
                || network.is_some_and(of_network)
            {
                return Err(refusal::stranger("domain", name).into());
            }
        }
        gone(client.run(project::delete(&project.name), &wait).await).map_err(|error| failure(&error))?;
    }
    if let Some(network) = network {
        // Incus trips over a bridge that goes while it deletes another.
        let _turn = session.domains.lock().await;
        gone(client.run(network::delete(&network.name), &wait).await).map_err(|error| failure(&error))?;
    }
    session.forget(KIND, name);
    Ok(())
}

/// The users of a bridge outside of the domain's own project, a line each.
fn strangers(used_by: &[String], own: Option<&str>) -> Vec<String> {
    let project = |path: &str| {
        let query = path.split_once('?').map_or("", |(_, query)| query);
        let named = query.split('&').find_map(|pair| pair.strip_prefix("project=")).unwrap_or("default");
        percent_decode_str(named).decode_utf8_lossy().into_owned()
    };
    used_by
        .iter()
        .filter(|path| Some(project(path).as_str()) != own)
        .map(|path| match path.contains('?') {
            true => format!("    {}", keys::short_user(path)),
            false => format!("    {} (project default)", keys::short_user(path)),
        })
        .collect()
}

fn shared_bridge(name: &str, bridge: &str, strangers: &[String]) -> Diagnostic {
    Diagnostic::error(
        Path::root(),
        "Unable to delete domain: its bridge is used from outside",
        format!(
            "Nothing was deleted. The bridge `{bridge}` of the domain \"{name}\" is used by what is not the domain's:\n\n{}\n\n\
             Remove these, or take their device off `{bridge}`, then destroy. `force_destroy` leaves them alone.",
            strangers.join("\n")
        ),
    )
}

/// What is gone already counts as deleted.
fn gone<T>(result: Result<T, incus::Error>) -> Result<(), incus::Error> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Something that a project holds, from its API path.
#[derive(Debug, PartialEq, Eq)]
enum Held {
    Instance(String),
    Profile(String),
    Volume {
        pool: String,
        name: String,
    },
    Image(String),
    /// What is not deleted here, such as a bucket.
    Other,
}

/// Names as they are, which the path has percent-encoded.
fn held(path: &str) -> Option<Held> {
    let plain = path.split('?').next().unwrap_or(path);
    let parts: Vec<_> = plain.trim_start_matches("/1.0/").split('/').collect();
    let name = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    match parts.as_slice() {
        ["profiles", "default"] => None,
        ["profiles", profile] => Some(Held::Profile(name(profile))),
        ["instances", instance] => Some(Held::Instance(name(instance))),
        ["images", fingerprint] => Some(Held::Image(name(fingerprint))),
        ["storage-pools", pool, "volumes", "custom", volume] => {
            Some(Held::Volume { pool: name(pool), name: name(volume) })
        }
        _ => Some(Held::Other),
    }
}

/// Deletes what the project holds, as far as `force` or its kind allows it; whether there was anything.
async fn empty(
    client: &Client,
    name: &str,
    prefix: &str,
    found: &Project,
    force: bool,
    wait: &Wait,
) -> Result<bool, Failure> {
    let failure = |error: &incus::Error| Failure::from(failed("delete", name, error));
    let project = found.name.as_str();
    let mut holds = Vec::new();
    for (path, held) in found.used_by.iter().filter_map(|path| held(path).map(|held| (path, held))) {
        let is_leftover = match &held {
            Held::Volume { name, .. } => name::is_half_made(name),
            Held::Instance(held) if name::is_half_made(held.strip_prefix(prefix).unwrap_or(held)) => {
                let found = client.get::<instance::Instance>(instance::get(project, held)).await;
                !found.map_err(|error| failure(&error))?.value.is_protected()
            }
            // An image that Incus fetched by itself for an instance of an imported project.
            Held::Image(fingerprint) => {
                client
                    .get::<image::Image>(image::get(project, fingerprint))
                    .await
                    .map_err(|error| failure(&error))?
                    .value
                    .cached
            }
            _ => false,
        };
        holds.push((path, held, is_leftover));
    }
    if let (false, Some(_)) = (force, holds.iter().find(|(_, _, is_leftover)| !is_leftover)) {
        let list: Vec<_> = holds
            .iter()
            .filter(|(_, _, is_leftover)| !is_leftover)
            .map(|(path, ..)| format!("    {}", keys::short_user(path)))
            .collect();
        return Err(not_empty(name, &list).into());
    }
    let others: Vec<_> = holds
        .iter()
        .filter(|(_, held, _)| *held == Held::Other)
        .map(|(path, ..)| format!("    {}", keys::short_user(path)))
        .collect();
    if !others.is_empty() {
        return Err(beyond_force(name, &others).into());
    }
    let protected =
        if force { protected(client, found, &holds).await.map_err(|error| failure(&error))? } else { Vec::new() };
    if !protected.is_empty() {
        return Err(Diagnostic::error(
            Path::from("force_destroy"),
            "Unable to delete domain: it holds protected objects",
            format!(
                "`force_destroy` never deletes what has `delete_protection`. Nothing was deleted. Protected in \"{name}\":\n\n{}\n\nSet `delete_protection = false` on each and apply, then destroy.",
                protected.join("\n")
            ),
        )
        .into());
    }
    // Instances before the volumes and profiles that they use.
    for instances in [true, false] {
        for (_, held, _) in holds.iter().filter(|(_, held, _)| matches!(held, Held::Instance(_)) == instances) {
            remove(client, project, held, wait).await.map_err(|error| failure(&error))?;
        }
    }
    Ok(!holds.is_empty())
}

async fn remove(client: &Client, project: &str, held: &Held, wait: &Wait) -> Result<(), incus::Error> {
    let request = match held {
        Held::Instance(name) => {
            let stop = instance::set_state(project, name, instance::Action::Stop, instance::Force::Now);
            match client.run(stop, wait).await {
                Err(error) if matches!(error.refusal(), Some(incus::Refusal::IsStopped)) => {}
                result => gone(result)?,
            }
            instance::delete(project, name)
        }
        Held::Profile(name) => profile::delete(project, name),
        Held::Volume { pool, name } => volume::delete(project, pool, name),
        Held::Image(fingerprint) => image::delete(project, fingerprint),
        Held::Other => return Ok(()),
    };
    gone(client.run(request, wait).await)
}

/// The protected instances and volumes, a line each.
async fn protected(
    client: &Client,
    project: &Project,
    holds: &[(&String, Held, bool)],
) -> Result<Vec<String>, incus::Error> {
    let (project, config) = (project.name.as_str(), &project.config);
    let mut lines = Vec::new();
    let mut volumes: BTreeMap<&String, Vec<volume::Volume>> = BTreeMap::new();
    for (_, held, _) in holds.iter().filter(|(_, _, is_leftover)| !is_leftover) {
        match held {
            Held::Instance(name) => {
                let instance = client.get::<instance::Instance>(instance::get(project, name)).await?.value;
                if instance.is_protected() {
                    lines.push(format!("    instance {name}"));
                }
            }
            Held::Volume { pool, name } => {
                if !volumes.contains_key(pool) {
                    volumes.insert(pool, client.get::<Vec<volume::Volume>>(volume::list(project, pool)).await?.value);
                }
                let is_protected = |volume: &&volume::Volume| {
                    let mark = marks::read_stored(&volume.config, "delete_protection");
                    volume.name == *name && mark.is_some_and(is_true)
                };
                let of_an_iso = crate::resources::volume::iso_is_protected(config, pool, name);
                if of_an_iso || volumes.get(pool).into_iter().flatten().any(|volume| is_protected(&volume)) {
                    lines.push(format!("    volume {name} in pool {pool}"));
                }
            }
            _ => {}
        }
    }
    Ok(lines)
}

fn beyond_force(name: &str, list: &[String]) -> Diagnostic {
    Diagnostic::error(
        Path::root(),
        "Unable to delete domain: it holds what force_destroy does not delete",
        format!(
            "`force_destroy` deletes instances, profiles, volumes and images. Nothing was deleted. The domain \"{name}\" holds as well:\n\n{}\n\nRemove these first, then destroy.",
            list.join("\n")
        ),
    )
}

fn not_empty(name: &str, list: &[String]) -> Diagnostic {
    Diagnostic::error(
        Path::root(),
        "Unable to delete domain: it is not empty",
        format!(
            "The domain \"{name}\" still holds:\n\n{}\n\nRemove these first, or set `force_destroy = true` and apply, then destroy.",
            list.join("\n")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_the_bridge_in_other_projects_are_strangers() {
        let used_by = [
            "/1.0/profiles/default?project=pro",
            "/1.0/instances/web?project=pro",
            "/1.0/instances/web?project=other",
            "/1.0/profiles/bridged",
        ]
        .map(str::to_owned);
        assert_eq!(
            strangers(&used_by, Some("pro")),
            ["    instance web (project other)", "    profile bridged (project default)"]
        );
        assert_eq!(strangers(&used_by, None).len(), 4, "without a project of its own all are");
    }

    #[test]
    fn what_a_project_holds_is_read_from_the_paths() {
        assert_eq!(held("/1.0/profiles/default?project=pro"), None);
        assert_eq!(held("/1.0/instances/web?project=pro"), Some(Held::Instance("web".into())));
        assert_eq!(
            held("/1.0/storage-pools/p/volumes/custom/v?project=pro"),
            Some(Held::Volume { pool: "p".into(), name: "v".into() })
        );
        assert_eq!(held("/1.0/profiles/a%20b%2Fc?project=pro"), Some(Held::Profile("a b/c".into())));
        assert_eq!(held("/1.0/networks/x"), Some(Held::Other));
    }
}
