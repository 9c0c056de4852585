//! One plan, one object: what the objects of a walk are called before and after it, so that no two resources end up with
//! one object, and no object is renamed over another one. Core orders neither (OpenTofu 1.12, Terraform 1.11).

use std::sync::{Mutex, PoisonError};

use super::uid::{self, Uid};
use crate::plugin::{Action, Diagnostic, Failure, Path, Plan, Stored, Value};

/// Of which there is one on a host.
const ISOLATION: &str = "anklume_nft_isolation";

/// The name of an object within its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    kind: &'static str,
    /// `domain` and `name`, or the name alone.
    id: String,
    /// The storage pool of a volume, where it is known.
    pool: Option<String>,
}

impl Name {
    /// `None` where a part of it is unknown.
    fn of(kind: &'static str, values: &Value) -> Option<Self> {
        let part = |name: &str| values.get(name).as_str();
        let id = match values.get("domain") {
            _ if kind == ISOLATION => "inet anklume".to_owned(),
            Value::Null => part("name")?.to_owned(),
            domain => format!("{}/{}", domain.as_str()?, part("name")?),
        };
        Some(Self { kind, id, pool: part("pool").map(str::to_owned) })
    }

    fn domain(&self) -> &str {
        self.id.split('/').next().unwrap_or_default()
    }
}

/// An object of the state.
#[derive(Clone, Debug, PartialEq)]
struct Prior {
    name: Name,
    uid: Option<Uid>,
    /// The storage pool of a domain.
    pool: Option<String>,
}

impl Prior {
    fn of(kind: &'static str, state: &Value) -> Option<Self> {
        let uid = state.get(uid::NAME).as_str().map(Uid::parse);
        let pool = state.get("storage_pool").as_str().map(str::to_owned);
        Some(Self { name: Name::of(kind, state)?, uid, pool })
    }

    /// Whether it is the object of `other`, which may have had another name before the read.
    fn is_same(&self, other: &Self) -> bool {
        let same_uid = || self.uid.as_ref().zip(other.uid.as_ref()).is_some_and(|(left, right)| left.is_same(right));
        self == other || self.name.kind == other.name.kind && same_uid()
    }
}

/// What a plan does.
#[derive(Clone, Debug, PartialEq)]
enum Planned {
    Create(Name),
    Update { from: Prior, to: Name },
    Destroy(Prior),
}

#[derive(Debug, Default)]
struct Seen {
    priors: Vec<Prior>,
    /// Those that a read has not found. Terraform 1.11 plans their destruction nevertheless.
    gone: Vec<Prior>,
    plans: Vec<Planned>,
}

/// The objects of one walk, until its first change is applied.
#[derive(Debug)]
pub struct Walk(Mutex<Option<Seen>>);

impl Default for Walk {
    fn default() -> Self {
        Self(Mutex::new(Some(Seen::default())))
    }
}

