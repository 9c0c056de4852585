//! What a plan of a volume says. Pure: no clock, no I/O.

use super::schema::digits;
use super::{KIND, model};
use crate::plugin::{Action, Path, Plan, Value};
use crate::resources::session::{Preset, Session};
use crate::resources::{size, uid};

/// Private state: `kept` where the volume was made by others and its source is not known.
pub(super) const SOURCE: &str = "source";

pub(super) fn plan(session: &Session, plan: &mut Plan<'_>) {
    session.walk.plan(KIND, plan);
    if plan.action == Action::Destroy {
        // The label alone may have changed.
        if !plan.diagnostics.has_errors() {
            refuse_protected(plan, "destroyed");
        }
        return;
    }
    rules(session.delete_protection(), plan);
    uid::plan(plan);
}

/// Everything that does not depend on what else is planned.
pub(super) fn rules(protection: &Preset<bool>, plan: &mut Plan<'_>) {
    let part = |name: &str| plan.planned.get(name).as_str();
    match (part("domain"), part("pool"), part("name")) {
        (Some(domain), Some(pool), Some(name)) => {
            let id = format!("{domain}/{pool}/{name}");
            plan.set("id", id);
        }
        _ => plan.unknown("id"),
    }
    if plan.config.get("delete_protection").is_null() {
        match protection {
            Preset::To(protected) => plan.set("delete_protection", *protected),
            Preset::Unset => plan.set("delete_protection", true),
            Preset::Unknown => plan.unknown("delete_protection"),
        }
    }
    if plan.action != Action::Update {
        return;
    }
    // What an empty volume, or one of others, is filled with is known; a source that goes leaves the content.
    let (from, to) = (plan.prior.get("source"), plan.planned.get("source"));
    let refilled = !to.is_null() && !to.has_unknown() && plan.private.get(SOURCE) != Some("kept");
    if refilled && from != to && !is_same_content(from, to) {
        plan.replace("source");
    }
    if !plan.replaces() {
        filesystem(plan);
        return shrink(plan);
    }
    let decided = |name: &&str| plan.planned.get(name).is_known() && plan.planned.get(name) != plan.prior.get(name);
    if ["domain", "content_type", "source"].iter().any(decided) {
        refuse_protected(plan, "replaced");
    }
}

/// Whether two sources have the same checksum, as where the file is does not change what it holds; or are one, with a
/// checksum or without.
fn is_same_content(from: &Value, to: &Value) -> bool {
    let sha256 = |source: &Value| source.get("sha256").as_str().map(digits);
    let bare = |source: &Value| {
        let mut source = source.clone();
        source.set("sha256", Value::Null);
        source
    };
    match (sha256(from), sha256(to)) {
        (Some(from), Some(to)) => from == to,
        _ => bare(from) == bare(to),
    }
}

/// Incus (6.0 to 7.3) would refuse another one when it is applied.
fn filesystem(plan: &mut Plan<'_>) {
    const KEY: &str = "block.filesystem";
    let of = |value: &Value| value.get("config").get(KEY).as_str().map(str::to_owned);
    if let (Some(from), Some(to)) = (of(plan.prior), of(&plan.planned))
        && from != to
    {
        plan.diagnostics.error(
            Path::from("config").key(KEY),
            "A volume keeps its filesystem",
            format!("It was made with {from}. Write that again; for {to}, make another volume."),
        );
    }
}

fn shrink(plan: &mut Plan<'_>) {
    let bytes = |value: &Value| value.get("size").as_str().and_then(|text| size::parse(text).ok());
    let (Some(from), Some(to)) = (bytes(plan.prior), bytes(&plan.planned)) else { return };
    if to >= from {
        return;
    }
    if plan.planned.get("content_type").as_str() == Some("block") {
        plan.diagnostics.error(
            "size",
            "A block volume cannot shrink",
            "Incus only grows it. Set the old size or a larger one; for a smaller disk, make another volume.",
        );
    } else if let Some(filesystem) = model::rigid(&plan.private).map(str::to_owned) {
        plan.diagnostics.error(
            "size",
            "This filesystem cannot shrink",
            format!(
                "The volume has {filesystem}, which only grows. Set the old size or a larger one; for less, make another volume, with \
                 `config = {{ \"block.filesystem\" = \"ext4\" }}` if it is to shrink one day."
            ),
        );
    }
}

