//! Addresses and connection strings without their credentials.

use std::collections::BTreeMap;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;

/// Scheme, authority and path of an address; any of them may be empty. The query and the fragment are cut.
fn split_address(address: &str) -> (&str, &str, &str) {
    let (scheme, rest) = address.find("://").map_or(("", address), |at| address.split_at(at + 3));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    (scheme, authority, path)
}

/// An address without userinfo, query and fragment.
pub(super) fn without_credentials(address: &str) -> String {
    let (scheme, authority, path) = split_address(address);
    format!("{scheme}{}{path}", authority.rsplit_once('@').map_or(authority, |(_, server)| server))
}

/// The host of an address without userinfo; empty for the address of a Unix socket.
pub(super) fn host_of(address: &str) -> &str {
    host_and_port(split_address(address).1).0
}

fn host_and_port(server: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    server.rsplit_once(':').map_or((server, None), |(host, port)| (host, Some(port)))
}

/// Whether a host, as the driver or the address names it, is the machine itself or a Unix socket of it.
pub(super) fn is_of_this_machine(host: &str) -> bool {
    host.is_empty()
        || host.starts_with(['/', '@'])
        || host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

/// The parameters of a connection string of PostgreSQL, which is a URL or a list of keywords.
pub(super) fn connection_parameters(connection: &str) -> BTreeMap<String, String> {
    let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| connection.starts_with(scheme));
    if is_url { url_parameters(connection) } else { keyword_parameters(connection) }
}

fn url_parameters(url: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (_, authority, path) = split_address(url);
    let (userinfo, server) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (host, port) = host_and_port(server);
    let user = userinfo.split(':').next().unwrap_or_default();
    let database = path.strip_prefix('/').unwrap_or_default();
    let mut parameters = BTreeMap::new();
    for (name, value) in [("user", user), ("host", host), ("port", port.unwrap_or_default()), ("dbname", database)] {
        parameters.insert(name.to_owned(), decode(value));
    }
    let query = url.split_once('?').map_or("", |(_, rest)| rest.split('#').next().unwrap_or_default());
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(_, value)| !value.is_empty())
    {
        parameters.insert(decode(name), decode(value));
    }
    parameters
}

/// `name = value` pairs between blanks. Single quotes may enclose a value; a backslash escapes the next character.
fn keyword_parameters(text: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let quoted = after.strip_prefix('\'');
        let mut characters = quoted.unwrap_or(after).chars();
        let mut value = String::new();
        while let Some(character) = characters.next() {
            match character {
                '\\' => value.extend(characters.next()),
                '\'' if quoted.is_some() => break,
                blank if quoted.is_none() && blank.is_whitespace() => break,
                other => value.push(other),
            }
        }
        parameters.insert(name.trim().to_owned(), value);
        rest = characters.as_str();
    }
    parameters
}
