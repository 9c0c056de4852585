//! Values in MessagePack, as the core writes and reads them.

use std::collections::BTreeMap;
use std::fmt;

use rmp::Marker;
use rmp::encode;

use super::number::{Form, Number};
use super::path::Path;
use super::schema::Type;
use super::value::Value;

/// The extension that stands for an unknown value without refinement.
const UNKNOWN: [u8; 3] = [0xd4, 0x00, 0x00];

/// How many dynamic values may be nested; the core nests none.
const NESTED_DYNAMICS: u8 = 8;

/// A value that cannot be read from or written to the wire.
#[derive(Debug, PartialEq, Eq)]
pub enum WireError {
    /// The bytes end too early.
    Truncated,
    /// There are bytes after the value.
    Trailing,
    /// What is there is not what the type says.
    Mismatch(Path, &'static str),
    /// An attribute that the type does not have.
    Undeclared(Path),
    /// The type beside a dynamic value cannot be read.
    BadType(Path),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Truncated => f.write_str("value ends too early"),
            WireError::Trailing => f.write_str("value is followed by something else"),
            WireError::Mismatch(path, wanted) => write!(f, "value at \"{path}\" is not {wanted}"),
            WireError::Undeclared(path) => write!(f, "attribute \"{path}\" is not in the schema"),
            WireError::BadType(path) => write!(f, "type of the value at \"{path}\" cannot be read"),
        }
    }
}

impl std::error::Error for WireError {}

/// Reads one value of type `ty`; memory used is bounded by the input.
///
/// # Errors
///
/// [`WireError`] when the bytes are not exactly one such value.
pub fn decode(bytes: &[u8], ty: &Type) -> Result<Value, WireError> {
    let mut reader = Reader { rest: bytes, dynamics: NESTED_DYNAMICS };
    let value = reader.value(ty, &Path::root())?;
    if reader.rest.is_empty() { Ok(value) } else { Err(WireError::Trailing) }
}

/// Writes one value of type `ty`. Attributes that an object lacks are written as null.
///
/// # Errors
///
/// [`WireError`] when the value is not of that type.
pub fn encode(value: &Value, ty: &Type) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::new();
    write(&mut out, value, ty, &Path::root())?;
    Ok(out)
}

