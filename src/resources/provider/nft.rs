//! `nft = { via, destination, sudo }`: where the firewall is.

use crate::plugin::{Attribute, Diagnostics, Path, Problem, Value};

/// Where nft runs, as the provider block says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nft {
    /// The block says nothing of it: here, if the Incus is that of this machine.
    Unset {
        /// Whether it is run by `sudo -n`.
        sudo: bool,
    },
    /// Known only after an apply.
    Unknown,
    /// On this machine.
    Local {
        /// Whether it is run by `sudo -n`.
        sudo: bool,
    },
    /// On another, by OpenSSH's client.
    Ssh {
        /// As ssh takes it.
        destination: String,
        /// Whether it is run by `sudo -n` there.
        sudo: bool,
    },
}

impl Default for Nft {
    fn default() -> Self {
        Self::Unset { sudo: false }
    }
}

impl Nft {
    /// Reads the attribute; what [`validate`] refuses reads as the nearest that it allows.
    pub(super) fn of(block: &Value) -> Self {
        if block.has_unknown() {
            return Self::Unknown;
        }
        let sudo = block.get("sudo").as_bool().unwrap_or_default();
        match (block.get("via").as_str(), block.get("destination").as_str()) {
            (Some("ssh"), Some(destination)) => Self::Ssh { destination: destination.to_owned(), sudo },
            (Some(_), _) => Self::Local { sudo },
            (None, _) => Self::Unset { sudo },
        }
    }
}

/// The attribute of the provider block.
pub(super) fn attribute() -> Attribute {
    Attribute::single(
        "nft",
        vec![
            Attribute::string("via").optional().check(via).describe(
                "`local`: on this machine. `ssh`: on `destination`, by OpenSSH's own client with its configuration, agent and known \
                 hosts; a key that is not known is refused, and nothing ever asks for a password. Unset: this machine, unless Incus is \
                 reached by an `https` address; then it has to be said.",
            ),
            Attribute::string("destination")
                .optional()
                .check(destination)
                .describe("The Incus host as ssh takes it: `host`, `user@host`, or a name of its configuration."),
            Attribute::bool("sudo").optional().describe("Run nft by `sudo -n`, where the user is not root. Default: false."),
        ],
    )
    .optional()
    .describe("Where `anklume_nft_isolation` finds the firewall of the Incus host.")
}

fn via(value: &Value) -> Result<(), Problem> {
    match value.as_str() {
        Some(text) if !["local", "ssh"].contains(&text) => Err(Problem::new(
            "Unknown way to nft",
            format!("{text:?} is neither \"local\" nor \"ssh\". Write one of them."),
        )),
        _ => Ok(()),
    }
}

fn destination(value: &Value) -> Result<(), Problem> {
    let parsed = value.as_str().map(str::parse::<crate::nft::Destination>).transpose();
    parsed.map(drop).map_err(|error| Problem::new("Invalid destination of ssh", format!("{error}.")))
}

/// What goes with what.
pub(super) fn validate(block: &Value, problems: &mut Diagnostics) {
    let at = Path::from("nft").attribute("destination");
    match (block.get("via").as_str(), block.get("destination")) {
        (Some("ssh"), Value::Null) => problems.error(
            at,
            "Where to connect to is missing",
            "`via = \"ssh\"` needs `destination`: the Incus host, as `ssh` takes it, such as \"root@host\".",
        ),
        (Some("local") | None, destination) if !block.get("via").is_unknown() && !destination.is_null() => problems
            .error(
                at,
                "Attributes that exclude each other",
                "`destination` is for `via = \"ssh\"`. Remove it, or write `via = \"ssh\"`.",
            ),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn block(json: serde_json::Value) -> Value {
        Value::from_json(&json)
    }

    #[test]
    fn a_destination_goes_with_ssh() {
        let problems = |json| {
            let mut problems = Diagnostics::default();
            validate(&block(json), &mut problems);
            problems.iter().map(|problem| problem.path.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(problems(json!({"via": "ssh", "destination": null})), ["nft.destination"]);
        assert_eq!(problems(json!({"via": "local", "destination": "host"})), ["nft.destination"]);
        assert_eq!(problems(json!({"via": null, "destination": "host"})), ["nft.destination"]);
        assert!(problems(json!({"via": "ssh", "destination": "host"})).is_empty());
        assert!(problems(json!(null)).is_empty());
    }

    #[test]
    fn an_unset_block_is_told_from_one_that_says_local() {
        assert_eq!(Nft::of(&Value::Null), Nft::default());
        assert_eq!(Nft::of(&block(json!({"via": "local", "sudo": true}))), Nft::Local { sudo: true });
        let ssh = Nft::of(&block(json!({"via": "ssh", "destination": "root@host", "sudo": null})));
        assert_eq!(ssh, Nft::Ssh { destination: "root@host".into(), sudo: false });
    }
}
