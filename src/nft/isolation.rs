//! Domains, endpoints and policies that agree with each other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::input::{EndpointField, EndpointInput, Given, Input, Parsed, Place, PolicyField, PolicyInput, Problem};
use super::suspect;
use super::value::{Bridge, Ports, Prefix, Protocol, is_domain_name, is_endpoint_name, parse_address, parse_ports};

/// What keeps the domains of one host apart, and what may pass.
#[derive(Debug, Clone)]
pub struct Isolation {
    pub(super) prefix: Prefix,
    pub(super) domains: Given<BTreeMap<String, Given<Bridge>>>,
    pub(super) endpoints: Given<BTreeMap<String, Endpoint>>,
    pub(super) policies: Given<BTreeMap<String, Policy>>,
}

/// One machine of a domain.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) domain: Given<String>,
    pub(super) address: Given<IpAddr>,
}

/// What may pass.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) from: Given<String>,
    pub(super) to: Given<String>,
    pub(super) protocol: Given<Protocol>,
    pub(super) ports: Given<Ports>,
    pub(super) bidirectional: Given<bool>,
}

impl Isolation {
    /// Checks everything that is known and says all that is wrong with it.
    #[must_use]
    pub fn parse(input: &Input) -> Parsed {
        let mut problems = Vec::new();
        let prefix = Prefix::parse(&input.prefix);
        if prefix.is_none() {
            problems.push(Problem {
                place: Place::Prefix,
                summary: "Invalid nesting prefix".to_owned(),
                detail: format!("{:?} is not three digits and `-`.", input.prefix),
            });
        }
        let prefix = prefix.unwrap_or_else(Prefix::none);
        let domains = each(&input.domains, |domains| domains_of(domains, &prefix, &mut problems));
        let endpoints = each(&input.endpoints, |endpoints| endpoints_of(endpoints, input, &mut problems));
        let policies = each(&input.policies, |policies| {
            policies
                .iter()
                .map(|(name, policy)| (name.clone(), policy_of(name, policy, input, &mut problems)))
                .collect()
        });
        problems.sort();
        if !problems.is_empty() {
            return Parsed { isolation: None, problems, warnings: Vec::new() };
        }
        let isolation = Self { prefix, domains, endpoints, policies };
        let warnings = suspect::warnings(&isolation);
        Parsed { isolation: Some(isolation), problems, warnings }
    }

    /// One line per domain (`domain/<name>`) and policy (`policy/<name>`), whatever the compiled form: what a reviewer
    /// reads. A line is `None` while it is not known; all is `None` while one of the maps is not.
    #[must_use]
    pub fn rules(&self) -> Option<BTreeMap<String, Option<String>>> {
        let (domains, policies) = (self.domains.known()?, self.policies.known()?);
        self.endpoints.known()?;
        let domains = domains.iter().map(|(name, bridge)| {
            (domain_key(name), bridge.known().map(|bridge| format!("bridge {}", bridge.as_str())))
        });
        let policies = policies.iter().map(|(name, policy)| (policy_key(name), self.line(policy)));
        Some(domains.chain(policies).collect())
    }

    fn line(&self, policy: &Policy) -> Option<String> {
        let (from, to) = (self.party(policy.from.known()?)?, self.party(policy.to.known()?)?);
        let arrow = if *policy.bidirectional.known()? { "<->" } else { "->" };
        let protocol = policy.protocol.known()?;
        let ports = policy.ports.known()?;
        let ports = if *ports == Ports::all() { String::new() } else { format!(" {ports}") };
        Some(format!("{from} {arrow} {to} {protocol}{ports}"))
    }

    fn party(&self, name: &str) -> Option<String> {
        match self.endpoints.known()?.get(name) {
            None => Some(name.to_owned()),
            Some(endpoint) => Some(format!("{name} ({} {})", endpoint.domain.known()?, endpoint.address.known()?)),
        }
    }

    /// The domain that `name` is or stands in, where that is known.
    pub(super) fn domain_of<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        match self.endpoints.known()?.get(name) {
            None => Some(name),
            Some(endpoint) => endpoint.domain.known().map(String::as_str),
        }
    }

    /// The endpoint `name`, if it is one.
    pub(super) fn endpoint(&self, name: &str) -> Option<&Endpoint> {
        self.endpoints.known()?.get(name)
    }
}

