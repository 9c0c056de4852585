//! The one place that turns an error of the Incus layer into a diagnostic.

use std::fmt::Display;

use super::marks::{self, Found};
use crate::incus::{self, ConnectFault, Endpoint, Error, Refusal, remote};
use crate::plugin::{Diagnostic, Diagnostics, Path};

/// A diagnostic for an error: `summary`, what to do, then each cause once. It stands at the attribute that the error
/// is about, where that is known.
#[must_use]
pub fn diagnostic(summary: impl Into<String>, error: &Error) -> Diagnostic {
    let (path, advice) = advice(error);
    let detail = if advice.is_empty() { causes(error) } else { format!("{advice}\n\n{}", causes(error)) };
    Diagnostic::error(path, summary, detail)
}

/// [`diagnostic`], at an attribute of the caller's choice.
#[must_use]
pub fn at(path: impl Into<Path>, summary: impl Into<String>, error: &Error) -> Diagnostic {
    Diagnostic { path: path.into(), ..diagnostic(summary, error) }
}

/// Where Incus is cannot be told from the provider block, the environment and the CLI's configuration.
#[must_use]
pub fn unresolved(error: &remote::Error) -> Diagnostic {
    let (path, advice) = match error {
        remote::Error::UnknownRemote { known, .. } => (
            "remote",
            format!("Known remotes: {}. Add it with `incus remote add`, or set `address`.", known.join(", ")),
        ),
        remote::Error::NeedsOidc { .. } => (
            "token",
            "Make a trust token on the server with `incus config trust add <name>`, and set `address` and `token`."
                .to_owned(),
        ),
        remote::Error::ImageServer { .. } => {
            ("remote", "It serves images only. Name a remote that is an Incus server.".to_owned())
        }
        remote::Error::Restricted { .. } => (
            "address",
            "It belongs to one project, and each domain is a project of its own. Add this user to the group `incus-admin`, or set `address` to a server that allows it."
                .to_owned(),
        ),
        remote::Error::BadAddress { .. } => {
            ("address", "Write it as \"unix:///path/to/unix.socket\" or \"https://host:8443\".".to_owned())
        }
        remote::Error::NoPin { .. } => (
            "server_certificate",
            "Set `server_certificate` or `server_fingerprint`, or give a `token`, which carries the fingerprint."
                .to_owned(),
        ),
        remote::Error::ReadSetting { setting, .. } => {
            (*setting, "Give the text in PEM, or the path of a file that this user may read.".to_owned())
        }
        remote::Error::BadFingerprint => ("server_fingerprint", "Copy it from `incus info` on the server.".to_owned()),
        remote::Error::BadCertificate { .. } => {
            ("server_certificate", "Give the certificate in PEM, or the path of such a file.".to_owned())
        }
        remote::Error::HalfIdentity => {
            ("client_certificate", "Set `client_certificate` and `client_key` together.".to_owned())
        }
        remote::Error::BadToken => {
            ("token", "Copy the whole token, as `incus config trust add <name>` printed it.".to_owned())
        }
        _ => ("", String::new()),
    };
    let path = if path.is_empty() { Path::root() } else { Path::from(path) };
    let detail = if advice.is_empty() { causes(error) } else { format!("{advice}\n\n{}", causes(error)) };
    Diagnostic::error(path, "Unable to find Incus", detail)
}

/// An attribute of the provider block is known only after an apply: the default Incus may be another one.
#[must_use]
pub fn undecided(attribute: &'static str) -> Diagnostic {
    Diagnostic::error(
        Path::from(attribute),
        "Unable to find Incus: a value is not known yet",
        format!(
            "`{attribute}` of the provider block depends on something that is yet to be made. Apply that first, with `-target`, or write the value itself."
        ),
    )
}

/// `Cause:` and every error of the chain, each text once.
#[must_use]
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    format!("Cause: {}", texts.join(": "))
}

const UNCLEAR: &str =
    "Whether Incus carried it out is not known. Apply again: what is there is recognised and completed.";

const ONLY_ASKED: &str = "It only asked: nothing was changed by it. Apply again once the daemon answers.";

