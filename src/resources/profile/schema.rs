//! The attributes of `anklume_profile`.

use crate::incus::instance::PROTECTION;
use crate::plugin::{Attribute, Diagnostics, Path, Schema, Type, Value};
use crate::resources::{cloud_init, keys, name, timeouts, uid};

pub(super) fn schema() -> Schema {
    Schema::new(
        0,
        "A profile of a domain: configuration and devices that several instances share. The profile `default` belongs to the domain. \
         A profile that is destroyed or replaced is detached from the instances of this state, and its replacement takes its place in their \
         lists. Virtual machines that run, and instances that have their root disk from it, have to be changed first.",
        vec![
            Attribute::string("id").computed().describe("`<domain>/<name>`."),
            Attribute::string("name")
                .required()
                .check(name::profile)
                .describe("Name of the profile, unique in its domain. A change renames it in place; its users follow."),
            Attribute::string("domain")
                .required()
                .replace()
                .check(name::domain)
                .describe("Name of the domain. A change replaces the profile."),
            Attribute::string("description").optional().describe("Free text."),
            Attribute::map("config", Type::String)
                .optional()
                .describe("Keys as Incus documents them, such as `limits.cpu`."),
            Attribute::map("devices", Type::map(Type::String))
                .optional()
                .describe("Devices by name, each with its keys, as Incus documents them."),
            cloud_init::attribute(
                "What cloud-init reads inside the instances that use the profile, at their first boot.",
            ),
            uid::attribute(),
            timeouts::attribute(),
        ],
    )
}

/// Refuses the protection among the rest: each instance has an attribute for it, which a plan reads before it destroys.
pub(super) fn validate(config: &Value, problems: &mut Diagnostics) {
    keys::refused(config.get("config"), &Path::from("config"), cloud_init::OWN, problems);
    if config.get("config").as_map().is_some_and(|map| map.contains_key(PROTECTION)) {
        problems.error(
            Path::from("config").key(PROTECTION),
            "Protection in a profile",
            format!(
                "`{PROTECTION}` in a profile would protect every instance that uses it, unseen by their plans. Remove it here and set \
                 `delete_protection` of each instance, or of the provider for all of them."
            ),
        );
    }
    keys::devices(config.get("devices"), problems);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_sound() {
        assert_eq!(schema().problems(), Vec::<String>::new());
    }

    #[test]
    fn keys_with_an_attribute_elsewhere_are_refused() {
        let problems = |key: &str| {
            let map = Value::Map([(key.to_owned(), "x".into())].into());
            let mut problems = Diagnostics::default();
            validate(&Value::Map([("config".to_owned(), map)].into()), &mut problems);
            problems.iter().map(|problem| problem.detail.clone()).collect::<Vec<_>>()
        };
        assert!(problems("cloud-init.user-data")[0].contains("`cloud_init.user_data`"));
        assert!(problems("user.network-config")[0].contains("`cloud_init.network_config`"));
        assert!(problems("security.protection.delete")[0].contains("`delete_protection`"));
        assert!(problems("environment.TOKEN").is_empty() && problems("user.mine").is_empty());
    }
}
