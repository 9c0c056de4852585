//! The attributes of `anklume_domain`.

use ipnet::Ipv6Net;

use super::subnet::{Subnet, Trust};
use crate::plugin::{Attribute, Diagnostics, Path, Problem, Schema, Value};
use crate::resources::keys::{self, Own};
use crate::resources::{name, timeouts, uid};

/// Project keys that have an attribute, or that make the project a compartment.
pub(super) const PROJECT_KEYS: &[Own] = &[
    ("features.images", "none: images are shared with the project default"),
    ("features.networks", "none: the bridge lies in the project default"),
    ("features.networks.zones", "none: zones lie in the project default"),
    ("features.profiles", "none: a domain has its own profiles"),
    ("features.storage.volumes", "none: a domain has its own volumes"),
    ("features.storage.buckets", "none: a domain has its own buckets"),
];

/// Network keys that have an attribute.
pub(super) const NETWORK_KEYS: &[Own] = &[
    ("ipv4.address", "subnet"),
    ("ipv4.dhcp", "subnet"),
    ("ipv4.dhcp.ranges", "subnet"),
    ("ipv4.nat", "nat"),
    ("ipv6.address", "ipv6"),
    ("ipv6.nat", "nat"),
];

pub(super) fn schema() -> Schema {
    Schema::new(
        0,
        "A compartment: an Incus project with its own profiles and volumes, its bridge, and the project's `default` profile \
         (`eth0` on that bridge, a `root` disk), with one life. Images are shared with the project `default`, so one download serves \
         every domain.",
        vec![
            Attribute::string("id").computed().describe("The name."),
            uid::attribute(),
            Attribute::string("name").required().replace().check(name::domain).describe(
                "Name of the domain: lower-case letters, digits and `-`, at most 11 characters (7 with a `nesting_prefix`). A change replaces it.",
            ),
            Attribute::string("description").optional().describe("Free text, on the project and the bridge."),
            Attribute::string("trust_level").default("semi-trusted").check(trust_level).describe(
                "`admin`, `trusted`, `semi-trusted` (default), `untrusted` or `disposable`: which zone of addresses the domain lies in.",
            ),
            Attribute::number("subnet_id").optional_computed().check(subnet_id).describe(
                "Number of the subnet in its zone, 0 to 254. Unset: the lowest free one, chosen once at create and kept. \
                 Set and unset numbers in one zone are not supported: set all of them, or none.",
            ),
            Attribute::string("subnet").optional_computed().check(subnet).describe(
                "The domain's /24, such as `\"10.120.3.0/24\"`. Unset: from the zone and `subnet_id`. Excludes `subnet_id`.",
            ),
            Attribute::bool("nat").default(true).describe("Whether traffic to other networks leaves with the host's address."),
            Attribute::string("ipv6").default("none").check(ipv6).describe(
                "IPv6 on the bridge: `none` (default), `auto` for a random ULA, or the bridge's address with its prefix length.",
            ),
            Attribute::bool("nic_filtering").default(false).describe(
                "Whether the bridge refuses frames with another MAC or IPv4 address than the instance's own. \
                 IPv6 is filtered too where the Incus host is this one and has `br_netfilter` on. \
                 After a change, the next plan brings it to instances with an `ipv4_address`, whose `eth0` is a copy.",
            ),
            Attribute::string("storage_pool").optional_computed().describe("Pool of the root disks. Unset: the only pool there is."),
            Attribute::map("config", crate::plugin::Type::String)
                .optional()
                .describe("Keys of the project, such as `limits.*` and `restricted.*`, as Incus documents them."),
            Attribute::map("network_config", crate::plugin::Type::String)
                .optional()
                .describe("Further keys of the bridge, such as `dns.domain`, as Incus documents them."),
            Attribute::bool("force_destroy").default(false).describe(
                "Whether a destroy may delete what the domain still holds. Protected instances and volumes are never deleted.",
            ),
            Attribute::string("project").computed().describe("Name of the Incus project."),
            Attribute::string("bridge").computed().describe("Name of the bridge."),
            Attribute::string("profile").computed().describe("Name of the domain's own profile, `default`."),
            Attribute::string("gateway").computed().describe("The bridge's IPv4 address, the `.254`."),
            Attribute::string("static_range").computed().describe("Addresses for `ipv4_address` of instances, `.1` to `.99`."),
            Attribute::string("dhcp_range").computed().describe("Addresses that DHCP gives out, `.100` to `.199`."),
            timeouts::attribute(),
        ],
    )
}

pub(super) fn validate(config: &Value, problems: &mut Diagnostics) {
    if !config.get("subnet").is_null() && !config.get("subnet_id").is_null() {
        problems.error(
            Path::from("subnet"),
            "Attributes that exclude each other",
            "`subnet` gives the whole network, `subnet_id` its number in the zone. Keep one of them.",
        );
    }
    keys::refused(config.get("config"), &Path::from("config"), PROJECT_KEYS, problems);
    keys::refused(config.get("network_config"), &Path::from("network_config"), NETWORK_KEYS, problems);
}

fn trust_level(value: &Value) -> Result<(), Problem> {
    match value.as_str() {
        Some(text) if Trust::parse(text).is_none() => {
            let all: Vec<_> = Trust::ALL.iter().map(|level| format!("\"{}\"", level.as_str())).collect();
            Err(Problem::new(
                "Unknown trust level",
                format!("\"{text}\" is not a trust level. Use one of {}.", all.join(", ")),
            ))
        }
        _ => Ok(()),
    }
}

fn subnet_id(value: &Value) -> Result<(), Problem> {
    if value.as_i64().is_some_and(|id| (0..=254).contains(&id)) || !value.is_known() {
        return Ok(());
    }
    Err(Problem::new(
        "Subnet number out of range",
        "`subnet_id` is the third octet of the subnet: a whole number from 0 to 254.",
    ))
}

fn subnet(value: &Value) -> Result<(), Problem> {
    value.as_str().map_or(Ok(()), |text| Subnet::parse(text).map(|_| ()))
}

fn ipv6(value: &Value) -> Result<(), Problem> {
    match value.as_str() {
        Some(text) if !["none", "auto"].contains(&text) && text.parse::<Ipv6Net>().is_err() => Err(Problem::new(
            "Invalid IPv6 address of a bridge",
            format!(
                "\"{text}\" is neither `none` nor `auto` nor an address with a prefix length. Write it as \"fd42:1::1/64\"."
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_sound() {
        assert_eq!(schema().problems(), Vec::<String>::new());
    }

    #[test]
    fn subnet_and_number_exclude_each_other() {
        let mut problems = Diagnostics::default();
        let config = Value::Map([("subnet".into(), "10.1.2.0/24".into()), ("subnet_id".into(), 3_i64.into())].into());
        validate(&config, &mut problems);
        assert!(problems.has_errors());
    }

    #[test]
    fn only_fixed_forms_are_accepted() {
        assert!(trust_level(&"secret".into()).unwrap_err().detail.contains("\"untrusted\""));
        assert!(subnet_id(&255_i64.into()).is_err() && subnet_id(&0_i64.into()).is_ok());
        assert!(ipv6(&"auto".into()).is_ok() && ipv6(&"fd42::1/64".into()).is_ok() && ipv6(&"fd42::1".into()).is_err());
    }
}
