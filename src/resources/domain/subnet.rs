//! Which /24 a domain gets: zones by trust level, the lowest free sequence, overlaps. Pure.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::plugin::Problem;

/// How zones are laid out: `10.<zone_base + offset>.<subnet_id>.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressing {
    /// First octet.
    pub base_octet: u8,
    /// Second octet of the zone `admin`.
    pub zone_base: u8,
}

impl Default for Addressing {
    fn default() -> Self {
        Self { base_octet: 10, zone_base: 100 }
    }
}

/// How far a domain is trusted; decides its zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Manages the others.
    Admin,
    /// Own work.
    Trusted,
    /// The default.
    SemiTrusted,
    /// Foreign code.
    Untrusted,
    /// Thrown away after use.
    Disposable,
}

impl Trust {
    /// Every level, from the most trusted to the least.
    pub const ALL: [Self; 5] = [Self::Admin, Self::Trusted, Self::SemiTrusted, Self::Untrusted, Self::Disposable];

    /// Reads a level as it is written in a configuration.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }

    /// The level as it is written in a configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Trusted => "trusted",
            Self::SemiTrusted => "semi-trusted",
            Self::Untrusted => "untrusted",
            Self::Disposable => "disposable",
        }
    }

    const fn offset(self) -> u8 {
        match self {
            Self::Admin => 0,
            Self::Trusted => 10,
            Self::SemiTrusted => 20,
            Self::Untrusted => 40,
            Self::Disposable => 50,
        }
    }
}

impl Addressing {
    /// The second octet of a zone.
    ///
    /// # Errors
    ///
    /// When it does not fit into an octet.
    pub fn zone(self, trust: Trust) -> Result<u8, Problem> {
        self.zone_base.checked_add(trust.offset()).ok_or_else(|| {
            Problem::new(
                "Zone outside of the address space",
                format!(
                    "`zone_base` {} and the offset {} of trust level \"{}\" make {}, which is no octet. \
                     Use a `zone_base` of at most 205.",
                    self.zone_base,
                    trust.offset(),
                    trust.as_str(),
                    u16::from(self.zone_base) + u16::from(trust.offset())
                ),
            )
        })
    }

    /// The subnet number `id` (0 to 254) of a zone.
    ///
    /// # Errors
    ///
    /// As [`Self::zone`].
    pub fn subnet(self, trust: Trust, id: u8) -> Result<Subnet, Problem> {
        Ok(Subnet([self.base_octet, self.zone(trust)?, id]))
    }

    /// The number of `subnet` in a zone; `None` where it lies elsewhere.
    #[must_use]
    pub fn id_of(self, trust: Trust, subnet: Subnet) -> Option<u8> {
        let [base, zone, id] = subnet.0;
        (base == self.base_octet && self.zone(trust).ok() == Some(zone) && id != 255).then_some(id)
    }
}

/// A /24, by its first three octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet([u8; 3]);

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.net())
    }
}

impl Subnet {
    /// Reads `a.b.c.0/24`.
    ///
    /// # Errors
    ///
    /// What is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let problem = |detail: String| Problem::new("Invalid subnet", detail);
        let net: Ipv4Net = text
            .parse()
            .map_err(|_| problem(format!("\"{text}\" is not an IPv4 network. Write it as \"10.120.3.0/24\".")))?;
        if net.prefix_len() != 24 {
            return Err(problem(format!("\"{text}\" is a /{}. A domain has a /24.", net.prefix_len())));
        }
        if net.addr() != net.network() {
            return Err(problem(format!("\"{text}\" has host bits. Write \"{}\".", net.trunc())));
        }
        let subnet = Self::of(net.network());
        if !subnet.is_private() {
            return Err(problem(format!("\"{text}\" is not a private network (RFC 1918, RFC 6598). Use one that is.")));
        }
        Ok(subnet)
    }

    /// The /24 around a bridge's `ipv4.address` (`10.120.3.254/24`); `None` for anything but a /24.
    #[must_use]
    pub fn of_bridge(address: &str) -> Option<Self> {
        let net: Ipv4Net = address.parse().ok()?;
        (net.prefix_len() == 24).then(|| Self::of(net.addr()))
    }

    /// Whether it lies in a private network: RFC 1918, or RFC 6598's 100.64.0.0/10.
    #[must_use]
    pub fn is_private(self) -> bool {
        let [first, second, _] = self.0;
        self.host(0).is_private() || (first == 100 && (64..128).contains(&second))
    }

    fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, _] = address.octets();
        Self([a, b, c])
    }

    fn host(self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.0;
        Ipv4Addr::new(a, b, c, last)
    }

    /// As a network.
    #[must_use]
    pub fn net(self) -> Ipv4Net {
        Ipv4Net::new_assert(self.host(0), 24)
    }

    /// The bridge's own address, `.254`.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        self.host(254)
    }

    /// Addresses for static use, `.1` to `.99`.
    #[must_use]
    pub fn static_range(self) -> String {
        format!("{}-{}", self.host(1), self.host(99))
    }

    /// Addresses given out by DHCP, `.100` to `.199`.
    #[must_use]
    pub fn dhcp_range(self) -> String {
        format!("{}-{}", self.host(100), self.host(199))
    }
}

