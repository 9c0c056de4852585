//! Names of domains, instances and profiles: what Incus and the kernel accept, checked when planning.

use crate::plugin::{Problem, Value};

/// Longest name of a domain, in bytes: `net-` and the name have to fit the kernel's 15 for an interface.
pub const DOMAIN_MAX: usize = 11;
/// Longest name of a domain where a nesting prefix (`001-`) is put before it, in bytes.
pub const DOMAIN_MAX_PREFIXED: usize = 7;

/// What the names begin with under which volumes are filled and instances copied; nothing else may be called so.
pub const HALF_MADE: &str = "anklume-";

/// Whether a volume or an instance of this name is one that an interrupted apply left: [`HALF_MADE`] and 16 hexadecimal
/// digits.
#[must_use]
pub fn is_half_made(name: &str) -> bool {
    let digits = name.strip_prefix(HALF_MADE);
    digits.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A domain: `[a-z0-9-]`, 1 to 11 bytes, a letter or digit at both ends, not `default`.
///
/// # Errors
///
/// What is wrong and what to write instead.
pub fn domain(value: &Value) -> Result<(), Problem> {
    let Some(name) = value.as_str() else { return Ok(()) };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if name == "default" {
        return Err(Problem::new(
            "Reserved domain name",
            "The project `default` is Incus' own and holds the shared images. Choose another name.",
        ));
    }
    let bytes = name.as_bytes();
    let ends = bytes.first().copied().is_some_and(plain) && bytes.last().copied().is_some_and(plain);
    if !ends || !bytes.iter().all(|byte| plain(*byte) || *byte == b'-') {
        return Err(Problem::new(
            "Invalid domain name",
            format!(
                "\"{name}\" is not a domain name. Use lower-case letters, digits and `-`, with a letter or digit first and last."
            ),
        ));
    }
    if bytes.len() > DOMAIN_MAX {
        return Err(Problem::new(
            "Domain name too long",
            format!(
                "\"{name}\" has {} characters; its bridge `net-{name}` may have 15. Use at most {DOMAIN_MAX}.",
                bytes.len()
            ),
        ));
    }
    Ok(())
}

/// An instance: `[a-zA-Z0-9-]`, 1 to 63 bytes, a letter first, no `-` last (it is a host name, RFC 1123).
///
/// # Errors
///
/// What is wrong and what to write instead.
pub fn instance(value: &Value) -> Result<(), Problem> {
    let Some(name) = value.as_str() else { return Ok(()) };
    let problem = |detail: String| Err(Problem::new("Invalid instance name", detail));
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return problem(format!("\"{name}\" is not a host name. Use letters, digits and `-`."));
    }
    if name.starts_with('-') || name.ends_with('-') {
        return problem(format!("\"{name}\" begins or ends with `-`. Put a letter or digit there."));
    }
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return problem(format!("\"{name}\" is a number, which Incus refuses as a name. Add a letter."));
    }
    if name.len() > 63 {
        return problem(format!("\"{name}\" has {} characters. Use at most 63.", name.len()));
    }
    if is_half_made(name) {
        return problem(format!("Names such as \"{name}\" are taken by moves under way. Rename it."));
    }
    Ok(())
}

/// A profile: 1 to 63 bytes without `/`, spaces or quotes, and not `default`.
///
/// # Errors
///
/// What is wrong and what to write instead.
pub fn profile(value: &Value) -> Result<(), Problem> {
    let Some(name) = value.as_str() else { return Ok(()) };
    if name == "default" {
        return Err(Problem::new(
            "The profile default belongs to the domain",
            "`anklume_domain` makes it, with `eth0` on the domain's bridge and the root disk. \
             Use another name, and list both: `profiles = [\"default\", \"...\"]`.",
        ));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 63 || !name.chars().all(legal) || name.starts_with('.') {
        return Err(Problem::new(
            "Invalid profile name",
            format!("\"{name}\" is not a profile name. Use 1 to 63 letters, digits, `-`, `_` and `.`."),
        ));
    }
    Ok(())
}

/// A custom volume: 1 to 63 of `[a-zA-Z0-9-_.]`, a letter or digit first. Names that begin with `anklume-` are taken by
/// uploads under way.
///
/// # Errors
///
/// What is wrong and what to write instead.
pub fn volume(value: &Value) -> Result<(), Problem> {
    let Some(name) = value.as_str() else { return Ok(()) };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.len() > 63 || !name.chars().all(legal) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Problem::new(
            "Invalid volume name",
            format!(
                "\"{name}\" is not a volume name. Use 1 to 63 letters, digits, `-`, `_` and `.`, a letter or digit first."
            ),
        ));
    }
    if name.starts_with(HALF_MADE) {
        return Err(Problem::new(
            "Reserved volume name",
            format!("Names that begin with `anklume-` are taken by uploads under way. Rename \"{name}\"."),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_domain(name: &str) -> bool {
        domain(&Value::from(name)).is_ok()
    }

    #[test]
    fn a_domain_is_short_and_lower_case() {
        assert!(is_domain("pro") && is_domain("a") && is_domain("a-b-c") && is_domain("elevenchars"));
        for bad in ["", "Pro", "-a", "a-", "a_b", "default", "twelve-chars", "é"] {
            assert!(!is_domain(bad), "{bad}");
        }
    }

    #[test]
    fn an_instance_is_a_host_name() {
        let ok = |name: &str| instance(&Value::from(name)).is_ok();
        assert!(ok("web") && ok("Web-1") && ok("0a"));
        for bad in ["", "-a", "a-", "12", "a.b", "a_b", &"x".repeat(64)] {
            assert!(!ok(bad), "{bad}");
        }
    }

    #[test]
    fn the_default_profile_is_refused_with_its_owner() {
        let problem = profile(&Value::from("default")).unwrap_err();
        assert!(problem.detail.contains("anklume_domain"));
        assert!(profile(&Value::from("vm-resources")).is_ok());
        assert!(profile(&Value::from("a/b")).is_err());
    }

    #[test]
    fn a_volume_has_no_slash_and_no_name_of_an_upload() {
        let ok = |name: &str| volume(&Value::from(name)).is_ok();
        assert!(ok("data") && ok("a_b.c-1"));
        for bad in ["", "a/b", "-a", ".a", "a b", "anklume-0123", &"x".repeat(64)] {
            assert!(!ok(bad), "{bad}");
        }
        assert!(is_half_made("anklume-0123456789abcdef"));
        assert!(!is_half_made("anklume-data") && !is_half_made("anklume-0123456789abcdefg") && !is_half_made("data"));
    }

    #[test]
    fn unknown_is_never_a_problem() {
        assert!(
            domain(&Value::Unknown).is_ok() && instance(&Value::Unknown).is_ok() && profile(&Value::Unknown).is_ok()
        );
    }
}
