//! The sets of the table and the parts of their keys.
//!
//! What nft 1.0.6 reads back bounds them: at most 5 parts and 64 bytes in a concatenation.

/// A part of a key of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Interface,
    Address4,
    Address6,
    Protocol,
    Port,
}

impl Part {
    pub(super) fn nft(self) -> &'static str {
        match self {
            Self::Interface => "ifname",
            Self::Address4 => "ipv4_addr",
            Self::Address6 => "ipv6_addr",
            Self::Protocol => "inet_proto",
            Self::Port => "inet_service",
        }
    }
}

/// A set of the table. Keys are in the order of the one who opens a connection, then the one who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    /// The listed bridges.
    Bridges,
    /// Each of them with itself.
    Same,
    /// Policies between two domains.
    Open,
    /// Policies from an endpoint to a domain.
    From4,
    From6,
    /// Policies from a domain to an endpoint.
    To4,
    To6,
    /// The bridges of endpoints in policies between two of them, and those policies: six parts would be too many for one.
    At4,
    At6,
    Both4,
    Both6,
}

impl Set {
    pub(super) const ALL: [Self; 11] = [
        Self::Bridges,
        Self::Same,
        Self::Open,
        Self::From4,
        Self::From6,
        Self::To4,
        Self::To6,
        Self::At4,
        Self::At6,
        Self::Both4,
        Self::Both6,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bridges => "bridges",
            Self::Same => "same",
            Self::Open => "open",
            Self::From4 => "from4",
            Self::From6 => "from6",
            Self::To4 => "to4",
            Self::To6 => "to6",
            Self::At4 => "at4",
            Self::At6 => "at6",
            Self::Both4 => "both4",
            Self::Both6 => "both6",
        }
    }

    pub(super) fn parts(self) -> &'static [Part] {
        use Part::{Address4, Address6, Interface, Port, Protocol};
        match self {
            Self::Bridges => &[Interface],
            Self::Same => &[Interface, Interface],
            Self::Open => &[Interface, Interface, Protocol, Port],
            Self::From4 | Self::To4 => &[Interface, Interface, Address4, Protocol, Port],
            Self::From6 | Self::To6 => &[Interface, Interface, Address6, Protocol, Port],
            Self::At4 => &[Interface, Address4],
            Self::At6 => &[Interface, Address6],
            Self::Both4 => &[Address4, Address4, Protocol, Port],
            Self::Both6 => &[Address6, Address6, Protocol, Port],
        }
    }

    /// Whether its keys hold ranges.
    pub(super) fn has_ranges(self) -> bool {
        self.parts().contains(&Part::Protocol)
    }
}
