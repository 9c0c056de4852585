//! Making a domain: bridge, project, profile; each step looks before it acts, so that it can be repeated.

use super::body::{Domain, Filtering};
use super::neighbours;
use super::state::Pieces;
use super::subnet::{self, Subnet, Taken};
use super::{KIND, LIMIT, failed};
use crate::incus::{
    self, Client, Endpoint, Wait, network, network::Network, profile, profile::Profile, project, project::Project,
    storage,
};
use crate::plugin::{Call, Create, Diagnostic, Diagnostics, Failure, Path, Private, Stored};
use crate::resources::marks::{self, Found, Marks};
use crate::resources::session::Session;
use crate::resources::{refusal, timeouts};

pub(super) async fn create(session: &Session, call: &Call, input: Create) -> Result<Stored, Failure> {
    let domain = Domain::from_value(&input.planned).map_err(|error| refusal::defect("the domain", error))?;
    session.create_once(KIND, &domain.name)?;
    let result = make(session, call, input, &domain).await;
    session.made(KIND, &domain.name, &result);
    result
}

async fn make(session: &Session, call: &Call, input: Create, domain: &Domain) -> Result<Stored, Failure> {
    let name = domain.name.as_str();
    let client = &session.client_until(&timeouts::of_stop(call)).await?;
    let wait = timeouts::wait(call, &input.planned, "create", LIMIT);
    let marks = Marks::new(marks::fingerprint(session.owner(), KIND, name, &input.config, &[]));
    let failure = |error: &incus::Error| Failure::from(failed("create", name, error));

    let there = Pieces::fetch(client, session, name).await.map_err(|error| failure(&error))?;
    refuse_foreign(domain, &there, &marks)?;
    let pool = pool(client, domain.storage_pool.as_deref()).await?;

    let mut private = Private::default();
    marks::keep(&mut private, &marks.incarnation);
    private.set("prefix", session.prefix());
    let maker = Maker { client, domain, marks: &marks, wait: &wait };
    let partial = |mut private: Private| {
        let project = there.project.as_ref().map(|project| &project.config);
        let network = there.network.as_ref().map(|network| &network.config);
        marks::keep_before(&mut private, project.into_iter().chain(network));
        Stored::new(input.planned.clone(), private)
    };
    let turn = session.domains.lock().await;
    let (subnet, id) = match maker.bridge(session, there.network.as_ref()).await {
        Ok(made) => made,
        Err(unmade) if maker.left_bridge().await => return Err(unmade.with_partial(partial(private))),
        Err(unmade) => return Err(unmade),
    };
    drop(turn);

    let made = async {
        maker.project(there.project.is_some(), subnet, id).await?;
        maker.profile(&pool).await?;
        Pieces::fetch(client, session, name).await
    };
    match made.await {
        Ok(pieces) => {
            let state = pieces.state(session, name, &input.planned);
            let mut stored = Stored::new(state.clone(), pieces.private(private, &state));
            if !there.is_gone() {
                stored.warnings.warning(
                    Path::root(),
                    "Continued an interrupted create",
                    format!("Parts of the domain \"{name}\" were there already, made by an earlier apply of this configuration."),
                );
            }
            Ok(stored)
        }
        Err(error) => Err(failure(&error).with_partial(partial(private))),
    }
}

/// Anything of these names that was not made by an interrupted create of ours is left alone.
fn refuse_foreign(domain: &Domain, there: &Pieces, marks: &Marks) -> Result<(), Diagnostic> {
    let foreign = |config: &incus::Config| marks::recognise(config, &marks.fingerprint) == Found::Foreign;
    if there.project.as_ref().is_some_and(|project| foreign(&project.config)) {
        return Err(refusal::taken("domain", &domain.name, KIND, &domain.name));
    }
    match &there.network {
        Some(network) if foreign(&network.config) || !network.managed => Err(Diagnostic::error(
            Path::from("name"),
            "Unable to create domain: its bridge exists",
            format!(
                "A network `{}` is on the host already and was not made by this configuration. It was left alone. Choose another name, or remove it:\n\n    incus network delete {}",
                domain.bridge, domain.bridge
            ),
        )),
        _ => Ok(()),
    }
}