fn advice(error: &Error) -> (Path, String) {
    let at = |name: &str, text: &str| (Path::from(name), text.to_owned());
    let root = |text: &str| (Path::root(), text.to_owned());
    match error {
        Error::Connect { endpoint, fault, .. } => (Path::root(), unreachable_advice(endpoint, fault)),
        Error::Lost { may_have_been_sent: true, .. } => root(UNCLEAR),
        Error::Lost { method, .. } if method == "GET" => root(ONLY_ASKED),
        Error::Lost { .. } => root("Nothing was sent. Apply again once the daemon answers."),
        Error::OperationGone { .. } => root(UNCLEAR),
        Error::OperationCancelled { .. } => root(
            "Somebody cancelled it on the server; a part of it may have been carried out. Apply again: what is there is recognised and completed.",
        ),
        Error::Answer { method, .. } | Error::TooLarge { method, .. } if method == "GET" => root(ONLY_ASKED),
        Error::Answer { .. } | Error::TooLarge { .. } => root(UNCLEAR),
        Error::Deadline { may_have_been_sent: true, .. } => root(
            "It may have been carried out, or still be under way. Look at what Incus is doing, and apply again: what is there is recognised and completed. Raise the limit in `timeouts` or `wait` where it needs longer:\n\n    incus operation list --all-projects",
        ),
        Error::Deadline { .. } => root(
            "Nothing was changed by it. Raise the limit in `timeouts` or `wait`, or look at what Incus is doing:\n\n    incus operation list --all-projects",
        ),
        Error::Stopped { may_have_been_sent: true, .. } => root(
            "The run was interrupted, and what was asked for may still be carried out. Run the same command again: it continues from here.",
        ),
        Error::Stopped { .. } => root("The run was interrupted. Run the same command again: it continues from here."),
        error if error.is_unavailable() => root(
            "Incus is starting or shutting down and did nothing. Apply again once it is up:\n\n    incus admin waitready",
        ),
        Error::Refused { refusal, .. } => match refusal {
            Refusal::ImageNotFound => {
                at("image", "There is no such image. List the images of the server:\n\n    incus image list")
            }
            Refusal::ImageTypeMismatch => {
                at("type", "The image is of the other type. Set `type`, or name an image that has both variants.")
            }
            Refusal::PoolNotFound => {
                at("storage_pool", "There is no such storage pool. List them:\n\n    incus storage list")
            }
            Refusal::HalfMade => root(
                "Incus was interrupted while it made the instance, and has no more than its record. Apply again: it is destroyed and made anew.",
            ),
            Refusal::ProfileNotFound => at(
                "profiles",
                "A profile of the list is missing in the domain. Refer to it as `anklume_profile.<name>.name`, so that it is made first.",
            ),
            Refusal::NetworkNotFound => at("devices", "A network that a device names does not exist."),
            Refusal::VolumeNotFound => {
                at("devices", "A custom volume that a disk names does not exist in the domain's project and that pool.")
            }
            Refusal::NoRootDisk => {
                at("profiles", "No profile of the list has a root disk. Add \"default\", or set `root_disk`.")
            }
            Refusal::AddressTaken => at(
                "ipv4_address",
                "Another instance of the domain has this address. Choose a free one of the domain's `static_range`.",
            ),
            Refusal::AddressOutsideSubnet => {
                at("ipv4_address", "The address lies outside of the domain's subnet. Choose one of its `static_range`.")
            }
            Refusal::AddressIsGateway => {
                at("ipv4_address", "The address is the bridge's own. Choose one of the domain's `static_range`.")
            }
            Refusal::GatewayTaken => {
                at("subnet", "Something on the host has this gateway already. Choose another subnet.")
            }
            Refusal::UnknownKey(key) => (
                Path::from("config").key(key.as_str()),
                format!(
                    "Incus does not know `{key}` here. Some keys are for containers only, some for virtual machines only; otherwise look for a typo."
                ),
            ),
            Refusal::Protected => at("delete_protection", "Set `delete_protection = false` and apply, then destroy."),
            Refusal::ProjectNotEmpty => {
                root("The domain still holds something, which may have come meanwhile. Destroy again: the refusal then names it.")
            }
            Refusal::UnknownNetworkKey(key) => (
                Path::from("network_config").key(key.as_str()),
                format!("Incus does not know `{key}` for a bridge. Look for a typo."),
            ),
            Refusal::ProjectRule => root(
                "The project does not allow it. What it allows stands in `config` of the domain: `limits.*` and `restricted.*`.",
            ),
            Refusal::RootDiskInUse => at(
                "storage_pool",
                "Instances have their root disk from this profile: it stays there, in its pool. Set it back, or give these instances a `root_disk` of their own first.",
            ),
            Refusal::SavedButInstancesFailed => root(
                "The profile is changed, but instances that use it could not follow and have what they had. Mend what is named below, then change the profile again.",
            ),
            Refusal::CannotShrink => {
                at("size", "Incus does not make this volume smaller. Set the old size, or a larger one.")
            }
            Refusal::SecureBootUnsupported => at(
                "secure_boot",
                "The image does not boot with secure boot, which is on unless it is switched off. Set `secure_boot = false`.",
            ),
            Refusal::NotShared => at(
                "volumes",
                "A block volume belongs to one instance, as two that write to it destroy what it holds. Where they know of each other, \
                 set this on the volume:\n\n    config = { \"security.shared\" = \"true\" }",
            ),
            Refusal::QuotaTooSmall => at("size", "It holds more than that. Write a larger size."),
            Refusal::InUse => root("Something still uses it. Remove the users first."),
            Refusal::VmKeyNotLive(key) => (
                Path::from("config").key(key.as_str()),
                format!(
                    "`{key}` cannot change while the virtual machine runs. Set `restart_on_update = true`, or stop it first."
                ),
            ),
            Refusal::MemoryNotLive => (
                Path::from("config").key("limits.memory"),
                "The memory of the running virtual machine cannot become this. Set `restart_on_update = true`, or stop it first."
                    .to_owned(),
            ),
            Refusal::NoVirtualMachines(reason) => (Path::from("type"), no_virtual_machines(reason)),
            Refusal::NoMemory => (
                Path::from("config").key("limits.memory"),
                "The host has not enough memory free for the virtual machine. Phase: started (created is behind it).\n\n\
                 Write less, or stop others:\n\n    config = { \"limits.memory\" = \"512MiB\" }"
                    .to_owned(),
            ),
            Refusal::DatabaseBusy => root(
                "The database of Incus is busy; a part of it may have been carried out. Apply again: what is there is recognised and completed.",
            ),
            Refusal::Busy => root("Another operation is running on it. Apply again when it has ended."),
            Refusal::Forbidden => {
                root("The client certificate is restricted. Give it access to the project, or use an unrestricted one.")
            }
            Refusal::TokenRefused => at(
                "token",
                "The trust token was used already, has expired or is not of this server. Make another:\n\n    incus config trust add <name>",
            ),
            _ => root(""),
        },
        _ => root(""),
    }
}

