//! The table as `nft -j list table inet anklume` prints it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::layout::{BASE, Chain};
use super::ruleset::{Element, Field, Ruleset, is_owner, marked_as};
use super::set::{Part, Set};
use super::statement::{normalised, protocol_number};
use super::value::Fingerprint;

/// The table that is there.
#[derive(Debug, Clone, Default)]
pub struct Present {
    sets: BTreeMap<String, PresentSet>,
    pub(super) chains: BTreeMap<String, PresentChain>,
    /// Flags of the table, maps, and all else that is never ours.
    pub(super) strange: Vec<String>,
}

#[derive(Debug, Clone)]
struct PresentSet {
    types: Vec<String>,
    flags: Vec<String>,
    elements: BTreeSet<Element>,
    strange: Vec<String>,
}

/// A chain, and how the kernel calls it.
#[derive(Debug, Clone, Default)]
pub(super) struct PresentChain {
    hook: Option<[Value; 4]>,
    pub(super) rules: Vec<PresentRule>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct PresentRule {
    pub(super) json: Value,
    pub(super) comment: Option<String>,
}

impl Present {
    /// Reads the output of nft; `None` if it is none.
    #[must_use]
    pub fn parse(output: &str) -> Option<Self> {
        let json: Value = output.lines().find_map(|line| serde_json::from_str(line).ok().filter(Value::is_object))?;
        let mut present = Self::default();
        for item in json.get("nftables")?.as_array()? {
            let (kind, body) = item.as_object()?.iter().next()?;
            let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
            match kind.as_str() {
                "metainfo" => {}
                "table" => {
                    let flags = strings(body.get("flags"));
                    present.strange.extend(flags.into_iter().map(|flag| format!("table flag {flag}")));
                }
                "set" => {
                    present.sets.insert(text("name")?, PresentSet::of(body));
                }
                "chain" => {
                    let chain = present.chains.entry(text("name")?).or_default();
                    let hook = |key: &str| body.get(key).cloned().unwrap_or_default();
                    if body.get("hook").is_some() {
                        chain.hook = Some([hook("type"), hook("hook"), hook("prio"), hook("policy")]);
                    }
                }
                "rule" => {
                    let json = normalised(body.get("expr")?);
                    let rule = PresentRule { json, comment: text("comment") };
                    present.chains.entry(text("chain")?).or_default().rules.push(rule);
                }
                other => present.strange.push(format!("{other} {}", text("name").unwrap_or_default())),
            }
        }
        Some(present)
    }

    /// The flags that nft 1.0.6 leaves out of its JSON, from the text of `nft -t list table`.
    pub(super) fn with_flags_of(mut self, text: &str) -> Self {
        let flags = text.lines().skip_while(|line| !line.starts_with("table ")).nth(1).map(str::trim);
        if let Some(flags) = flags.and_then(|line| line.strip_prefix("flags ")) {
            self.strange.push(format!("table flag {flags}"));
        }
        self
    }

    /// The mark of the table, if it has one.
    pub(super) fn mark(&self) -> Option<Fingerprint> {
        Fingerprint::of_comment(&self.comment()?)
    }

    /// The comment of the first rule; where that is gone, or none of our form, the one that the name of the one empty set
    /// stands for.
    pub(super) fn comment(&self) -> Option<String> {
        let first = self.chains.get(BASE).and_then(|chain| chain.rules.first());
        let said = first.and_then(|rule| rule.comment.clone());
        let of_set = match self.owners().collect::<Vec<_>>()[..] {
            [only] => marked_as(only),
            _ => None,
        };
        let mark = match &said {
            Some(said) if said.starts_with("anklume ") => Some(said.clone()),
            _ => of_set,
        };
        mark.or(said)
    }

    /// The elements of a set of ours.
    pub(super) fn elements(&self, set: Set) -> BTreeSet<&Element> {
        self.sets.get(set.name()).map(|set| set.elements.iter().collect()).unwrap_or_default()
    }

    /// Whether only elements, rules and the empty set that says whose it is differ from `ruleset`.
    pub(super) fn is_laid_out_as(&self, ruleset: &Ruleset) -> bool {
        self.layout_differences(ruleset).iter().all(|(name, _)| is_owner(name))
    }

    /// Everything of the table but the chains of `ruleset`, as kind and name, in an order in which it can be deleted once
    /// no chain has a rule. `None` where the kernel does not call the base chain as it should, or where nft has no words
    /// for a thing.
    pub(super) fn beside_the_chains_of(&self, ruleset: &Ruleset) -> Option<Vec<(&str, &str)>> {
        let [kind, hook, priority, _] = self.chains.get(BASE)?.hook.as_ref()?;
        if kind != "filter" || hook != "forward" || *priority != -1 {
            return None;
        }
        // What refers to another thing goes before that: a map to its counters.
        let mut strange: Vec<&String> = self.strange.iter().collect();
        strange.sort_by_key(|thing| !thing.starts_with("map "));
        let strange = strange.into_iter();
        let strange = strange.map(|thing| thing.rsplit_once(' ').filter(|(kind, _)| *kind != "table flag"));
        let sets = self.sets.keys().map(|name| Some(("set", name.as_str())));
        let is_ours = |name: &str, there: &PresentChain| {
            name == BASE || ruleset.chains.iter().any(|chain| chain.name == name && there.is_called_as(chain))
        };
        let others = self.chains.iter().filter(|(name, there)| !is_ours(name, there));
        let chains = others.map(|(name, _)| Some(("chain", name.as_str())));
        strange.chain(sets).chain(chains).collect()
    }

