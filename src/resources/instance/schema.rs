//! The form of `anklume_instance`.

use super::volumes;
use crate::plugin::{Attribute, Problem, Schema, Type, Value};
use crate::resources::{cloud_init, duration, expiry, name, schedule, size, timeouts, uid};

/// Every attribute, with what the documentation says of it.
pub(super) fn schema() -> Schema {
    let mut attributes = identity();
    attributes.extend(content());
    attributes.extend(life());
    attributes.extend(computed());
    Schema::new(
        0,
        "An instance in a domain: an LXC container, or a KVM virtual machine. `tofu apply` ends when it is usable: it runs, \
         the agent of a virtual machine answers, and it has its addresses.",
        attributes,
    )
}

fn identity() -> Vec<Attribute> {
    vec![
        Attribute::string("name")
            .required()
            .check(name::instance)
            .describe("Its name, which is its host name too. A change renames it in place, with a stop and a start if it runs."),
        Attribute::string("domain")
            .required()
            .replace()
            .check(name::domain)
            .describe("The `anklume_domain` that it lives in. A change replaces it."),
        Attribute::string("description").optional().describe("Free text."),
        Attribute::string("type")
            .default("lxc")
            .replace()
            .check(kind)
            .describe("`lxc` (a container, the default) or `vm` (a virtual machine). A change replaces it."),
        Attribute::string("image").optional_computed().check(image).describe(
            "`images:debian/13`, an alias on the Incus server, or a fingerprint; the variant for the `type` is taken. Unset: the \
             provider's `default_image`, read once at creation. A change of the text replaces the instance, an alias that moves \
             does not. A text that is known only after apply replaces nothing by itself: if it turns out to be another one, this apply \
             stops and the next plan shows the replacement.",
        ),
    ]
}

fn content() -> Vec<Attribute> {
    let device = Type::map(Type::String);
    vec![
        Attribute::list("profiles", Type::String)
            .default(vec!["default"])
            .describe("Profiles of the domain in order, later ones win. Default: `[\"default\"]`."),
        Attribute::map("config", Type::String)
            .optional()
            .describe("Configuration keys of Incus, such as `limits.cpu`. A key with an attribute of its own is refused."),
        Attribute::map("devices", device).optional().describe("Devices by name, each with its keys as in Incus."),
        Attribute::single(
            "root_disk",
            vec![
                Attribute::string("size")
                    .optional()
                    .check(size::check)
                    .canonical(size::canonical)
                    .describe("Its size, such as `20GiB`. It grows in place."),
                Attribute::string("pool")
                    .optional_computed()
                    .describe("Its storage pool; unset: the profile's. A change moves it in place, with a stop and a start if the instance runs; cloud-init then \
                         takes it for a new instance. Refused while `ephemeral` is true."),
            ],
        )
        .optional()
        .describe("The root disk, where it differs from the profile's."),
        volumes::attribute(),
        Attribute::string("ipv4_address").optional_computed().check(ipv4).describe(
            "The address of `eth0`. Set: static, in the domain's `static_range`; `eth0` is then a copy of the profiles' device, and where \
             that changes later the plan shows the old copy in `devices` and copies it anew. Unset: given by DHCP, and known when apply \
             ends.",
        ),
        Attribute::bool("nesting").optional().describe(
            "Whether containers may run inside (containers only). True sets `security.nesting`, and \
             `security.syscalls.intercept.mknod` and `.setxattr` with it.",
        ),
        Attribute::bool("secure_boot").optional().describe("Secure boot (virtual machines only)."),
        Attribute::bool("csm").optional().describe("Boot by BIOS rather than UEFI (virtual machines only); needs `secure_boot = false`."),
        cloud_init::attribute(
            "What cloud-init reads inside. A change is seen by cloud-init at the next first boot only.",
        ),
    ]
}

fn life() -> Vec<Attribute> {
    vec![
        Attribute::bool("running").default(true).describe("Whether it runs. Default: true."),
        Attribute::bool("ephemeral").default(false).describe("Whether a stop deletes it, as in Incus. Default: false."),
        Attribute::bool("delete_protection").optional_computed().describe(
            "Whether destruction is refused. Default: that of the provider, else the opposite of `ephemeral`. To destroy or \
             replace the instance, set it to false and apply first.",
        ),
        Attribute::bool("boot_autostart").optional().describe("Whether it starts with the host. Unset: as it was when the host stopped."),
        Attribute::number("boot_priority").optional().check(priority).describe("0 to 100; higher ones start first."),
        schedule::attribute(),
        expiry::attribute(),
        Attribute::single("wait", wait()).optional().describe("What apply waits for."),
        Attribute::string("stop_timeout")
            .default("30s")
            .check(duration::check)
            .canonical(duration::canonical)
            .describe("How long the guest may take to stop before it is forced. `0s`: at once. Default: `30s`."),
        Attribute::bool("restart_on_update").default(true).describe(
            "Whether a change that Incus applies at a start only restarts a running instance; the plan warns. Default: true.",
        ),
        timeouts::attribute(),
    ]
}

