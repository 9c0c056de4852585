//! What is given, as it was written, and what is said about it.

use std::collections::BTreeMap;

use super::isolation::Isolation;

/// A value that may be known only after an apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given<T> {
    /// As it is written.
    Known(T),
    /// Known only after an apply; never a problem.
    Unknown,
}

impl<T> Given<T> {
    /// The value, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown => None,
        }
    }
}

impl<T> From<T> for Given<T> {
    fn from(value: T) -> Self {
        Self::Known(value)
    }
}

/// Domains, endpoints and policies of one host.
#[derive(Debug, Clone)]
pub struct Input {
    /// `""`, or three digits and `-`.
    pub prefix: String,
    /// Name to bridge; `None` = the name's own bridge, `<prefix>net-<name>`.
    pub domains: Given<BTreeMap<String, Given<Option<String>>>>,
    /// Addresses inside domains, by name.
    pub endpoints: Given<BTreeMap<String, EndpointInput>>,
    /// Who may talk to whom, by name; a name may be any text.
    pub policies: Given<BTreeMap<String, PolicyInput>>,
}

/// One address in one domain.
#[derive(Debug, Clone)]
pub struct EndpointInput {
    /// Name of the domain.
    pub domain: Given<String>,
    /// IPv4 or IPv6, exact.
    pub address: Given<String>,
}

/// What may pass from one domain or endpoint to another.
#[derive(Debug, Clone)]
pub struct PolicyInput {
    /// Name of the domain or endpoint that opens the connection.
    pub from: Given<String>,
    /// Name of the domain or endpoint that answers.
    pub to: Given<String>,
    /// `"443"`, `"8000-8010"`; `None` = all.
    pub ports: Given<Option<Vec<Given<String>>>>,
    /// `tcp`, `udp`, `icmp`; `None` = any.
    pub protocol: Given<Option<String>>,
    /// The same a second time, with `from` and `to` swapped.
    pub bidirectional: Given<bool>,
}

/// All that can be said about an [`Input`].
#[derive(Debug, Clone)]
pub struct Parsed {
    /// There if no problem is.
    pub isolation: Option<Isolation>,
    /// Every problem, by place.
    pub problems: Vec<Problem>,
    /// What is suspicious: duplicated, shadowed and unreachable policies.
    pub warnings: Vec<Problem>,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Which value.
    pub place: Place,
    /// What is wrong, in a few words.
    pub summary: String,
    /// What to write instead.
    pub detail: String,
}

/// A value of the [`Input`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The nesting prefix.
    Prefix,
    /// `domains["name"]`.
    Domain {
        /// Its name.
        name: String,
    },
    /// `endpoints["name"]`.
    Endpoint {
        /// Its name.
        name: String,
        /// Which of its values.
        field: EndpointField,
    },
    /// `policies["name"]`.
    Policy {
        /// Its name.
        name: String,
        /// Which of its values.
        field: PolicyField,
    },
}

/// A value of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointField {
    /// The endpoint as a whole.
    Itself,
    /// `domain`.
    Domain,
    /// `address`.
    Address,
}

/// A value of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyField {
    /// The policy as a whole.
    Itself,
    /// `from`.
    From,
    /// `to`.
    To,
    /// `ports` as a whole.
    Ports,
    /// One of `ports`, counted from 0 as it was given.
    Port(usize),
    /// `protocol`.
    Protocol,
}