pub(super) fn domain_key(name: &str) -> String {
    format!("domain/{name}")
}

pub(super) fn policy_key(name: &str) -> String {
    format!("policy/{name}")
}

fn each<T, U>(given: &Given<T>, with: impl FnOnce(&T) -> U) -> Given<U> {
    match given {
        Given::Known(value) => Given::Known(with(value)),
        Given::Unknown => Given::Unknown,
    }
}

fn domains_of(
    domains: &BTreeMap<String, Given<Option<String>>>,
    prefix: &Prefix,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Given<Bridge>> {
    let mut parsed: BTreeMap<String, Given<Bridge>> = BTreeMap::new();
    let mut holders: BTreeMap<Bridge, &str> = BTreeMap::new();
    for (name, bridge) in domains {
        let mut problem = |summary: &str, detail: String| {
            problems.push(Problem { place: Place::Domain { name: name.clone() }, summary: summary.to_owned(), detail });
        };
        if !is_domain_name(name) {
            let detail = format!("{name:?} is not the name of a domain. Use lower-case letters, digits and `-`.");
            problem("Invalid domain name", detail);
            continue;
        }
        let bridge = match bridge {
            Given::Unknown => {
                parsed.insert(name.clone(), Given::Unknown);
                continue;
            }
            Given::Known(Some(text)) => Bridge::parse(text).ok_or_else(|| {
                format!("{text:?} is not the name of a bridge. Write the domain's `bridge`, or null for its own.")
            }),
            Given::Known(None) => prefix.bridge_of(name).ok_or_else(|| {
                format!("The bridge of {name:?} would have more than 15 characters. Write the bridge that it has.")
            }),
        };
        let bridge = match bridge {
            Ok(bridge) => bridge,
            Err(detail) => {
                problem("Invalid bridge", detail);
                continue;
            }
        };
        if let Some(holder) = holders.insert(bridge.clone(), name) {
            let detail = format!(
                "{:?} is the bridge of {holder:?} too, and nothing can be kept apart on one bridge. Give each domain its own.",
                bridge.as_str()
            );
            problem("Two domains on one bridge", detail);
        }
        parsed.insert(name.clone(), Given::Known(bridge));
    }
    parsed
}

fn endpoints_of(
    endpoints: &BTreeMap<String, EndpointInput>,
    input: &Input,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Endpoint> {
    let mut parsed = BTreeMap::new();
    let mut holders: BTreeMap<IpAddr, (&str, &str)> = BTreeMap::new();
    for (name, endpoint) in endpoints {
        let mut problem = |field, summary: &str, detail: String| {
            let place = Place::Endpoint { name: name.clone(), field };
            problems.push(Problem { place, summary: summary.to_owned(), detail });
        };
        if name == "host" {
            let detail = "Traffic of the host itself never crosses the forward hook. Choose another name.".to_owned();
            problem(EndpointField::Itself, "The host is no endpoint", detail);
        } else if !is_endpoint_name(name) {
            let detail = format!("{name:?} is not the name of an endpoint. Use letters, digits and `-`.");
            problem(EndpointField::Itself, "Invalid endpoint name", detail);
        }
        if input.domains.known().is_some_and(|domains| domains.contains_key(name)) {
            let detail = format!("{name:?} is a domain too, so a policy could mean either. Rename the endpoint.");
            problem(EndpointField::Itself, "One name for a domain and an endpoint", detail);
        }
        if let (Some(domain), Some(domains)) = (endpoint.domain.known(), input.domains.known())
            && !domains.contains_key(domain)
        {
            let detail = format!("{domain:?} is not in `domains`{}.", one_of(domains.keys()));
            problem(EndpointField::Domain, "Unknown domain", detail);
        }
        let address = each(&endpoint.address, |text| parse_address(text));
        let address = match address {
            Given::Unknown => Given::Unknown,
            Given::Known(Ok(address)) => Given::Known(address),
            Given::Known(Err(detail)) => {
                problem(EndpointField::Address, "Invalid address", detail);
                continue;
            }
        };
        if let (Some(address), Some(domain)) = (address.known(), endpoint.domain.known()) {
            let (holder, of) = *holders.entry(*address).or_insert((name, domain));
            if of != domain {
                let detail =
                    format!("{address} is the address of {holder:?} in {of:?} too. One address is in one domain.");
                problem(EndpointField::Address, "One address in two domains", detail);
            }
        }
        parsed.insert(name.clone(), Endpoint { domain: endpoint.domain.clone(), address });
    }
    parsed
}

fn policy_of(name: &str, policy: &PolicyInput, input: &Input, problems: &mut Vec<Problem>) -> Policy {
    let mut problem = |field, summary: &str, detail: String| {
        let place = Place::Policy { name: name.to_owned(), field };
        problems.push(Problem { place, summary: summary.to_owned(), detail });
    };
    for (party, field) in [(&policy.from, PolicyField::From), (&policy.to, PolicyField::To)] {
        if let (Some(party), Some(domains), Some(endpoints)) =
            (party.known(), input.domains.known(), input.endpoints.known())
        {
            if domains.contains_key(party) || endpoints.contains_key(party) {
                continue;
            }
            if party == "host" {
                let detail =
                    "Traffic of the host itself never crosses the forward hook, so no policy can open or close it. \
                              Remove the policy."
                        .to_owned();
                problem(field, "The host is no endpoint", detail);
            } else {
                let known = one_of(domains.keys().chain(endpoints.keys()));
                problem(field, "Unknown name", format!("{party:?} is neither in `domains` nor in `endpoints`{known}."));
            }
        }
    }
    if let (Some(from), Some(to)) = (policy.from.known(), policy.to.known())
        && from == to
    {
        let detail = format!("Within {from:?} everything passes already. Write another `to`, or remove the policy.");
        problem(PolicyField::To, "A policy from a name to itself", detail);
    }
    let protocol = match &policy.protocol {
        Given::Unknown => Given::Unknown,
        Given::Known(None) => Given::Known(Protocol::Any),
        Given::Known(Some(text)) => Protocol::parse(text).map_or_else(
            || {
                let detail = format!("{text:?} is not a protocol. Write tcp, udp or icmp, or leave it out for any.");
                problem(PolicyField::Protocol, "Invalid protocol", detail);
                Given::Unknown
            },
            Given::Known,
        ),
    };
    let ports = match &policy.ports {
        Given::Unknown => Given::Unknown,
        Given::Known(None) => Given::Known(Ports::all()),
        Given::Known(Some(ports)) => {
            match protocol.known() {
                Some(Protocol::Any) => {
                    let detail =
                        "Ports are those of a protocol. Add `protocol = \"tcp\"` or \"udp\", or remove `ports`.";
                    problem(PolicyField::Ports, "Ports without a protocol", detail.to_owned());
                }
                Some(Protocol::Icmp) => {
                    problem(PolicyField::Ports, "Ports with icmp", "ICMP has no ports. Remove `ports`.".to_owned());
                }
                Some(Protocol::Tcp | Protocol::Udp) | None => {}
            }
            if ports.is_empty() {
                let detail =
                    "An empty list would let nothing pass. Write the ports, or leave it out for all.".to_owned();
                problem(PolicyField::Ports, "No ports", detail);
            }
            let mut ranges = Some(Vec::new());
            for (index, port) in ports.iter().enumerate() {
                match port.known().map(|text| parse_ports(text)) {
                    None => ranges = None,
                    Some(Ok(range)) => {
                        if let Some(ranges) = &mut ranges {
                            ranges.push(range);
                        }
                    }
                    Some(Err(detail)) => problem(PolicyField::Port(index), "Invalid port", detail),
                }
            }
            ranges.map_or(Given::Unknown, |ranges| Given::Known(Ports::merged(ranges)))
        }
    };
    Policy {
        from: policy.from.clone(),
        to: policy.to.clone(),
        protocol,
        ports,
        bidirectional: policy.bidirectional.clone(),
    }
}

/// The first names of a list, to choose from.
fn one_of<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.take(10).map(|name| format!("{name:?}")).collect();
    if names.is_empty() { String::new() } else { format!(". There is {}", names.join(", ")) }
}