impl Walk {
    fn with<T>(&self, work: impl FnOnce(&mut Seen) -> Option<T>) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(work)
    }

    /// The first change is about to be applied: what is planned from now on has been planned before.
    pub fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// An object of the state passes. A plan that came before and takes its name is reported here.
    pub fn pass(&self, kind: &'static str, state: &Value) -> Option<Diagnostic> {
        let prior = Prior::of(kind, state)?;
        self.with(|seen| {
            let conflict = seen.plans.iter().find_map(|planned| match planned {
                Planned::Update { from, to } => seen.takes(from, to, &prior),
                _ => None,
            });
            seen.priors.push(prior);
            conflict
        })
    }

    /// A read of an object of the state has ended.
    pub fn has_read(&self, kind: &'static str, before: &Value, read: &Result<Option<Stored>, Failure>) {
        if let Ok(read) = read {
            self.read(kind, before, read.as_ref().map_or(&Value::Null, |stored| &stored.state));
        }
    }

    /// A read has found an object of the state as `now`; gone where that is null.
    fn read(&self, kind: &'static str, before: &Value, now: &Value) {
        let Some(prior) = Prior::of(kind, before) else { return };
        self.with(|seen| {
            let at = seen.priors.iter().position(|known| *known == prior)?;
            match Prior::of(kind, now) {
                Some(now) => seen.priors[at] = now,
                None => {
                    let gone = seen.priors.remove(at);
                    seen.plans.retain(|planned| !matches!(planned, Planned::Destroy(prior) if *prior == gone));
                    seen.gone.push(gone);
                }
            }
            Some(())
        });
    }

    /// Refuses the plan where it, or one before it, has no place beside the other.
    pub fn plan(&self, kind: &'static str, plan: &mut Plan<'_>) {
        // The second plan of a replacement.
        if plan.is_replacement() {
            return;
        }
        let planned = match plan.action {
            Action::Create => Name::of(kind, &plan.planned).map(Planned::Create),
            Action::Destroy => Prior::of(kind, plan.prior).map(Planned::Destroy),
            Action::Update => Prior::of(kind, plan.prior).map(|from| {
                let to = Name::of(kind, &plan.planned).unwrap_or_else(|| from.name.clone());
                Planned::Update { from, to }
            }),
        };
        let Some(planned) = planned else { return };
        let conflict = self.with(|seen| {
            if matches!(&planned, Planned::Destroy(prior) if seen.gone.contains(prior)) {
                return None;
            }
            seen.plans.push(planned);
            seen.conflict()
        });
        if let Some(conflict) = conflict {
            plan.diagnostics.extend(conflict);
        }
    }
}

impl Seen {
    /// What refuses the last plan.
    fn conflict(&self) -> Option<Diagnostic> {
        let (new, before) = self.plans.split_last()?;
        let of_plans = before.iter().find_map(|old| self.between(new, old).or_else(|| self.between(old, new)));
        let Planned::Update { from, to } = new else { return of_plans };
        of_plans.or_else(|| self.priors.iter().find_map(|other| self.takes(from, to, other)))
    }

    /// Whether a create of `name` is of a resource without an object. A tainted object is created without its prior state,
    /// which has passed.
    fn is_new(&self, name: &Name) -> bool {
        let priors = self.priors.iter().filter(|prior| self.is_one(&prior.name, name)).count();
        let is_of_it = |planned: &&Planned| match planned {
            Planned::Create(created) => self.is_one(created, name),
            Planned::Update { from: prior, .. } | Planned::Destroy(prior) => self.is_one(&prior.name, name),
        };
        priors < self.plans.iter().filter(is_of_it).count()
    }

    /// Whether two names are of one object. A volume without a pool is in the domain's, where that is known.
    fn is_one(&self, left: &Name, right: &Name) -> bool {
        let of_domain = |domain: &str| {
            let domain =
                self.priors.iter().find(|prior| prior.name.kind == "anklume_domain" && prior.name.id == domain);
            domain.and_then(|domain| domain.pool.clone())
        };
        let pool = |name: &Name| name.pool.clone().or_else(|| of_domain(name.domain()));
        let same_pool = match (pool(left), pool(right)) {
            (Some(left), Some(right)) => left == right,
            (None, None) => true,
            _ => left.kind != "anklume_volume",
        };
        left.kind == right.kind && left.id == right.id && same_pool
    }

    /// An update from one name to another that is still that of `other`.
    fn takes(&self, from: &Prior, to: &Name, other: &Prior) -> Option<Diagnostic> {
        let renames = !self.is_one(&from.name, to);
        (renames && self.is_one(to, &other.name) && !from.is_same(other)).then(|| in_use(to, &from.name))
    }

