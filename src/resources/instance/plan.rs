//! What a plan of an instance says. Pure: no clock, no I/O.

use std::net::Ipv4Addr;

use super::restart::{self, Moves};
use super::volumes;
use crate::plugin::{Action, Path, Plan, Value};
use crate::resources::session::{Preset, Session};
use crate::resources::{size, uid};

/// Private state: `kept` where the object was made by others and its image text is not known.
pub(super) const IMAGE: &str = "image";
/// Private state: `static` where the device `eth0` belongs to `ipv4_address`.
pub(super) const IPV4: &str = "ipv4";
/// Private state: `own` where the device `root` belongs to `root_disk`.
pub(super) const ROOT_DISK: &str = "root_disk";

/// Private state: how the `eth0` of a static address differs from that of the profiles, in words; absent where it does
/// not.
pub(super) const STALE: &str = "stale";
/// Private state: how the `root` of a `root_disk` differs from that of the profiles, in words; absent where it does not.
pub(super) const ROOT_STALE: &str = "root_stale";
/// Private state: set where a read found the hash of another owner on the instance.
pub(super) const OWNER: &str = "other_owner";
/// Private state: the configured name of an instance that a read found under another one.
pub(super) const RENAMED: &str = "renamed";
/// Private state: set where Incus takes that `eth0` out of the guest to mend it.
pub(super) const REPLUG: &str = "replug";

/// What of the provider block a plan of an instance needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults<'s> {
    pub(super) image: &'s Preset<String>,
    pub(super) delete_protection: &'s Preset<bool>,
}

pub(super) fn plan(session: &Session, plan: &mut Plan<'_>) {
    session.walk.plan(super::KIND, plan);
    if plan.action == Action::Destroy {
        // The label alone may have changed.
        if !plan.diagnostics.has_errors() {
            refuse_protected(plan, "destroyed");
            refuse_renamed(plan);
        }
        return;
    }
    if let Some(name) = plan.planned.get("name").as_str() {
        let incus_name = session.incus_name(name);
        if incus_name.len() > 63 {
            plan.diagnostics.error(
                "name",
                "Instance name too long",
                format!(
                    "With the nesting prefix it is `{incus_name}`, of {} characters. Incus takes 63.",
                    incus_name.len()
                ),
            );
        }
    }
    rules(Defaults { image: session.default_image(), delete_protection: session.delete_protection() }, plan);
    if let Some(problem) = plan.planned.get("image").as_str().and_then(|image| session.image_problem(image))
        && (plan.action == Action::Create || plan.changed("image"))
    {
        plan.diagnostics.error("image", problem.summary, problem.detail);
    }
    identity(plan);
}

/// An update writes the owner on an instance that carries another one, or none, and the mark where there is none.
pub(super) fn identity(plan: &mut Plan<'_>) {
    let is_update = plan.action == Action::Update;
    let unwritten = plan.prior.get("owner").is_null() && plan.planned != *plan.prior;
    if is_update && (plan.private.get(OWNER).is_some() || unwritten) {
        plan.unknown("owner");
    }
    uid::plan(plan);
}

/// Everything that does not depend on what else is planned.
pub(super) fn rules(defaults: Defaults<'_>, plan: &mut Plan<'_>) {
    match (plan.planned.get("domain").as_str(), plan.planned.get("name").as_str()) {
        (Some(domain), Some(name)) => {
            let id = format!("{domain}/{name}");
            plan.set("id", id);
        }
        _ => plan.unknown("id"),
    }
    image(defaults.image, plan);
    protection(defaults.delete_protection, plan);
    root_disk(plan);
    volumes::plan(plan);
    if plan.action == Action::Update {
        update(plan);
    }
}

fn image(default: &Preset<String>, plan: &mut Plan<'_>) {
    let configured = !plan.config.get("image").is_null();
    if !plan.prior.is_null() {
        if plan.private.get(IMAGE) == Some("kept") {
            // An object made by others, perhaps without any image.
            if !plan.prior.get("image").is_null() {
                let prior = plan.prior.get("image").clone();
                if let (Some(wanted), Some(found)) = (plan.config.get("image").as_str(), prior.as_str())
                    && wanted != found
                {
                    let detail = format!(
                        "The instance was made by others: of its image only \"{found}\" is known, which \"{wanted}\" is not compared \
                         with, so that no change of `image` has an effect. Write `image = \"{found}\"`; for another image, replace \
                         the instance."
                    );
                    plan.diagnostics.warning("image", "The image stays as it is", detail);
                }
                plan.set("image", prior);
            }
        } else if plan.planned.get("image").is_known() {
            // An unknown image may turn out to be the same: destroying for that is for the next plan to say.
            plan.replace("image");
        }
    } else if !configured {
        match default {
            Preset::To(image) => plan.set("image", image.as_str()),
            Preset::Unknown => plan.unknown("image"),
            Preset::Unset => plan.diagnostics.error(
                "image",
                "No image",
                "Set `image`, such as \"images:debian/13\", or `default_image` in the provider block.",
            ),
        }
    }
}

