//! Making a domain: bridge, project, profile; each step looks before it acts, so that it can be repeated.

use super::body::{Domain, Filtering};
use super::neighbours;
use super::schema;
use super::state::Pieces;
use super::subnet::{self, Subnet, Taken};
use super::{KIND, LIMIT, failed};
use crate::incus::{
    self, Client, Endpoint, Wait, network, network::Network, profile, profile::Profile, project, project::Project,
    storage,
};
use crate::plugin::{Call, Create, Diagnostic, Diagnostics, Failure, Path, Private, Stored, Value};
use crate::resources::marks::{self, Found, Marks};
use crate::resources::session::Session;
use crate::resources::uid::{self, Uid};
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
    let mut marks = Marks::new(fingerprint(session, name, &input.planned, &Value::Null));
    let failure = |error: &incus::Error| Failure::from(failed("create", name, error));

    let there = Pieces::fetch(client, session, name).await.map_err(|error| failure(&error))?;
    refuse_foreign(session, domain, &there, &marks, &input.private)?;
    there.configs().for_each(|config| marks.supersede(config));
    let pool = pool(client, domain.storage_pool.as_deref()).await?;

    let mut private = marks::private(session);
    session.keep_server(client, &mut private).await;
    let uid = Uid::new(session.prefix(), &marks.incarnation);
    let maker = Maker { client, domain, marks: &marks, before: &there, wait: &wait };
    let partial = |private: Private| {
        let mut state = input.planned.clone();
        state.set(uid::NAME, &uid.clone().or_still(there.configs()).incomplete());
        Stored::new(state, private)
    };
    let turn = session.domains.lock().await;
    let (subnet, id) = match maker.bridge(session, there.network.as_ref()).await {
        Ok(made) => made,
        Err(unmade) if maker.left_bridge().await => return Err(unmade.with_partial(partial(private))),
        Err(unmade) => return Err(unmade),
    };
    drop(turn);

    let made = async {
        maker.project(subnet, id).await?;
        maker.profile(&pool).await.map_err(|error| failure(&error))?;
        Pieces::fetch(client, session, name).await.map_err(|error| failure(&error))
    };
    match made.await {
        Ok(pieces) => {
            let mut state = pieces.state(session, name, &input.planned);
            state.set(uid::NAME, &uid);
            let mut stored = Stored::new(state.clone(), pieces.private(private, &state));
            if !there.is_gone() {
                there.configs().for_each(|config| session.take_over(KIND, marks::carried(config)));
                stored.warnings.extend(refusal::continued("domain", name));
            }
            Ok(stored)
        }
        Err(failure) => Err(failure.with_partial(partial(private))),
    }
}

/// Anything of these names that was not made by an interrupted create of ours is left alone.
fn refuse_foreign(
    session: &Session,
    domain: &Domain,
    there: &Pieces,
    marks: &Marks,
    replaces: &Private,
) -> Result<(), Diagnostic> {
    let known = |config: &incus::Config| match marks::recognise(session, config, &marks.fingerprint) {
        Found::Ours if uid::is_being_replaced(replaces, config) => Found::Finished(None),
        known => known,
    };
    let taken = |known: &Found| refusal::taken("domain", &domain.name, KIND, &domain.name, known);
    if let Some(known) =
        there.project.as_ref().map(|project| known(&project.config)).filter(|known| *known != Found::Ours)
    {
        return Err(taken(&known));
    }
    match there.network.as_ref().map(|network| (network.managed, known(&network.config))) {
        None | Some((true, Found::Ours)) => Ok(()),
        Some((true, finished @ Found::Finished(_))) => Err(taken(&finished)),
        Some(_) => Err(bridge_exists(&domain.bridge)),
    }
}

fn bridge_exists(bridge: &str) -> Diagnostic {
    Diagnostic::error(
        Path::from("name"),
        "Unable to create domain: its bridge exists",
        format!(
            "A network `{bridge}` exists on the host already, without a mark that proves that this configuration created it. It was left alone. \
             Choose another name, or remove it:\n\n    incus network delete {bridge}"
        ),
    )
}