    fn between(&self, one: &Planned, other: &Planned) -> Option<Diagnostic> {
        use Planned::{Create, Destroy, Update};
        match (one, other) {
            (Create(new), Create(again)) if self.is_one(new, again) => Some(twice(new)),
            (Create(new), Destroy(old)) if self.is_one(new, &old.name) && self.is_new(new) => Some(relabelled(new)),
            (Create(new), Update { from, to }) if self.is_one(new, &from.name) && self.is_new(new) => {
                Some(if self.is_one(&from.name, to) { twice(new) } else { given_up(new, to) })
            }
            (Create(new), Update { to, .. }) if self.is_one(new, to) => Some(twice(new)),
            // Of one name there is one object, whatever the states say of it.
            (Update { from, .. }, Destroy(old)) if from.name == old.name => Some(relabelled(&from.name)),
            (Update { from, to }, Update { from: from_too, to: to_too })
                if from.name != from_too.name && self.is_one(to, to_too) =>
            {
                Some(twice(to))
            }
            (Update { from, .. }, Update { from: from_too, .. }) if from.name == from_too.name => {
                Some(twice(&from.name))
            }
            _ => None,
        }
    }
}

fn noun(name: &Name) -> &'static str {
    name.kind.strip_prefix("anklume_").unwrap_or(name.kind)
}

fn at(name: &Name) -> Path {
    if name.kind == ISOLATION { Path::root() } else { Path::from("name") }
}

const IN_USE: &str = "The name is still in use in this plan";
const SHARED: &str = "Two resources for one object";

/// An old label is destroyed, and a new one has its object.
fn relabelled(name: &Name) -> Diagnostic {
    let kind = name.kind;
    Diagnostic::error(
        at(name),
        SHARED,
        format!(
            "This plan destroys the {} \"{}\" under one label and has it under another: the destruction would delete what the other \
             resource has. If the label changed, say so:\n\n    moved {{\n      from = {kind}.<old>\n      to   = {kind}.<new>\n    }}\n\n\
             With an `import` block for the new label, take the old one out of the state without a destruction:\n\n    removed {{\n      \
             from = {kind}.<old>\n      lifecycle {{\n        destroy = false\n      }}\n    }}\n\nTo really delete and recreate it, remove \
             the old resource in one apply and add the new one in the next. An object that an earlier apply has deposed has no label: plan with a refresh, \
             which finds out whether it exists. If it does, remove the resource from the state with `tofu state rm`, and import it.",
            noun(name),
            name.id
        ),
    )
}

/// Two resources of the configuration have one name.
fn twice(name: &Name) -> Diagnostic {
    let (kind, id) = (name.kind, &name.id);
    let detail = match kind {
        ISOLATION => format!(
            "The firewall of a host is one table, `{id}`, and one `{kind}`. Put all domains and policies into one of them, and remove the \
             other."
        ),
        _ => format!(
            "Two resources of type `{kind}` have the {} \"{id}\" in this configuration. Rename or remove one of them.",
            noun(name)
        ),
    };
    Diagnostic::error(at(name), SHARED, detail)
}

/// A name that one resource takes and another gives up.
fn in_use(name: &Name, from: &Name) -> Diagnostic {
    Diagnostic::error(
        at(name),
        IN_USE,
        format!(
            "The {} \"{}\" is in the state, and \"{}\" would be renamed to it. A plan has no order for that, and the wrong data could go. If a list with `count` \
             lost or gained an element, use `for_each` with names as keys, and a `moved` block for each element. To swap names, rename one \
             of them to a third name and apply first.",
            noun(name),
            name.id,
            from.id
        ),
    )
}