fn protection(default: &Preset<bool>, plan: &mut Plan<'_>) {
    if !plan.config.get("delete_protection").is_null() {
        return;
    }
    match (default, plan.planned.get("ephemeral").as_bool()) {
        (Preset::To(default), _) => plan.set("delete_protection", *default),
        (Preset::Unset, Some(ephemeral)) => plan.set("delete_protection", !ephemeral),
        (Preset::Unknown, _) | (Preset::Unset, None) => plan.unknown("delete_protection"),
    }
}

fn root_disk(plan: &mut Plan<'_>) {
    let (prior, wanted, configured) =
        (plan.prior.get("root_disk"), plan.planned.get("root_disk").clone(), plan.config.get("root_disk"));
    if wanted.as_map().is_none() {
        return;
    }
    if prior.is_null() {
        if configured.get("pool").is_null() {
            let mut disk = wanted;
            disk.set("pool", Value::Unknown);
            plan.set("root_disk", disk);
        }
        return;
    }
    let bytes = |value: &Value| value.get("size").as_str().and_then(|text| size::parse(text).ok());
    if let (Some(from), Some(to), Some("vm")) = (bytes(prior), bytes(&wanted), plan.planned.get("type").as_str())
        && to < from
    {
        plan.diagnostics.error(
            "root_disk.size",
            "A virtual machine's disk cannot shrink",
            "Incus only grows it. Set the old size or a larger one; for a smaller disk, make another instance.",
        );
    }
}

fn update(plan: &mut Plan<'_>) {
    if plan.replaces() {
        let decided = |name: &&str| {
            let planned = plan.planned.get(name);
            planned.is_known() && planned != plan.prior.get(name)
        };
        if ["image", "domain", "type"].iter().any(decided) {
            refuse_protected(plan, "replaced");
            refuse_renamed(plan);
        }
        return;
    }
    let renamed = plan.changed("name");
    if renamed && plan.planned.get("ephemeral").as_bool() == Some(true) {
        plan.diagnostics.error(
            "name",
            "An ephemeral instance cannot be renamed",
            "A rename needs a stop, and Incus deletes an ephemeral instance when it stops. Set `ephemeral = false` and apply first.",
        );
    }
    let dhcp = plan.config.get("ipv4_address").is_null();
    let back_to_dhcp = dhcp && plan.private.get(IPV4) == Some("static");
    if back_to_dhcp {
        plan.unknown("ipv4_address");
    }
    let reasons = restart::reasons(plan.config, plan.prior, &plan.planned, &plan.private);
    let perhaps = restart::perhaps(plan.prior, &plan.planned);
    let moves = restart::moves(plan.prior, &plan.planned);
    let runs = plan.prior.get("running").as_bool() == Some(true) && plan.planned.get("running").as_bool() == Some(true);
    let restarts = runs && (!reasons.is_empty() || renamed);
    let wanted = plan.planned.get("restart_on_update").as_bool() != Some(false);
    if let Some(moves) = &moves {
        moved(plan, moves, runs);
    } else if runs && let Some(at) = reasons.first() {
        let is_vm = plan.planned.get("type").as_str() == Some("vm");
        warn(plan, at.clone(), wanted, is_vm);
    } else if runs && renamed {
        plan.diagnostics.warning(
            "name",
            "The instance will be restarted",
            "Incus renames only while the instance is stopped. It is started again, whatever `restart_on_update` says.",
        );
    } else if runs && let Some(at) = &perhaps {
        may_restart(plan, at.clone(), wanted);
    }
    stale(plan);
    let touched = plan.changed("running")
        || plan.changed("profiles")
        || plan.changed("ipv4_address")
        || restart::pins(plan.config, &plan.private)
        || restart::nics_changed(plan.prior, &plan.planned)
        || (restarts && (wanted || renamed))
        || (runs && wanted && perhaps.is_some())
        || (runs && moves.is_some());
    if touched {
        ["status", "ipv6_address", "interfaces"].into_iter().for_each(|name| plan.unknown(name));
        if dhcp {
            plan.unknown("ipv4_address");
        }
    }
}

