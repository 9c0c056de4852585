//! The provider block and the resources behind it.

mod nft;
mod owner;

use std::collections::BTreeMap;

use serde::Deserialize;

use super::domain::{Addressing, Trust};
use super::session::{ImageServer, Options, Preset, Session};
use super::{domain, instance, nft_isolation, profile, refusal, volume};
use crate::incus::remote;
use crate::plugin::{self, Attribute, Diagnostic, Diagnostics, Problem, Provider, Resource, Schema, Value};

pub use nft::Nft;

/// The provider `anklume`.
pub struct Anklume;

impl Provider for Anklume {
    type Session = Session;

    fn schema(&self) -> Schema {
        Schema::new(
            0,
            "Compartments on [Incus](https://linuxcontainers.org/incus/): domains, and the containers and virtual machines in them. \
             With an empty block the provider talks to the same Incus as the `incus` command.",
            attributes(),
        )
    }

    fn validate(&self, config: &Value, problems: &mut Diagnostics) {
        let both = |left: &str, right: &str| !config.get(left).is_null() && !config.get(right).is_null();
        for (left, right, detail) in [
            (
                "remote",
                "address",
                "`remote` names a server of the Incus CLI, `address` gives one directly. Keep one of them.",
            ),
            ("server_certificate", "server_fingerprint", "Both pin the server. Keep one of them."),
        ] {
            if both(left, right) {
                problems.error(plugin::Path::from(right), "Attributes that exclude each other", detail);
            }
        }
        for (one, other) in [("client_certificate", "client_key"), ("client_key", "client_certificate")] {
            if !config.get(one).is_null() && config.get(other).is_null() {
                problems.error(
                    plugin::Path::from(one),
                    "Incomplete client pair",
                    format!("`{one}` needs `{other}` beside it."),
                );
            }
        }
        if let Err(problem) = addressing(config.get("addressing")) {
            problems.error(plugin::Path::from("addressing"), problem.summary, problem.detail);
        }
        nft::validate(config.get("nft"), problems);
    }

    fn configure(&self, config: Value, _client_version: &str) -> Result<Session, Diagnostics> {
        let mut diagnostics = Diagnostics::default();
        let block: Block = match config.decode() {
            Ok(block) => block,
            Err(error) => {
                diagnostics.error(plugin::Path::root(), "Unable to read the provider block", format!("Cause: {error}"));
                return Err(diagnostics);
            }
        };
        let addressing = addressing(config.get("addressing")).map_err(|problem| {
            diagnostics.error(plugin::Path::from("addressing"), problem.summary, problem.detail);
            std::mem::take(&mut diagnostics)
        })?;
        let unknown = CONNECTION.into_iter().find(|name| config.get(name).is_unknown());
        let options = Options { unknown, ..block.into_options(&config, addressing) };
        if unknown.is_none()
            && let Err(error) = remote::check(&options.remote, &remote::Environment::of_process())
        {
            return Err(at_its_attribute(refusal::unresolved(&error), &config).into());
        }
        Ok(Session::new(options))
    }

    fn applies(&self, session: &Session) {
        session.walk.end();
    }

    fn resources(&self) -> Vec<Box<dyn Resource<Session>>> {
        vec![
            Box::new(domain::Domain),
            Box::new(instance::Instance),
            Box::new(profile::Profile),
            Box::new(volume::Volume),
            Box::new(nft_isolation::NftIsolation),
        ]
    }
}

/// What the block does not set came from the environment or is missing: told where the block says which Incus it is.
fn at_its_attribute(told: Diagnostic, config: &Value) -> Diagnostic {
    if !told.path.lookup(config).is_null() {
        return told;
    }
    let named = ["address", "remote"].into_iter().find(|name| !config.get(name).is_null());
    Diagnostic { path: named.map_or_else(plugin::Path::root, plugin::Path::from), ..told }
}

/// Without these it is not known which Incus is meant, or which objects there.
const CONNECTION: [&str; 11] = [
    "remote",
    "address",
    "config_dir",
    "client_certificate",
    "client_key",
    "server_certificate",
    "server_fingerprint",
    "token",
    "accept_remote_certificate",
    "owner",
    "nesting_prefix",
];

/// The provider block as it is configured; what is unknown reads as unset.
#[derive(Deserialize)]
struct Block {
    remote: Option<String>,
    address: Option<String>,
    config_dir: Option<String>,
    client_certificate: Option<String>,
    client_key: Option<String>,
    server_certificate: Option<String>,
    server_fingerprint: Option<String>,
    token: Option<String>,
    accept_remote_certificate: Option<bool>,
    accept_server: Option<String>,
    owner: Option<String>,
    nesting_prefix: Option<String>,
    default_image: Option<String>,
    delete_protection: Option<bool>,
    images: Option<BTreeMap<String, ImageBlock>>,
}