    /// The names of the empty sets that say whose it is.
    pub(super) fn owners(&self) -> impl Iterator<Item = &str> {
        self.sets.keys().map(String::as_str).filter(|name| is_owner(name))
    }

    /// Sets, chains and the rest that are not as in `ruleset`, with what is wrong.
    pub(super) fn layout_differences(&self, ruleset: &Ruleset) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> =
            self.strange.iter().map(|thing| ("table".to_owned(), format!("has {thing}"))).collect();
        for set in Set::ALL {
            match self.sets.get(set.name()) {
                None => found.push((set.name().to_owned(), "the set is missing".to_owned())),
                Some(there) if !there.is_of(set) => {
                    found.push((set.name().to_owned(), "the set is of another type".to_owned()));
                }
                Some(there) => {
                    let strange = there.strange.iter();
                    found.extend(strange.map(|element| (set.name().to_owned(), format!("has {element}"))));
                }
            }
        }
        let owner = ruleset.owner();
        if !self.sets.contains_key(&owner) {
            found.push((owner.clone(), "the set is missing".to_owned()));
        }
        for name in self.sets.keys() {
            if *name != owner && !Set::ALL.iter().any(|set| set.name() == name) {
                found.push((name.clone(), "the set is not ours".to_owned()));
            }
        }
        for chain in &ruleset.chains {
            match self.chains.get(chain.name) {
                None => found.push((chain.name.to_owned(), "the chain is missing".to_owned())),
                Some(there) if !there.is_called_as(chain) => {
                    found.push((chain.name.to_owned(), "the kernel calls the chain in another way".to_owned()));
                }
                Some(_) => {}
            }
        }
        for name in self.chains.keys() {
            if !ruleset.chains.iter().any(|chain| chain.name == name) {
                found.push((name.clone(), "the chain is not ours".to_owned()));
            }
        }
        found
    }

    /// Whether the rules of `chain` are here, one by one, with the comment on the first of the base chain and no other.
    pub(super) fn holds(&self, chain: &Chain, comment: &str) -> bool {
        let Some(there) = self.chains.get(chain.name) else { return false };
        there.rules.len() == chain.rules.len()
            && there.rules.iter().zip(&chain.rules).enumerate().all(|(index, (there, rule))| {
                let comment = (index == 0 && chain.name == BASE).then_some(comment);
                there.json == rule.json && there.comment.as_deref() == comment
            })
    }
}

impl PresentSet {
    fn of(body: &Value) -> Self {
        let types = strings(body.get("type"));
        let (mut elements, mut strange) = (BTreeSet::new(), Vec::new());
        for element in body.get("elem").and_then(Value::as_array).into_iter().flatten() {
            match parse_element(element, &types) {
                Some(parsed) => {
                    elements.insert(parsed);
                }
                None => strange.push(element.to_string()),
            }
        }
        Self { types, flags: strings(body.get("flags")), elements, strange }
    }

    fn is_of(&self, set: Set) -> bool {
        let types = set.parts().iter().map(|part| part.nft());
        let flags: &[&str] = if set.has_ranges() { &["interval"] } else { &[] };
        types.eq(self.types.iter().map(String::as_str)) && self.flags == flags
    }
}

impl PresentChain {
    fn is_called_as(&self, chain: &Chain) -> bool {
        match &self.hook {
            None => chain.name != BASE,
            Some([kind, hook, priority, policy]) => {
                chain.name == BASE && kind == "filter" && hook == "forward" && *priority == -1 && policy == "accept"
            }
        }
    }
}

/// One text or several: nft prints a single one either way, by version.
fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) => items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// `None` for what we never write: timeouts, comments, wildcards, unknown names.
fn parse_element(element: &Value, types: &[String]) -> Option<Element> {
    let single = std::slice::from_ref(element);
    let fields = element.get("concat").map_or(Some(single), |parts| parts.as_array().map(Vec::as_slice))?;
    if fields.len() != types.len() {
        return None;
    }
    let parts = [Part::Interface, Part::Address4, Part::Address6, Part::Protocol, Part::Port];
    let parsed = fields.iter().zip(types).map(|(field, name)| {
        let part = *parts.iter().find(|part| part.nft() == name)?;
        match part {
            Part::Interface => {
                field.as_str().filter(|name| !name.contains('*')).map(|name| Field::Interface(name.to_owned()))
            }
            Part::Address4 | Part::Address6 => Some(Field::Address(field.as_str()?.parse().ok()?)),
            Part::Protocol | Part::Port => match field.get("range").and_then(Value::as_array).map(Vec::as_slice) {
                Some([from, to]) => Some(Field::Range(number(from)?, number(to)?)),
                Some(_) => None,
                None => number(field).map(|only| Field::Range(only, only)),
            },
        }
    });
    parsed.collect::<Option<_>>().map(Element)
}

/// A number, or a protocol by its name.
fn number(value: &Value) -> Option<u16> {
    match value {
        Value::String(name) => protocol_number(name).or_else(|| name.parse().ok()),
        other => other.as_u64().and_then(|number| u16::try_from(number).ok()),
    }
}