/// What a host lacks: the reasons of Incus 6.0 to 7.3 name the device or the program.
fn no_virtual_machines(reason: &str) -> String {
    let low = reason.to_lowercase();
    let mend = if low.contains("vsock") {
        "Load its kernel module, now and at each boot:\n\n    modprobe vhost_vsock\n    echo vhost_vsock > /etc/modules-load.d/vhost_vsock.conf"
    } else if low.contains("kvm") {
        "Switch virtualisation on in the firmware of the host, or nested virtualisation where the host is a virtual machine, and look:\n\n    \
         ls -l /dev/kvm"
    } else if low.contains("qemu") {
        "Install QEMU on it:\n\n    apt install qemu-system-x86 ovmf"
    } else {
        "Look there:\n\n    incus info"
    };
    format!(
        "The host of Incus cannot run virtual machines. Phase: created (nothing was made).\n\n{mend}\n\n\
         Then restart Incus, or set `type = \"lxc\"`."
    )
}

fn unreachable_advice(endpoint: &str, fault: &ConnectFault) -> String {
    match fault {
        ConnectFault::NoDaemon => format!(
            "Incus does not answer at {endpoint}; nothing was sent. Start it, or say where it is with `address` or `remote` in the provider block:\n\n    systemctl start incus"
        ),
        ConnectFault::PermissionDenied => format!(
            "This user may not open {endpoint}. Add it to the group `incus-admin` and log in again:\n\n    usermod -aG incus-admin <user>"
        ),
        ConnectFault::WrongCertificate { .. } => format!(
            "{endpoint} shows another certificate than the one that is pinned. If the server was reinstalled, correct `server_certificate` or `server_fingerprint`; if not, somebody is in between."
        ),
        ConnectFault::Untrusted => format!(
            "{endpoint} does not know the client certificate. Make a trust token there and set it as `token` in the provider block:\n\n    incus config trust add <name>"
        ),
        ConnectFault::Timeout => format!("{endpoint} did not answer in time. Check the address and the firewall."),
        ConnectFault::Identity => "Correct `client_certificate` and `client_key` in the provider block.".to_owned(),
        _ => format!("Check that {endpoint} is an Incus server."),
    }
}

