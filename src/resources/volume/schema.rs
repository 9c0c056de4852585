//! The form of `anklume_volume`.

use crate::plugin::{Attribute, Problem, Schema, Type, Value};
use crate::resources::{expiry, name, schedule, size, timeouts, uid};
use crate::web::{BadHeader, BadLocation, Headers, Location};

/// Every attribute, with what the documentation says of it.
pub(super) fn schema() -> Schema {
    let mut attributes = identity();
    attributes.extend(content());
    Schema::new(
        0,
        "A storage volume of a domain: data that outlives the instances that use it. Attach it with `volumes` of `anklume_instance`; \
         to delete it, set `delete_protection = false` and apply first. `timeouts` are 30 minutes for a create, an update and a delete, \
         and one for a read, unless they are set.",
        attributes,
    )
}

fn identity() -> Vec<Attribute> {
    vec![
        Attribute::string("id").computed().describe("`<domain>/<pool>/<name>`."),
        uid::attribute(),
        Attribute::string("name").required().check(name::volume).describe(
            "Its name, unique in its domain and pool. A change renames it in place; the instances that use it have to be stopped, \
             and follow. An ISO keeps its name on Incus before 6.0.5 (6.15 of the monthly releases), which would lose its content.",
        ),
        Attribute::string("domain")
            .required()
            .replace()
            .check(name::domain)
            .describe("The `anklume_domain` that it belongs to. A change replaces it."),
        Attribute::string("pool").optional_computed().describe(
            "Its storage pool. Unset: the domain's `storage_pool`, else the only one. A change moves it, content and snapshots \
             kept; the instances that use it have to be stopped, and follow.",
        ),
        Attribute::string("description").optional().describe("Free text."),
    ]
}

fn content() -> Vec<Attribute> {
    vec![
        Attribute::string("content_type").default("filesystem").replace().check(content_type).describe(
            "`filesystem` (the default), `block` (a disk, for virtual machines) or `iso` (an optical disk, for virtual machines; \
             needs a `source`). A change replaces it. An ISO takes no keys in Incus: what the provider notes of it stands on the project of \
             the domain, as `user.anklume.iso.<pool>.<name>.*`, and goes with it; of one that was deleted by hand it stays until a volume \
             of this name is made or destroyed.",
        ),
        Attribute::string("size")
            .optional_computed()
            .check(size::check)
            .canonical(size::canonical)
            .describe(
                "Its size, such as `20GiB`; needed unless `source` gives it. It grows in place, and a filesystem shrinks where the \
                 pool's driver can and the data fits: on LVM and Ceph with ext4 or btrfs, while no running instance uses it. A block \
                 volume never shrinks.",
            ),
        Attribute::map("config", Type::String)
            .optional()
            .describe("Keys as Incus documents them, such as `security.shifted`, or `security.shared` for a block volume of several machines. A key with an \
             attribute of its own is refused. What Incus sets by itself, from `volume.*` of its pool or from a backup, is left as it is."),
        source(),
        schedule::attribute(),
        expiry::attribute(),
        Attribute::bool("delete_protection").optional_computed().describe(
            "Whether destruction is refused. Default: that of the provider, else true. To destroy or replace the volume, set it to \
             false and apply first.",
        ),
        timeouts::attribute(),
    ]
}

/// The members of `source`.
pub(super) const SOURCE: [&str; 8] = ["volume", "snapshot", "pool", "domain", "file", "url", "sha256", "headers"];

fn source() -> Attribute {
    let text = |name: &str, what: &str| Attribute::string(name).optional().describe(what);
    Attribute::single(
        "source",
        vec![
            text("volume", "A volume to copy, by its name; without the snapshots that it has."),
            text("snapshot", "The snapshot of that volume to copy. Unset: the volume as it is."),
            text("pool", "The pool of that volume. Unset: its domain's."),
            text("domain", "The domain of that volume. Unset: this one."),
            text(
                "file",
                "A file on this machine, which is streamed to Incus: a backup as `incus storage volume export` writes it, for \
                 `content_type = \"block\"` also a raw disk, for `\"iso\"` an ISO image. `qcow2` and compressed disks are refused.",
            ),
            Attribute::string("url").optional().check(url).describe(
                "The same on a web server, `http://` or `https://` (by the certificates of this machine), with its `sha256`. It is \
                 streamed through this machine, neither kept on its disk nor in its memory. The server has to send the file as it is (no \
                 `Content-Encoding`), and to say how long a raw disk is (`Content-Length`). Where a connection breaks it goes on from there \
                 if the server knows `Range`, else from the start; a file that is another one by then (`ETag`, `Last-Modified`) is refused. \
                 Proxies of the environment are not used. The URL stands in the plan and the state, its query too: secrets belong into \
                 `headers`. Another URL with the same `sha256` changes the state alone.",
            ),
            Attribute::string("sha256").optional().check(sha256).canonical(canonical_sha256).describe(
                "The SHA-256 of the file, in hexadecimal, with or without `sha256:` before it; needed with `url`. It is what the \
                 content is known by: another one replaces the volume.",
            ),
            Attribute::map("headers", Type::String).optional().write_only().sensitive().check(headers).describe(
                "Headers for the server of `url`, such as `{ Authorization = \"Bearer ...\" }`. They are kept nowhere, change nothing \
                 by themselves, and are not sent to another server that the first one leads to.",
            ),
        ],
    )
    .optional()
    .describe(
        "What it is filled with when it is made: `volume`, `file` or `url`. Unset: nothing. A change from one source to another \
         replaces the volume, unless both have the same `sha256`; so does another name of the volume that it was copied from, for \
         which `lifecycle { ignore_changes = [source] }` is the remedy. To remove `source`, or to add its `sha256`, changes the state alone.",
    )
}

