//! Types in JSON, as the core writes them in schemas and beside dynamic values.

use serde_json::{Value as Json, json};

use super::schema::Type;
use super::value::Value;

impl Type {
    pub(super) fn to_json(&self) -> Json {
        match self {
            Type::Bool => json!("bool"),
            Type::Number => json!("number"),
            Type::String => json!("string"),
            Type::Dynamic => json!("dynamic"),
            Type::List(element) => json!(["list", element.to_json()]),
            Type::Set(element) => json!(["set", element.to_json()]),
            Type::Map(element) => json!(["map", element.to_json()]),
            Type::Tuple(elements) => json!(["tuple", elements.iter().map(Type::to_json).collect::<Vec<_>>()]),
            Type::Object(attributes) => {
                let attributes: serde_json::Map<String, Json> =
                    attributes.iter().map(|(name, ty)| (name.clone(), ty.to_json())).collect();
                json!(["object", attributes])
            }
        }
    }

    /// Optional attributes, as in `["object", {…}, ["name"]]`, are of no concern here.
    pub(super) fn from_json(json: &Json) -> Option<Type> {
        if let Some(name) = json.as_str() {
            return match name {
                "bool" => Some(Type::Bool),
                "number" => Some(Type::Number),
                "string" => Some(Type::String),
                "dynamic" => Some(Type::Dynamic),
                _ => None,
            };
        }
        let parts = json.as_array()?;
        let inner = parts.get(1)?;
        match parts.first()?.as_str()? {
            "list" => Type::from_json(inner).map(Type::list),
            "set" => Type::from_json(inner).map(Type::set),
            "map" => Type::from_json(inner).map(Type::map),
            "object" => {
                let attributes = inner.as_object()?.iter();
                attributes
                    .map(|(name, ty)| Some((name.clone(), Type::from_json(ty)?)))
                    .collect::<Option<_>>()
                    .map(Type::Object)
            }
            "tuple" => inner.as_array()?.iter().map(Type::from_json).collect::<Option<_>>().map(Type::Tuple),
            _ => None,
        }
    }
    /// The type that fits a value: a tuple for a list, an object for a map.
    pub(super) fn of(value: &Value) -> Type {
        match value {
            Value::Unknown | Value::Null => Type::Dynamic,
            Value::Bool(_) => Type::Bool,
            Value::Number(_) => Type::Number,
            Value::String(_) => Type::String,
            Value::List(items) => Type::Tuple(items.iter().map(Type::of).collect()),
            Value::Map(members) => {
                Type::Object(members.iter().map(|(name, value)| (name.clone(), Type::of(value))).collect())
            }
        }
    }
}
