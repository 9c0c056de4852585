//! What of a source others would read: secrets in the query of its URL, headers on an open connection. Pure.

use std::net::IpAddr;

use crate::plugin::{Diagnostics, Path, Value};
use crate::web::Location;

/// What the name of a secret holds, wherever.
const PARTS: [&str; 6] = ["token", "secret", "password", "signature", "credential", "apikey"];
/// What it has as a word of its own: S3 and Google Cloud, Azure, CloudFront and hand-made ones.
const WORDS: [&str; 8] = ["sig", "key", "auth", "authorization", "pass", "pwd", "jwt", "hmac"];

/// The first parameter in the query of `url` that is named like a secret.
fn secret(url: &str) -> Option<&str> {
    let query = url.split('#').next()?.split_once('?')?.1;
    query.split(['&', ';']).filter_map(|pair| pair.split('=').next()).find(|name| {
        let name = name.to_ascii_lowercase();
        let mut words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
        PARTS.iter().any(|part| name.contains(part)) || words.any(|word| WORDS.contains(&word))
    })
}

/// `url` as it may stand on an object of the server: without a query that holds what is named like a secret.
pub(super) fn shown(url: &str) -> &str {
    match secret(url) {
        Some(_) => url.split(['?', '#']).next().unwrap_or_default(),
        None => url,
    }
}

/// Warns of secrets of `source` that others would read.
pub(super) fn warn(source: &Value, problems: &mut Diagnostics) {
    let Some(url) = source.get("url").as_str() else { return };
    let at = |name: &str| Path::from("source").attribute(name);
    if let Some(name) = secret(url) {
        problems.warning(
            at("url"),
            "Secret in a URL",
            format!(
                "The parameter \"{name}\" of its query looks like a secret, and `url` stands in the plan and in the state. Where the server \
                 takes it as a header, write it in `headers`, which are kept nowhere. A new query with the same `sha256` changes nothing but \
                 the state."
            ),
        );
    }
    let Ok(location) = Location::parse(url) else { return };
    let is_here = location.host() == "localhost" || location.host().parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !location.is_secure() && !is_here && source.get("headers").as_map().is_some_and(|headers| !headers.is_empty()) {
        problems.warning(
            at("headers"),
            "Headers on an open connection",
            format!(
                "`url` is `http://`, so that everybody between this machine and {} can read them. Write `https://`.",
                location.authority()
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn warned(url: &str) -> Vec<String> {
        let mut found = Diagnostics::default();
        warn(&Value::from_json(&json!({"url": url, "headers": {"Authorization": "hidden"}})), &mut found);
        assert!(!found.has_errors() && found.iter().all(|one| !one.detail.contains("hidden")), "{found:?}");
        found.iter().map(|one| one.path.to_string()).collect()
    }

    #[test]
    fn a_query_with_what_is_named_like_a_secret_is_warned_of() {
        for query in [
            "token=a",
            "v=1&sig=a",
            "X-Amz-Algorithm=b&X-Amz-Credential=c",
            "x-goog-signature=a",
            "key=a",
            "Key-Pair-Id=a",
            "access_token=a",
            "private-token",
        ] {
            let url = format!("https://host/x?{query}#y");
            assert_eq!(warned(&url), ["source.url"], "{query}");
            assert_eq!(shown(&url), "https://host/x");
        }
        for url in ["https://host/token/key", "https://host/x?file=a&monkey=b", "https://host/x#token=a"] {
            assert_eq!((warned(url), shown(url)), (Vec::new(), url));
        }
    }

    #[test]
    fn headers_over_http_are_warned_of_unless_the_server_is_this_machine() {
        assert_eq!(warned("http://host/x"), ["source.headers"]);
        assert_eq!(warned("http://10.0.0.1:81/x"), ["source.headers"]);
        for url in ["https://host/x", "http://localhost:8080/x", "http://127.0.0.2/x", "http://[::1]:80/x"] {
            assert_eq!(warned(url), Vec::<String>::new(), "{url}");
        }
        let mut found = Diagnostics::default();
        warn(&Value::from_json(&json!({"url": "http://host/x"})), &mut found);
        assert!(found.is_empty());
    }
}