/// Another storage pool of the root disk.
fn moved(plan: &mut Plan<'_>, moves: &Moves, runs: bool) {
    let (at, summary, first) = match moves {
        Moves::Sure(at) => (at, "The instance will be restarted", "The root disk moves to another storage pool"),
        Moves::Perhaps(at) => {
            (at, "The instance may be restarted", "The root disk moves if this puts it on another storage pool")
        }
    };
    if matches!(moves, Moves::Sure(_)) && plan.planned.get("ephemeral").as_bool() == Some(true) {
        plan.diagnostics.error(
            at.clone(),
            "An ephemeral instance cannot be moved to another pool",
            "The move needs a stop, and Incus deletes an ephemeral instance when it stops. Set `ephemeral = false` and apply first.",
        );
    } else if runs {
        plan.diagnostics.warning(
            at.clone(),
            summary,
            format!("{first}, which Incus does only while the instance is stopped. It is started again, whatever `restart_on_update` says; to cloud-init it is a new instance then."),
        );
    }
}

/// Says why a device stands under `devices` in a plan although the configuration has none there.
fn stale(plan: &mut Plan<'_>) {
    let shown = |plan: &Plan<'_>, device: &str| {
        plan.planned.get("devices").get(device).is_null() && !plan.prior.get("devices").get(device).is_null()
    };
    if let Some(differences) = plan.private.get(STALE).filter(|_| shown(plan, super::body::NIC)).map(str::to_owned) {
        plan.diagnostics.warning(
            "ipv4_address",
            "The `eth0` of the static address is not that of the profiles",
            format!(
                "A static address makes `eth0` a copy of the profiles' device, and this copy differs: {differences}. It is shown in \
                 `devices`, and this apply copies the device anew."
            ),
        );
    }
    if let Some(differences) =
        plan.private.get(ROOT_STALE).filter(|_| shown(plan, super::body::ROOT)).map(str::to_owned)
    {
        plan.diagnostics.warning(
            "root_disk",
            "The `root` of `root_disk` is not that of the profiles",
            format!(
                "`root_disk` makes `root` a copy of the profiles' device with its own size and pool, and this copy differs: \
                 {differences}. It is shown in `devices`, and this apply copies the device anew. To keep such keys, remove \
                 `root_disk` and write the whole device in `devices.root`."
            ),
        );
    }
}

fn warn(plan: &mut Plan<'_>, at: Path, restarts: bool, is_vm: bool) {
    if restarts {
        plan.diagnostics.warning(
            at,
            "The instance will be restarted",
            "Incus applies this change at a start only. To restart at a time of your own, set `restart_on_update = false`.",
        );
    } else if is_vm {
        plan.diagnostics.warning(
            at,
            "The change waits for a restart, or fails",
            "Incus applies this change at a start only, and `restart_on_update` is false. It takes `secure_boot`, `csm` and NICs for the \
             next start, and refuses other keys and devices while the virtual machine runs: set `running = false` first, or \
             `restart_on_update = true`.",
        );
    } else {
        plan.diagnostics.warning(
            at,
            "The change waits for a restart",
            "Incus applies this change at a start only, and `restart_on_update` is false: restart the instance when it suits.",
        );
    }
}

fn may_restart(plan: &mut Plan<'_>, at: Path, restarts: bool) {
    let detail = if restarts {
        "Incus 7.0 gives a running virtual machine more memory, 6.0 does not, and what the guest does not give up cannot be taken \
         away. Where it cannot be done live the instance is stopped for it, and started again."
    } else {
        "Incus 7.0 gives a running virtual machine more memory, 6.0 does not, and what the guest does not give up cannot be taken \
         away. Where it cannot be done live the apply fails, as `restart_on_update` is false."
    };
    plan.diagnostics.warning(at, "The instance may be restarted", detail);
}

/// A backup that was imported under another name looks like an instance that was renamed.
fn refuse_renamed(plan: &mut Plan<'_>) {
    let Some(old) = plan.private.get(RENAMED).map(str::to_owned) else { return };
    let id = plan.prior.get("id").as_str().unwrap_or_default().to_owned();
    plan.diagnostics.error(
        "name",
        "The instance has another name than the one in the state",
        format!(
            "The state has \"{old}\", and \"{id}\" has its identity now: it was renamed outside Terraform, or is a backup that was imported under \
             this name. It is not destroyed. Rename it back with `incus rename`, then destroy it; or keep it and remove the resource from the \
             state:\n\n    tofu state rm anklume_instance.<name>"
        ),
    );
}

fn refuse_protected(plan: &mut Plan<'_>, what: &str) {
    if plan.prior.get("delete_protection").as_bool() != Some(true) {
        return;
    }
    let id = plan.prior.get("id").as_str().unwrap_or_default().to_owned();
    plan.diagnostics.error(
        "delete_protection",
        "The instance is protected",
        format!("\"{id}\" would be {what}, and has `delete_protection`. Set `delete_protection = false` and apply; then make this change."),
    );
}

/// Whether an address is IPv4, as leases list both.
pub(super) fn is_ipv4(address: &str) -> bool {
    address.parse::<Ipv4Addr>().is_ok()
}
