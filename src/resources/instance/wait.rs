//! What apply waits for until an instance is usable.

use std::time::Duration;

use tokio::time::Instant;

use super::body::{Model, NIC};
use super::state::Seen;
use super::target::Target;
use crate::incus::instance::{self, Instance, Kind};
use crate::incus::ready::{Addresses, CloudInit, Limits};
use crate::incus::{Error, Wait};
use crate::plugin::{Diagnostics, Path};
use crate::resources::duration;

/// An instance as it is, with where its addresses come from.
pub(super) struct Up {
    pub(super) found: Instance,
    pub(super) seen: Seen,
    pub(super) warnings: Diagnostics,
}

/// Waits until `target`, started at `started`, is usable as `model` wants it; one GET where it shall not run.
///
/// # Errors
///
/// [`Error::Unready`] with the phase; an address that does not come is a warning.
pub(super) async fn until_up(target: &Target<'_>, model: &Model, started: Instant, wait: &Wait) -> Result<Up, Error> {
    let mut warnings = Diagnostics::default();
    if !model.running {
        let found = target.client.get::<Instance>(instance::get(&target.project, &target.name)).await?.value;
        return Ok(Up { found, seen: Seen::Nothing, warnings });
    }
    let limits = limits(model);
    let ready = target.client.until_ready(&target.project, &target.name, NIC, &limits, started, wait).await?;
    if let Some(limit) = ready.without_address {
        warnings.warning("wait.addresses_timeout", "No address in time", no_address(target, limit));
    }
    if ready.cloud_init == Some(CloudInit::Degraded) {
        warnings.warning(
            Path::from("wait").attribute("cloud_init"),
            "cloud-init reports errors",
            format!(
                "cloud-init in \"{}\" is through, with errors that it could recover from. They are listed by:\n\n    \
                 incus exec {} --project {} -- cloud-init status --long",
                target.name, target.name, target.project
            ),
        );
    }
    let seen = ready.state.map_or(Seen::Nothing, Seen::Guest);
    Ok(Up { found: ready.instance, seen, warnings })
}

fn limits(model: &Model) -> Limits {
    let waits = model.wait.clone().unwrap_or_default();
    // What is no duration was refused by the schema's check, which core asks at apply too.
    let time = |text: &Option<String>, default_s: u64| {
        let parsed = text.as_deref().and_then(|text| duration::parse(text).ok());
        parsed.unwrap_or(Duration::from_secs(default_s))
    };
    let is_vm = model.kind() == Kind::VirtualMachine;
    let addresses = time(&waits.addresses_timeout, 30);
    Limits {
        boot: time(&waits.boot_timeout, if is_vm { 120 } else { 60 }),
        agent: (is_vm && waits.agent != Some(false)).then(|| time(&waits.agent_timeout, 60)),
        addresses: match waits.addresses {
            Some(false) => Addresses::No,
            Some(true) => Addresses::Any(addresses),
            None if model.ipv4_address.is_some() => Addresses::No,
            None => Addresses::Dhcp(addresses),
        },
        cloud_init: waits.cloud_init == Some(true),
    }
}

fn no_address(target: &Target<'_>, limit: Duration) -> String {
    format!(
        "\"{}\" runs, but `eth0` has no IPv4 address after {}s. Look at its network and its DHCP client, raise `wait.addresses_timeout`, or \
         set `wait = {{ addresses = false }}`:\n\n    incus info {} --project {}",
        target.name,
        limit.as_secs_f64(),
        target.name,
        target.project
    )
}

#[cfg(test)]
mod tests {
    use super::super::body::tests::model;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_waits_for_its_address_and_for_no_agent() {
        let limits = limits(&model(json!({})));
        assert_eq!(limits.agent, None);
        assert_eq!(limits.addresses, Addresses::Dhcp(Duration::from_secs(30)));
        assert_eq!(limits.boot, Duration::from_secs(60));
    }

    #[test]
    fn a_virtual_machine_waits_for_its_agent() {
        let waits = |wait: serde_json::Value| limits(&model(json!({"type": "vm", "wait": wait})));
        assert_eq!(waits(json!(null)).agent, Some(Duration::from_secs(60)));
        assert_eq!(waits(json!(null)).boot, Duration::from_secs(120));
        assert_eq!(waits(json!({"agent_timeout": "5m"})).agent, Some(Duration::from_secs(300)));
        assert_eq!(waits(json!({"agent": false})).agent, None);
        assert_eq!(waits(json!({"addresses": false})).addresses, Addresses::No);
    }

    #[test]
    fn a_static_address_is_not_waited_for_unless_asked() {
        let waits = |extra: serde_json::Value| limits(&model(extra)).addresses;
        assert_eq!(waits(json!({"ipv4_address": "10.1.0.5"})), Addresses::No);
        let asked = json!({"ipv4_address": "10.1.0.5", "wait": {"addresses": true}});
        assert_eq!(waits(asked), Addresses::Any(Duration::from_secs(30)));
    }
}
