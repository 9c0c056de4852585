//! The compiled form: what is in each set, and whose it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::net::IpAddr;

use super::input::Given;
use super::isolation::{Isolation, domain_key, policy_key};
use super::layout::{BASE, Chain, HOOK, chains};
use super::listing::Present;
use super::set::{Part, Set};
use super::value::{Bridge, Fingerprint, Ports, Protocol};

/// One part of an element.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    Interface(String),
    Address(IpAddr),
    /// First and last; of a protocol or a port.
    Range(u16, u16),
}

/// An element of a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Element(pub(super) Vec<Field>);

impl fmt::Display for Element {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, field) in self.0.iter().enumerate() {
            formatter.write_str(if index == 0 { "" } else { " . " })?;
            match field {
                Field::Interface(name) => write!(formatter, "\"{name}\"")?,
                Field::Address(address) => write!(formatter, "{address}")?,
                Field::Range(from, to) if from == to => write!(formatter, "{from}")?,
                Field::Range(from, to) => write!(formatter, "{from}-{to}")?,
            }
        }
        Ok(())
    }
}

/// The elements of a set, and the keys of the rules that each is for.
pub(super) type Elements = BTreeMap<Element, BTreeSet<String>>;

/// What can be applied and compared.
#[derive(Debug, Clone)]
pub struct Ruleset {
    fingerprint: Fingerprint,
    rules: BTreeMap<String, String>,
    pub(super) sets: BTreeMap<Set, Elements>,
    pub(super) chains: Vec<Chain>,
}

/// Protocols and ports of all policies between the same two, before they are made apart.
type Services = BTreeMap<(Set, Vec<Field>), Vec<(Protocol, Ports, String)>>;

impl Isolation {
    /// The compiled form, whose table belongs to `fingerprint`; `None` while anything is unknown.
    #[must_use]
    pub fn compile(&self, fingerprint: Fingerprint) -> Option<Ruleset> {
        let rules = self.rules()?.into_iter().map(|(key, line)| line.map(|line| (key, line))).collect::<Option<_>>()?;
        Some(Ruleset { fingerprint, rules, sets: self.sets()?, chains: chains(&self.prefix.wildcard()) })
    }

    /// The table as a script without an owner: what a plan shows. `None` while anything is unknown.
    #[must_use]
    pub fn ruleset(&self) -> Option<String> {
        self.rules()?.into_values().all(|line| line.is_some()).then_some(())?;
        Some(script(None, &self.sets()?, &chains(&self.prefix.wildcard())))
    }

    fn sets(&self) -> Option<BTreeMap<Set, Elements>> {
        let mut sets: BTreeMap<Set, Elements> = Set::ALL.into_iter().map(|set| (set, Elements::new())).collect();
        let mut add = |set: Set, fields: Vec<Field>, key: &str| {
            sets.entry(set).or_default().entry(Element(fields)).or_default().insert(key.to_owned());
        };
        let bridges = self.domains.known()?;
        for (name, bridge) in bridges {
            let (key, bridge) = (domain_key(name), interface(bridge.known()?));
            add(Set::Bridges, vec![bridge.clone()], &key);
            add(Set::Same, vec![bridge.clone(), bridge], &key);
        }
        let mut services = Services::new();
        for (name, policy) in self.policies.known()? {
            let key = policy_key(name);
            let (from, to) = (policy.from.known()?, policy.to.known()?);
            let ways = if *policy.bidirectional.known()? { vec![(from, to), (to, from)] } else { vec![(from, to)] };
            for (from, to) in ways {
                let (from, to) = (self.side(from, bridges)?, self.side(to, bridges)?);
                if from.bridge == to.bridge {
                    continue;
                }
                let Some((set, fields)) = placed(&from, &to) else { continue };
                if let (Set::Both4 | Set::Both6, [source, destination]) = (set, &fields[..]) {
                    let at = if set == Set::Both4 { Set::At4 } else { Set::At6 };
                    add(at, vec![from.bridge.clone(), source.clone()], &key);
                    add(at, vec![to.bridge.clone(), destination.clone()], &key);
                }
                let service = (*policy.protocol.known()?, policy.ports.known()?.clone(), key.clone());
                services.entry((set, fields)).or_default().push(service);
            }
        }
        for ((set, sides), services) in services {
            for (protocol, ports, keys) in apart(&services) {
                for (number, last) in numbers(protocol, set) {
                    let mut fields = sides.clone();
                    fields.push(Field::Range(number, last));
                    fields.push(Field::Range(ports.0, ports.1));
                    for key in &keys {
                        add(set, fields.clone(), key);
                    }
                }
            }
        }
        Some(sets)
    }

    fn side(&self, name: &str, bridges: &BTreeMap<String, Given<Bridge>>) -> Option<Side> {
        let bridge = interface(bridges.get(self.domain_of(name)?)?.known()?);
        let address = match self.endpoint(name) {
            Some(endpoint) => Some(*endpoint.address.known()?),
            None => None,
        };
        Some(Side { bridge, address })
    }
}

