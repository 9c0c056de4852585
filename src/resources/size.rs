//! Sizes in Incus' grammar: an integer and a unit, `MB` decimal and `MiB` binary (`shared/units` of Incus 6.0 to 7.3).

use crate::plugin::{Problem, Value};

const UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
    ("EB", 1_000_000_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
    ("EiB", 1 << 60),
];

/// Reads a size, in bytes.
///
/// # Errors
///
/// What is wrong and the right spelling.
pub fn parse(text: &str) -> Result<u64, Problem> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let number: u64 = digits.parse().map_err(|_| invalid(text, unit, digits))?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| invalid(text, unit, digits))?;
    number.checked_mul(*factor).ok_or_else(|| invalid(text, "", ""))
}

/// [`parse`] as a check of a schema.
///
/// # Errors
///
/// As [`parse`].
pub fn check(value: &Value) -> Result<(), Problem> {
    value.as_str().map_or(Ok(()), |text| parse(text).map(|_| ()))
}

/// The size in bytes, without a unit; `None` for what is no size.
#[must_use]
pub fn canonical(value: &Value) -> Option<Value> {
    value.as_str().and_then(|text| parse(text).ok()).map(|bytes| bytes.to_string().into())
}

/// Whether two spellings mean the same number of bytes.
#[must_use]
pub fn same(left: &Value, right: &Value) -> bool {
    canonical(left).is_some_and(|bytes| Some(bytes) == canonical(right))
}

fn invalid(text: &str, unit: &str, digits: &str) -> Problem {
    let hint = match spelling(unit) {
        Some(right) if !digits.is_empty() => format!("Write \"{digits}{right}\"."),
        _ => "Write an integer and a unit, such as \"20GiB\" or \"512MiB\".".to_owned(),
    };
    Problem::new("Invalid size", format!("\"{text}\" is not a size that Incus knows. {hint}"))
}

/// The unit that was meant: `Gi`, `gib` and `G` are `GiB`, `gb` is `GB`.
fn spelling(unit: &str) -> Option<&'static str> {
    let meant = unit.trim().to_ascii_lowercase();
    let meant = match meant.as_str() {
        "" => return None,
        "b" | "byte" | "bytes" => "b".to_owned(),
        short if short.len() == 1 => format!("{short}ib"),
        short if short.ends_with('i') => format!("{short}b"),
        long => long.to_owned(),
    };
    UNITS.iter().map(|(name, _)| *name).find(|name| name.to_ascii_lowercase() == meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn hint(text: &str, right: &str) {
        let problem = parse(text).unwrap_err();
        assert!(problem.detail.contains(right), "{}", problem.detail);
    }

    #[test]
    fn binary_units_are_powers_of_1024_and_decimal_ones_of_1000() {
        assert_eq!(parse("20GiB").unwrap(), 20 << 30);
        assert_eq!(parse("20GB").unwrap(), 20_000_000_000);
        assert_eq!(parse("1kB").unwrap() + parse("1KiB").unwrap(), 2024);
        assert_eq!(parse("512").unwrap(), parse("512B").unwrap());
    }

    #[test]
    fn a_wrong_unit_is_refused_with_the_right_spelling() {
        hint("20Gi", "\"20GiB\"");
        hint("20G", "\"20GiB\"");
        hint("20gb", "\"20GB\"");
        hint("20 GiB", "\"20GiB\"");
        hint("1KB", "\"1kB\"");
    }

    #[test]
    fn what_is_no_size_at_all_gets_an_example() {
        for bad in ["", "x", "1.5GiB", "-1GiB", "20X", "99999999999999999999", "17EiB"] {
            hint(bad, "20GiB");
        }
    }

    #[test]
    fn equal_sizes_are_the_same() {
        assert!(same(&"1GiB".into(), &"1024MiB".into()));
        assert!(!same(&"1GiB".into(), &"1GB".into()));
        assert!(!same(&"x".into(), &"x".into()));
        assert!(check(&Value::Unknown).is_ok());
    }
}
