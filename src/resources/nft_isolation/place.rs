//! Where the firewall is: nft has to run on the host of this Incus, and nowhere else.

use std::time::Duration;

use super::told;
use crate::incus::{Client, Endpoint, Wait, network};
use crate::nft::{Destination, Host, Limit, Sudo, Via};
use crate::plugin::{Call, Diagnostic, Diagnostics, Path, Value};
use crate::resources::provider::Nft;
use crate::resources::session::Session;
use crate::resources::{refusal, timeouts};

/// How often the bridges are looked for again, and after how long.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(300);

/// Where nft runs, and how long it may take.
pub(super) struct Place {
    pub(super) client: Client,
    pub(super) host: Host,
    pub(super) limit: Limit,
}

/// What the provider block alone shows to be missing.
pub(super) fn undecided(session: &Session) -> Option<Diagnostic> {
    let is_https = session.address().is_some_and(|address| address.starts_with("https:"));
    (is_https && matches!(session.nft(), Nft::Unset { .. })).then(unsaid)
}

/// The way to nft, once it is known that it ends on the host of this Incus.
///
/// # Errors
///
/// Nothing says where it runs, it cannot be reached, or it has none of the bridges that Incus has.
pub(super) async fn find(
    session: &Session,
    call: &Call,
    values: &Value,
    step: &str,
    verb: &str,
) -> Result<Place, Diagnostics> {
    let wait = match step {
        "read" => timeouts::of_read(call, values),
        step => timeouts::wait(call, values, step, super::LIMIT),
    };
    let client = session.client_until(&wait).await?;
    let place = Place { host: host(session, &client)?, limit: limit(&wait), client };
    // A bridge that Incus makes or removes just now may be on one list and not on the other.
    for _ in 0..LOOKS {
        if place.foreign_bridges(session, verb).await?.is_empty() {
            return Ok(place);
        }
        let paused = wait.pause(PAUSE, "looking for the bridges of Incus", None).await;
        paused.map_err(|error| refusal::diagnostic(told::summary(verb), &error))?;
    }
    match place.foreign_bridges(session, verb).await? {
        bridges if bridges.is_empty() => Ok(place),
        bridges => Err(not_here(session, &bridges).into()),
    }
}

/// The same limit in the words of the nft layer.
pub(super) fn limit(wait: &Wait) -> Limit {
    Limit { deadline: wait.deadline, stop: wait.stop.clone() }
}

fn host(session: &Session, client: &Client) -> Result<Host, Diagnostic> {
    let with = |sudo: bool| if sudo { Sudo::With } else { Sudo::Without };
    match session.nft() {
        Nft::Unknown => Err(refusal::undecided("nft")),
        Nft::Unset { .. } if matches!(client.endpoint(), Endpoint::Https { .. }) => Err(unsaid()),
        Nft::Unset { sudo } | Nft::Local { sudo } => Ok(Host::new(Via::Local, with(*sudo))),
        Nft::Ssh { destination, sudo } => match destination.parse::<Destination>() {
            Ok(destination) => Ok(Host::new(Via::Ssh(destination), with(*sudo))),
            Err(error) => Err(refusal::defect("the destination of ssh", error)),
        },
    }
}

impl Place {
    /// The bridges of Incus, where nft runs on a machine that has none of them. Before Incus has a bridge it may be any.
    async fn foreign_bridges(&self, session: &Session, verb: &str) -> Result<Vec<String>, Diagnostics> {
        let networks = self.client.get::<Vec<network::Network>>(network::list()).await;
        let networks = networks.map_err(|error| refusal::diagnostic(told::summary(verb), &error))?.value;
        let bridges = networks.into_iter().filter(|one| one.managed && one.kind == "bridge").map(|one| one.name);
        let bridges: Vec<_> = bridges.collect();
        if bridges.is_empty() {
            return Ok(bridges);
        }
        let there = self.host.interfaces(&self.limit).await.map_err(|error| told::failed(verb, session, &error))?;
        Ok(if bridges.iter().any(|bridge| there.contains(bridge)) { Vec::new() } else { bridges })
    }
}

fn not_here(session: &Session, bridges: &[String]) -> Diagnostic {
    Diagnostic::error(
        Path::root(),
        "nft does not run on the Incus host",
        format!(
            "Incus has the bridges {}, and {} has none of them: rules there would isolate nothing. Nothing was changed. Run this on the \
             Incus host, outside of any container, or reach it by ssh in the provider block:\n\n    \
             nft = {{ via = \"ssh\", destination = \"root@<the Incus host>\" }}",
            bridges.join(", "),
            whereabouts(session)
        ),
    )
}

fn whereabouts(session: &Session) -> String {
    match session.nft() {
        Nft::Ssh { destination, .. } => format!("{destination:?}"),
        _ => "this machine".to_owned(),
    }
}

fn unsaid() -> Diagnostic {
    Diagnostic::error(
        Path::root(),
        "Where nft runs is not said",
        "Incus is reached by an https address, so its host may be another machine than this. Write in the provider block where its \
         firewall is:\n\n    nft = { via = \"ssh\", destination = \"root@<the Incus host>\" }\n\nor, where this is the Incus host itself:\n\n    \
         nft = { via = \"local\" }",
    )
}

/// The command that takes the table away, indented.
pub(super) fn removal(session: &Session) -> String {
    let (ssh, sudo) = match session.nft() {
        Nft::Ssh { destination, sudo } => (format!("ssh {destination} "), *sudo),
        Nft::Local { sudo } | Nft::Unset { sudo } => (String::new(), *sudo),
        Nft::Unknown => (String::new(), false),
    };
    format!("    {ssh}{}nft delete table {}", if sudo { "sudo " } else { "" }, super::ID)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incus::remote::Settings;
    use crate::resources::session::Options;

    fn session(address: &str, nft: Nft) -> Session {
        let remote = Settings { address: Some(address.to_owned()), ..Settings::default() };
        Session::new(Options { remote, nft, ..Options::default() })
    }

    #[test]
    fn an_https_address_needs_to_be_told_where_nft_runs() {
        let https = "https://127.0.0.1:8443";
        assert!(undecided(&session(https, Nft::default())).is_some());
        assert!(undecided(&session(https, Nft::Local { sudo: false })).is_none());
        assert!(undecided(&session(https, Nft::Unknown)).is_none());
        assert!(undecided(&session("unix:///run/incus/unix.socket", Nft::default())).is_none());
    }

    #[test]
    fn the_command_that_removes_the_table_runs_where_nft_does() {
        let ssh = Nft::Ssh { destination: "root@host".into(), sudo: true };
        assert_eq!(removal(&session("", ssh)), "    ssh root@host sudo nft delete table inet anklume");
        assert_eq!(removal(&session("", Nft::default())), "    nft delete table inet anklume");
    }
}