/// The error for a create that meets an object which is not left by an interrupted create of this configuration.
#[must_use]
pub fn taken(noun: &str, name: &str, kind: &str, import_id: &str, found: &Found) -> Diagnostic {
    let article = if noun.starts_with('i') { "An" } else { "A" };
    let import = format!("    import {{\n      to = {kind}.<name>\n      id = \"{import_id}\"\n    }}");
    let known = match found {
        Found::Foreign => format!(
            "{article} {noun} \"{name}\" exists already, without a mark that proves that this configuration created it. It was left alone. \
             Choose another name, or import it:\n\n{import}"
        ),
        Found::Ours | Found::Finished(_) => {
            let since = match found {
                Found::Finished(Some(since)) => format!(", since {since}"),
                _ => String::new(),
            };
            format!(
                "{article} {noun} \"{name}\" exists already, with the mark of this state and configuration{since}. It was left alone. If \
                 the state was lost, recover it with one apply, which takes over every such object:\n\n    ANKLUME_RECOVER=1 tofu apply\n\nOr \
                 import it, after its removal from a state that has it:\n\n{import}"
            )
        }
    };
    Diagnostic::error(
        Path::from("name"),
        format!("Unable to create {noun}: the name is already in use"),
        format!(
            "{known}\n\nIf this plan replaces that {noun}, remove `create_before_destroy` from it and from what depends on it: under \
             a fixed name the new one cannot exist beside the old one."
        ),
    )
}

/// The warning of a create that continues an interrupted one.
#[must_use]
pub fn continued(noun: &str, id: &str) -> Diagnostic {
    Diagnostic::warning(
        Path::root(),
        "Continued an interrupted create",
        format!("The {noun} \"{id}\" existed already, created by an earlier apply of this configuration."),
    )
}

/// The error for the delete of an object that the create of its replacement has adopted.
#[must_use]
pub fn nothing_replaced(noun: &str, id: &str) -> Diagnostic {
    Diagnostic::error(
        Path::root(),
        "Nothing was replaced",
        format!(
            "The name of the {noun} \"{id}\" was in use when its replacement was created, so the old object was kept. Take \
             `create_before_destroy` off this resource and off what depends on it, then replace again."
        ),
    )
}

/// The error for an update that meets another object under the name of its own.
#[must_use]
pub fn stranger(noun: &str, name: &str) -> Diagnostic {
    Diagnostic::error(
        Path::from("name"),
        format!("Unable to update {noun}: it was replaced outside Terraform"),
        format!(
            "The {noun} \"{name}\" is not the one of this resource, which no longer exists. Nothing was changed. Delete or rename it, and plan \
             again; to keep it, remove this resource from the state and import it."
        ),
    )
}

/// The warning of a read that finds another object under the name.
#[must_use]
pub fn replaced(noun: &str, id: &str, config: &incus::Config) -> Diagnostic {
    let carries = match marks::carried(config) {
        "" => "carries no mark of this provider",
        _ => "is a copy",
    };
    Diagnostic::warning(
        Path::root(),
        format!("The {noun} was replaced outside Terraform"),
        format!(
            "The {noun} \"{id}\" that exists now {carries}: it is not the one of this resource, which no longer exists. It is left alone. To \
             keep it, run `tofu apply -refresh-only`, then import it."
        ),
    )
}

/// The warning of a read that finds an object which another resource has created or adopted.
#[must_use]
pub fn of_another_resource(noun: &str, id: &str) -> Diagnostic {
    Diagnostic::warning(
        Path::root(),
        format!("The {noun} belongs to another resource"),
        format!(
            "The {noun} \"{id}\" that exists now carries the mark of another resource, which has created or adopted it: an apply that \
             reported `Nothing was replaced` leaves its old object behind like this. Here it counts as deleted, and is left alone."
        ),
    )
}

/// The error for a piece of a domain that somebody else has.
#[must_use]
pub fn stranger_piece(domain: &str, ours: &str, theirs: &str) -> Diagnostic {
    Diagnostic::error(
        Path::root(),
        "A piece of the domain was replaced outside Terraform",
        format!(
            "The {ours} is the one of the domain \"{domain}\", and the {theirs} is not: it was replaced outside Terraform. Nothing was changed. Delete \
             or rename that {theirs}, and plan again: the domain gets its own back."
        ),
    )
}