struct Side {
    bridge: Field,
    address: Option<IpAddr>,
}

fn interface(bridge: &Bridge) -> Field {
    Field::Interface(bridge.as_str().to_owned())
}

/// The set of a policy and all of its key but protocol and port; `None` where no packet could match it.
fn placed(from: &Side, to: &Side) -> Option<(Set, Vec<Field>)> {
    let bridges = || vec![from.bridge.clone(), to.bridge.clone()];
    let with = |address: IpAddr| [bridges(), vec![Field::Address(address)]].concat();
    let family = |address: IpAddr, four: Set, six: Set| if address.is_ipv4() { four } else { six };
    match (from.address, to.address) {
        (None, None) => Some((Set::Open, bridges())),
        (Some(source), None) => Some((family(source, Set::From4, Set::From6), with(source))),
        (None, Some(destination)) => Some((family(destination, Set::To4, Set::To6), with(destination))),
        (Some(source), Some(destination)) if source.is_ipv4() == destination.is_ipv4() => {
            let fields = vec![Field::Address(source), Field::Address(destination)];
            Some((family(source, Set::Both4, Set::Both6), fields))
        }
        (Some(_), Some(_)) => None,
    }
}

/// What several policies let pass, in pieces that do not overlap (the kernel refuses those), each with its policies.
fn apart(services: &[(Protocol, Ports, String)]) -> Vec<(Protocol, (u16, u16), BTreeSet<String>)> {
    if services.iter().any(|(protocol, ..)| *protocol == Protocol::Any) {
        let keys = services.iter().map(|(.., key)| key.clone()).collect();
        return vec![(Protocol::Any, (0, u16::MAX), keys)];
    }
    let mut pieces = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
        let of_it = || services.iter().filter(move |(its, ..)| *its == protocol);
        let merged = Ports::merged(of_it().flat_map(|(_, ports, _)| ports.ranges()).collect());
        for piece in merged.ranges() {
            let within = |ports: &Ports| ports.ranges().any(|(from, to)| piece.0 <= from && to <= piece.1);
            let keys = of_it().filter(|(_, ports, _)| within(ports)).map(|(.., key)| key.clone()).collect();
            pieces.push((protocol, piece, keys));
        }
    }
    pieces
}

/// The numbers of a protocol (IANA), first and last; of ICMP only those of the family.
fn numbers(protocol: Protocol, set: Set) -> Vec<(u16, u16)> {
    let (four, six) = (set.parts().contains(&Part::Address4), set.parts().contains(&Part::Address6));
    match protocol {
        Protocol::Any => vec![(0, u16::from(u8::MAX))],
        Protocol::Tcp => vec![(6, 6)],
        Protocol::Udp => vec![(17, 17)],
        Protocol::Icmp if four => vec![(1, 1)],
        Protocol::Icmp if six => vec![(58, 58)],
        Protocol::Icmp => vec![(1, 1), (58, 58)],
    }
}

impl Ruleset {
    /// Whose the table is.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The same under another mark.
    #[must_use]
    pub fn with_mark(&self, fingerprint: Fingerprint) -> Self {
        Self { fingerprint, ..self.clone() }
    }

    /// One line per domain and policy: [`Isolation::rules`], all known.
    #[must_use]
    pub fn rules(&self) -> &BTreeMap<String, String> {
        &self.rules
    }

    /// The comment of the first rule.
    pub(super) fn comment(&self) -> String {
        comment(&self.fingerprint)
    }

    /// The name of the empty set that says whose the table is where its rules were flushed.
    pub(super) fn owner(&self) -> String {
        owner(&self.fingerprint)
    }

    /// The script that puts this table in the place of any other of its name, in one transaction; what a boot loads.
    #[must_use]
    pub fn script(&self) -> String {
        script(Some(&self.fingerprint), &self.sets, &self.chains)
    }

    /// The script that makes this table where there is none, in one transaction; it is refused where there is one by then.
    pub(super) fn creation(&self) -> String {
        format!("create table inet anklume\n{}", definition(Some(&self.fingerprint), &self.sets, &self.chains))
    }

