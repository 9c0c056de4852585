//! Decimal numbers of any size, compared by their value.

use std::fmt;

/// The most significant digits that a 64-bit float has in decimal.
const FLOAT_DIGITS: usize = 767;

/// A number: whole, binary float, or decimal text for what fits neither.
///
/// Each value has one representation, so equality is numeric: `1`, `1.0` and `"1e0"` are equal, while the decimal
/// `0.1` and the binary float nearest to it are not (the core compares them exactly).
#[derive(Clone, Debug, PartialEq)]
pub struct Number(Form);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    Int(i64),
    Float(f64),
    Text(String),
}

/// Sign, significant digits without zeros at either end, and the power of ten of the last digit.
#[derive(PartialEq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Number {
    /// Reads decimal text such as `-12`, `0.1` or `1e30`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Number> {
        let decimal = Decimal::parse(text)?;
        if let Some(int) = decimal.to_i64() {
            return Some(Number(Form::Int(int)));
        }
        match text.parse::<f64>() {
            Ok(float) if float.is_finite() && Decimal::of_float(float).as_ref() == Some(&decimal) => {
                Some(Number(Form::Float(float)))
            }
            _ => Some(Number(Form::Text(decimal.to_text()))),
        }
    }

    /// The exact value of a binary float; `None` when it is infinite or not a number.
    pub fn exact(float: f64) -> Option<Number> {
        let decimal = Decimal::of_float(float)?;
        Some(Number(decimal.to_i64().map_or(Form::Float(float), Form::Int)))
    }

    /// The whole number, if it is one and fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self.0 {
            Form::Int(int) => Some(int),
            Form::Float(_) | Form::Text(_) => None,
        }
    }

    /// The nearest float; infinite when out of range.
    pub fn as_f64(&self) -> f64 {
        match &self.0 {
            #[allow(clippy::cast_precision_loss)]
            Form::Int(int) => *int as f64,
            Form::Float(float) => *float,
            Form::Text(text) => text.parse().unwrap_or(f64::INFINITY),
        }
    }

    pub(super) fn form(&self) -> &Form {
        &self.0
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.0 {
            Form::Int(int) => (*int).into(),
            Form::Text(text) if text.parse::<u64>().is_ok() => text.parse::<u64>().unwrap_or_default().into(),
            Form::Float(_) | Form::Text(_) => {
                serde_json::Number::from_f64(self.as_f64()).map_or(serde_json::Value::Null, serde_json::Value::Number)
            }
        }
    }
}

impl From<i64> for Number {
    fn from(int: i64) -> Self {
        Number(Form::Int(int))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Int(int) => int.fmt(f),
            Form::Float(float) => float.fmt(f),
            Form::Text(text) => f.write_str(text),
        }
    }
}

impl Decimal {
    fn parse(text: &str) -> Option<Decimal> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let mut exponent = i64::from(exponent) - i64::try_from(fraction.len()).ok()?;
        let digits = digits.trim_start_matches('0');
        let kept = digits.trim_end_matches('0');
        if kept.is_empty() {
            return Some(Decimal { negative: false, digits: String::new(), exponent: 0 });
        }
        exponent += i64::try_from(digits.len() - kept.len()).ok()?;
        Some(Decimal { negative, digits: kept.to_owned(), exponent })
    }

    fn of_float(float: f64) -> Option<Decimal> {
        if !float.is_finite() {
            return None;
        }
        Decimal::parse(&format!("{float:.FLOAT_DIGITS$e}"))
    }

    fn to_i64(&self) -> Option<i64> {
        if self.digits.is_empty() {
            return Some(0);
        }
        if !(0..19).contains(&self.exponent) || self.digits.len() > 19 {
            return None;
        }
        let zeros = usize::try_from(self.exponent).ok()?;
        let sign = if self.negative { "-" } else { "" };
        format!("{sign}{}{}", self.digits, "0".repeat(zeros)).parse().ok()
    }

    fn to_text(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let digits = &self.digits;
        match usize::try_from(self.exponent) {
            Ok(zeros) if zeros <= 40 => format!("{sign}{digits}{}", "0".repeat(zeros)),
            Ok(_) => format!("{sign}{digits}e{}", self.exponent),
            Err(_) => {
                let places = usize::try_from(-self.exponent).unwrap_or(usize::MAX);
                if places < digits.len() {
                    let (whole, fraction) = digits.split_at(digits.len() - places);
                    format!("{sign}{whole}.{fraction}")
                } else if places - digits.len() <= 40 {
                    format!("{sign}0.{}{digits}", "0".repeat(places - digits.len()))
                } else {
                    format!("{sign}{digits}e{}", self.exponent)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_are_equal_in_every_spelling() {
        assert_eq!(Number::parse("1.0"), Number::parse("1"));
        assert_eq!(Number::parse("10e-1"), Number::exact(1.0));
        assert_eq!(Number::parse("0.5"), Number::exact(0.5));
        assert_eq!(Number::parse("-0"), Number::parse("0"));
    }

    #[test]
    fn a_decimal_is_not_the_float_nearest_to_it() {
        assert_ne!(Number::parse("0.1"), Number::exact(0.1));
        assert_eq!(Number::parse("0.10").unwrap().to_string(), "0.1");
    }

    #[test]
    fn big_numbers_keep_every_digit() {
        let text = "123456789012345678901234567890";
        assert_eq!(Number::parse(text).unwrap().to_string(), text);
        assert_eq!(Number::parse("9223372036854775807").unwrap().as_i64(), Some(i64::MAX));
        assert_eq!(Number::parse("-9223372036854775808").unwrap().as_i64(), Some(i64::MIN));
        assert_eq!(Number::parse("9223372036854775808").unwrap().as_i64(), None);
    }

    #[test]
    fn a_huge_exponent_costs_nothing() {
        assert_eq!(Number::parse("1e2000000000").unwrap().to_string(), "1e2000000000");
        assert_eq!(Number::parse("-12345e-90").unwrap().to_string(), "-12345e-90");
    }

    #[test]
    fn what_is_no_decimal_number_is_refused() {
        for text in ["", "-", "abc", "1.2.3", "0x10", "inf", "NaN", "1e", "--1"] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }
}