/// The pool that was asked for, or the only one there is.
pub(super) async fn pool(client: &Client, wanted: Option<&str>) -> Result<String, Diagnostic> {
    let pools = client
        .get::<Vec<storage::Pool>>(storage::pools())
        .await
        .map_err(|error| refusal::at(Path::from("storage_pool"), "Unable to list storage pools", &error))?
        .value;
    let names: Vec<_> = pools.iter().map(|pool| pool.name.as_str()).collect();
    let list =
        if names.is_empty() { "none; make one with `incus storage create`".to_owned() } else { names.join(", ") };
    let problem =
        |detail: String| Diagnostic::error(Path::from("storage_pool"), "Unable to choose a storage pool", detail);
    match (wanted, names.as_slice()) {
        (Some(wanted), names) if names.contains(&wanted) => Ok(wanted.to_owned()),
        (Some(wanted), _) => Err(problem(format!("There is no storage pool \"{wanted}\". There are: {list}."))),
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) => Err(problem(format!("Set `storage_pool`: the server has not exactly one. There are: {list}."))),
    }
}

/// Whether the instances of this server can have IPv6 filtering; known only where the server is this machine.
pub(super) fn filtering(client: &Client) -> Filtering {
    let local = matches!(client.endpoint(), Endpoint::Unix(_));
    let on = || {
        std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-ip6tables").is_ok_and(|text| text.trim() == "1")
    };
    if local && on() { Filtering::WithIpv6 } else { Filtering::WithoutIpv6 }
}

/// Who overlaps with the subnet of a domain.
pub(super) fn overlaps(subnet: Subnet, other: &Taken) -> Diagnostic {
    Diagnostic::error(
        Path::from("subnet"),
        "Subnet in use",
        format!(
            "{subnet} overlaps with {} of `{}` on the Incus host. Nothing was made. Choose another `subnet_id` or `subnet`, or leave both unset: the lowest free one is taken then.",
            other.net, other.holder
        ),
    )
}

/// Makes the pieces of one domain.
pub(super) struct Maker<'a> {
    pub(super) client: &'a Client,
    pub(super) domain: &'a Domain,
    pub(super) marks: &'a Marks,
    pub(super) wait: &'a Wait,
}

