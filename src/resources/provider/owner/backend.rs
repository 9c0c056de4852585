//! The backend record in the data directory, and the location of the state that it describes.
//!
//! Types, fields, variables and defaults are those of OpenTofu 1.12.6 (`internal/backend`, `internal/cloud`). The record
//! holds the arguments as they are written in the configuration and in `-backend-config`: null for an argument that the
//! backend takes from a variable or from its default.

use std::ffi::OsString;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value as Json;

use super::address::{connection_parameters, host_of, is_of_this_machine, without_credentials};
use super::fields::{Arguments, Field, Form, TYPES, Unset};

/// An environment, by the names of its variables.
pub(super) type Variables = dyn Fn(&str) -> Option<OsString>;

/// The value of a variable; an empty one counts as unset, as in the clients.
pub(super) fn variable(variables: &Variables, name: &str) -> Option<String> {
    variables(name).filter(|value| !value.is_empty()).map(|value| value.to_string_lossy().into_owned())
}

/// The backend that `init` recorded.
#[derive(Deserialize)]
pub(super) struct Record {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    config: Json,
}

/// The file that holds a [`Record`]. Terraform writes `state_store` in place of `backend` where a provider keeps the state.
#[derive(Deserialize)]
struct File {
    backend: Option<Record>,
    state_store: Option<Record>,
}

impl Record {
    /// Reads the record of a data directory; nothing where no backend was initialised.
    pub(super) fn read(data: &Path) -> Option<Self> {
        let text = std::fs::read(data.join("terraform.tfstate")).ok()?;
        let file: File = serde_json::from_slice(&text).ok()?;
        let store = || file.state_store.map(|store| Self { kind: format!("state_store {}", store.kind), ..store });
        file.backend.filter(|backend| !backend.kind.is_empty()).or_else(store)
    }

    /// The argument at `path`, whose steps are separated by dots.
    fn argument(&self, path: &str) -> Option<String> {
        let value = path.split('.').try_fold(&self.config, |value, step| value.get(step))?;
        match value {
            Json::String(text) if !text.is_empty() => Some(text.clone()),
            Json::Bool(_) | Json::Number(_) => Some(value.to_string()),
            Json::Array(items) if !items.is_empty() => Some(value.to_string()),
            _ => None,
        }
    }
}

/// The location of a state.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// `organization/workspace` of HCP Terraform, or `hostname/organization/workspace` of another host.
    Hosted(String),
    /// The memory of the client: a state that ends with its process.
    Memory,
    /// The location fields of a backend.
    Fields {
        /// Type of the backend.
        kind: String,
        /// The fields by name.
        fields: Vec<(String, String)>,
        /// The area in which the fields name one state.
        scope: Scope,
    },
}

/// The area in which location fields name one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Everywhere.
    World,
    /// One machine: the address is a loopback address or a Unix socket.
    Machine,
    /// One directory: a local state, or a part of the location is neither in the record nor in a known variable.
    Directory,
}

/// The location of the state of `workspace`; a directory without a record keeps a local state.
pub(super) fn locate(record: Option<&Record>, workspace: &str, variables: &Variables) -> Location {
    let local = Record { kind: "local".to_owned(), config: Json::Null };
    let record = record.unwrap_or(&local);
    let kind = record.kind.as_str();
    if matches!(kind, "local" | "cloud" | "remote")
        && let Some(name) = hosted(record, workspace, variables)
    {
        return Location::Hosted(name);
    }
    let mut reader = Reader { record, variables, fields: Vec::new(), scope: Scope::World };
    match kind {
        "inmem" => return Location::Memory,
        "kubernetes" => reader.cluster(),
        "pg" => reader.database(),
        _ => {}
    }
    match TYPES.iter().find(|(known, _)| *known == kind) {
        Some((_, fields)) => fields.iter().for_each(|field| reader.read(field)),
        None => reader.read_unknown(),
    }
    if kind == "local" {
        reader.scope = Scope::Directory;
    }
    Location::Fields { kind: kind.to_owned(), fields: reader.fields, scope: reader.scope }
}

/// The host of HCP Terraform, which Terraform takes where none is configured. OpenTofu has no default.
const DEFAULT_HOST: &str = "app.terraform.io";