/// The members of `wait`.
pub(super) const WAIT: [&str; 7] =
    ["boot_timeout", "agent", "agent_timeout", "addresses", "addresses_timeout", "cloud_init", "on_failure"];

fn wait() -> Vec<Attribute> {
    let time = |name: &str, what: &str| {
        Attribute::string(name).optional().check(duration::check).canonical(duration::canonical).describe(what)
    };
    let flag = |name: &str, what: &str| Attribute::bool(name).optional().describe(what);
    vec![
        time("boot_timeout", "How long it may take to run, from its start on. Default: `60s` for `lxc`, `120s` for `vm`."),
        flag(
            "agent",
            "Whether to wait until the agent answers, so that `incus exec` works (virtual machines only). Default: true. \
             Images without the agent need false.",
        ),
        time("agent_timeout", "How long the agent may take, from running on; passing it is a failure. Default: `60s`."),
        flag("addresses", "Whether to wait for an IPv4 address on `eth0`. Default: true where it comes by DHCP."),
        time("addresses_timeout", "How long to wait for addresses; passing it is a warning. Default: `30s`."),
        flag(
            "cloud_init",
            "Whether to wait until cloud-init is through; a failed module is a failure. `timeouts` bound it. Default: false.",
        ),
        Attribute::string("on_failure").optional().check(on_failure).describe(
            "`fail` (default): an instance that is not usable in time fails the apply, and is tainted. `warn`: the apply goes on.",
        ),
    ]
}

fn computed() -> Vec<Attribute> {
    let text = |name: &str, what: &str| Attribute::string(name).computed().describe(what);
    vec![
        text("id", "`<domain>/<name>`."),
        uid::attribute(),
        text(
            "owner",
            "Hash of the provider's `owner` under which the instance was written last. Under another one the plan shows an update that writes it.",
        ),
        text("status", "`Running`, `Stopped`, `Frozen` or `Error`."),
        text("ipv6_address", "The first global IPv6 address of `eth0`."),
        Attribute::nested_map(
            "interfaces",
            vec![
                text("name", "Its name in the guest."),
                text("mac", "Its MAC address."),
                Attribute::list("addresses", Type::String).computed().describe("Its global addresses."),
            ],
        )
        .computed()
        .describe("Network interfaces by device."),
        text("location", "The member of the cluster that it is on; `none` without a cluster."),
        text("image_fingerprint", "Fingerprint of the image that it was made from."),
    ]
}

fn one_of(value: &Value, allowed: [&str; 2], summary: &str) -> Result<(), Problem> {
    match value.as_str() {
        Some(text) if !allowed.contains(&text) => {
            let [first, second] = allowed;
            Err(Problem::new(
                summary,
                format!("\"{text}\" is neither \"{first}\" nor \"{second}\". Write one of them."),
            ))
        }
        _ => Ok(()),
    }
}

fn kind(value: &Value) -> Result<(), Problem> {
    one_of(value, ["lxc", "vm"], "Unknown instance type")
}

fn on_failure(value: &Value) -> Result<(), Problem> {
    one_of(value, ["fail", "warn"], "Invalid value of on_failure")
}

fn image(value: &Value) -> Result<(), Problem> {
    match value.as_str() {
        Some("") => Err(Problem::new(
            "Empty image",
            "Write an image such as \"images:debian/13\", or leave `image` out for the provider's `default_image`.",
        )),
        _ => Ok(()),
    }
}

fn ipv4(value: &Value) -> Result<(), Problem> {
    let Some(text) = value.as_str() else { return Ok(()) };
    text.parse::<std::net::Ipv4Addr>().map(|_| ()).map_err(|_| {
        Problem::new(
            "Invalid IPv4 address",
            format!("\"{text}\" is not an IPv4 address. Write it plainly, without a mask: \"10.120.0.10\"."),
        )
    })
}

fn priority(value: &Value) -> Result<(), Problem> {
    match value {
        Value::Number(_) if !value.as_i64().is_some_and(|number| (0..=100).contains(&number)) => Err(Problem::new(
            "Boot priority out of range",
            "Write a whole number from 0 to 100; higher ones start first.",
        )),
        _ => Ok(()),
    }
}
