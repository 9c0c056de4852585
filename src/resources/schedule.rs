//! When Incus takes snapshots: `@daily` and the like, or cron of five fields, several of them separated by `, `
//! (`validate.IsCron` of Incus 6.0 to 7.3 and the standard parser of robfig/cron v3).

use crate::plugin::{Attribute, Problem, Value};

/// The attribute `snapshots_schedule`.
#[must_use]
pub fn attribute() -> Attribute {
    Attribute::string("snapshots_schedule").optional().check(check).describe(
        "When Incus takes snapshots: `@daily` and the like, or five cron fields; several separated by a comma and a space.",
    )
}

const ALIASES: [&str; 9] =
    ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@annually", "@yearly", "@startup", "@never"];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

struct Field {
    name: &'static str,
    low: u8,
    high: u8,
    /// Names for the values from `low` on.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", low: 0, high: 59, names: &[] },
    Field { name: "hour", low: 0, high: 23, names: &[] },
    Field { name: "day of the month", low: 1, high: 31, names: &[] },
    Field { name: "month", low: 1, high: 12, names: &MONTHS },
    Field { name: "day of the week", low: 0, high: 6, names: &DAYS },
];

/// Checks a schedule.
///
/// # Errors
///
/// What is wrong and what to write instead.
pub fn check(value: &Value) -> Result<(), Problem> {
    let Some(text) = value.as_str() else { return Ok(()) };
    text.split(", ").try_for_each(trigger).map_err(|detail| Problem::new("Invalid snapshot schedule", detail))
}

fn trigger(text: &str) -> Result<(), String> {
    if ALIASES.contains(&text) {
        return Ok(());
    }
    if text.starts_with('@') {
        return Err(format!("\"{text}\" is not a schedule. Use one of {}, or five cron fields.", ALIASES.join(", ")));
    }
    let parts: Vec<&str> = text.split(' ').collect();
    if parts.len() != FIELDS.len() {
        return Err(format!(
            "\"{text}\" has {} fields. Write five (minute, hour, day of the month, month, day of the week), such as \
             \"0 6 * * *\", or \"@daily\"; separate several schedules by a comma and a space.",
            parts.len()
        ));
    }
    FIELDS.iter().zip(parts).try_for_each(|(field, part)| part.split(',').try_for_each(|item| field.item(item)))
}

impl Field {
    fn item(&self, item: &str) -> Result<(), String> {
        let problem = || {
            format!(
                "\"{item}\" is no valid {}. Use {} to {}, a range \"a-b\", a step \"*/n\", or \"*\".",
                self.name, self.low, self.high
            )
        };
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        if step.is_some_and(|step| step.parse::<u8>().map_or(true, |step| step == 0)) {
            return Err(problem());
        }
        if range == "*" || range == "?" {
            return Ok(());
        }
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        match (self.number(from), self.number(to)) {
            (Some(from), Some(to)) if from <= to => Ok(()),
            _ => Err(problem()),
        }
    }

    fn number(&self, text: &str) -> Option<u8> {
        let lower = text.to_ascii_lowercase();
        let named = (self.low..).zip(self.names).find(|(_, name)| **name == lower).map(|(number, _)| number);
        named.or_else(|| text.parse().ok()).filter(|number| (self.low..=self.high).contains(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn good(text: &str) {
        assert!(check(&text.into()).is_ok(), "{text}");
    }

    #[track_caller]
    fn bad(text: &str, hint: &str) {
        let problem = check(&text.into()).unwrap_err();
        assert!(problem.detail.contains(hint), "{}", problem.detail);
    }

    #[test]
    fn aliases_and_cron_are_schedules() {
        ALIASES.iter().for_each(|alias| good(alias));
        good("0 6 * * *");
        good("*/15 0-6,22 1 jan-MAR mon");
        good("@daily, 0 6 * * *, 5,10 * ? * 0/2");
    }

    #[test]
    fn five_fields_are_needed() {
        bad("0 6 * *", "4 fields");
        bad("@daily,@weekly", "@weekly");
        bad("", "five");
    }

    #[test]
    fn a_value_out_of_its_range_is_named() {
        bad("60 * * * *", "valid minute");
        bad("* 24 * * *", "valid hour");
        bad("* * 0 * *", "day of the month");
        bad("* * * 13 *", "month");
        bad("* * * * 7", "day of the week");
        bad("9-3 * * * *", "9-3");
        bad("*/0 * * * *", "*/0");
    }

    #[test]
    fn unknown_is_never_a_problem() {
        assert!(check(&Value::Unknown).is_ok() && check(&Value::Null).is_ok());
    }
}