/// The one form of a workspace in HCP Terraform, for `cloud` and `remote` records and for a run on its workers.
///
/// A worker sets `TFC_WORKSPACE_SLUG`, which has no host, and may replace the backend by a local one. So the slug comes
/// before the record, and the host is taken from the record or, but for `remote`, from its variable. A workspace of
/// `remote` with a `prefix` has that prefix in its name; one with a `name` is called `default` by the client.
fn hosted(record: &Record, workspace: &str, variables: &Variables) -> Option<String> {
    let argument = |path: &str, fallback: &str| {
        record.argument(path).or_else(|| if record.kind == "remote" { None } else { variable(variables, fallback) })
    };
    let slug = variable(variables, "TFC_WORKSPACE_SLUG");
    let slug = slug.as_deref().and_then(|slug| slug.split_once('/'));
    let (organization, name) = match slug.filter(|(organization, name)| !organization.is_empty() && !name.is_empty()) {
        Some((organization, name)) => (organization.to_owned(), name.to_owned()),
        None if record.kind == "local" => return None,
        None => {
            let prefix = record.argument("workspaces.prefix").filter(|prefix| !workspace.starts_with(prefix));
            let selected = || format!("{}{workspace}", prefix.unwrap_or_default());
            let name = record.argument("workspaces.name").unwrap_or_else(selected);
            (argument("organization", "TF_CLOUD_ORGANIZATION")?, name)
        }
    };
    let host = argument("hostname", "TF_CLOUD_HOSTNAME").unwrap_or_default().to_lowercase();
    Some(match host.strip_suffix(":443").unwrap_or(&host) {
        "" | DEFAULT_HOST => format!("{organization}/{name}"),
        host => format!("{host}/{organization}/{name}"),
    })
}

/// Collects the location fields of a record.
struct Reader<'a> {
    record: &'a Record,
    variables: &'a Variables,
    fields: Vec<(String, String)>,
    scope: Scope,
}

impl Reader<'_> {
    fn value(&self, arguments: &[&str], variables: &[&str]) -> Option<String> {
        let argument = arguments.iter().find_map(|path| self.record.argument(path));
        argument.or_else(|| variables.iter().find_map(|name| variable(self.variables, name)))
    }

    fn read(&mut self, field: &Field) {
        let arguments = match field.arguments {
            Arguments::Named => &[field.name],
            Arguments::At(paths) => paths,
        };
        match (self.value(arguments, field.variables), field.unset, field.form) {
            (Some(address), _, Form::Address) => self.keep_address(field.name, &address),
            (Some(text), _, Form::Text) => self.keep(field.name, text),
            (None, Unset::Default(text), _) => self.keep(field.name, text.to_owned()),
            (None, Unset::Nothing, _) => {}
            (None, Unset::Unknown, _) => self.scope = Scope::Directory,
        }
    }

    fn keep(&mut self, name: &str, value: String) {
        self.fields.push((name.to_owned(), value));
    }

    fn keep_address(&mut self, name: &str, address: &str) {
        let address = without_credentials(address);
        if is_of_this_machine(host_of(&address)) {
            self.scope = self.scope.max(Scope::Machine);
        }
        self.keep(name, address);
    }

    /// The cluster of the `kubernetes` backend: `host`; else the service address inside of a cluster; else the kubeconfig
    /// files with the context or cluster in them. A file's current context can change, so it names no cluster.
    fn cluster(&mut self) {
        if let Some(host) = self.value(&["host"], &["KUBE_HOST"]) {
            return self.keep_address("host", &host);
        }
        let is_inside = self.value(&["in_cluster_config"], &["KUBE_IN_CLUSTER_CONFIG"]);
        if is_inside.is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True")) {
            for name in ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"] {
                match variable(self.variables, name) {
                    Some(value) => self.keep(name, value),
                    None => self.scope = Scope::Directory,
                }
            }
            return;
        }
        let files = self.value(&["config_path"], &["KUBE_CONFIG_PATH"]);
        let files = files.or_else(|| self.value(&["config_paths"], &["KUBE_CONFIG_PATHS"]));
        let context = self.value(&["config_context"], &["KUBE_CTX"]);
        let cluster = self.value(&["config_context_cluster"], &["KUBE_CTX_CLUSTER"]);
        if files.is_none() || (context.is_none() && cluster.is_none()) {
            self.scope = Scope::Directory;
        }
        for (name, value) in [("config", files), ("context", context), ("cluster", cluster)] {
            if let Some(value) = value {
                self.keep(name, value);
            }
        }
    }

    /// Server and database of the `pg` backend: the same for a URL and for keywords, and without user and password. The
    /// driver (lib/pq 1.11) takes a missing part from PG variables; a database without a name has that of the user.
    fn database(&mut self) {
        let connection = self.value(&["conn_str"], &["PG_CONN_STR"]).unwrap_or_default();
        let mut parameters = connection_parameters(&connection);
        let mut part = |names: &[&str], variables: &[&str]| {
            let set = names.iter().find_map(|name| parameters.remove(*name)).filter(|value| !value.is_empty());
            set.or_else(|| variables.iter().find_map(|name| variable(self.variables, name)))
        };
        let host = part(&["hostaddr", "host"], &["PGHOSTADDR", "PGHOST"]);
        let port = part(&["port"], &["PGPORT"]).unwrap_or_else(|| "5432".to_owned());
        let database = part(&["dbname"], &["PGDATABASE"]).or_else(|| part(&["user"], &["PGUSER"]));
        if host.is_none() || database.is_none() {
            self.scope = Scope::Directory;
        } else if host.iter().flat_map(|hosts| hosts.split(',')).any(is_of_this_machine) {
            self.scope = self.scope.max(Scope::Machine);
        }
        for (name, value) in [("host", host), ("port", Some(port)), ("dbname", database)] {
            if let Some(value) = value {
                self.keep(name, value);
            }
        }
    }

    /// The text arguments of a type that is not listed, at any depth, but for those that may be credentials. The variables
    /// and defaults of such a backend are not known, so its arguments name a state within one directory only.
    fn read_unknown(&mut self) {
        let mut found = Vec::new();
        collect_texts("", &self.record.config, &mut found);
        self.fields.extend(found);
        self.scope = Scope::Directory;
    }
}

