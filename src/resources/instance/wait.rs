//! Until an instance is usable: it runs, and has its address.

use std::time::Duration;

use tokio::time::Instant;

use super::body::{Model, NIC, Waits};
use super::state::{self, Seen};
use super::target::Target;
use crate::incus::instance::{self, Instance, Kind, State};
use crate::incus::{Error, Wait};
use crate::plugin::Diagnostics;
use crate::resources::duration;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// An instance as it is, with where its addresses come from.
pub(super) struct Up {
    pub(super) found: Instance,
    pub(super) seen: Seen,
    pub(super) warnings: Diagnostics,
}

/// Waits until `target` runs and has its address, as `model` wants it; one GET where there is nothing to wait for.
///
/// # Errors
///
/// [`Error::Deadline`] with the last status where it does not run within `boot_timeout` of `started`; an address that
/// does not come is a warning.
pub(super) async fn until_up(target: &Target<'_>, model: &Model, started: Instant, wait: &Wait) -> Result<Up, Error> {
    let waits = model.wait.clone().unwrap_or_default();
    let mut warnings = Diagnostics::default();
    let found = until_running(target, model, &waits, started, wait).await?;
    let mut seen = Seen::Nothing;
    if found.is_running() && for_address(model, &waits, &found) {
        let limit = time(waits.addresses_timeout.as_deref(), Duration::from_secs(30));
        match until_address(target, &found, &within(wait, Instant::now() + limit)).await {
            Ok(state) => seen = Seen::Guest(state),
            Err(error) if error.is_deadline() && wait.deadline.is_none_or(|deadline| Instant::now() < deadline) => {
                warnings.warning("wait.addresses_timeout", "No address in time", no_address(target, limit));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Up { found, seen, warnings })
}

async fn until_running(
    target: &Target<'_>,
    model: &Model,
    waits: &Waits,
    started: Instant,
    wait: &Wait,
) -> Result<Instance, Error> {
    let limit = time(
        waits.boot_timeout.as_deref(),
        Duration::from_secs(if model.kind() == Kind::VirtualMachine { 120 } else { 60 }),
    );
    let wait = within(wait, started + limit);
    let mut pause = FIRST_PAUSE;
    loop {
        let found = target.client.get::<Instance>(instance::get(&target.project, &target.name)).await?.value;
        if found.is_running() || !model.running {
            return Ok(found);
        }
        wait.pause(pause, "the instance to run", Some(found.status)).await?;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// Asked of containers where DHCP gives it, or where it is asked for by name.
fn for_address(model: &Model, waits: &Waits, found: &Instance) -> bool {
    let nic = found.expanded_devices.get(NIC).is_some_and(|nic| nic.get("type").is_some_and(|kind| kind == "nic"));
    let by_default = model.kind() == Kind::Container
        && model.ipv4_address.is_none()
        && found.expanded_devices.get(NIC).is_some_and(|nic| !nic.contains_key("ipv4.address"));
    nic && waits.addresses.unwrap_or(by_default)
}

/// No event tells of a lease, so this asks: soon at first, then less often.
async fn until_address(target: &Target<'_>, found: &Instance, wait: &Wait) -> Result<State, Error> {
    let mut pause = FIRST_PAUSE;
    loop {
        let state = target.client.get::<State>(instance::state(&target.project, &target.name)).await?.value;
        if state::guest_ipv4(found, &state).is_some() {
            return Ok(state);
        }
        wait.pause(pause, "an address on eth0", Some(state.status)).await?;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

fn within(wait: &Wait, limit: Instant) -> Wait {
    Wait { deadline: Some(wait.deadline.map_or(limit, |deadline| deadline.min(limit))), stop: wait.stop.clone() }
}

fn time(text: Option<&str>, default: Duration) -> Duration {
    text.and_then(|text| duration::parse(text).ok()).unwrap_or(default)
}

fn no_address(target: &Target<'_>, limit: Duration) -> String {
    format!(
        "\"{}\" runs, but `eth0` has no IPv4 address after {}s. Look at its network and its DHCP client, raise `wait.addresses_timeout`, or \
         set `wait = {{ addresses = false }}`:\n\n    incus info {} --project {}",
        target.name,
        limit.as_secs(),
        target.name,
        target.project
    )
}