impl Maker<'_> {
    /// Makes the bridge, in the subnet that is asked for or in the lowest free one. One that is there already is ours.
    pub(super) async fn bridge(
        &self,
        session: &Session,
        there: Option<&Network>,
    ) -> Result<(Subnet, Option<u8>), Failure> {
        let Self { client, domain, .. } = *self;
        let zones = session.addressing();
        let failure = |error: &incus::Error| Failure::from(failed("create", &domain.name, error));
        let wanted = domain.subnet.as_deref().and_then(|text| Subnet::parse(text).ok());
        let number = |subnet: Subnet| domain.subnet_id.or_else(|| zones.id_of(domain.trust(), subnet));
        if let Some(there) = there {
            let kept =
                wanted.or_else(|| there.config.get("ipv4.address").and_then(|address| Subnet::of_bridge(address)));
            if let Some(subnet) = kept {
                self.rewrite_bridge(subnet).await.map_err(|error| failure(&error))?;
                return Ok((subnet, number(subnet)));
            }
        }
        let mut taken = neighbours::taken(client, &domain.bridge).await.map_err(|error| failure(&error))?;
        loop {
            let subnet = match wanted {
                Some(subnet) => subnet,
                None => subnet::lowest_free(zones, domain.trust(), &taken)
                    .map_err(|problem| Diagnostic::error(Path::from("trust_level"), problem.summary, problem.detail))?
                    .ok_or_else(|| no_subnet(&domain.trust_level))?,
            };
            if let Some(other) = subnet::overlap(subnet, &taken) {
                return Err(overlaps(subnet, other).into());
            }
            let rival = match self.client.run(network::create(&self.network(subnet)), self.wait).await {
                Ok(_) => self.rival(subnet).await.map_err(|error| failure(&error))?,
                Err(error) if matches!(error.refusal(), Some(incus::Refusal::GatewayTaken)) => {
                    Some(Taken { holder: "another bridge".to_owned(), net: subnet.net() })
                }
                Err(error) => return Err(failure(&error)),
            };
            match (rival, wanted) {
                (None, _) => return Ok((subnet, number(subnet))),
                (Some(rival), Some(_)) => return Err(overlaps(subnet, &rival).into()),
                (Some(rival), None) => taken.push(rival),
            }
        }
    }

    /// Looks again after the create: of two networks that overlap, the one with the later name yields.
    async fn rival(&self, subnet: Subnet) -> Result<Option<Taken>, incus::Error> {
        let own = self.domain.bridge.as_str();
        let networks = self.client.get::<Vec<Network>>(network::list()).await?.value;
        let others = neighbours::managed(&networks, own);
        let Some(rival) = subnet::overlap(subnet, &others).filter(|other| other.holder.as_str() < own) else {
            return Ok(None);
        };
        self.client.run(network::delete(own), self.wait).await?;
        Ok(Some(rival.clone()))
    }

    fn network(&self, subnet: Subnet) -> network::Create {
        let mut network = Network::default();
        self.domain.apply_network(&mut network, subnet);
        self.marks.write(&mut network.config);
        network::Create {
            name: self.domain.bridge.clone(),
            description: network.description,
            kind: "bridge".to_owned(),
            config: network.config,
        }
    }

    async fn rewrite_bridge(&self, subnet: Subnet) -> Result<(), incus::Error> {
        let write = |network: &mut Network| {
            self.marks.write(&mut network.config);
            self.domain.apply_network(network, subnet);
            true
        };
        self.client.modify(network::get(&self.domain.bridge), write, self.wait).await.map(|_| ())
    }

    /// Whether a bridge of these marks stands after [`Self::bridge`] has failed; so it counts where that cannot be told.
    async fn left_bridge(&self) -> bool {
        let client = self.client.reading(&Wait::afterwards());
        match client.find::<Network>(network::get(&self.domain.bridge)).await {
            Ok(found) => {
                found.is_some_and(|network| marks::recognise(&network.config, &self.marks.fingerprint) == Found::Ours)
            }
            Err(_) => true,
        }
    }

    /// Makes the project, or brings the one there is to what is wanted.
    pub(super) async fn project(&self, there: bool, subnet: Subnet, id: Option<u8>) -> Result<(), incus::Error> {
        let write = |project: &mut Project| {
            self.marks.write(&mut project.config);
            self.domain.apply_project(project, subnet, id);
            true
        };
        if there {
            return self.client.modify(project::get(&self.domain.project), write, self.wait).await.map(|_| ());
        }
        let mut project = Project { config: Domain::features(), ..Project::default() };
        write(&mut project);
        let body = project::Create {
            name: self.domain.project.clone(),
            description: project.description,
            config: project.config,
        };
        self.client.run(project::create(&body), self.wait).await.map(|_| ())
    }

    /// Fills the project's `default` profile.
    pub(super) async fn profile(&self, pool: &str) -> Result<(), incus::Error> {
        let filtering = filtering(self.client);
        let write = |profile: &mut Profile| self.domain.apply_profile(profile, pool, filtering);
        self.client.modify(profile::get(&self.domain.project, "default"), write, self.wait).await.map(|_| ())
    }

    /// The bridge as it is, `None` where it is missing.
    pub(super) async fn bridge_there(&self) -> Result<Option<Network>, incus::Error> {
        self.client.find(network::get(&self.domain.bridge)).await
    }
}

fn no_subnet(trust_level: &str) -> Diagnostics {
    Diagnostic::error(
        Path::from("trust_level"),
        "No free subnet in the zone",
        format!("All 255 subnets of the zone \"{trust_level}\" overlap with networks on the Incus host. Set `subnet` to one outside of the zone."),
    )
    .into()
}
