//! Rules across the attributes of a configured volume. Unknown is never a problem.

use super::exposed;
use super::model::OWN;
use crate::plugin::{Diagnostics, Path, Value};
use crate::resources::{expiry, keys};

/// Finds every problem of `config`.
pub(super) fn validate(config: &Value, problems: &mut Diagnostics) {
    keys::refused(config.get("config"), &Path::from("config"), OWN, problems);
    let source = config.get("source");
    if source.as_map().is_some() {
        of_source(source, problems);
    }
    if config.get("content_type").as_str() == Some("iso") {
        iso(config, problems);
    } else if source.is_null() && config.get("size").is_null() && config.get("content_type").is_known() {
        problems.error(
            "size",
            "Volume without a size",
            "An empty volume needs a size. Write one, such as `size = \"20GiB\"`, or give the volume a `source`.",
        );
    }
    expiry::warn(config, problems);
}

fn of_source(source: &Value, problems: &mut Diagnostics) {
    let set = |name: &str| !source.get(name).is_null();
    let at = |name: &str| Path::from("source").attribute(name);
    let given: Vec<_> = ["volume", "file", "url"].into_iter().filter(|name| set(name)).collect();
    match given.as_slice() {
        [] => {
            problems.error("source", "Source without content", "Set `volume`, `file` or `url`, or remove `source`.");
        }
        [_] => {}
        [first, others @ ..] => {
            for other in others {
                let detail = format!("A volume is filled from one source. Keep `{first}` or `{other}`.");
                problems.error(at(other), "Two sources", detail);
            }
        }
    }
    if set("url") && !set("sha256") {
        problems.error(
            at("sha256"),
            "URL without a checksum",
            "What a server sends may be cut off, or another file than yesterday. Set `sha256` to what the file has, as its maker \
             publishes it or `sha256sum` prints it.",
        );
    }
    exposed::warn(source, problems);
    let stray = |name: &str, needs: &str, problems: &mut Diagnostics| {
        if set(name) && !set(needs) {
            problems.error(
                at(name),
                "Attribute without its companion",
                format!("`{name}` is about `{needs}`, which is not set. Remove it."),
            );
        }
    };
    ["snapshot", "pool", "domain"].into_iter().for_each(|name| stray(name, "volume", problems));
    stray("headers", "url", problems);
    if !set("file") && !set("url") {
        stray("sha256", "file", problems);
    }
}

/// Incus would answer "Custom ISO volume config cannot be changed", or leave the key out.
fn iso(config: &Value, problems: &mut Diagnostics) {
    for name in ["size", "config", "snapshots_schedule", "snapshots_expiry"] {
        let value = config.get(name);
        if !value.is_null() && value.is_known() {
            problems.error(
                name,
                "An ISO has no settings of its own",
                format!("Incus takes an optical disk as it is. Remove `{name}`."),
            );
        }
    }
    let source = config.get("source");
    let names_none = ["file", "url", "volume"].into_iter().all(|name| source.get(name).is_null());
    if source.is_null() || source.as_map().is_some() && names_none {
        let detail = "Set `source = { file = \"...\" }` to the path of the image, `url` to where it is, or `volume` to one that has it.";
        problems.error("source", "An ISO needs a source", detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(config: serde_json::Value) -> Diagnostics {
        let mut problems = Diagnostics::default();
        validate(&Value::from_json(&config), &mut problems);
        problems
    }

    #[track_caller]
    fn refused(config: serde_json::Value, path: &str, text: &str) {
        let found = problems(config);
        assert!(found.iter().any(|one| one.path.to_string() == path && one.detail.contains(text)), "{found:?}");
    }

    #[track_caller]
    fn good(config: serde_json::Value) {
        let found = problems(config);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn an_empty_volume_needs_a_size_and_a_copy_does_not() {
        refused(json!({"name": "data"}), "size", "20GiB");
        good(json!({"name": "data", "size": "1GiB"}));
        good(json!({"name": "data", "source": {"volume": "old"}}));
        let mut config = Value::from_json(&json!({"name": "data"}));
        config.set("source", Value::Unknown);
        let mut found = Diagnostics::default();
        validate(&config, &mut found);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_source_is_a_volume_or_a_file() {
        let with = |source: serde_json::Value| json!({"size": "1GiB", "source": source});
        refused(with(json!({"volume": "a", "file": "b"})), "source.file", "one source");
        refused(with(json!({"domain": "b"})), "source", "`file` or `url`");
        refused(with(json!({"file": "a", "url": "https://b"})), "source.url", "`file` or `url`");
        refused(with(json!({"url": "https://b"})), "source.sha256", "sha256sum");
        refused(with(json!({"file": "b", "headers": {"A": "b"}})), "source.headers", "`url`");
        good(with(json!({"url": "https://b", "sha256": "s", "headers": {"A": "b"}})));
        refused(with(json!({"file": "b", "snapshot": "s"})), "source.snapshot", "`volume`");
        refused(with(json!({"volume": "b", "sha256": "s"})), "source.sha256", "`file`");
        good(with(json!({"volume": "a", "snapshot": "s", "pool": "p", "domain": "d"})));
    }

    #[test]
    fn an_iso_has_a_file_and_no_settings() {
        refused(json!({"content_type": "iso"}), "source", "source = {");
        refused(json!({"content_type": "iso", "size": "1GiB", "source": {"file": "x"}}), "size", "Remove `size`");
        good(json!({"content_type": "iso", "source": {"file": "x"}}));
    }

    #[test]
    fn a_key_with_an_attribute_is_refused() {
        refused(
            json!({"size": "1GiB", "config": {"snapshots.expiry": "1d"}}),
            "config[\"snapshots.expiry\"]",
            "snapshots_expiry",
        );
    }
}
