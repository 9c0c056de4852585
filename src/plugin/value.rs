//! Values as the core sees them: known, null or not known yet.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::number::Number;

static NULL: Value = Value::Null;

/// A value of any type; its [`Type`](super::Type) lives in the schema.
///
/// Objects and maps are both [`Value::Map`], lists, sets and tuples are [`Value::List`]. Null is not empty.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Value {
    /// Known after apply. Only a plan and a configuration hold it.
    Unknown,
    /// Absent.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// A decimal number of any size.
    Number(Number),
    /// Text.
    String(String),
    /// A list, set or tuple.
    List(Vec<Value>),
    /// A map or object.
    Map(BTreeMap<String, Value>),
}

/// A value that does not have the form asked for.
#[derive(Debug)]
pub struct DecodeError(serde_json::Error);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("value does not have the expected form")
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl Value {
    /// The member `name` of a map; null where there is none or where this is not a map.
    pub fn get(&self, name: &str) -> &Value {
        self.as_map().and_then(|members| members.get(name)).unwrap_or(&NULL)
    }

    /// Whether this is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Whether this is unknown as a whole.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Value::Unknown)
    }

    /// Whether this is not unknown; its members may be.
    pub fn is_known(&self) -> bool {
        !self.is_unknown()
    }

    /// Whether this or anything inside is unknown.
    pub fn has_unknown(&self) -> bool {
        match self {
            Value::Unknown => true,
            Value::List(items) => items.iter().any(Value::has_unknown),
            Value::Map(members) => members.values().any(Value::has_unknown),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }

    /// The text, if this is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// The number, if this is a whole one that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Number(number) => number.as_i64(),
            _ => None,
        }
    }

    /// The members, if this is a map or an object.
    pub fn as_map(&self) -> Option<&BTreeMap<String, Value>> {
        match self {
            Value::Map(members) => Some(members),
            _ => None,
        }
    }

    /// The elements, if this is a list, set or tuple.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// Sets a member of a map; anything else is left as it is.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        if let Value::Map(members) = self {
            members.insert(name.to_owned(), value.into());
        }
    }

    /// Reads this into a struct of ours; unknown reads as null.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the forms differ.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        serde_json::from_value(self.to_json()).map_err(DecodeError)
    }

    /// Writes a struct of ours as a value; `None` and whatever JSON cannot hold become null.
    pub fn encode<T: Serialize>(value: &T) -> Value {
        serde_json::to_value(value).map(|json| Value::from_json(&json)).unwrap_or_default()
    }

    /// The same in JSON; unknown becomes null, a number that fits no machine type the nearest float.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Unknown | Value::Null => serde_json::Value::Null,
            Value::Bool(truth) => serde_json::Value::Bool(*truth),
            Value::Number(number) => number.to_json(),
            Value::String(text) => serde_json::Value::String(text.clone()),
            Value::List(items) => serde_json::Value::Array(items.iter().map(Value::to_json).collect()),
            Value::Map(members) => {
                serde_json::Value::Object(members.iter().map(|(name, value)| (name.clone(), value.to_json())).collect())
            }
        }
    }

    /// A value of the same shape as the JSON.
    pub fn from_json(json: &serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(truth) => Value::Bool(*truth),
            serde_json::Value::Number(number) => Number::parse(&number.to_string()).map_or(Value::Null, Value::Number),
            serde_json::Value::String(text) => Value::String(text.clone()),
            serde_json::Value::Array(items) => Value::List(items.iter().map(Value::from_json).collect()),
            serde_json::Value::Object(members) => {
                Value::Map(members.iter().map(|(name, value)| (name.clone(), Value::from_json(value))).collect())
            }
        }
    }

    /// An empty object, to be filled with [`Value::set`].
    pub fn object() -> Value {
        Value::Map(BTreeMap::new())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(text)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Value::Bool(truth)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Number(Number::from(number))
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        Value::Number(number)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Value::List(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>> From<BTreeMap<String, T>> for Value {
    fn from(members: BTreeMap<String, T>) -> Self {
        Value::Map(members.into_iter().map(|(name, value)| (name, value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Disk {
        size: Option<String>,
        count: i64,
    }

    #[test]
    fn a_struct_survives_encode_and_decode() {
        let disk = Disk { size: None, count: 3 };
        let value = Value::encode(&disk);
        assert_eq!(value.get("count").as_i64(), Some(3));
        assert!(value.get("size").is_null());
        assert_eq!(value.decode::<Disk>().unwrap(), disk);
    }

    #[test]
    fn unknown_decodes_as_null() {
        let mut value = Value::encode(&Disk { size: None, count: 1 });
        value.set("size", Value::Unknown);
        assert_eq!(value.decode::<Disk>().unwrap().size, None);
    }

    #[test]
    fn unknown_is_found_at_any_depth() {
        let value = Value::from(vec![Value::from(BTreeMap::from([("a".to_owned(), Value::Unknown)]))]);
        assert!(value.is_known());
        assert!(value.has_unknown());
    }
}