struct Reader<'a> {
    rest: &'a [u8],
    /// How many more dynamic values may be nested.
    dynamics: u8,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn uint(&mut self, bytes: usize) -> Result<u64, WireError> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    fn length(&mut self, bytes: usize) -> Result<usize, WireError> {
        usize::try_from(self.uint(bytes)?).map_err(|_| WireError::Truncated)
    }

    fn marker(&mut self) -> Result<Marker, WireError> {
        Ok(Marker::from_u8(self.take(1)?[0]))
    }

    fn value(&mut self, ty: &Type, path: &Path) -> Result<Value, WireError> {
        let marker = self.marker()?;
        if marker == Marker::Null {
            return Ok(Value::Null);
        }
        if let Some(length) = self.extension(marker)? {
            self.take(length)?;
            return Ok(Value::Unknown);
        }
        match ty {
            Type::Bool => match marker {
                Marker::True => Ok(Value::Bool(true)),
                Marker::False => Ok(Value::Bool(false)),
                _ => Err(WireError::Mismatch(path.clone(), "a bool")),
            },
            Type::Number => self.number(marker, path).map(Value::Number),
            Type::String => {
                let text = self.text(marker, path)?;
                Ok(Value::String(text.to_owned()))
            }
            Type::Dynamic => self.dynamic(marker, path),
            Type::List(element) | Type::Set(element) => {
                let length = self.array(marker, path)?;
                let mut items = Vec::new();
                for index in 0..length {
                    items.push(self.value(element, &path.clone().index(i64::try_from(index).unwrap_or(i64::MAX)))?);
                }
                Ok(Value::List(items))
            }
            Type::Tuple(elements) => {
                if self.array(marker, path)? != elements.len() {
                    return Err(WireError::Mismatch(path.clone(), wanted(ty)));
                }
                let mut items = Vec::new();
                for element in elements {
                    items.push(
                        self.value(element, &path.clone().index(i64::try_from(items.len()).unwrap_or(i64::MAX)))?,
                    );
                }
                Ok(Value::List(items))
            }
            Type::Map(element) => self.members(marker, path, |key| Some((path.clone().key(key), element))),
            Type::Object(attributes) => {
                let read = self
                    .members(marker, path, |name| attributes.get(name).map(|ty| (path.clone().attribute(name), ty)))?;
                let mut members = attributes.keys().map(|name| (name.clone(), Value::Null)).collect::<BTreeMap<_, _>>();
                members.extend(read.as_map().cloned().unwrap_or_default());
                Ok(Value::Map(members))
            }
        }
    }

    fn members<'t>(
        &mut self,
        marker: Marker,
        path: &Path,
        member: impl Fn(&str) -> Option<(Path, &'t Type)>,
    ) -> Result<Value, WireError> {
        let length = match marker {
            Marker::FixMap(length) => usize::from(length),
            Marker::Map16 => self.length(2)?,
            Marker::Map32 => self.length(4)?,
            _ => return Err(WireError::Mismatch(path.clone(), "a map")),
        };
        let mut members = BTreeMap::new();
        for _ in 0..length {
            let marker = self.marker()?;
            let name = self.text(marker, path)?;
            let (path, ty) = member(name).ok_or_else(|| WireError::Undeclared(path.clone().attribute(name)))?;
            members.insert(name.to_owned(), self.value(ty, &path)?);
        }
        Ok(Value::Map(members))
    }

    fn dynamic(&mut self, marker: Marker, path: &Path) -> Result<Value, WireError> {
        if self.array(marker, path)? != 2 {
            return Err(WireError::Mismatch(path.clone(), "a type and a value"));
        }
        let marker = self.marker()?;
        let json = self.bytes(marker)?.ok_or_else(|| WireError::BadType(path.clone()))?;
        // serde_json refuses more than 128 levels, which bounds the depth of the value too.
        let ty = serde_json::from_slice(json).ok().and_then(|json| Type::from_json(&json));
        self.dynamics = self.dynamics.checked_sub(1).ok_or_else(|| WireError::BadType(path.clone()))?;
        let value = self.value(&ty.ok_or_else(|| WireError::BadType(path.clone()))?, path);
        self.dynamics += 1;
        value
    }

    fn extension(&mut self, marker: Marker) -> Result<Option<usize>, WireError> {
        let length = match marker {
            Marker::FixExt1 => 1,
            Marker::FixExt2 => 2,
            Marker::FixExt4 => 4,
            Marker::FixExt8 => 8,
            Marker::FixExt16 => 16,
            Marker::Ext8 => self.length(1)?,
            Marker::Ext16 => self.length(2)?,
            Marker::Ext32 => self.length(4)?,
            _ => return Ok(None),
        };
        Ok(Some(length.saturating_add(1)))
    }

    fn array(&mut self, marker: Marker, path: &Path) -> Result<usize, WireError> {
        match marker {
            Marker::FixArray(length) => Ok(usize::from(length)),
            Marker::Array16 => self.length(2),
            Marker::Array32 => self.length(4),
            _ => Err(WireError::Mismatch(path.clone(), "a list")),
        }
    }

    fn bytes(&mut self, marker: Marker) -> Result<Option<&'a [u8]>, WireError> {
        let length = match marker {
            Marker::FixStr(length) => usize::from(length),
            Marker::Str8 | Marker::Bin8 => self.length(1)?,
            Marker::Str16 | Marker::Bin16 => self.length(2)?,
            Marker::Str32 | Marker::Bin32 => self.length(4)?,
            _ => return Ok(None),
        };
        self.take(length).map(Some)
    }

    fn text(&mut self, marker: Marker, path: &Path) -> Result<&'a str, WireError> {
        let bytes = self.bytes(marker)?.ok_or_else(|| WireError::Mismatch(path.clone(), "text"))?;
        std::str::from_utf8(bytes).map_err(|_| WireError::Mismatch(path.clone(), "text in UTF-8"))
    }

    fn number(&mut self, marker: Marker, path: &Path) -> Result<Number, WireError> {
        let mismatch = || WireError::Mismatch(path.clone(), "a number");
        let unsigned = |number: u64| match i64::try_from(number) {
            Ok(int) => Some(Number::from(int)),
            Err(_) => Number::parse(&number.to_string()),
        };
        let number = match marker {
            Marker::FixPos(int) => Some(Number::from(i64::from(int))),
            Marker::FixNeg(int) => Some(Number::from(i64::from(int))),
            Marker::U8 => unsigned(self.uint(1)?),
            Marker::U16 => unsigned(self.uint(2)?),
            Marker::U32 => unsigned(self.uint(4)?),
            Marker::U64 => unsigned(self.uint(8)?),
            Marker::I8 => Some(Number::from(self.signed(1)?)),
            Marker::I16 => Some(Number::from(self.signed(2)?)),
            Marker::I32 => Some(Number::from(self.signed(4)?)),
            Marker::I64 => Some(Number::from(self.signed(8)?)),
            #[allow(clippy::cast_possible_truncation)]
            Marker::F32 => Number::exact(f64::from(f32::from_bits(self.uint(4)? as u32))),
            Marker::F64 => Number::exact(f64::from_bits(self.uint(8)?)),
            _ => Number::parse(self.text(marker, path).map_err(|error| match error {
                WireError::Truncated => error,
                _ => mismatch(),
            })?),
        };
        number.ok_or_else(mismatch)
    }

    fn signed(&mut self, bytes: u32) -> Result<i64, WireError> {
        let bits = self.uint(bytes as usize)?;
        let shift = 64 - 8 * bytes;
        Ok((bits << shift).cast_signed() >> shift)
    }
}