fn refuse_protected(plan: &mut Plan<'_>, what: &str) {
    if plan.prior.get("delete_protection").as_bool() != Some(true) {
        return;
    }
    let id = plan.prior.get("id").as_str().unwrap_or_default().to_owned();
    plan.diagnostics.error(
        "delete_protection",
        "The volume is protected",
        format!(
            "\"{id}\" would be {what} with its content, and has `delete_protection`. Set `delete_protection = false` and apply; then make this change."
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incus::volume::Volume;
    use crate::plugin::{Diagnostics, Private};
    use crate::resources::volume::schema::schema;
    use serde_json::json;

    fn all(json: serde_json::Value) -> Value {
        let mut value = Value::from_json(&json!({"name": "data", "domain": "pro", "size": "1GiB"}));
        let json = Value::from_json(&json);
        for attribute in schema().attributes() {
            if !json.get(attribute.name()).is_null() || value.get(attribute.name()).is_null() {
                value.set(attribute.name(), json.get(attribute.name()).clone());
            }
        }
        value
    }

    fn prior(json: serde_json::Value) -> Value {
        let mut value = all(json);
        for (name, text) in [("id", "pro/default/data"), ("pool", "default")] {
            value.set(name, text);
        }
        if value.get("content_type").is_null() {
            value.set("content_type", "filesystem");
        }
        if value.get("delete_protection").is_null() {
            value.set("delete_protection", true);
        }
        value
    }

    fn planned(prior: &Value, config: &Value, private: Private) -> (Value, bool, Diagnostics) {
        let mut plan = Plan::start(&schema(), config, prior, &Value::object(), private);
        rules(&Preset::Unset, &mut plan);
        (plan.planned.clone(), plan.replaces(), plan.diagnostics)
    }

    #[test]
    fn the_id_is_known_where_the_pool_is() {
        let (plan, ..) = planned(&Value::Null, &all(json!({"pool": "fast"})), Private::default());
        assert_eq!(plan.get("id").as_str(), Some("pro/fast/data"));
        assert_eq!(plan.get("delete_protection").as_bool(), Some(true));
        let (plan, ..) = planned(&Value::Null, &all(json!({})), Private::default());
        assert!(plan.get("id").is_unknown() && plan.get("pool").is_unknown());
    }

    #[test]
    fn a_block_volume_does_not_shrink_and_a_filesystem_may() {
        let problems = |kind: &str, size: &str| {
            let before = prior(json!({"content_type": kind}));
            let (_, replaces, found) =
                planned(&before, &all(json!({"content_type": kind, "size": size})), Private::default());
            assert!(!replaces);
            found.iter().map(|one| one.path.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(problems("block", "512MiB"), ["size"]);
        assert!(problems("block", "2GiB").is_empty() && problems("filesystem", "512MiB").is_empty());
        assert!(problems("block", "1024MiB").is_empty(), "the same size in another spelling");
    }

    #[test]
    fn a_filesystem_that_only_grows_is_refused_less() {
        let mut volume = Volume { content_type: "filesystem".into(), ..Volume::default() };
        volume.config.insert("block.filesystem".into(), "xfs".into());
        let mut private = Private::default();
        model::keep_rigid(&volume, &mut private);
        let before = prior(json!({}));
        let problems = |size: &str| planned(&before, &all(json!({"size": size})), private.clone()).2;
        let found = problems("512MiB");
        let told = found.iter().next().unwrap();
        assert!(told.path.to_string() == "size" && told.detail.contains("xfs"), "{told:?}");
        assert!(problems("2GiB").is_empty());
    }

    #[test]
    fn another_source_replaces_and_none_leaves_the_content() {
        let source = |name: &str| all(json!({"source": {"volume": name}}));
        let of = |name: &str| {
            let mut before = prior(json!({"delete_protection": false}));
            before.set("source", kept(&source(name)));
            before
        };
        let replaces = |prior: &Value, config: &Value, private| planned(prior, config, private).1;
        assert!(replaces(&of("a"), &source("b"), Private::default()));
        assert!(!replaces(&of("a"), &source("a"), Private::default()));
        assert!(!replaces(&of("a"), &all(json!({})), Private::default()));
        let mut kept = Private::default();
        kept.set(SOURCE, "kept");
        assert!(!replaces(&prior(json!({})), &source("a"), kept));
        let (_, replaced, found) = planned(&prior(json!({})), &source("a"), Private::default());
        assert!(replaced && found.has_errors(), "a protected one is refused");
    }

    /// The source of a configuration as the state keeps it.
    fn kept(config: &Value) -> Value {
        planned(&Value::Null, config, Private::default()).0.get("source").clone()
    }

    #[test]
    fn another_checksum_replaces_and_another_url_or_header_does_not() {
        let source = |url: &str, sha256: &str, header: &str| {
            all(json!({"source": {"url": url, "sha256": sha256, "headers": {"Authorization": header}}}))
        };
        let (one, other) = ("ab".repeat(32), "cd".repeat(32));
        let mut before = prior(json!({"delete_protection": false}));
        before.set("source", kept(&source("https://a", &one, "secret")));
        assert!(before.get("source").get("headers").is_null());
        let replaces = |url: &str, sha256: &str| {
            let (plan, replaces, found) = planned(&before, &source(url, sha256, "another"), Private::default());
            assert!(found.is_empty() && plan.get("source").get("headers").is_null());
            replaces
        };
        assert!(!replaces("https://a", &one) && !replaces("https://a", &format!("sha256:{}", one.to_uppercase())));
        assert!(!replaces("https://b?sig=x", &one), "the content is the same");
        assert!(replaces("https://a", &other) && replaces("https://b", &other));
    }

    #[test]
    fn another_filesystem_is_refused_and_none_leaves_it() {
        let with =
            |filesystem: Option<&str>| json!({"config": filesystem.map(|name| json!({"block.filesystem": name}))});
        let before = prior(with(Some("xfs")));
        let told = |to| planned(&before, &all(with(to)), Private::default()).2;
        assert_eq!(told(Some("ext4")).iter().next().unwrap().path.to_string(), "config[\"block.filesystem\"]");
        assert!(told(Some("xfs")).is_empty() && told(None).is_empty());
    }

    #[test]
    fn a_checksum_for_the_same_file_does_not_replace() {
        let with = |sha256: Option<&str>| all(json!({"source": {"file": "disk.raw", "sha256": sha256}}));
        let sum = "ab".repeat(32);
        for (from, to) in [(None, Some(sum.as_str())), (Some(sum.as_str()), None)] {
            let mut before = prior(json!({"delete_protection": false}));
            before.set("source", kept(&with(from)));
            assert!(!planned(&before, &with(to), Private::default()).1);
        }
    }

    #[test]
    fn another_name_or_pool_keeps_the_volume() {
        let (plan, replaces, found) =
            planned(&prior(json!({})), &all(json!({"name": "other", "pool": "fast"})), Private::default());
        assert!(!replaces && found.is_empty());
        assert_eq!(plan.get("id").as_str(), Some("pro/fast/other"));
    }
}