/// Parts of the names of arguments that may hold a credential or name one.
const CREDENTIALS: [&str; 12] = [
    "access_key",
    "auth",
    "cert",
    "credential",
    "customer_key",
    "encryption_key",
    "pass",
    "private",
    "sas",
    "secret",
    "token",
    "user",
];

fn collect_texts(path: &str, value: &Json, found: &mut Vec<(String, String)>) {
    match value {
        Json::String(text) => {
            let text = if text.contains("://") { without_credentials(text) } else { text.clone() };
            found.push((path.to_owned(), text));
        }
        Json::Array(items) => items.iter().for_each(|item| collect_texts(path, item, found)),
        Json::Object(members) => {
            for (name, member) in members {
                let lower = name.to_lowercase();
                if !CREDENTIALS.iter().any(|part| lower.contains(part)) {
                    collect_texts(&format!("{path}/{name}"), member, found);
                }
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    fn located(kind: &str, config: Json, set: &[(&str, &str)]) -> Location {
        let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let variables = move |name: &str| set.iter().find(|(set, _)| set == name).map(|(_, value)| value.into());
        locate(Some(&Record { kind: kind.to_owned(), config }), "default", &variables)
    }

    fn fields(kind: &str, config: Json, set: &[(&str, &str)]) -> (Vec<(String, String)>, Scope) {
        match located(kind, config, set) {
            Location::Fields { fields, scope, .. } => (fields, scope),
            other => panic!("{kind}: {other:?}"),
        }
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// A type, a configuration with all of its location fields and nothing else, and those fields.
    type Complete = (&'static str, Json, Vec<(String, String)>);

    fn complete() -> Vec<Complete> {
        vec![
            (
                "azurerm",
                json!({"storage_account_name": "acme", "container_name": "states", "key": "prod", "environment": "china",
                    "metadata_host": "management.example"}),
                pairs(&[
                    ("storage_account_name", "acme"),
                    ("container_name", "states"),
                    ("key", "prod"),
                    ("environment", "china"),
                    ("metadata_host", "management.example"),
                ]),
            ),
            (
                "consul",
                json!({"path": "states/prod", "address": "consul.example:8500", "datacenter": "east"}),
                pairs(&[("path", "states/prod"), ("address", "consul.example:8500"), ("datacenter", "east")]),
            ),
            (
                "cos",
                json!({"bucket": "acme-1250000000", "region": "ap-guangzhou", "prefix": "states", "key": "prod"}),
                pairs(&[
                    ("bucket", "acme-1250000000"),
                    ("region", "ap-guangzhou"),
                    ("prefix", "states"),
                    ("key", "prod"),
                ]),
            ),
            (
                "gcs",
                json!({"bucket": "acme", "prefix": "prod", "storage_custom_endpoint": "https://storage.example/v1",
                    "universe_domain": "sovereign.example"}),
                pairs(&[
                    ("bucket", "acme"),
                    ("prefix", "prod"),
                    ("storage_custom_endpoint", "https://storage.example/v1"),
                    ("universe_domain", "sovereign.example"),
                ]),
            ),
            (
                "http",
                json!({"address": "https://states.example/prod"}),
                pairs(&[("address", "https://states.example/prod")]),
            ),
            (
                "kubernetes",
                json!({"host": "https://cluster.example:6443", "secret_suffix": "prod", "namespace": "states"}),
                pairs(&[("host", "https://cluster.example:6443"), ("secret_suffix", "prod"), ("namespace", "states")]),
            ),
            (
                "oss",
                json!({"bucket": "acme", "prefix": "states", "key": "prod", "region": "cn-beijing",
                    "endpoint": "https://oss.example"}),
                pairs(&[
                    ("bucket", "acme"),
                    ("prefix", "states"),
                    ("key", "prod"),
                    ("region", "cn-beijing"),
                    ("endpoint", "https://oss.example"),
                ]),
            ),
            (
                "pg",
                json!({"conn_str": "postgres://db.example:5433/states", "schema_name": "prod", "table_name": "all"}),
                pairs(&[
                    ("host", "db.example"),
                    ("port", "5433"),
                    ("dbname", "states"),
                    ("schema_name", "prod"),
                    ("table_name", "all"),
                ]),
            ),
            (
                "s3",
                json!({"bucket": "acme", "key": "prod", "workspace_key_prefix": "workspaces", "region": "eu-west-1",
                    "endpoints": {"s3": "https://s3.example"}}),
                pairs(&[
                    ("bucket", "acme"),
                    ("key", "prod"),
                    ("workspace_key_prefix", "workspaces"),
                    ("region", "eu-west-1"),
                    ("endpoint", "https://s3.example"),
                ]),
            ),
        ]
    }

    fn without(config: &Json, name: &str) -> Json {
        let mut config = config.clone();
        config.as_object_mut().unwrap().insert(name.to_owned(), Json::Null);
        config
    }

    #[test]
    fn the_location_of_each_type_is_made_of_its_location_fields() {
        for (kind, config, expected) in complete() {
            assert_eq!(fields(kind, config, &[]), (expected, Scope::World), "{kind}");
        }
    }

    #[test]
    fn every_type_of_opentofu_has_a_rule() {
        let ruled: BTreeSet<_> = TYPES.iter().map(|(kind, _)| *kind).chain(["cloud", "remote", "inmem"]).collect();
        let backends = "azurerm cloud consul cos gcs http inmem kubernetes local oss pg remote s3";
        assert_eq!(ruled, backends.split(' ').collect());
    }

    #[test]
    fn a_change_of_any_location_field_is_another_location() {
        for (kind, config, _) in complete() {
            let location = located(kind, config.clone(), &[]);
            for (name, value) in config.as_object().unwrap() {
                let mut other = config.clone();
                let changed =
                    if name == "conn_str" { "postgres://db.example:5433/other".into() } else { json!("other") };
                other[name] = if value.is_object() { json!({"s3": "other"}) } else { changed };
                assert_ne!(located(kind, other, &[]), location, "{kind}: {name}");
            }
        }
    }

    #[test]
    fn a_field_that_is_null_in_the_record_is_read_from_the_variables_of_the_backend() {
        let server = [("pg", "conn_str", "PG_CONN_STR"), ("kubernetes", "host", "KUBE_HOST")];
        let listed = TYPES.iter().flat_map(|(kind, fields)| {
            fields.iter().flat_map(move |field| field.variables.iter().map(move |name| (*kind, field.name, *name)))
        });
        let mut tried = 0;
        for (kind, name, variable) in
            listed.chain(server).filter(|(_, name, _)| !["namespace", "partition"].contains(name))
        {
            let (_, config, _) = complete().into_iter().find(|(complete, _, _)| *complete == kind).unwrap();
            let argument = if (kind, name) == ("s3", "endpoint") { "endpoints" } else { name };
            let value = if argument == "endpoints" { &config["endpoints"]["s3"] } else { &config[argument] };
            let set = [(variable, value.as_str().unwrap())];
            let expected = located(kind, config.clone(), &[]);
            assert_eq!(located(kind, without(&config, argument), &set), expected, "{kind}: {variable}");
            assert_eq!(located(kind, config.clone(), &[(variable, "ignored")]), expected, "{kind}: {variable}");
            assert_ne!(located(kind, without(&config, argument), &[]), expected, "{kind}: {name}");
            tried += 1;
        }
        assert_eq!(tried, 22);
    }

    #[test]
    fn fields_without_an_argument_are_read_from_their_variables() {
        let (_, config, mut expected) = complete().remove(1);
        expected.extend(pairs(&[("namespace", "team"), ("partition", "west")]));
        let set = [("CONSUL_NAMESPACE", "team"), ("CONSUL_PARTITION", "west")];
        assert_eq!(fields("consul", config, &set), (expected, Scope::World));
        let config = json!({"host": "https://cluster.example", "secret_suffix": "prod"});
        let expected = pairs(&[("host", "https://cluster.example"), ("secret_suffix", "prod"), ("namespace", "team")]);
        assert_eq!(fields("kubernetes", config, &[("KUBE_NAMESPACE", "team")]), (expected, Scope::World));
    }

    #[test]
    fn a_location_that_neither_record_nor_variable_completes_is_limited_to_its_directory() {
        for (kind, needed) in [
            ("azurerm", vec!["storage_account_name", "container_name", "key"]),
            ("consul", vec!["path", "address"]),
            ("cos", vec!["bucket", "region"]),
            ("gcs", vec!["bucket"]),
            ("http", vec!["address"]),
            ("kubernetes", vec!["secret_suffix", "host"]),
            ("oss", vec!["bucket", "region"]),
            ("pg", vec!["conn_str"]),
            ("s3", vec!["bucket", "key", "region"]),
        ] {
            let (_, config, _) = complete().into_iter().find(|(complete, _, _)| *complete == kind).unwrap();
            for name in config.as_object().unwrap().keys() {
                let scope = if needed.contains(&name.as_str()) { Scope::Directory } else { Scope::World };
                assert_eq!(fields(kind, without(&config, name), &[]).1, scope, "{kind}: {name}");
            }
        }
    }

    #[test]
    fn a_default_of_the_backend_is_the_same_as_its_value() {
        for (kind, name, default) in [
            ("azurerm", "environment", "public"),
            ("cos", "key", "terraform.tfstate"),
            ("kubernetes", "namespace", "default"),
            ("oss", "prefix", "env:"),
            ("oss", "key", "terraform.tfstate"),
            ("pg", "schema_name", "terraform_remote_state"),
            ("pg", "table_name", "states"),
            ("s3", "workspace_key_prefix", "env:"),
        ] {
            let (_, mut config, _) = complete().into_iter().find(|(complete, _, _)| *complete == kind).unwrap();
            let unset = located(kind, without(&config, name), &[]);
            config[name] = default.into();
            assert_eq!(located(kind, config, &[]), unset, "{kind}: {name}");
        }
    }

    #[test]
    fn rotated_credentials_do_not_change_a_location() {
        let rotated = |kind: &str, with: fn(&str) -> Json| {
            let (_, config, _) = complete().into_iter().find(|(complete, _, _)| *complete == kind).unwrap();
            let merged = |secret: &str| {
                let mut config = config.clone();
                config.as_object_mut().unwrap().extend(with(secret).as_object().unwrap().clone());
                located(kind, config, &[("TF_HTTP_PASSWORD", secret), ("AWS_SECRET_ACCESS_KEY", secret)])
            };
            assert_eq!(merged("old"), merged("new"), "{kind}");
            assert!(!format!("{:?}", merged("old")).contains("old"), "{kind}");
        };
        rotated("azurerm", |secret| json!({"access_key": secret, "sas_token": secret, "client_secret": secret}));
        rotated("consul", |secret| {
            json!({"access_token": secret, "http_auth": secret,
            "address": format!("https://{secret}:{secret}@consul.example")})
        });
        rotated("cos", |secret| json!({"secret_id": secret, "secret_key": secret, "security_token": secret}));
        rotated("gcs", |secret| json!({"credentials": secret, "access_token": secret, "encryption_key": secret}));
        rotated("http", |secret| {
            json!({"username": secret, "password": secret, "headers": {"X-Key": secret},
            "address": format!("https://user:{secret}@states.example/prod?token={secret}#{secret}")})
        });
        rotated("kubernetes", |secret| {
            json!({"token": secret, "client_key": secret,
            "host": format!("https://user:{secret}@cluster.example")})
        });
        rotated("oss", |secret| json!({"access_key": secret, "secret_key": secret, "security_token": secret}));
        rotated(
            "pg",
            |secret| json!({"conn_str": format!("postgres://{secret}:{secret}@db.example/states?sslkey={secret}")}),
        );
        rotated(
            "pg",
            |secret| json!({"conn_str": format!("host=db.example dbname=states user={secret} password='a {secret}'")}),
        );
        rotated("s3", |secret| {
            json!({"access_key": secret, "secret_key": secret, "token": secret,
            "endpoints": {"s3": format!("https://{secret}@s3.example")}, "assume_role": {"external_id": secret}})
        });
    }

    #[test]
    fn cloud_and_remote_and_a_worker_of_hcp_terraform_have_one_form() {
        let cloud = json!({"organization": "acme", "workspaces": {"name": "prod", "tags": null}, "token": "t"});
        let slug = ("TFC_WORKSPACE_SLUG", "acme/prod");
        for (kind, config, set) in [
            ("cloud", cloud.clone(), vec![]),
            (
                "cloud",
                json!({"hostname": "App.Terraform.io:443", "organization": "acme", "workspaces": {"name": "prod"}}),
                vec![],
            ),
            ("cloud", json!({"workspaces": {"name": "prod"}}), vec![("TF_CLOUD_ORGANIZATION", "acme")]),
            ("remote", json!({"organization": "acme", "workspaces": {"name": "prod", "prefix": null}}), vec![]),
            ("cloud", json!({"organization": "other", "workspaces": {"tags": ["web"]}}), vec![slug]),
            ("local", json!({"path": "/tmp/state"}), vec![slug, ("TF_CLOUD_ORGANIZATION", "other")]),
        ] {
            assert_eq!(
                located(kind, config.clone(), &set),
                Location::Hosted("acme/prod".into()),
                "{kind} {config} {set:?}"
            );
        }
        let variables = move |name: &str| (name == slug.0).then(|| slug.1.into());
        assert_eq!(locate(None, "default", &variables), Location::Hosted("acme/prod".into()));
        let s3 = complete().pop().unwrap();
        assert_eq!(fields("s3", s3.1, &[slug]), (s3.2, Scope::World));
    }

    #[test]
    fn a_workspace_of_another_host_has_its_name() {
        let expected = Location::Hosted("tfe.example/acme/prod".into());
        let config = json!({"hostname": "tfe.example", "organization": "acme", "workspaces": {"name": "prod"}});
        for kind in ["cloud", "remote"] {
            assert_eq!(located(kind, config.clone(), &[]), expected);
            assert_eq!(located(kind, config.clone(), &[("TFC_WORKSPACE_SLUG", "acme/prod")]), expected);
        }
        let config = without(&config, "hostname");
        let set = [("TF_CLOUD_HOSTNAME", "tfe.example")];
        assert_eq!(located("cloud", config.clone(), &set), expected);
        assert_eq!(located("remote", config, &set), Location::Hosted("acme/prod".into()));
        let set = [("TF_CLOUD_HOSTNAME", "tfe.example"), ("TFC_WORKSPACE_SLUG", "acme/prod")];
        assert_eq!(located("local", Json::Null, &set), expected);
    }

    #[test]
    fn the_selected_workspace_is_part_of_a_hosted_name_unless_the_record_fixes_it() {
        let named = |kind: &str, workspaces: Json| {
            let config = json!({"organization": "acme", "workspaces": workspaces});
            locate(Some(&Record { kind: kind.to_owned(), config }), "web-prod", &|_| None)
        };
        for (kind, workspaces, expected) in [
            ("cloud", json!({"name": "fixed"}), "acme/fixed"),
            ("cloud", json!({"tags": ["web"]}), "acme/web-prod"),
            ("cloud", Json::Null, "acme/web-prod"),
            ("remote", json!({"prefix": "team-"}), "acme/team-web-prod"),
            ("remote", json!({"prefix": "web-"}), "acme/web-prod"),
        ] {
            assert_eq!(named(kind, workspaces.clone()), Location::Hosted(expected.into()), "{kind} {workspaces}");
        }
    }

    #[test]
    fn a_hosted_workspace_without_an_organization_is_limited_to_its_directory() {
        for slug in ["", "acme", "/prod", "acme/"] {
            let (fields, scope) =
                fields("cloud", json!({"workspaces": {"name": "prod"}}), &[("TFC_WORKSPACE_SLUG", slug)]);
            assert_eq!((fields, scope), (pairs(&[("/workspaces/name", "prod")]), Scope::Directory));
        }
    }

    #[test]
    fn a_connection_string_names_the_same_database_as_url_and_as_keywords() {
        let expected = pairs(&[("host", "db.example"), ("port", "5432"), ("dbname", "my states")]);
        for (text, set) in [
            ("postgres://db.example/my%20states", vec![]),
            ("postgresql://u:p@db.example:5432/my%20states?sslmode=disable", vec![]),
            ("postgres:///?host=db.example&dbname=my%20states", vec![]),
            ("host=db.example dbname='my states'", vec![]),
            ("dbname = my\\ states  password = 'it\\'s host=no' host = db.example port=", vec![]),
            ("host=ignored hostaddr=db.example dbname='my states'", vec![]),
            ("user=u", vec![("PGHOST", "db.example"), ("PGDATABASE", "my states")]),
            ("postgres://u@", vec![("PGHOSTADDR", "db.example"), ("PGPORT", "5432"), ("PGDATABASE", "my states")]),
            ("host=db.example user='my states'", vec![]),
            ("host=db.example", vec![("PGUSER", "my states")]),
        ] {
            let (mut fields, scope) = fields("pg", json!({"conn_str": text}), &set);
            fields.truncate(3);
            assert_eq!((fields, scope), (expected.clone(), Scope::World), "{text}");
        }
        for text in ["", "user=u", "host=db.example", "garbage", "=", "password='"] {
            assert_eq!(fields("pg", json!({"conn_str": text}), &[]).1, Scope::Directory, "{text}");
        }
    }

    #[test]
    fn a_cluster_is_named_by_its_host_or_by_a_context_of_a_kubeconfig() {
        let cluster = |mut config: Json, set: &[(&str, &str)]| {
            config["secret_suffix"] = "prod".into();
            let (mut fields, scope) = fields("kubernetes", config, set);
            fields.truncate(fields.len() - 2);
            (fields, scope)
        };
        let context = pairs(&[("config", "~/.kube/config"), ("context", "prod")]);
        for (config, set, expected) in [
            (
                json!({"config_path": "~/.kube/config", "config_context": "prod"}),
                vec![],
                (context.clone(), Scope::World),
            ),
            (
                json!({}),
                vec![("KUBE_CONFIG_PATH", "~/.kube/config"), ("KUBE_CTX", "prod")],
                (context.clone(), Scope::World),
            ),
            (json!({}), vec![("KUBE_CONFIG_PATHS", "~/.kube/config"), ("KUBE_CTX", "prod")], (context, Scope::World)),
            (
                json!({"config_paths": ["a", "b"], "config_context_cluster": "c"}),
                vec![],
                (pairs(&[("config", "[\"a\",\"b\"]"), ("cluster", "c")]), Scope::World),
            ),
            (json!({}), vec![("KUBE_CONFIG_PATH", "a")], (pairs(&[("config", "a")]), Scope::Directory)),
            (
                json!({"in_cluster_config": true, "config_path": "ignored"}),
                vec![("KUBERNETES_SERVICE_HOST", "10.43.0.1"), ("KUBERNETES_SERVICE_PORT", "443")],
                (pairs(&[("KUBERNETES_SERVICE_HOST", "10.43.0.1"), ("KUBERNETES_SERVICE_PORT", "443")]), Scope::World),
            ),
            (json!({}), vec![("KUBE_IN_CLUSTER_CONFIG", "true")], (vec![], Scope::Directory)),
        ] {
            assert_eq!(cluster(config.clone(), &set), expected, "{config} {set:?}");
        }
    }

    #[test]
    fn an_address_of_the_machine_itself_is_limited_to_that_machine() {
        for address in ["http://localhost:8080/s", "https://u@127.0.0.1/s", "http://[::1]:80/s", "http://a.localhost/s"]
        {
            assert_eq!(fields("http", json!({"address": address}), &[]).1, Scope::Machine, "{address}");
        }
        for text in ["postgres://localhost/s", "host=/run/postgresql dbname=s", "host=db.example,::1 dbname=s"] {
            assert_eq!(fields("pg", json!({"conn_str": text}), &[]).1, Scope::Machine, "{text}");
        }
        let config = json!({"path": "s", "address": "unix:///run/consul.sock"});
        assert_eq!(fields("consul", config, &[]).1, Scope::Machine);
        let config = json!({"path": "s", "address": "127.0.0.1:8500"});
        assert_eq!(fields("consul", config, &[]).1, Scope::Machine);
    }

    #[test]
    fn a_local_state_is_limited_to_its_directory() {
        let nothing = locate(None, "default", &|_| None);
        assert_eq!(located("local", json!({"path": null, "workspace_dir": null}), &[]), nothing);
        let expected = pairs(&[("path", "a.tfstate"), ("workspace_dir", "w")]);
        let config = json!({"path": "a.tfstate", "workspace_dir": "w"});
        assert_eq!(fields("local", config, &[]), (expected, Scope::Directory));
    }

    #[test]
    fn a_state_in_memory_has_no_location() {
        assert_eq!(located("inmem", json!({"lock_id": "x"}), &[]), Location::Memory);
    }

    #[test]
    fn an_unknown_type_is_identified_by_its_texts_without_credentials_and_by_its_directory() {
        let config = json!({
            "url": "https://u:p@art.example/api?apiKey=s", "repo": "states", "username": "u", "password": "p",
            "nested": {"bucket": "b", "privateKey": "k"}, "hosts": ["a", "b"], "lock": true, "key": null,
            "auth": {"region": "hidden"},
        });
        let expected = [
            ("/hosts", "a"),
            ("/hosts", "b"),
            ("/nested/bucket", "b"),
            ("/repo", "states"),
            ("/url", "https://art.example/api"),
        ];
        assert_eq!(fields("artifactory", config, &[]), (pairs(&expected), Scope::Directory));
    }

    #[test]
    fn a_record_is_read_as_both_clients_write_it() {
        let data = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            std::fs::write(data.path().join("terraform.tfstate"), text).unwrap();
            Record::read(data.path()).map(|record| (record.kind, record.config))
        };
        let backend = r#"{"version": 3, "backend": {"type": "http", "config": {"address": null}, "hash": 2984870146}}"#;
        assert_eq!(read(backend), Some(("http".to_owned(), json!({"address": null}))));
        let store =
            r#"{"version": 3, "state_store": {"type": "s3", "provider": {}, "config": {"bucket": "b"}, "hash": 1}}"#;
        assert_eq!(read(store), Some(("state_store s3".to_owned(), json!({"bucket": "b"}))));
        for none in ["", "{", "{}", r#"{"version": 3, "backend": null}"#, r#"{"backend": {"type": "", "config": {}}}"#]
        {
            assert_eq!(read(none), None, "{none}");
        }
        assert!(Record::read(&data.path().join("absent")).is_none());
    }
}
