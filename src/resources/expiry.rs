//! When Incus drops snapshots: `<int>(S|M|H|d|w|m|y)`, several of them separated by a space, each unit once
//! (`GetExpiry` of Incus 6.0 to 7.3). Upper and lower case matter: `M` is a minute, `m` a month.

use crate::plugin::{Attribute, Diagnostics, Problem, Value};

const UNITS: [char; 7] = ['S', 'M', 'H', 'd', 'w', 'm', 'y'];
/// From how many months on a value looks like minutes.
const SUSPECT_MONTHS: u64 = 13;

/// The attribute `snapshots_expiry`.
#[must_use]
pub fn attribute() -> Attribute {
    Attribute::string("snapshots_expiry").optional().check(check).describe(
        "When Incus drops them: `24H`, `7d`, `2w 3d`; `S` `M` `H` are seconds, minutes, hours, `d` `w` `m` `y` days to years.",
    )
}

/// Warns of a `snapshots_expiry` in `config` that is right and probably not meant: `60m` is sixty months.
pub fn warn(config: &Value, problems: &mut Diagnostics) {
    if let Some(caution) = caution(config.get("snapshots_expiry")) {
        problems.warning("snapshots_expiry", caution.summary, caution.detail);
    }
}

/// Checks an expiry.
///
/// # Errors
///
/// What is wrong and the right spelling.
pub fn check(value: &Value) -> Result<(), Problem> {
    let Some(text) = value.as_str() else { return Ok(()) };
    let mut seen = Vec::new();
    for part in text.trim().split(' ') {
        let (_, unit) = split(part).map_err(|detail| Problem::new("Invalid snapshot expiry", detail))?;
        if seen.contains(&unit) {
            return Err(Problem::new(
                "Invalid snapshot expiry",
                format!("\"{text}\" has the unit `{unit}` twice. Add the numbers up."),
            ));
        }
        seen.push(unit);
    }
    Ok(())
}

fn caution(value: &Value) -> Option<Problem> {
    let months =
        value.as_str()?.trim().split(' ').filter_map(|part| split(part).ok()).find(|(_, unit)| *unit == 'm')?.0;
    (months >= SUSPECT_MONTHS).then(|| {
        Problem::new(
            "Snapshot expiry in months",
            format!("`{months}m` is {months} months. For minutes write \"{months}M\"."),
        )
    })
}

fn split(part: &str) -> Result<(u64, char), String> {
    let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = &part[digits.len()..];
    let number = digits.parse::<u64>().ok();
    match (number, unit.chars().next()) {
        (Some(number), Some(letter)) if unit.len() == 1 && UNITS.contains(&letter) => Ok((number, letter)),
        (Some(number), Some(letter)) => Err(spelling(letter).map_or_else(
            || general(part),
            |right| format!("\"{part}\" is not an expiry of Incus, whose hours, minutes and seconds are upper case. Write \"{number}{right}\"."),
        )),
        _ => Err(general(part)),
    }
}

fn general(part: &str) -> String {
    format!(
        "\"{part}\" is not an expiry. Write an integer and one of `S` `M` `H` (seconds, minutes, hours), `d` `w` `m` `y` \
         (days, weeks, months, years), such as \"24H\" or \"2w 3d\"."
    )
}

fn spelling(letter: char) -> Option<char> {
    match letter {
        's' | 'S' => Some('S'),
        'h' | 'H' => Some('H'),
        'D' => Some('d'),
        'W' => Some('w'),
        'Y' => Some('y'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn bad(text: &str, hint: &str) {
        let problem = check(&text.into()).unwrap_err();
        assert!(problem.detail.contains(hint), "{}", problem.detail);
    }

    #[test]
    fn every_unit_of_incus_is_an_expiry() {
        for good in ["30S", "60M", "24H", "7d", "2w", "1m", "1y", "1y 2w 3d"] {
            assert!(check(&good.into()).is_ok(), "{good}");
        }
    }

    #[test]
    fn hours_in_lower_case_are_refused_with_the_right_spelling() {
        bad("24h", "\"24H\"");
        bad("30s", "\"30S\"");
        bad("7D", "\"7d\"");
    }

    #[test]
    fn anything_else_is_explained() {
        for text in ["", "x", "1", "d", "-1d", "1d2w", "1.5d", "1d  2w"] {
            bad(text, "Write");
        }
        bad("1d 2d", "twice");
    }

    #[test]
    fn sixty_months_are_doubted_and_six_are_not() {
        assert!(caution(&"60m".into()).unwrap().detail.contains("\"60M\""));
        assert!(
            caution(&"6m".into()).is_none() && caution(&"60M".into()).is_none() && caution(&Value::Unknown).is_none()
        );
    }
}