/// The fingerprint of a domain. Whoever writes out the pool or the subnet that the server chose changes nothing.
pub(super) fn fingerprint(session: &Session, name: &str, planned: &Value, prior: &Value) -> String {
    let mut settings = schema::schema().settings(planned, prior);
    ["subnet", "subnet_id", "storage_pool"].into_iter().for_each(|chosen| settings.set(chosen, Value::Null));
    marks::fingerprint(session.owner(), KIND, name, &settings)
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

/// The cause where core has turned the order of a replacement round.
const SPREAD: &str = " If this plan replaces the domain that has it, take `create_before_destroy` off the domain and off all that depends on \
                      it, profiles above all: core spreads it to what a resource depends on, and then creates the new domain before the old one is \
                      destroyed.";

/// Who overlaps with the subnet of a domain.
pub(super) fn overlaps(subnet: Subnet, other: &Taken) -> Diagnostic {
    Diagnostic::error(
        Path::from("subnet"),
        "Subnet in use",
        format!(
            "{subnet} overlaps with {} of `{}` on the Incus host. Nothing was created. Choose another `subnet_id` or `subnet`, or leave both \
             unset: the lowest free one is taken then.{}",
            other.net,
            other.holder,
            if other.is_marked { SPREAD } else { "" }
        ),
    )
}

/// Makes the pieces of one domain.
pub(super) struct Maker<'a> {
    pub(super) client: &'a Client,
    pub(super) domain: &'a Domain,
    pub(super) marks: &'a Marks,
    /// The pieces as they were when it was decided to write them.
    pub(super) before: &'a Pieces,
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
                self.rewrite_bridge(there, subnet).await?;
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
                    Some(Taken { holder: "another bridge".to_owned(), net: subnet.net(), is_marked: false })
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

    async fn rewrite_bridge(&self, there: &Network, subnet: Subnet) -> Result<(), Failure> {
        let mut is_it = true;
        let write = |network: &mut Network| {
            is_it = self.marks.may_replace(marks::carried(&there.config), &network.config);
            if is_it {
                self.marks.write(&mut network.config);
                self.domain.apply_network(network, subnet);
            }
            is_it
        };
        let written = self.client.modify(network::get(&self.domain.bridge), write, self.wait).await;
        written.map_err(|error| failed("create", &self.domain.name, &error))?;
        if is_it { Ok(()) } else { Err(bridge_exists(&self.domain.bridge).into()) }
    }

    /// Whether a bridge of these marks exists after [`Self::bridge`] has failed; so it counts where that cannot be told.
    async fn left_bridge(&self) -> bool {
        let client = self.client.reading(&Wait::afterwards());
        match client.find::<Network>(network::get(&self.domain.bridge)).await {
            Ok(found) => found.is_some_and(|network| marks::carried(&network.config) == self.marks.incarnation),
            Err(_) => true,
        }
    }

    /// Makes the project, or brings the one there is to what is wanted.
    pub(super) async fn project(&self, subnet: Subnet, id: Option<u8>) -> Result<(), Failure> {
        let write = |project: &mut Project| {
            self.marks.write(&mut project.config);
            self.domain.apply_project(project, subnet, id);
        };
        let failure = |error: &incus::Error| Failure::from(failed("create", &self.domain.name, error));
        if let Some(there) = &self.before.project {
            let mut is_it = true;
            let rewrite = |project: &mut Project| {
                is_it = self.marks.may_replace(marks::carried(&there.config), &project.config);
                if is_it {
                    write(project);
                }
                is_it
            };
            let request = project::get(&self.domain.project);
            self.client.modify(request, rewrite, self.wait).await.map_err(|error| failure(&error))?;
            let taken = || refusal::taken("domain", &self.domain.name, KIND, &self.domain.name, &Found::Foreign);
            return if is_it { Ok(()) } else { Err(taken().into()) };
        }
        let mut project = Project { config: Domain::features(), ..Project::default() };
        write(&mut project);
        let body = project::Create {
            name: self.domain.project.clone(),
            description: project.description,
            config: project.config,
        };
        self.client.run(project::create(&body), self.wait).await.map(|_| ()).map_err(|error| failure(&error))
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
