//! Values in the JSON of a state file.

use serde_json::Value as Json;

use super::msgpack::WireError;
use super::number::Number;
use super::path::Path;
use super::schema::Type;
use super::value::Value;

/// Reads a value of type `ty`; attributes that the type no longer has are ignored, those it gained are null.
pub(super) fn decode(json: &Json, ty: &Type, path: &Path) -> Result<Value, WireError> {
    let mismatch = |wanted| WireError::Mismatch(path.clone(), wanted);
    match (ty, json) {
        (_, Json::Null) => Ok(Value::Null),
        (Type::Bool, Json::Bool(truth)) => Ok(Value::Bool(*truth)),
        (Type::Number, Json::Number(number)) => {
            Number::parse(&number.to_string()).map(Value::Number).ok_or_else(|| mismatch("a number"))
        }
        (Type::Number, Json::String(text)) => {
            Number::parse(text).map(Value::Number).ok_or_else(|| mismatch("a number"))
        }
        (Type::String, Json::String(text)) => Ok(Value::String(text.clone())),
        (Type::Dynamic, json) => {
            let inner = json.get("type").and_then(Type::from_json).ok_or_else(|| WireError::BadType(path.clone()))?;
            decode(json.get("value").unwrap_or(&Json::Null), &inner, path)
        }
        (Type::List(element) | Type::Set(element), Json::Array(items)) => {
            items.iter().map(|item| decode(item, element, path)).collect::<Result<_, _>>().map(Value::List)
        }
        (Type::Tuple(elements), Json::Array(items)) if elements.len() == items.len() => {
            let items = elements.iter().zip(items).map(|(element, item)| decode(item, element, path));
            items.collect::<Result<_, _>>().map(Value::List)
        }
        (Type::Map(element), Json::Object(members)) => {
            let members = members.iter().map(|(key, member)| {
                decode(member, element, &path.clone().key(key)).map(|member| (key.clone(), member))
            });
            members.collect::<Result<_, _>>().map(Value::Map)
        }
        (Type::Object(attributes), Json::Object(members)) => {
            let members = attributes.iter().map(|(name, ty)| {
                let member = members.get(name).unwrap_or(&Json::Null);
                decode(member, ty, &path.clone().attribute(name)).map(|member| (name.clone(), member))
            });
            members.collect::<Result<_, _>>().map(Value::Map)
        }
        _ => Err(mismatch("what the schema declares")),
    }
}