    /// The script that leads from `present` here, in one transaction; `None` if nothing differs.
    ///
    /// It adds and deletes elements, rewrites the rules of a chain, and defines anew the sets and chains that somebody
    /// changed, but never the base chain: the kernel calls a new one while it is still empty and an old one when it is
    /// already, so a packet that passes between the two would meet no rule. Only where others took the base chain off
    /// its hook is the whole table defined anew.
    #[must_use]
    pub fn change(&self, present: &Present) -> Option<String> {
        if !present.is_laid_out_as(self) {
            return Some(self.laid_out_anew(present).unwrap_or_else(|| self.script()));
        }
        let mut text = String::new();
        let owner = self.owner();
        if !present.owners().any(|name| name == owner) {
            let _ = writeln!(text, "add set inet anklume {owner} {{ type ifname; }}");
        }
        for other in present.owners().filter(|name| *name != owner) {
            let _ = writeln!(text, "delete set inet anklume {other}");
        }
        let mut elements = |verb: &str, set: Set, elements: &mut dyn Iterator<Item = &Element>| {
            let lines: Vec<String> = elements.map(|element| format!("\t{element}")).collect();
            if !lines.is_empty() {
                let _ = writeln!(text, "{verb} element inet anklume {} {{\n{}\n}}", set.name(), lines.join(",\n"));
            }
        };
        for (set, wanted) in &self.sets {
            let there = present.elements(*set);
            elements("delete", *set, &mut there.iter().copied().filter(|element| !wanted.contains_key(*element)));
            elements("add", *set, &mut wanted.keys().filter(|element| !there.contains(element)));
        }
        for chain in &self.chains {
            if present.holds(chain, &self.comment()) {
                continue;
            }
            let _ = writeln!(text, "flush chain inet anklume {}", chain.name);
            for (index, rule) in chain.rules.iter().enumerate() {
                let marked = marked(chain, index, Some(&self.fingerprint));
                let _ = writeln!(text, "add rule inet anklume {} {}{marked}", chain.name, rule.text);
            }
        }
        (!text.is_empty()).then_some(text)
    }

    /// All removed and defined again but the chains, which are emptied and filled; `None` where that does not do.
    fn laid_out_anew(&self, present: &Present) -> Option<String> {
        let things = present.beside_the_chains_of(self)?;
        let mut text = String::new();
        for chain in present.chains.keys() {
            let _ = writeln!(text, "flush chain inet anklume {chain}");
        }
        for (kind, name) in things {
            let _ = writeln!(text, "delete {kind} inet anklume {name}");
        }
        text.push_str(&definition(Some(&self.fingerprint), &self.sets, &self.chains));
        Some(text)
    }
}

/// The comment of the first rule of a table.
pub(super) fn comment(fingerprint: &Fingerprint) -> String {
    format!("anklume {fingerprint}")
}

/// Whether a set has the name of one that says whose a table is.
pub(super) fn is_owner(name: &str) -> bool {
    name.starts_with(OWNER)
}

/// The comment of the table in which a set of that name says whose it is.
pub(super) fn marked_as(name: &str) -> Option<String> {
    name.strip_prefix(OWNER).map(|fingerprint| format!("anklume {fingerprint}"))
}

/// What the name of such a set begins with.
const OWNER: &str = "owner_";

/// The name of the empty set of a table.
pub(super) fn owner(fingerprint: &Fingerprint) -> String {
    format!("{OWNER}{fingerprint}")
}

fn marked(chain: &Chain, index: usize, fingerprint: Option<&Fingerprint>) -> String {
    match fingerprint {
        Some(fingerprint) if chain.name == BASE && index == 0 => format!(" comment \"{}\"", comment(fingerprint)),
        _ => String::new(),
    }
}

fn script(fingerprint: Option<&Fingerprint>, sets: &BTreeMap<Set, Elements>, chains: &[Chain]) -> String {
    format!("table inet anklume\ndelete table inet anklume\n{}", definition(fingerprint, sets, chains))
}

/// The elements of a set, those that differ in protocol and port alone on one line: the clients compare the text of a plan
/// line by line, which takes them the square of the number of lines.
fn lines(set: Set, elements: &Elements) -> Vec<String> {
    let sides = set.parts().len() - if set.has_ranges() { 2 } else { 0 };
    let elements: Vec<&Element> = elements.keys().collect();
    let together = elements.chunk_by(|one, next| one.0[..sides] == next.0[..sides]);
    together.map(|line| line.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")).collect()
}

fn definition(fingerprint: Option<&Fingerprint>, sets: &BTreeMap<Set, Elements>, chains: &[Chain]) -> String {
    let mut text = String::from("table inet anklume {\n");
    if let Some(fingerprint) = fingerprint {
        let _ = writeln!(text, "\tset {} {{\n\t\ttype ifname\n\t}}", owner(fingerprint));
    }
    for (set, elements) in sets {
        let parts: Vec<&str> = set.parts().iter().map(|part| part.nft()).collect();
        let _ = writeln!(text, "\tset {} {{\n\t\ttype {}", set.name(), parts.join(" . "));
        if set.has_ranges() {
            text.push_str("\t\tflags interval\n");
        }
        if !elements.is_empty() {
            let lines: Vec<String> = lines(*set, elements).iter().map(|line| format!("\t\t\t{line}")).collect();
            let _ = writeln!(text, "\t\telements = {{\n{}\n\t\t}}", lines.join(",\n"));
        }
        text.push_str("\t}\n");
    }
    for chain in chains {
        let _ = writeln!(text, "\tchain {} {{", chain.name);
        if chain.name == BASE {
            let _ = writeln!(text, "\t\t{HOOK}");
        }
        for (index, rule) in chain.rules.iter().enumerate() {
            let _ = writeln!(text, "\t\t{}{}", rule.text, marked(chain, index, fingerprint));
        }
        text.push_str("\t}\n");
    }
    text.push_str("}\n");
    text
}