/// A name that one resource gives up and a new one takes.
fn given_up(name: &Name, to: &Name) -> Diagnostic {
    Diagnostic::error(
        at(name),
        IN_USE,
        format!(
            "The {} \"{}\" would be renamed to \"{}\", and a new resource would be created under its old name. A plan has no order for \
             that. Rename the one that has the name first and apply; then add the new one. If the same object only has another label, \
             write a `moved` block.",
            noun(name),
            name.id,
            to.id
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{Private, Schema};
    use serde_json::json;

    const KIND: &str = "anklume_volume";

    fn value(id: &str, mark: &str) -> Value {
        let parts: Vec<_> = id.split('/').collect();
        let mut value = Value::from_json(&json!({"domain": parts[0], "name": parts[1], "pool": parts.get(2)}));
        value.set(uid::NAME, if mark.is_empty() { Value::Null } else { mark.into() });
        value
    }

    /// The summary of what refuses a plan from `prior` to `planned`; empty = none of it.
    fn plan(walk: &Walk, prior: (&str, &str), planned: &str, private: Private) -> Option<String> {
        let schema = Schema::new(
            0,
            "",
            ["domain", "name", "pool", uid::NAME]
                .map(|name| crate::plugin::Attribute::string(name).optional())
                .to_vec(),
        );
        let of = |(id, mark): (&str, &str)| if id.is_empty() { Value::Null } else { value(id, mark) };
        let (prior, config) = (of(prior), of((planned, "")));
        let mut plan = Plan::start(&schema, &config, &prior, &config, private);
        walk.plan(KIND, &mut plan);
        plan.diagnostics.iter().next().map(|told| told.summary.clone())
    }

    fn create(walk: &Walk, id: &str) -> Option<String> {
        plan(walk, ("", ""), id, Private::default())
    }

    fn update(walk: &Walk, from: &str, mark: &str, to: &str) -> Option<String> {
        plan(walk, (from, mark), to, Private::default())
    }

    fn destroy(walk: &Walk, id: &str, mark: &str) -> Option<String> {
        plan(walk, (id, mark), "", Private::default())
    }

    fn shared() -> Option<String> {
        Some(SHARED.to_owned())
    }

    fn in_use() -> Option<String> {
        Some(IN_USE.to_owned())
    }

    #[test]
    fn a_new_label_for_an_object_whose_old_label_is_destroyed_is_refused_by_the_second_call() {
        let walk = Walk::default();
        assert_eq!((create(&walk, "d/a/p"), destroy(&walk, "d/a/p", "m")), (None, shared()));
        let walk = Walk::default();
        assert_eq!((destroy(&walk, "d/a/p", "m"), create(&walk, "d/a/p")), (None, shared()));
        assert_eq!(create(&walk, "d/b/p"), None);
    }

    #[test]
    fn an_import_for_a_new_label_beside_the_destruction_of_the_old_one_is_refused() {
        let walk = Walk::default();
        assert_eq!(update(&walk, "d/a/p", "m", "d/a/p"), None);
        assert_eq!(destroy(&walk, "d/a/p", "m"), shared());
        let walk = Walk::default();
        assert_eq!(destroy(&walk, "d/a/p", "m"), None);
        assert_eq!(update(&walk, "d/a/q", "m", "d/a/q"), None, "another pool");
        assert_eq!(update(&walk, "d/a/p", "n", "d/a/p"), shared(), "whatever mark the state has");
    }

    #[test]
    fn everything_may_be_destroyed_at_once() {
        let walk = Walk::default();
        assert_eq!((destroy(&walk, "d/a/p", "m"), destroy(&walk, "d/a/p", "m")), (None, None));
    }

    #[test]
    fn one_object_is_written_once() {
        let walk = Walk::default();
        assert_eq!((create(&walk, "d/a/p"), create(&walk, "d/a/p")), (None, shared()));
        assert_eq!((create(&walk, "d/a/q"), create(&walk, "e/a/p")), (None, None));
        let walk = Walk::default();
        assert_eq!((update(&walk, "d/a/p", "m", "d/a/p"), create(&walk, "d/a/p")), (None, shared()));
    }

    #[test]
    fn a_rename_to_the_name_of_another_object_of_the_state_is_refused_whoever_comes_first() {
        let walk = Walk::default();
        assert!(walk.pass(KIND, &value("d/a/p", "m")).is_none() && walk.pass(KIND, &value("d/b/p", "n")).is_none());
        assert_eq!(update(&walk, "d/a/p", "m", "d/b/p"), in_use());
        let walk = Walk::default();
        assert_eq!(update(&walk, "d/a/p", "m", "d/b/p"), None);
        assert_eq!(walk.pass(KIND, &value("d/b/p", "n")).map(|told| told.summary), in_use());
    }

    #[test]
    fn a_name_that_an_update_gives_up_is_not_free_in_the_same_plan() {
        let walk = Walk::default();
        assert_eq!((update(&walk, "d/a/p", "m", "d/b/p"), create(&walk, "d/a/p")), (None, in_use()));
    }

    #[test]
    fn the_name_of_an_object_that_is_gone_is_free() {
        let walk = Walk::default();
        assert!(walk.pass(KIND, &value("d/b/p", "n")).is_none());
        walk.read(KIND, &value("d/b/p", "n"), &Value::Null);
        assert_eq!(update(&walk, "d/a/p", "m", "d/b/p"), None);
    }

    #[test]
    fn the_destruction_of_an_object_that_is_gone_concerns_nobody() {
        let walk = Walk::default();
        assert!(walk.pass(KIND, &value("d/a/p", "m")).is_none());
        walk.read(KIND, &value("d/a/p", "m"), &Value::Null);
        assert_eq!((update(&walk, "d/a/p", "n", "d/a/p"), destroy(&walk, "d/a/p", "m")), (None, None));
    }

    #[test]
    fn what_was_renamed_outside_is_renamed_back() {
        let walk = Walk::default();
        assert!(walk.pass(KIND, &value("d/a/p", "")).is_none());
        walk.read(KIND, &value("d/a/p", ""), &value("d/other/p", "m/u"));
        assert_eq!(update(&walk, "d/other/p", "m/u", "d/a/p"), None);
    }

    #[test]
    fn the_second_plan_of_a_replacement_and_a_tainted_object_are_no_second_resource() {
        let walk = Walk::default();
        assert_eq!(update(&walk, "d/a/p", "m", "d/a/p"), None);
        let mut private = Private::default();
        private.set("planned", "true");
        assert_eq!(plan(&walk, ("", ""), "d/a/p", private), None);
        let walk = Walk::default();
        assert!(walk.pass(KIND, &value("d/a/p", "m")).is_none());
        assert_eq!(create(&walk, "d/a/p"), None);
    }

    #[test]
    fn a_tainted_object_is_created_beside_one_that_its_replacement_has_left() {
        let walk = Walk::default();
        for mark in ["m", "n"] {
            assert!(walk.pass(KIND, &value("d/a/p", mark)).is_none());
        }
        assert_eq!((destroy(&walk, "d/a/p", "m"), create(&walk, "d/a/p")), (None, None));
        let walk = Walk::default();
        assert!(walk.pass(KIND, &value("d/a/p", "m")).is_none());
        assert_eq!((destroy(&walk, "d/a/p", "m"), create(&walk, "d/a/p")), (None, shared()));
    }

    #[test]
    fn a_volume_without_a_pool_is_in_that_of_its_domain() {
        let walk = Walk::default();
        assert_eq!((destroy(&walk, "d/a/p", "m"), create(&walk, "d/a")), (None, None), "the apply decides");
        let walk = Walk::default();
        walk.pass("anklume_domain", &Value::from_json(&json!({"name": "d", "storage_pool": "p"})));
        assert_eq!((destroy(&walk, "d/a/p", "m"), create(&walk, "d/a")), (None, shared()));
        assert_eq!((destroy(&walk, "d/b/q", "n"), create(&walk, "d/b")), (None, None));
    }

    #[test]
    fn nothing_is_refused_once_changes_are_applied() {
        let walk = Walk::default();
        assert_eq!(create(&walk, "d/a/p"), None);
        walk.end();
        assert_eq!((create(&walk, "d/a/p"), destroy(&walk, "d/a/p", "m")), (None, None));
    }
}
