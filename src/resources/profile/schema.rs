//! The attributes of `anklume_profile`.

use crate::plugin::{Attribute, Diagnostics, Path, Schema, Type, Value};
use crate::resources::{keys, name, timeouts};

pub(super) fn schema() -> Schema {
    Schema::new(
        0,
        "A profile of a domain: configuration and devices that several instances share. The profile `default` belongs to the domain. \
         Give profiles `lifecycle { create_before_destroy = true }`: Terraform and OpenTofu destroy a dependency before they update its users.",
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
            timeouts::attribute(),
        ],
    )
}

pub(super) fn validate(config: &Value, problems: &mut Diagnostics) {
    keys::refused(config.get("config"), &Path::from("config"), &[], problems);
    keys::untyped_devices(config.get("devices"), problems);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_sound() {
        assert_eq!(schema().problems(), Vec::<String>::new());
    }
}
