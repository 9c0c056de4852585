//! What is said of an instance that was started and is not usable. Pure.

use std::time::Duration;

use super::body::Model;
use super::target::Target;
use crate::incus::instance::Kind;
use crate::incus::ready::{Phase, Unready, Why};
use crate::plugin::{Diagnostic, Path};
use crate::resources::refusal;

/// The phase, what was last seen, what to do, the console's last lines and commands to look further.
///
/// `step` is the member of `timeouts` that limits the call.
pub(super) fn error(step: &str, target: &Target<'_>, model: &Model, unready: &Unready) -> Diagnostic {
    Diagnostic::error(path(unready), "Unable to start instance", detail(step, target, model, unready))
}

/// [`error`] where the apply goes on.
pub(super) fn warning(step: &str, target: &Target<'_>, model: &Model, unready: &Unready) -> Diagnostic {
    Diagnostic::warning(path(unready), "The instance is not usable", detail(step, target, model, unready))
}

fn detail(step: &str, target: &Target<'_>, model: &Model, unready: &Unready) -> String {
    let kind = model.kind();
    let mut parts = vec![
        format!("Instance \"{}\" in domain \"{}\". {}", model.name, model.domain, what(model, unready)),
        phase(unready.phase),
        advice(step, model, unready),
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

fn what(model: &Model, unready: &Unready) -> String {
    let it = if model.kind() == Kind::VirtualMachine { "The virtual machine" } else { "The container" };
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
        (Why::Gone, _) if model.ephemeral => {
            format!("{it} stopped while it was booting, and was deleted, as it is ephemeral.")
        }
        (Why::Gone, _) => format!("{it} was deleted by somebody else while it was booting{last}."),
        (Why::CloudInitFailed(code), _) => {
            format!("{it} runs, but its cloud-init failed: `cloud-init status --wait` ended with {code}.")
        }
        (Why::NoCloudInit, _) => format!("{it} runs, but there is no cloud-init inside."),
    }
}

fn phase(phase: Phase) -> String {
    let behind = match phase {
        Phase::Started => "created is behind it",
        Phase::Running => "created and started are behind it",
        Phase::Agent => "created, started and running are behind it",
        Phase::Addresses | Phase::CloudInit => "it runs and its commands work",
    };
    format!("Phase: {phase} ({behind}).")
}

fn advice(step: &str, model: &Model, unready: &Unready) -> String {
    let kind = model.kind();
    let says =
        |texts: &[&str]| unready.console.iter().any(|line| texts.iter().any(|text| line.to_lowercase().contains(text)));
    match (&unready.why, unready.phase) {
        (Why::NoCloudInit, _) => {
            "Use an image that has it, such as \"images:debian/13/cloud\", or remove `cloud_init` from `wait`.".to_owned()
        }
        (Why::CloudInitFailed(_), _) => "Mend `cloud_init`; what it did and said is in its log.".to_owned(),
        (Why::Gone, _) if !model.ephemeral => "Apply again to make it anew.".to_owned(),
        (Why::Gone, _) => "Set `ephemeral = false` to keep it and look at it.".to_owned(),
        (Why::Call, _) => format!(
            "The whole call has a limit of its own, beside those of `wait`. Raise it:\n\n    timeouts = {{ {step} = \"30m\" }}"
        ),
        (Why::Limit(_), Phase::Running) => {
            "Raise the limit if the host is slow:\n\n    wait = { boot_timeout = \"300s\" }".to_owned()
        }
        _ if kind == Kind::Container => String::new(),
        _ if unready.address.is_none() && model.secure_boot != Some(false) && refuses_the_image(&unready.console) => {
            "The firmware refuses the image, which is not signed for secure boot. Set `secure_boot = false`.".to_owned()
        }
        _ if says(&["out of memory", "oom-kill", "not enough memory"]) => more_memory(model),
        (Why::Stopped, _) => "Its console and its log say why.".to_owned(),
        (Why::Limit(_), Phase::Agent) => match &unready.address {
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

/// Whether the firmware of secure boot (OVMF) says that it does not load what is there.
fn refuses_the_image(console: &[String]) -> bool {
    console.iter().map(|line| line.to_lowercase()).any(|line| {
        line.contains("security violation") || line.contains("bdsdxe: failed") && line.contains("access denied")
    })
}

fn more_memory(model: &Model) -> String {
    let has = model.config.as_ref().and_then(|config| config.get("limits.memory")).map(String::as_str);
    match has {
        None => "It has not enough memory (unset, a virtual machine has 1GiB). Write more:\n\n    \
                 config = { \"limits.memory\" = \"2GiB\" }"
            .to_owned(),
        Some(has) => format!(
            "Its memory is not enough. Write more than {has} in:\n\n    config = {{ \"limits.memory\" = \"...\" }}"
        ),
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path as File;

    use super::super::body::tests::model;
    use super::*;
    use crate::incus::{Client, Endpoint};
    use serde_json::json;

    /// Holds the whole text against `unready/<name>.txt`; `UPDATE_GOLDEN=1` writes it.
    #[track_caller]
    fn golden(name: &str, kind: &str, unready: &Unready) {
        golden_of(name, "create", json!({"type": kind}), unready);
    }

    #[track_caller]
    fn golden_of(name: &str, step: &str, attributes: serde_json::Value, unready: &Unready) {
        let client = Client::new(Endpoint::Unix("/nonexistent".into()));
        let target =
            Target { client: &client, project: "pro".into(), name: "web".into(), shown: ("pro".into(), "web".into()) };
        let told = error(step, &target, &model(attributes), unready);
        let found = format!("{}: {}\n\n{}\n", told.path, told.summary, told.detail);
        let path = File::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/resources/instance/unready/{name}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some_and(|update| update == "1") {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, found).unwrap();
            return;
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(kept, found, "{} differs (UPDATE_GOLDEN=1 writes it)", path.display());
    }

    fn silent() -> Unready {
        Unready {
            phase: Phase::Agent,
            why: Why::Limit(Duration::from_secs(60)),
            last: "Running, no answer of the agent".into(),
            address: None,
            console: Vec::new(),
        }
    }

    #[test]
    fn a_system_without_an_agent_is_told_how_to_get_it_or_go_without() {
        let console = vec!["web login:".into()];
        golden("no_agent", "vm", &Unready { address: Some("10.110.0.104".into()), console, ..silent() });
    }

    #[test]
    fn a_machine_stuck_at_boot_shows_its_console_and_the_limit_to_raise() {
        golden("stuck", "vm", &Unready { console: vec!["Booting from Hard Disk...".into()], ..silent() });
    }

    #[test]
    fn firmware_that_refuses_the_image_names_secure_boot() {
        let console = vec!["BdsDxe: failed to load Boot0001 \"UEFI QEMU HARDDISK\": Access Denied".into()];
        golden("secure_boot", "vm", &Unready { console, ..silent() });
    }

    #[test]
    fn too_little_memory_shows_the_line_to_change() {
        let console = vec!["Kernel panic - not syncing: System is deadlocked on memory, Out of memory".into()];
        golden("memory", "vm", &Unready { console, ..silent() });
    }

    #[test]
    fn a_machine_that_does_not_run_in_time_shows_the_limit_to_raise() {
        let late = Unready { phase: Phase::Running, last: "Stopped".into(), ..silent() };
        golden("late", "vm", &late);
    }

    #[test]
    fn words_of_a_system_that_runs_are_not_taken_for_the_firmwares() {
        let started = "BdsDxe: starting Boot0001 \"UEFI QEMU HARDDISK\"".into();
        let console = vec!["kernel: Secure boot disabled".into(), "sudo: access denied".into(), started];
        let unready = Unready { console, ..silent() };
        assert!(!advice("create", &model(json!({"type": "vm"})), &unready).contains("firmware refuses"));
    }

    #[test]
    fn a_crash_says_that_it_stopped() {
        golden("crashed", "vm", &Unready { why: Why::Stopped, last: "Stopped".into(), ..silent() });
        let container = Unready { phase: Phase::Running, why: Why::Stopped, last: "Stopped".into(), ..silent() };
        golden("crashed_container", "lxc", &container);
        let at_start = Unready { phase: Phase::Started, why: Why::Stopped, last: String::new(), ..silent() };
        golden("crashed_at_start", "vm", &at_start);
    }

    #[test]
    fn an_ephemeral_one_that_crashed_is_gone() {
        let gone = Unready { why: Why::Gone, ..silent() };
        golden_of("gone", "create", json!({"type": "vm", "ephemeral": true}), &gone);
        golden("deleted_meanwhile", "vm", &gone);
    }

    #[test]
    fn a_call_that_is_over_names_timeouts() {
        let over = Unready { why: Why::Call, ..silent() };
        golden("call", "vm", &over);
        golden_of("call_of_an_update", "update", json!({"type": "vm"}), &over);
    }

    #[test]
    fn cloud_init_that_failed_shows_where_it_says_why() {
        let last = "Running, 40 processes".to_owned();
        let failed = Unready { phase: Phase::CloudInit, why: Why::CloudInitFailed(1), last, ..silent() };
        golden("cloud_init_failed", "vm", &failed);
        golden("no_cloud_init", "lxc", &Unready { why: Why::NoCloudInit, last: "Running".into(), ..failed });
    }
}