fn content_type(value: &Value) -> Result<(), Problem> {
    match value.as_str() {
        Some(text) if !["filesystem", "block", "iso"].contains(&text) => Err(Problem::new(
            "Unknown content type",
            format!("\"{text}\" is none of \"filesystem\", \"block\" and \"iso\". Write one of them."),
        )),
        _ => Ok(()),
    }
}

/// The digits of a checksum, in lower case.
pub(super) fn digits(text: &str) -> String {
    text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase()
}

fn sha256(value: &Value) -> Result<(), Problem> {
    let Some(text) = value.as_str() else { return Ok(()) };
    let digits = digits(text);
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(Problem::new(
        "Invalid checksum",
        format!("\"{text}\" is not a SHA-256. Write its 64 hexadecimal digits, as `sha256sum` prints them."),
    ))
}

fn url(value: &Value) -> Result<(), Problem> {
    let Some(text) = value.as_str() else { return Ok(()) };
    let what = match Location::parse(text) {
        Ok(_) => return Ok(()),
        Err(BadLocation::User) => {
            "It has a user or a password, which would stand in the state. Write them as `headers`."
        }
        Err(BadLocation::Characters) => {
            "Write spaces and characters beyond ASCII percent-encoded, as a browser copies them."
        }
        Err(_) => "Write it in full, such as \"https://example.org/disk.raw\".",
    };
    Err(Problem::new("Invalid URL", what))
}

fn headers(value: &Value) -> Result<(), Problem> {
    read_headers(value).map(drop).map_err(|wrong| {
        let advice = match wrong {
            BadHeader::Reserved(_) => "Remove it.",
            _ => "Write it as it stands in a request.",
        };
        Problem::new("Invalid header", format!("Here, {wrong}. {advice}"))
    })
}

/// The headers of a configuration.
///
/// # Errors
///
/// The first that cannot be sent; never its value.
pub(super) fn read_headers(value: &Value) -> Result<Headers, BadHeader> {
    let mut headers = Headers::default();
    for (name, value) in value.as_map().into_iter().flatten() {
        headers.set(name, value.as_str().unwrap_or_default())?;
    }
    Ok(headers)
}

fn canonical_sha256(value: &Value) -> Option<Value> {
    value.as_str().map(|text| digits(text).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_the_same_with_its_prefix_and_in_capitals() {
        let (plain, long) = ("ab".repeat(32), format!("sha256:{}", "AB".repeat(32)));
        assert!(sha256(&plain.as_str().into()).is_ok() && sha256(&long.as_str().into()).is_ok());
        assert_eq!(canonical_sha256(&plain.into()), canonical_sha256(&long.into()));
        assert!(sha256(&"abc".into()).is_err() && sha256(&Value::Unknown).is_ok());
    }
    #[test]
    fn a_url_is_whole_and_names_no_user() {
        for (text, told) in
            [("host/x", "in full"), ("https://a:b@host/x", "`headers`"), ("https://host/a b", "encoded")]
        {
            let problem = url(&text.into()).unwrap_err();
            assert!(problem.detail.contains(told) && !problem.detail.contains(text), "{}", problem.detail);
        }
        assert!(url(&"https://host/x?y".into()).is_ok());
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_refused_without_its_value() {
        for name in ["a b", "Range", "X"] {
            let problem = headers(&Value::from_json(&serde_json::json!({ name: "secret\n" }))).unwrap_err();
            assert!(problem.detail.contains(name) && !problem.detail.contains("secret"), "{}", problem.detail);
        }
    }
}
