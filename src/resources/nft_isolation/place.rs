//! Where the firewall is: nft has to run on the host of this Incus, and nowhere else.

use std::collections::BTreeSet;
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
    let mut elsewhere = Elsewhere::default();
    for look in 0..=LOOKS {
        if look > 0 {
            let paused = wait.pause(PAUSE, "looking for the bridges of Incus", None).await;
            paused.map_err(|error| refusal::diagnostic(told::summary(verb), &error))?;
        }
        let now = place.look(session, verb).await?;
        elsewhere = if look == 0 { now } else { now.after(&elsewhere) };
        if elsewhere.is_nothing() {
            return Ok(place);
        }
    }
    Err(not_here(session, &elsewhere).into())
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

/// What shows that nft runs on another machine than Incus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Elsewhere {
    /// Bridges of Incus that are not there.
    absent: BTreeSet<String>,
    /// A bridge of the same name that is another one.
    other: Option<Other>,
    /// Whether Incus has bridges, and none of them could be held against one there.
    unseen: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Other {
    bridge: String,
    /// The MAC address that Incus sees, and the one that is there.
    addresses: [String; 2],
}

impl Elsewhere {
    fn is_nothing(&self) -> bool {
        self.absent.is_empty() && self.other.is_none() && !self.unseen
    }

    /// As it is now, without the bridges that an earlier look has found.
    fn after(mut self, before: &Self) -> Self {
        self.absent.retain(|bridge| before.absent.contains(bridge));
        self
    }
}

impl Place {
    /// Holds the bridges of Incus against the interfaces where nft runs, and the MAC address of one of them, which no
    /// other machine has by chance. Before Incus has a bridge it may be any machine. Two requests.
    async fn look(&self, session: &Session, verb: &str) -> Result<Elsewhere, Diagnostics> {
        let refused = |error: &crate::incus::Error| refusal::diagnostic(told::summary(verb), error);
        let networks = self.client.get::<Vec<network::Network>>(network::list()).await;
        let networks = networks.map_err(|error| refused(&error))?.value;
        let stands = |one: &network::Network| ["", "Created"].contains(&one.status.as_str());
        let bridges = networks.into_iter().filter(|one| one.managed && one.kind == "bridge" && stands(one));
        let bridges: BTreeSet<String> = bridges.map(|one| one.name).collect();
        if bridges.is_empty() {
            return Ok(Elsewhere::default());
        }
        let there = self.host.interfaces(&self.limit).await.map_err(|error| told::failed(verb, session, &error))?;
        let (common, absent): (BTreeSet<_>, _) = bridges.into_iter().partition(|bridge| there.contains_key(bridge));
        let Some(bridge) = common.into_iter().next() else {
            // What Incus itself has lost, as a deletion that was interrupted loses it, is on no machine.
            let mut lost = 0;
            for bridge in &absent {
                match self.client.get::<network::State>(network::state(bridge)).await {
                    Err(error) if error.is_not_found() => lost += 1,
                    _ => break,
                }
            }
            return Ok(if lost == absent.len() {
                Elsewhere::default()
            } else {
                Elsewhere { absent, other: None, unseen: true }
            });
        };
        let state = match self.client.get::<network::State>(network::state(&bridge)).await {
            Ok(state) => state.value,
            Err(error) if error.is_not_found() => return Ok(Elsewhere { absent, other: None, unseen: true }),
            Err(error) => return Err(refused(&error).into()),
        };
        let addresses = [state.hwaddr.to_ascii_lowercase(), there[&bridge].clone()];
        let other = (addresses[0] != addresses[1]).then_some(Other { bridge, addresses });
        // The address is proof enough: a bridge that is lost must not keep the others from being isolated.
        let absent = if other.is_some() { absent } else { BTreeSet::new() };
        Ok(Elsewhere { absent, other, unseen: false })
    }
}

fn not_here(session: &Session, elsewhere: &Elsewhere) -> Diagnostic {
    let here = whereabouts(session);
    let shown = match &elsewhere.other {
        Some(Other { bridge, addresses: [of_incus, there] }) => format!(
            "The bridge {bridge} of Incus has the MAC address {of_incus}, and that of {here} has {there}, so it is another machine"
        ),
        None => {
            let bridges: Vec<_> = elsewhere.absent.iter().map(String::as_str).collect();
            format!("Incus has the bridges {}, and they are not on {here}", bridges.join(", "))
        }
    };
    Diagnostic::error(
        Path::root(),
        "nft does not run on the Incus host",
        format!(
            "{shown}: rules there would isolate nothing. Nothing was changed. Run this on the Incus host, outside of any container, or \
             reach it by ssh in the provider block:\n\n    nft = {{ via = \"ssh\", destination = \"root@<the Incus host>\" }}"
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

/// The command `nft <verb> table inet anklume` as it runs from here, indented.
pub(super) fn command(session: &Session, verb: &str) -> String {
    let (ssh, sudo) = match session.nft() {
        Nft::Ssh { destination, sudo } => (format!("ssh {destination} "), *sudo),
        Nft::Local { sudo } | Nft::Unset { sudo } => (String::new(), *sudo),
        Nft::Unknown => (String::new(), false),
    };
    format!("    {ssh}{}nft {verb} table {}", if sudo { "sudo " } else { "" }, super::ID)
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
    fn a_bridge_that_one_look_misses_is_no_sign_of_another_machine() {
        let absent = |names: &[&str]| Elsewhere {
            absent: names.iter().map(ToString::to_string).collect(),
            ..Elsewhere::default()
        };
        assert!(absent(&["net-b"]).after(&absent(&["net-a"])).is_nothing());
        assert!(!absent(&["net-a", "net-b"]).after(&absent(&["net-a"])).is_nothing());
        assert!(!Elsewhere { unseen: true, ..absent(&["net-b"]) }.after(&absent(&["net-a"])).is_nothing());
    }

    #[test]
    fn a_machine_is_told_by_what_it_lacks_or_by_the_address_of_a_bridge() {
        let ssh = Nft::Ssh { destination: "root@host".into(), sudo: false };
        let mut elsewhere =
            Elsewhere { absent: ["net-a".to_owned(), "net-b".to_owned()].into(), ..Elsewhere::default() };
        let lacks = not_here(&session("", Nft::default()), &elsewhere).detail;
        assert!(lacks.starts_with("Incus has the bridges net-a, net-b, and they are not on this machine: "), "{lacks}");
        elsewhere.other =
            Some(Other { bridge: "net-c".into(), addresses: ["00:16:3e:01".into(), "00:16:3e:02".into()] });
        let differs = not_here(&session("", ssh), &elsewhere).detail;
        assert!(
            differs.starts_with(
                "The bridge net-c of Incus has the MAC address 00:16:3e:01, and that of \"root@host\" has"
            ),
            "{differs}"
        );
    }

    #[test]
    fn a_command_that_is_shown_runs_where_nft_does() {
        let ssh = Nft::Ssh { destination: "root@host".into(), sudo: true };
        assert_eq!(command(&session("", ssh), "list"), "    ssh root@host sudo nft list table inet anklume");
        assert_eq!(command(&session("", Nft::default()), "delete"), "    nft delete table inet anklume");
    }
}
