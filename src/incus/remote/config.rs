//! The CLI's `config.yml`.

use std::collections::BTreeMap;
use std::path::Path;

use yaml_rust2::{Yaml, YamlLoader};

use super::Error;

/// One remote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) addr: String,
    pub(super) auth_type: String,
    pub(super) protocol: String,
    pub(super) public: bool,
}

/// What the CLI is configured to, with its built-in remote `local`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cli {
    pub(super) default_remote: String,
    pub(super) remotes: BTreeMap<String, Remote>,
}

impl Cli {
    /// Reads `config.yml` of `dir`; without one, only the built-in remotes are known.
    pub(super) fn read(dir: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = dir.map(|dir| dir.join("config.yml")) else { return Ok(Self::parse(&Yaml::Null)) };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::parse(&Yaml::Null)),
            Err(source) => return Err(Error::Read { path, source }),
        };
        match YamlLoader::load_from_str(&text) {
            Ok(documents) => match documents.into_iter().next().unwrap_or(Yaml::Null) {
                document @ (Yaml::Hash(_) | Yaml::Null) => Ok(Self::parse(&document)),
                _ => Err(Error::Config { path, source: None }),
            },
            Err(source) => Err(Error::Config { path, source: Some(source) }),
        }
    }

    fn parse(document: &Yaml) -> Self {
        let text = |yaml: &Yaml| yaml.as_str().unwrap_or_default().to_owned();
        let mut remotes = BTreeMap::new();
        remotes.insert("local".to_owned(), Remote { addr: "unix://".to_owned(), ..Remote::default() });
        if let Yaml::Hash(entries) = &document["remotes"] {
            for (name, entry) in entries {
                let remote = Remote {
                    addr: text(&entry["addr"]),
                    auth_type: text(&entry["auth_type"]),
                    protocol: text(&entry["protocol"]),
                    public: entry["public"].as_bool().unwrap_or(false),
                };
                remotes.insert(text(name), remote);
            }
        }
        let default_remote = match document["default-remote"].as_str() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => "local".to_owned(),
        };
        Self { default_remote, remotes }
    }
}