/// A network that is already there, and who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The network or interface.
    pub holder: String,
    /// Its addresses.
    pub net: Ipv4Net,
    /// Whether it carries the mark of a domain.
    pub is_marked: bool,
}

/// Who holds a network that overlaps with `subnet`.
#[must_use]
pub fn overlap(subnet: Subnet, taken: &[Taken]) -> Option<&Taken> {
    let net = subnet.net();
    taken.iter().find(|other| other.net.contains(&net) || net.contains(&other.net))
}

/// The lowest subnet of a zone that overlaps with nothing; `None` when all 255 are taken.
///
/// # Errors
///
/// As [`Addressing::zone`].
pub fn lowest_free(addressing: Addressing, trust: Trust, taken: &[Taken]) -> Result<Option<Subnet>, Problem> {
    for id in 0..=254 {
        let subnet = addressing.subnet(trust, id)?;
        if overlap(subnet, taken).is_none() {
            return Ok(Some(subnet));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(net: &str) -> Taken {
        Taken { holder: "x".to_owned(), net: net.parse().unwrap(), is_marked: false }
    }

    #[test]
    fn a_zone_follows_the_trust_level() {
        let subnet = |trust| Addressing::default().subnet(trust, 4).unwrap().to_string();
        assert_eq!(subnet(Trust::Admin), "10.100.4.0/24");
        assert_eq!(subnet(Trust::Trusted), "10.110.4.0/24");
        assert_eq!(subnet(Trust::SemiTrusted), "10.120.4.0/24");
        assert_eq!(subnet(Trust::Untrusted), "10.140.4.0/24");
        assert_eq!(subnet(Trust::Disposable), "10.150.4.0/24");
    }

    #[test]
    fn a_zone_outside_of_an_octet_is_refused() {
        let high = Addressing { base_octet: 10, zone_base: 210 };
        assert!(high.zone(Trust::Disposable).unwrap_err().detail.contains("205"));
        assert_eq!(high.zone(Trust::Untrusted).unwrap(), 250);
    }

    #[test]
    fn the_lowest_free_subnet_is_taken() {
        let free = |nets: &[&str]| {
            let all: Vec<_> = nets.iter().map(|net| taken(net)).collect();
            lowest_free(Addressing::default(), Trust::Trusted, &all).unwrap().map(|subnet| subnet.to_string())
        };
        assert_eq!(free(&[]).as_deref(), Some("10.110.0.0/24"));
        assert_eq!(free(&["10.110.0.0/24", "10.110.1.128/25", "10.110.3.0/24"]).as_deref(), Some("10.110.2.0/24"));
        assert_eq!(free(&["10.110.0.0/16"]), None);
        assert_eq!(free(&["10.110.0.0/17"]).as_deref(), Some("10.110.128.0/24"));
    }

    #[test]
    fn only_private_networks_are_private() {
        for (text, private) in
            [("10.0.0.0/24", true), ("100.64.0.0/24", true), ("100.128.0.0/24", false), ("172.32.0.0/24", false)]
        {
            assert_eq!(Subnet::parse(text).is_ok(), private, "{text}");
        }
    }

    #[test]
    fn a_subnet_is_a_private_24_without_host_bits() {
        assert_eq!(Subnet::parse("192.168.7.0/24").unwrap().gateway().to_string(), "192.168.7.254");
        for (bad, hint) in
            [("10.1.2.3/24", "10.1.2.0/24"), ("10.0.0.0/16", "/24"), ("8.8.8.0/24", "private"), ("x", "10.120.3.0/24")]
        {
            assert!(Subnet::parse(bad).unwrap_err().detail.contains(hint), "{bad}");
        }
    }

    #[test]
    fn ranges_do_not_meet_the_gateway() {
        let subnet = Subnet::parse("10.110.0.0/24").unwrap();
        assert_eq!(subnet.static_range(), "10.110.0.1-10.110.0.99");
        assert_eq!(subnet.dhcp_range(), "10.110.0.100-10.110.0.199");
    }

    #[test]
    fn a_number_is_found_again_in_its_zone_only() {
        let subnet = Subnet::parse("10.110.7.0/24").unwrap();
        assert_eq!(Addressing::default().id_of(Trust::Trusted, subnet), Some(7));
        assert_eq!(Addressing::default().id_of(Trust::Admin, subnet), None);
    }
}
