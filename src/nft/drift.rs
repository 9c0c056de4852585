//! What is there beside what should be there, rule by rule.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::{BASE, Chain};
use super::listing::{Present, PresentChain};
use super::ruleset::Ruleset;

/// Longest text of a foreign rule in a difference, in characters.
const SHOWN: usize = 200;

/// What differs between a host and a [`Ruleset`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    there: BTreeMap<String, String>,
    lines: Vec<String>,
}

impl Drift {
    /// Compares a table with what it should be.
    #[must_use]
    pub fn between(ruleset: &Ruleset, present: &Present) -> Self {
        let mut drift = Self { there: ruleset.rules().clone(), lines: Vec::new() };
        drift.elements(ruleset, present);
        for (name, what) in present.layout_differences(ruleset) {
            drift.note(format!("layout/{name}"), what);
        }
        for chain in &ruleset.chains {
            if let Some(there) = present.chains.get(chain.name).filter(|_| !present.holds(chain, &ruleset.comment())) {
                let what = chain_differences(chain, there, &ruleset.comment());
                drift.note(format!("layout/{}", chain.name), what.join("; "));
            }
        }
        drift
    }

    /// There is no table at all.
    pub(super) fn of_no_table() -> Self {
        let mut drift = Self { there: BTreeMap::new(), lines: Vec::new() };
        drift.note("table".to_owned(), "missing".to_owned());
        drift
    }

    /// With what differs in the file.
    pub(super) fn with_file(mut self, difference: Option<String>) -> Self {
        if let Some(what) = difference {
            self.note("file".to_owned(), what);
        }
        self
    }

    fn elements(&mut self, ruleset: &Ruleset, present: &Present) {
        let mut missing: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let mut whole: BTreeSet<&str> = BTreeSet::new();
        for (set, wanted) in &ruleset.sets {
            let there = present.elements(*set);
            for (element, keys) in wanted {
                let found = there.contains(element);
                for key in keys {
                    if found {
                        whole.insert(key);
                    } else {
                        missing.entry(key).or_default().insert(format!("{} {{ {element} }}", set.name()));
                    }
                }
            }
            let extra: Vec<String> =
                there.into_iter().filter(|element| !wanted.contains_key(element)).map(ToString::to_string).collect();
            if !extra.is_empty() {
                self.note(format!("unknown/{}", set.name()), extra.join(", "));
            }
        }
        for (key, elements) in missing {
            let elements: Vec<String> = elements.into_iter().collect();
            let what = format!("missing {}", elements.join(", "));
            self.lines.push(format!("{key}: {what}"));
            if whole.contains(key) {
                if let Some(line) = self.there.get_mut(key) {
                    *line = format!("{line} ({what})");
                }
            } else {
                self.there.remove(key);
            }
        }
    }

    fn note(&mut self, key: String, what: String) {
        self.lines.push(format!("{key}: {what}"));
        self.there.entry(key).and_modify(|known| *known = format!("{known}; {what}")).or_insert(what);
    }

    /// Whether all is as it should be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// What stands: each rule's line where it stands whole, with what is missing where it stands in part, no line where
    /// it is gone; `unknown/<set>`, `layout/<name>` and `file` for what is no rule of ours.
    #[must_use]
    pub fn rules(&self) -> BTreeMap<String, String> {
        self.there.clone()
    }

    /// One line per difference, beginning with its key.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

fn chain_differences(chain: &Chain, there: &PresentChain, comment: &str) -> Vec<String> {
    if there.rules.is_empty() {
        return vec!["the chain was flushed".to_owned()];
    }
    let mut found = Vec::new();
    let mut rest: Vec<_> = there.rules.iter().collect();
    for rule in &chain.rules {
        match rest.iter().position(|there| there.json == rule.json) {
            Some(at) => {
                rest.remove(at);
            }
            None => found.push(format!("missing rule: {}", rule.text)),
        }
    }
    for extra in rest {
        let text: String = extra.json.to_string().chars().take(SHOWN).collect();
        found.push(format!("added rule: {text}"));
    }
    if found.is_empty() {
        let marked = there.rules.first().and_then(|rule| rule.comment.as_deref()) == Some(comment);
        let ordered = there.rules.iter().zip(&chain.rules).all(|(there, rule)| there.json == rule.json);
        if !ordered {
            found.push("the rules are in another order".to_owned());
        } else if chain.name == BASE && !marked {
            found.push("the first rule has lost its comment".to_owned());
        } else if there.rules.iter().skip(usize::from(chain.name == BASE)).any(|rule| rule.comment.is_some()) {
            found.push("a rule has a comment".to_owned());
        }
    }
    found
}
