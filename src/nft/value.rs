//! Names, bridges, addresses and ports that exist only if they are valid: nothing else reaches nft.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Longest name of an interface, in bytes (Linux, `IFNAMSIZ` - 1).
const INTERFACE_MAX: usize = 15;
/// Longest name of a domain or endpoint, in bytes.
const NAME_MAX: usize = 63;

/// Whether `text` can name a domain: `[a-z0-9-]`, a letter or digit at both ends, at most 63 bytes.
pub(super) fn is_domain_name(text: &str) -> bool {
    is_endpoint_name(text) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// Whether `text` can name an endpoint: `[a-zA-Z0-9-]`, a letter or digit at both ends, at most 63 bytes.
pub(super) fn is_endpoint_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= NAME_MAX
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// The name of a bridge: 1 to 15 bytes of `[a-zA-Z0-9._-]`, a letter or digit first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bridge(String);

impl Bridge {
    /// `text` as a bridge, if it can be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let valid = text.len() <= INTERFACE_MAX
            && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
            && text.bytes().all(allowed);
        valid.then(|| Self(text.to_owned()))
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What stands before the names of a nested host: nothing, or three digits and `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefix(String);

impl Prefix {
    pub(super) fn none() -> Self {
        Self(String::new())
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let valid = match bytes {
            [] => true,
            [digits @ .., b'-'] => digits.len() == 3 && digits.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        valid.then(|| Self(text.to_owned()))
    }

    /// Every bridge that a domain of this host could have: `net-*`.
    pub(super) fn wildcard(&self) -> String {
        format!("{}net-*", self.0)
    }

    /// The bridge of the domain `name`, if it fits an interface.
    pub(super) fn bridge_of(&self, name: &str) -> Option<Bridge> {
        Bridge::parse(&format!("{}net-{name}", self.0))
    }
}

/// An address of one machine.
pub(super) fn parse_address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| {
        format!("{text:?} is not an address. Write one IPv4 or IPv6 address without a mask, as in \"10.120.3.10\".")
    })?;
    let whole_world = address.is_unspecified()
        || address.is_multicast()
        || address.is_loopback()
        || address == IpAddr::from([255, 255, 255, 255]);
    if whole_world {
        return Err(format!("{address} is not the address of one machine in a domain."));
    }
    match address {
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() || six.segments()[..6] == [0; 6] => {
            Err(format!("{address} is an IPv4 address in an IPv6 one. Write the IPv4 address."))
        }
        IpAddr::V6(six) if six.is_unicast_link_local() => {
            Err(format!("{address} is link-local and never leaves its bridge. Write a routed address."))
        }
        _ => Ok(address),
    }
}

/// Ports, ascending, apart from each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// Every port.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![(0, u16::MAX)])
    }

    /// Ranges in any order; overlapping and adjacent ones become one.
    pub(super) fn merged(mut ranges: Vec<(u16, u16)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (from, to) in ranges {
            match merged.last_mut() {
                Some(last) if u32::from(from) <= u32::from(last.1) + 1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        Self(merged)
    }

    /// First and last port of each range.
    pub fn ranges(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        self.0.iter().copied()
    }

    /// Whether every port of `other` is one of these.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(from, to)| self.0.iter().any(|(first, last)| first <= from && to <= last))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (from, to)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if from == to { write!(formatter, "{comma}{from}")? } else { write!(formatter, "{comma}{from}-{to}")? }
        }
        Ok(())
    }
}

/// One entry of `ports`: `"443"` or `"8000-8010"`, 1 to 65535.
pub(super) fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| -> Option<u16> {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| plain && *number > 0)
    };
    let range = match text.split_once('-') {
        Some((from, to)) => port(from).zip(port(to)),
        None => port(text).map(|only| (only, only)),
    };
    match range {
        None => Err(format!("{text:?} is not a port. Write a number from 1 to 65535, or a range as in \"8000-8010\".")),
        Some((from, to)) if from > to => Err(format!("The range {text:?} runs backwards. Write \"{to}-{from}\".")),
        Some(range) => Ok(range),
    }
}

/// What a policy lets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Everything.
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
}

impl Protocol {
    /// `tcp`, `udp` or `icmp`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            "icmp" => Some(Self::Icmp),
            _ => None,
        }
    }

    /// Whether it has ports.
    #[must_use]
    pub fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp)
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self == Self::Any || self == other
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Any => "any",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        })
    }
}

/// Digits at the end of a [`Fingerprint`] that name one table.
const INCARNATION: usize = 32;

/// The mark of a table and of its file: 16 to 64 lower-case hexadecimal digits. The last 32 name the table; the others say
/// who wrote it last, and may change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The mark in the comment of a table's first rule, or in the first line of a file.
    #[must_use]
    pub fn of_comment(comment: &str) -> Option<Self> {
        comment.strip_prefix("anklume ")?.parse().ok()
    }

    /// The digits that name the table: the last 32, or all of a shorter mark.
    #[must_use]
    pub fn incarnation(&self) -> &str {
        self.0.get(self.0.len().saturating_sub(INCARNATION)..).unwrap_or(&self.0)
    }

    /// Whether both are marks of the same table.
    #[must_use]
    pub fn is_same_table(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.incarnation() == other.incarnation()
    }
}

/// A text that is no [`Fingerprint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 16 to 64 lower-case hexadecimal digits")]
pub struct NotAFingerprint;

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if (16..=64).contains(&text.len()) && text.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAFingerprint)
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_32_digits_of_a_mark_name_the_table() {
        let mark = |digits: String| digits.parse::<Fingerprint>().unwrap();
        let ours = mark(format!("{}{}", "a".repeat(32), "1".repeat(32)));
        assert_eq!(ours.incarnation(), "1".repeat(32));
        assert!(ours.is_same_table(&mark(format!("{}{}", "b".repeat(32), "1".repeat(32)))));
        assert!(!ours.is_same_table(&mark(format!("{}2", ours.to_string().get(..63).unwrap()))));
        let short = mark("1".repeat(32));
        assert!(short.is_same_table(&short) && !short.is_same_table(&ours));
        assert_eq!(Fingerprint::of_comment(&format!("anklume {ours}")), Some(ours));
        assert_eq!(Fingerprint::of_comment("somebody else"), None);
    }

    #[test]
    fn ports_are_merged_where_they_touch() {
        let merged = |ranges: &[(u16, u16)]| Ports::merged(ranges.to_vec()).to_string();
        assert_eq!(merged(&[(443, 443)]), "443");
        assert_eq!(merged(&[(90, 100), (80, 89), (1, 1)]), "1,80-100");
        assert_eq!(merged(&[(1, 65535), (80, 80)]), "1-65535");
        assert_eq!(merged(&[(65535, 65535), (65534, 65534)]), "65534-65535");
    }

    #[test]
    fn only_ports_are_ports() {
        assert_eq!(parse_ports("8000-8010"), Ok((8000, 8010)));
        for wrong in ["", "0", "65536", "-1", "80-", "+80", "80 ", "8000:8010", "90-80", "80;drop", "1-2-3", "٣"] {
            assert!(parse_ports(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_interface_names_are_bridges() {
        for right in ["br0", "net-pro", "001-net-pro", "a.b_c"] {
            assert!(Bridge::parse(right).is_some(), "{right}");
        }
        for wrong in ["", "net-*", "net pro", "net-\"x", "net-x}", "-net", ".", "0123456789abcdef", "net-é"] {
            assert!(Bridge::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn an_endpoint_has_the_address_of_one_machine() {
        for right in ["10.120.3.10", "fd00::10", "2001:db8::1"] {
            assert_eq!(parse_address(right).map(|address| address.to_string()), Ok(right.to_owned()));
        }
        for wrong in
            ["10.0.0.0/24", "0.0.0.0", "::", "224.0.0.1", "127.0.0.1", "::ffff:10.0.0.1", "::10.0.0.1", "fe80::1", "x"]
        {
            assert!(parse_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_is_three_digits_and_a_dash() {
        for right in ["", "001-"] {
            assert!(Prefix::parse(right).is_some(), "{right}");
        }
        for wrong in ["1-", "001", "0001-", "ab1-", "-", "001-\""] {
            assert!(Prefix::parse(wrong).is_none(), "{wrong}");
        }
    }
}