fn write(out: &mut Vec<u8>, value: &Value, ty: &Type, path: &Path) -> Result<(), WireError> {
    match (ty, value) {
        (_, Value::Unknown) => out.extend(UNKNOWN),
        (_, Value::Null) => done(encode::write_nil(out)),
        (Type::Dynamic, value) => {
            let ty = Type::of(value);
            let json = ty.to_json().to_string();
            done(encode::write_array_len(out, 2));
            done(encode::write_bin(out, json.as_bytes()));
            write(out, value, &ty, path)?;
        }
        (Type::Bool, Value::Bool(truth)) => done(encode::write_bool(out, *truth)),
        (Type::Number, Value::Number(number)) => match number.form() {
            Form::Int(int) => done(encode::write_sint(out, *int)),
            Form::Float(float) => done(encode::write_f64(out, *float)),
            Form::Text(text) => done(encode::write_str(out, text)),
        },
        (Type::String, Value::String(text)) => done(encode::write_str(out, text)),
        (Type::List(element) | Type::Set(element), Value::List(items)) => {
            done(encode::write_array_len(out, length(items.len(), path)?));
            for (index, item) in items.iter().enumerate() {
                write(out, item, element, &path.clone().index(i64::try_from(index).unwrap_or(i64::MAX)))?;
            }
        }
        (Type::Tuple(elements), Value::List(items)) if elements.len() == items.len() => {
            done(encode::write_array_len(out, length(items.len(), path)?));
            for (element, item) in elements.iter().zip(items) {
                write(out, item, element, path)?;
            }
        }
        (Type::Map(element), Value::Map(members)) => {
            done(encode::write_map_len(out, length(members.len(), path)?));
            for (key, member) in members {
                done(encode::write_str(out, key));
                write(out, member, element, &path.clone().key(key))?;
            }
        }
        (Type::Object(attributes), Value::Map(members)) => {
            if let Some(name) = members.keys().find(|name| !attributes.contains_key(*name)) {
                return Err(WireError::Undeclared(path.clone().attribute(name)));
            }
            done(encode::write_map_len(out, length(attributes.len(), path)?));
            for (name, ty) in attributes {
                done(encode::write_str(out, name));
                write(out, value.get(name), ty, &path.clone().attribute(name))?;
            }
        }
        (ty, _) => return Err(WireError::Mismatch(path.clone(), wanted(ty))),
    }
    Ok(())
}

/// Writing to memory cannot fail.
fn done<T, E>(_written: Result<T, E>) {}

fn length(count: usize, path: &Path) -> Result<u32, WireError> {
    u32::try_from(count).map_err(|_| WireError::Mismatch(path.clone(), "small enough"))
}

fn wanted(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "a bool",
        Type::Number => "a number",
        Type::String => "text",
        Type::Dynamic => "anything",
        Type::List(_) | Type::Set(_) => "a list",
        Type::Tuple(_) => "a tuple of that length",
        Type::Map(_) => "a map",
        Type::Object(_) => "an object",
    }
}

#[cfg(test)]
#[path = "msgpack_tests.rs"]
mod tests;
