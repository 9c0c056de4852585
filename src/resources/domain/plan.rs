//! What a plan of a domain says. Pure: no clock, no I/O.

use super::subnet::{Addressing, Subnet, Trust};
use crate::plugin::{Action, Path, Plan, Problem, Value};
use crate::resources::session::Session;
use crate::resources::{name, uid};

const DERIVED: [&str; 5] = ["subnet", "subnet_id", "gateway", "static_range", "dhcp_range"];

/// Private state: the subnet the domain was given, so that drift of the bridge is seen against it.
pub(super) const SUBNET: &str = "subnet";
/// Private state: the pool of the domain's root disks, likewise.
pub(super) const POOL: &str = "storage_pool";
/// Private state: the address that `ipv6 = "auto"` has chosen, likewise.
pub(super) const IPV6: &str = "ipv6";

pub(super) fn plan(session: &Session, plan: &mut Plan<'_>) {
    session.walk.plan(super::KIND, plan);
    uid::refuse_unmarked("domain", plan);
    if matches!(plan.action, Action::Destroy) {
        return;
    }
    if let Some(name) = plan.planned.get("name").as_str().map(str::to_owned) {
        check_length(session, &name, plan);
        plan.set("id", name.as_str());
        plan.set("project", session.project(&name));
        plan.set("bridge", session.bridge(&name));
    }
    plan.set("profile", "default");
    if let (true, Some(pool)) =
        (plan.config.get("storage_pool").is_null() && !plan.prior.is_null(), plan.private.get(POOL).map(str::to_owned))
    {
        plan.set("storage_pool", pool);
    }
    match subnet(session.addressing(), plan) {
        Ok(Wanted::Known(subnet, id)) => {
            plan.set("subnet", subnet.to_string());
            plan.set("subnet_id", id.map(i64::from));
            plan.set("gateway", subnet.gateway().to_string());
            plan.set("static_range", subnet.static_range());
            plan.set("dhcp_range", subnet.dhcp_range());
            warn_of_move(plan, subnet);
            warn_of_gateway(plan, subnet);
        }
        Ok(Wanted::Unknown) => DERIVED
            .into_iter()
            .filter(|name| plan.config.get(name).is_null() || plan.config.get(name).is_unknown())
            .for_each(|name| plan.unknown(name)),
        Err(problem) => plan.diagnostics.error(Path::from("trust_level"), problem.summary, problem.detail),
    }
    uid::plan(plan);
}

enum Wanted {
    Known(Subnet, Option<u8>),
    Unknown,
}

fn subnet(addressing: Addressing, plan: &Plan<'_>) -> Result<Wanted, Problem> {
    let Some(trust) = plan.planned.get("trust_level").as_str().and_then(Trust::parse) else {
        return Ok(Wanted::Unknown);
    };
    let octet = |value: &Value| value.as_i64().and_then(|id| u8::try_from(id).ok());
    let configured = plan.config.get("subnet");
    if configured.is_unknown() || plan.config.get("subnet_id").is_unknown() {
        return Ok(Wanted::Unknown);
    }
    let kept = plan.private.get(SUBNET).or(plan.prior.get("subnet").as_str()).and_then(|text| Subnet::parse(text).ok());
    let moved = plan.changed("trust_level");
    let unchanged_id = !plan.prior.is_null() && !plan.changed("subnet_id");
    if let Some(subnet) = configured.as_str() {
        let subnet = Subnet::parse(subnet)?;
        let id = if kept == Some(subnet) && !moved {
            octet(plan.prior.get("subnet_id"))
        } else {
            addressing.id_of(trust, subnet)
        };
        return Ok(Wanted::Known(subnet, id));
    }
    // A change of `addressing` never touches a domain that exists.
    if let (Some(kept), false, true) = (kept, moved, unchanged_id && !plan.prior.is_null()) {
        return Ok(Wanted::Known(kept, octet(plan.prior.get("subnet_id"))));
    }
    let id = octet(plan.config.get("subnet_id")).or_else(|| octet(plan.prior.get("subnet_id")));
    match (id, kept, plan.prior.is_null()) {
        (Some(id), _, _) => Ok(Wanted::Known(addressing.subnet(trust, id)?, Some(id))),
        (None, Some(kept), false) => Ok(Wanted::Known(kept, None)),
        _ => {
            addressing.zone(trust)?;
            Ok(Wanted::Unknown)
        }
    }
}

fn check_length(session: &Session, domain: &str, plan: &mut Plan<'_>) {
    if !session.prefix().is_empty() && domain.len() > name::DOMAIN_MAX_PREFIXED {
        plan.diagnostics.error(
            Path::from("name"),
            "Domain name too long",
            format!(
                "With the nesting prefix the bridge is `{}`; a bridge may have 15 characters. Use a name of at most {}.",
                session.bridge(domain),
                name::DOMAIN_MAX_PREFIXED
            ),
        );
    }
}

/// A bridge that others made may have its address elsewhere in the subnet: an apply moves it.
fn warn_of_gateway(plan: &mut Plan<'_>, subnet: Subnet) {
    let Some(from) = plan.prior.get("gateway").as_str().filter(|_| !plan.changed("name")).map(str::to_owned) else {
        return;
    };
    let to = subnet.gateway().to_string();
    let stays = plan.prior.get("subnet").as_str().is_some_and(|text| text == subnet.to_string());
    if from == to || !stays {
        return;
    }
    plan.diagnostics.warning(
        Path::from("gateway"),
        "The bridge gets another address",
        format!(
            "The bridge, which is the gateway and the name server of its instances, moves from {from} to {to} in place. Instances with DHCP \
             use the old one until they renew their lease or restart; what has it written down, inside or in `cloud_init`, has to be changed there. \
             An instance with the static address {to} has to leave it first."
        ),
    );
}

fn warn_of_move(plan: &mut Plan<'_>, to: Subnet) {
    let Some(from) = plan.private.get(SUBNET).and_then(|text| Subnet::parse(text).ok()) else { return };
    if from == to || plan.prior.is_null() || plan.changed("name") {
        return;
    }
    let at = ["subnet", "subnet_id", "trust_level"].into_iter().find(|name| plan.changed(*name)).unwrap_or("subnet");
    plan.diagnostics.warning(
        Path::from(at),
        "The domain gets new addresses",
        format!(
            "Its bridge moves from {from} to {to} in place. Instances with DHCP keep their old address until their lease ends or \
             they restart; static addresses outside of {to} are refused: unset them and apply, then change this, apply, and set them anew."
        ),
    );
}