#[derive(Deserialize)]
struct ImageBlock {
    address: String,
    protocol: Option<String>,
}

impl Block {
    /// What is unknown reads as unset, but for the presets, which `config` tells.
    fn into_options(self, config: &Value, addressing: Addressing) -> Options {
        let Self {
            remote,
            address,
            config_dir,
            client_certificate,
            client_key,
            server_certificate,
            server_fingerprint,
            token,
            accept_remote_certificate,
            accept_server,
            owner,
            nesting_prefix,
            default_image,
            delete_protection,
            images,
        } = self;
        let environment = owner::Environment::of_process();
        Options {
            unknown: None,
            remote: remote::Settings {
                remote,
                address,
                config_dir: config_dir.map(Into::into),
                client_certificate,
                client_key,
                server_certificate,
                server_fingerprint,
                token,
                accept_remote_certificate,
            },
            owner: owner.unwrap_or_else(|| owner::default(&environment)),
            legacy_owner: owner::legacy(&environment),
            recovers: std::env::var_os("ANKLUME_RECOVER").is_some_and(|value| value == "1"),
            accept_server,
            addressing,
            prefix: nesting_prefix.map(|digits| format!("{digits}-")).unwrap_or_default(),
            default_image: Preset::of(config.get("default_image"), default_image),
            delete_protection: Preset::of(config.get("delete_protection"), delete_protection),
            nft: Nft::of(config.get("nft")),
            images_unknown: config.get("images").has_unknown(),
            images: images
                .unwrap_or_default()
                .into_iter()
                .map(|(name, block)| {
                    let protocol = block.protocol.unwrap_or_else(|| "simplestreams".to_owned());
                    (name, ImageServer { address: block.address, protocol })
                })
                .collect(),
        }
    }
}

fn addressing(block: &Value) -> Result<Addressing, Problem> {
    let octet = |name: &str, default: u8| match block.get(name) {
        Value::Null | Value::Unknown => Ok(default),
        value => value
            .as_i64()
            .and_then(|number| u8::try_from(number).ok())
            .ok_or_else(|| Problem::new("Invalid octet", format!("`addressing.{name}` is not between 0 and 255."))),
    };
    let defaults = Addressing::default();
    let addressing = Addressing {
        base_octet: octet("base_octet", defaults.base_octet)?,
        zone_base: octet("zone_base", defaults.zone_base)?,
    };
    for trust in [Trust::Admin, Trust::Disposable] {
        let first = addressing.subnet(trust, 0)?;
        if !first.is_private() {
            return Err(Problem::new(
                "Addresses outside of the private networks",
                format!(
                    "The zone \"{}\" would begin at {first}, which is not private (RFC 1918, RFC 6598). Use `base_octet = 10`.",
                    trust.as_str()
                ),
            ));
        }
    }
    Ok(addressing)
}

fn nesting_prefix(value: &Value) -> Result<(), Problem> {
    match value.as_str() {
        Some(text) if text.len() != 3 || !text.bytes().all(|byte| byte.is_ascii_digit()) => Err(Problem::new(
            "Invalid nesting prefix",
            format!("\"{text}\" is not three digits. Write the level as \"001\"; the `-` after it is added."),
        )),
        _ => Ok(()),
    }
}

fn accept_server(value: &Value) -> Result<(), Problem> {
    match value.as_str() {
        Some(text)
            if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) =>
        {
            Err(Problem::new(
                "Invalid certificate fingerprint",
                "Write the 64 hexadecimal digits that `incus info` shows as `certificate_fingerprint`, in lower case.",
            ))
        }
        _ => Ok(()),
    }
}

fn protocol(value: &Value) -> Result<(), Problem> {
    match value.as_str() {
        Some(text) if !["simplestreams", "incus", "oci"].contains(&text) => Err(Problem::new(
            "Unknown image protocol",
            format!("\"{text}\" is not a protocol of image servers. Use \"simplestreams\", \"incus\" or \"oci\"."),
        )),
        _ => Ok(()),
    }
}

