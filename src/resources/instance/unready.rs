//! What is said of an instance that was started and is not usable. Pure.

use std::time::Duration;

use super::body::Model;
use super::target::Target;
use crate::incus::instance::Kind;
use crate::incus::ready::{Phase, Unready, Why};
use crate::plugin::{Diagnostic, Path};
use crate::resources::refusal;

/// The phase, what was last seen, what to do, the console's last lines and commands to look further.
pub(super) fn error(target: &Target<'_>, model: &Model, unready: &Unready) -> Diagnostic {
    Diagnostic::error(path(unready), "Unable to start instance", detail(target, model, unready))
}

/// [`error`] where the apply goes on.
pub(super) fn warning(target: &Target<'_>, model: &Model, unready: &Unready) -> Diagnostic {
    Diagnostic::warning(path(unready), "The instance is not usable", detail(target, model, unready))
}

fn detail(target: &Target<'_>, model: &Model, unready: &Unready) -> String {
    let kind = model.kind();
    let mut parts = vec![
        format!("Instance \"{}\" in domain \"{}\". {}", model.name, model.domain, what(kind, unready)),
        phase(unready.phase),
        advice(kind, unready),
        console(&unready.console),
        commands(target, kind, unready),
        refusal::causes(unready),
    ];
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

fn path(unready: &Unready) -> Path {
    let wait = |name: &str| Path::from("wait").attribute(name);
    match (&unready.why, unready.phase) {
        (Why::Limit(_), Phase::Running) => wait("boot_timeout"),
        (Why::Limit(_), Phase::Agent) => wait("agent_timeout"),
        (Why::CloudInitFailed(_) | Why::NoCloudInit, _) => wait("cloud_init"),
        (Why::Call, _) => Path::from("timeouts"),
        _ => Path::from("wait"),
    }
}

fn seconds(limit: Duration) -> String {
    format!("{}s", limit.as_secs_f64())
}

fn what(kind: Kind, unready: &Unready) -> String {
    let it = if kind == Kind::VirtualMachine { "The virtual machine" } else { "The container" };
    let last = if unready.last.is_empty() { String::new() } else { format!(" (last seen: {})", unready.last) };
    match (&unready.why, unready.phase) {
        (Why::Limit(limit), Phase::Agent) => {
            format!("{it} runs, but its agent did not answer within {}{last}.", seconds(*limit))
        }
        (Why::Limit(limit), _) => format!("{it} did not run within {}{last}.", seconds(*limit)),
        (Why::Call, phase) => {
            format!("{it} did not get past the phase \"{phase}\" within the limit of `timeouts`{last}.")
        }
        (Why::Stopped, _) => format!("{it} stopped while it was booting{last}."),
        (Why::Gone, _) => format!("{it} stopped while it was booting, and was deleted, as it is ephemeral."),
        (Why::CloudInitFailed(code), _) => {
            format!("{it} runs, but its cloud-init failed: `cloud-init status --wait` ended with {code}.")
        }
        (Why::NoCloudInit, _) => format!("{it} runs, but there is no cloud-init inside."),
    }
}

fn phase(phase: Phase) -> String {
    let behind = match phase {
        Phase::Running => "created and started are behind it",
        Phase::Agent => "created, started and running are behind it",
        Phase::Addresses | Phase::CloudInit => "it runs and its commands work",
    };
    format!("Phase: {phase} ({behind}).")
}

fn advice(kind: Kind, unready: &Unready) -> String {
    let says =
        |texts: &[&str]| unready.console.iter().any(|line| texts.iter().any(|text| line.to_lowercase().contains(text)));
    match (&unready.why, unready.phase) {
        (Why::NoCloudInit, _) => {
            "Use an image that has it, such as \"images:debian/13/cloud\", or remove `cloud_init` from `wait`.".to_owned()
        }
        (Why::CloudInitFailed(_), _) => "Mend `cloud_init`; what it did and said is in its log.".to_owned(),
        (Why::Gone, _) => "Set `ephemeral = false` to keep it and look at it.".to_owned(),
        _ if kind == Kind::Container => String::new(),
        _ if says(&["access denied", "security violation", "secure boot"]) => {
            "The firmware refuses the image, which is not signed for secure boot. Set `secure_boot = false`.".to_owned()
        }
        _ if says(&["out of memory", "oom-kill", "not enough memory"]) => {
            "It has not enough memory (unset, a virtual machine has 1GiB). Write more:\n\n    config = { \"limits.memory\" = \"2GiB\" }".to_owned()
        }
        (Why::Stopped, _) => "Its console and its log say why.".to_owned(),
        (Why::Limit(_) | Why::Call, Phase::Agent) => match &unready.address {
            Some(address) => format!(
                "It has the address {address}, so its system is up, and the agent is missing or does not start. Images made for \
                 Incus carry it; in an image of your own, install the package `incus-agent`. To go without it:\n\n    wait = {{ agent = false }}"
            ),
            None => "It has no address either: it boots slowly, or is stuck. Raise the limit if the console shows progress:\n\n    \
                     wait = { agent_timeout = \"300s\" }\n\n\
                     If no system shows, an image for BIOS needs `csm = true` and `secure_boot = false`, and an unsigned one \
                     `secure_boot = false`."
                .to_owned(),
        },
        _ => String::new(),
    }
}

fn console(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!("The console's last lines:\n\n    {}", lines.join("\n    "))
}

fn commands(target: &Target<'_>, kind: Kind, unready: &Unready) -> String {
    let at = format!("{} --project {}", target.name, target.project);
    let mut commands = match unready.why {
        Why::Gone => return String::new(),
        Why::CloudInitFailed(_) => vec![
            format!("incus exec {at} -- cloud-init status --long"),
            format!("incus exec {at} -- cat /var/log/cloud-init-output.log"),
        ],
        Why::NoCloudInit => return String::new(),
        _ => vec![format!("incus info {at} --show-log"), format!("incus console {at} --show-log")],
    };
    let mut inside = "";
    if kind == Kind::VirtualMachine && unready.phase == Phase::Agent && unready.why != Why::Stopped {
        commands.push(format!("incus exec {at} -- true"));
        inside = "\n\nand, once inside (`incus console`), `systemctl status incus-agent`.";
    }
    format!("To look further:\n\n    {}{inside}", commands.join("\n    "))
}
