//! Durations in Go's grammar (`"90s"`, `"1h30m"`), as every provider of the field writes them.

use std::time::Duration;

use crate::plugin::{Problem, Value};

/// Ten years: what is longer is a slip, and the clock of the kernel may not hold it.
const LONGEST: Duration = Duration::from_secs(87_600 * 3600);

/// Reads a duration: numbers with a unit (`ns`, `us`, `ms`, `s`, `m`, `h`), or a bare `0`. Never negative, and at most
/// ten years.
///
/// # Errors
///
/// What is wrong and what to write instead.
pub fn parse(text: &str) -> Result<Duration, Problem> {
    let problem = || {
        Problem::new(
            "Invalid duration",
            format!(
                "\"{text}\" is not a duration. Write a number with its unit, such as \"90s\", \"20m\" or \"1h30m\"."
            ),
        )
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total_s = 0.0_f64;
    if rest.is_empty() {
        return Err(problem());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(problem)?;
        let number: f64 = rest[..digits].parse().map_err(|_| problem())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit_s = match &rest[..letters] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(problem()),
        };
        total_s += number * unit_s;
        rest = &rest[letters..];
    }
    if total_s > LONGEST.as_secs_f64() {
        return Err(Problem::new(
            "Duration too long",
            format!("\"{text}\" is more than ten years. Write at most \"87600h\"."),
        ));
    }
    Duration::try_from_secs_f64(total_s).map_err(|_| problem())
}

/// [`parse`] as a check of a schema.
///
/// # Errors
///
/// As [`parse`].
pub fn check(value: &Value) -> Result<(), Problem> {
    value.as_str().map_or(Ok(()), |text| parse(text).map(|_| ()))
}

/// The duration in nanoseconds; `None` for what is no duration.
#[must_use]
pub fn canonical(value: &Value) -> Option<Value> {
    value.as_str().and_then(|text| parse(text).ok()).map(|duration| format!("{}ns", duration.as_nanos()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_spellings_are_read() {
        let seconds = |text: &str| parse(text).unwrap().as_secs_f64();
        assert_eq!(seconds("90s"), 90.0);
        assert_eq!(seconds("1h30m"), 5400.0);
        assert_eq!(seconds("1.5m"), 90.0);
        assert_eq!(seconds("250ms"), 0.25);
        assert_eq!(seconds("0"), 0.0);
        assert_eq!(seconds("0s"), 0.0);
        assert_eq!(seconds("87600h"), 315_360_000.0);
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["", "90", "s", "-1s", "1 s", "1d", "9e400s", "1..2s", "99999999999999999999h", "87601h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn equal_times_have_one_canonical_form() {
        let canonical = |text: &str| canonical(&Value::from(text));
        assert_eq!(canonical("90s"), canonical("1m30s"));
        assert_ne!(canonical("90s"), canonical("2m"));
        assert_eq!(canonical("x"), None);
    }
}