fn attributes() -> Vec<Attribute> {
    vec![
        Attribute::string("remote").optional().describe("Name of a remote in the Incus CLI's `config.yml`; its `project` has no part, as each domain is one. Excludes `address`."),
        Attribute::string("address")
            .optional()
            .describe("Where Incus answers: `unix:///path/to/unix.socket` or `https://host:8443`. Unset: `INCUS_REMOTE`, `INCUS_ADDR`, the local socket where `INCUS_SOCKET` or `INCUS_DIR` says which, the server of `token`, the CLI's default remote."),
        Attribute::string("config_dir").optional().describe("Directory of the Incus CLI's configuration. Unset: `INCUS_CONF`, then `~/.config/incus`."),
        Attribute::string("client_certificate").optional().describe("Client certificate in PEM; needs `client_key`. Unset: the CLI's own."),
        Attribute::string("client_key").optional().sensitive().describe("Private key of `client_certificate`, in PEM."),
        Attribute::string("server_certificate").optional().describe("The server's certificate in PEM, pinned exactly."),
        Attribute::string("server_fingerprint").optional().describe("SHA-256 of the server's certificate, 64 hexadecimal digits, pinned exactly."),
        Attribute::string("token")
            .optional()
            .sensitive()
            .describe("One-time trust token of `incus config trust add`: adds the client's certificate at the first connection."),
        Attribute::bool("accept_remote_certificate")
            .optional()
            .describe("Trust any certificate of an `https` address. For throw-away servers only: it gives up the protection of the connection."),
        Attribute::string("accept_server").optional().check(accept_server).describe(
            "SHA-256 of the certificate of an Incus server that has none of the objects of this state, as the error \"Another Incus server\" \
             prints it: they are created there. It has no effect on any other server, so it can stay.",
        ),
        Attribute::string("owner")
            .optional()
            .describe(
                "Names the one state that this configuration is applied to, never a team or a machine that has several states. \
                 An apply continues what an interrupted one created, and a destroy detaches a volume from instances, only \
                 under the same `owner`. Unset: the location of the backend that `init` recorded, without credentials, and \
                 the workspace; `organization/workspace` in HCP Terraform; for a local state the directory (path and inode), \
                 the user, `/etc/machine-id` and the workspace; under `tofu test` and `terraform test` a random one for each \
                 run. Set it, to a different value for each state, if a local state is applied from changing directories, \
                 machines or containers, as in CI; if one directory keeps several states (`-state=`); or if states of an \
                 `http` backend differ only in the query of the address.",
            ),
        Attribute::single(
            "addressing",
            vec![
                Attribute::number("base_octet").optional().describe("First octet of every domain's subnet; 10 when unset."),
                Attribute::number("zone_base").optional().describe("Second octet of the zone `admin`; the other trust levels are 10, 20, 40 and 50 above it. 100 when unset."),
            ],
        )
        .optional()
        .describe("How the subnets of domains are laid out. A change does not touch domains that exist."),
        Attribute::string("nesting_prefix")
            .optional()
            .check(nesting_prefix)
            .describe("Three digits that are put, with a `-`, before the names of projects, bridges and instances in Incus, such as `\"001\"` for the first level of nesting. Never part of `name` or `id`."),
        Attribute::string("default_image").optional().describe("Image of instances that set none."),
        Attribute::bool("delete_protection").optional().describe("Default of `delete_protection` for instances. Unset: each resource's own."),
        Attribute::nested_map(
            "images",
            vec![
                Attribute::string("address").required().describe("URL of the server."),
                Attribute::string("protocol").optional().check(protocol).describe("`simplestreams` (default), `incus` or `oci`."),
            ],
        )
        .optional()
        .describe("Image servers by the name that stands before the colon of `image`. `images` is the public server unless given here."),
        nft::attribute(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configure(pairs: &[(&str, Value)]) -> Result<(), Diagnostics> {
        let config = pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Anklume.configure(Value::Map(config), "").map(drop)
    }

    #[test]
    fn a_fixed_form_is_refused_at_its_attribute_before_anything_connects() {
        for (pairs, at) in [
            (vec![("address", "http://h".into())], "address"),
            (vec![("address", "https://h".into()), ("config_dir", "/nonexistent".into())], "address"),
            (vec![("token", "garbage".into())], "token"),
            (
                vec![("address", "https://h".into()), ("server_certificate", "/nonexistent".into())],
                "server_certificate",
            ),
        ] {
            let refused = configure(&pairs).unwrap_err();
            assert_eq!(refused.iter().map(|told| told.path.clone()).collect::<Vec<_>>(), [plugin::Path::from(at)]);
        }
    }

    #[test]
    fn what_is_unknown_or_not_there_yet_is_no_problem() {
        configure(&[("address", Value::Unknown), ("server_certificate", "/nonexistent".into())]).unwrap();
        configure(&[("address", "unix:///nonexistent/unix.socket".into())]).unwrap();
    }
}
