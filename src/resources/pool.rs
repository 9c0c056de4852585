//! Storage pools: which one a domain has, and which there are.

use crate::incus::{Client, Error, storage};
use crate::plugin::{Diagnostic, Path};
use crate::resources::refusal;

/// The pool of a domain: that of the root disk in its project's `default` profile. `None` where there is no such disk, or
/// no such project.
///
/// # Errors
///
/// As [`Client::get`].
pub async fn of_domain(client: &Client, project: &str) -> Result<Option<String>, Error> {
    let profile = client.read_profile(project, "default").await?;
    let root = profile.and_then(|profile| profile.devices.into_values().find(crate::incus::instance::is_root));
    Ok(root.and_then(|mut root| root.remove("pool")))
}

/// The names of all pools.
///
/// # Errors
///
/// As [`Client::get`].
pub async fn names(client: &Client) -> Result<Vec<String>, Error> {
    let pools = client.get::<Vec<storage::Pool>>(storage::pools()).await?.value;
    Ok(pools.into_iter().map(|pool| pool.name).collect())
}

/// The pool for a volume that names none: the domain's, else the only one.
///
/// # Errors
///
/// At `at`: where there is more than one, with their names.
pub async fn choose(client: &Client, project: &str, at: Path) -> Result<String, Diagnostic> {
    let failed = |error: Error| refusal::at(at.clone(), "Unable to choose a storage pool", &error);
    if let Some(pool) = of_domain(client, project).await.map_err(failed)? {
        return Ok(pool);
    }
    let mut names = names(client).await.map_err(failed)?;
    match names.pop() {
        Some(only) if names.is_empty() => Ok(only),
        last => {
            names.extend(last);
            names.sort_unstable();
            let list = if names.is_empty() {
                "none; make one with `incus storage create`".to_owned()
            } else {
                names.join(", ")
            };
            Err(Diagnostic::error(
                at,
                "Unable to choose a storage pool",
                format!(
                    "Set `pool`: the domain has none of its own, and the server has not exactly one. There are: {list}."
                ),
            ))
        }
    }
}