/// The error for an object without anything in the state that says which one it is.
#[must_use]
pub fn unidentified(noun: &str, id: &str) -> Diagnostic {
    Diagnostic::error(
        Path::root(),
        format!("Unable to identify {noun}"),
        format!(
            "The state does not say which object the {noun} \"{id}\" is: it was written by an earlier version of the provider that ended \
             before it was done. Nothing was changed. Remove the resource from the state and import it:\n\n    tofu state rm \
             anklume_{noun}.<name>\n    tofu import anklume_{noun}.<name> {id}"
        ),
    )
}

/// The error for the destruction of an import that nothing tells from another object of its name.
#[must_use]
pub fn unmarked(noun: &str, id: &str) -> Diagnostic {
    Diagnostic::error(
        Path::root(),
        format!("Unable to delete {noun}: it is not marked yet"),
        format!(
            "The {noun} \"{id}\" was imported and not changed since, so that it carries no mark that tells it from another one of this \
             name. Nothing was deleted. Change something of it, such as its `description`, and apply, which marks it; then destroy it. Or \
             remove it from the state and delete it with the `incus` command:\n\n    tofu state rm anklume_{noun}.<name>"
        ),
    )
}

/// The error for a state whose objects another server has.
#[must_use]
pub fn another_server(endpoint: &Endpoint, kept: &str, now: &str) -> Diagnostic {
    Diagnostic::error(
        Path::root(),
        "Another Incus server",
        format!(
            "The objects of this state are on the Incus server with the certificate {kept}, and {endpoint} has the certificate {now} and \
             none of them. Nothing was changed. Check `remote` and `address` of the provider block, `INCUS_REMOTE` and the other variables. If \
             the server was reinstalled, or the objects shall be created anew on this one, accept it by its certificate:\n\n    \
             provider \"anklume\" {{\n      accept_server = \"{now}\"\n    }}"
        ),
    )
}

/// The error for a value that the provider itself cannot read: a defect.
#[must_use]
pub fn defect(what: &str, cause: impl Display) -> Diagnostic {
    Diagnostic::error(
        Path::root(),
        format!("Unable to read {what}"),
        format!("This is a defect of the provider; please report it.\n\nCause: {cause}"),
    )
}

/// A nesting prefix that differs from the one an object was made with.
///
/// # Errors
///
/// When `kept` is set and differs from `prefix`.
pub fn same_prefix(kept: Option<&str>, prefix: &str) -> Result<(), Diagnostics> {
    match kept {
        Some(kept) if kept != prefix => Err(Diagnostic::error(
            Path::root(),
            "Another nesting prefix",
            format!(
                "This object was made with the nesting prefix \"{}\", and the provider has \"{}\" now. Set `nesting_prefix` back, or destroy with the old one first.",
                kept.trim_end_matches('-'),
                prefix.trim_end_matches('-')
            ),
        )
        .into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(method: &str, may_have_been_sent: bool) -> Error {
        Error::Lost { method: method.into(), path: "/1.0/x".into(), may_have_been_sent, source: None }
    }

    #[test]
    fn a_failure_says_whether_anything_was_sent_and_what_to_do() {
        let (endpoint, fault) = ("unix:///run/incus/unix.socket".to_owned(), ConnectFault::NoDaemon);
        let late = |may_have_been_sent| Error::Deadline { what: "x".into(), last: None, may_have_been_sent };
        let answer = |method: &str| Error::Answer { method: method.into(), path: "/1.0/x".into(), source: None };
        for (error, said) in [
            (Error::Connect { endpoint, fault, source: None }, "nothing was sent"),
            (lost("POST", false), "Nothing was sent. Apply again"),
            (lost("POST", true), "Whether Incus carried it out is not known. Apply again"),
            (lost("GET", false), "nothing was changed by it. Apply again"),
            (answer("GET"), "nothing was changed by it. Apply again"),
            (answer("PUT"), "Whether Incus carried it out is not known. Apply again"),
            (Error::OperationGone { id: "x".into() }, "Whether Incus carried it out is not known. Apply again"),
            (Error::OperationCancelled { id: "x".into() }, "may have been carried out. Apply again"),
            (late(true), "It may have been carried out, or still be under way"),
            (late(false), "Nothing was changed by it"),
            (Error::refused(503, "Daemon setup in progress"), "did nothing. Apply again"),
            (Error::refused(500, "x: database is locked"), "may have been carried out. Apply again"),
        ] {
            let told = diagnostic("Unable to x", &error).detail;
            assert!(told.contains(said), "{told}");
        }
    }
}
