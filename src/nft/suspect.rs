//! Policies that are right but cannot be what was meant.

use std::collections::BTreeMap;

use super::input::{Place, PolicyField, Problem};
use super::isolation::{Isolation, Policy};

/// Duplicated, shadowed and unreachable policies; says nothing of what is not known yet.
pub(super) fn warnings(isolation: &Isolation) -> Vec<Problem> {
    let Some(policies) = isolation.policies.known() else { return Vec::new() };
    let mut found = Vec::new();
    let mut reachable: BTreeMap<(String, String), Vec<(&str, Flow<'_>)>> = BTreeMap::new();
    for (name, policy) in policies {
        let Some(flow) = Flow::of(isolation, policy) else { continue };
        if let Some(reason) = flow.unreachable() {
            found.push(problem(name, "A policy that lets nothing pass", reason));
            continue;
        }
        let (a, b) = (flow.from.domain.to_owned(), flow.to.domain.to_owned());
        reachable.entry(if a < b { (a, b) } else { (b, a) }).or_default().push((name, flow));
    }
    for group in reachable.values() {
        for (index, (name, flow)) in group.iter().enumerate() {
            // Of two equal ones the later name is the duplicate.
            let twin = group[..index].iter().find(|(_, other)| other.covers(flow) && flow.covers(other));
            if let Some((twin, _)) = twin {
                let detail = format!("{name:?} lets pass exactly what {twin:?} does. Remove one of them.");
                found.push(problem(name, "Duplicated policy", detail));
                continue;
            }
            let wider = group.iter().find(|(_, other)| other.covers(flow) && !flow.covers(other));
            if let Some((wider, _)) = wider {
                let detail = format!(
                    "All that {name:?} lets pass is let pass by {wider:?} already. Remove {name:?}, or narrow {wider:?}."
                );
                found.push(problem(name, "Shadowed policy", detail));
            }
        }
    }
    found.sort();
    found
}

fn problem(name: &str, summary: &str, detail: String) -> Problem {
    let place = Place::Policy { name: name.to_owned(), field: PolicyField::Itself };
    Problem { place, summary: summary.to_owned(), detail }
}

/// Who one side of a policy is.
#[derive(Clone, Copy)]
struct Party<'a> {
    domain: &'a str,
    address: Option<std::net::IpAddr>,
}

impl<'a> Party<'a> {
    fn of(isolation: &'a Isolation, name: &'a str) -> Option<Self> {
        let address = match isolation.endpoint(name) {
            Some(endpoint) => Some(*endpoint.address.known()?),
            None => None,
        };
        Some(Self { domain: isolation.domain_of(name)?, address })
    }

    fn covers(self, other: Self) -> bool {
        self.domain == other.domain && (self.address.is_none() || self.address == other.address)
    }
}

struct Flow<'a> {
    from: Party<'a>,
    to: Party<'a>,
    policy: &'a Policy,
}

impl<'a> Flow<'a> {
    /// `None` while it is not known.
    fn of(isolation: &'a Isolation, policy: &'a Policy) -> Option<Self> {
        policy.protocol.known()?;
        policy.ports.known()?;
        policy.bidirectional.known()?;
        let from = Party::of(isolation, policy.from.known()?)?;
        Some(Self { from, to: Party::of(isolation, policy.to.known()?)?, policy })
    }

    fn unreachable(&self) -> Option<String> {
        if self.from.domain == self.to.domain {
            return Some(format!(
                "Both sides are in {:?}, where everything passes already. Remove the policy.",
                self.from.domain
            ));
        }
        let (from, to) = self.from.address.zip(self.to.address)?;
        (from.is_ipv4() != to.is_ipv4())
            .then(|| format!("{from} and {to} cannot talk to each other. Write two addresses of one family."))
    }

    /// Whether `other` lets nothing pass that this does not.
    fn covers(&self, other: &Self) -> bool {
        let both_ways = |flow: &Self| flow.policy.bidirectional.known().copied().unwrap_or(false);
        let wide = match (
            self.policy.protocol.known(),
            other.policy.protocol.known(),
            self.policy.ports.known(),
            other.policy.ports.known(),
        ) {
            (Some(protocol), Some(its), Some(ports), Some(its_ports)) => {
                protocol.covers(*its) && ports.covers(its_ports)
            }
            _ => false,
        };
        let straight = self.from.covers(other.from) && self.to.covers(other.to);
        let swapped = self.from.covers(other.to) && self.to.covers(other.from) && both_ways(self);
        wide && match both_ways(other) {
            false => straight || swapped,
            true => both_ways(self) && (straight || swapped),
        }
    }
}
