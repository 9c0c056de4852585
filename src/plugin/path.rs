//! Where in a value something is.

use std::fmt;

use super::value::Value;

static NULL: Value = Value::Null;
static UNKNOWN: Value = Value::Unknown;

/// One step down into a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// An attribute of an object.
    Attribute(String),
    /// A key of a map.
    Key(String),
    /// An index of a list.
    Index(i64),
}

/// A path from the root of an object, shown as `wait.boot_timeout` or `devices["eth0"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<Step>);

impl Path {
    /// The object itself; in a diagnostic, no attribute.
    pub fn root() -> Path {
        Path::default()
    }

    /// The attribute `name` below.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>) -> Path {
        self.0.push(Step::Attribute(name.into()));
        self
    }

    /// The element of a map below.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Path {
        self.0.push(Step::Key(key.into()));
        self
    }

    /// The element of a list below, counted from 0.
    #[must_use]
    pub fn index(mut self, index: i64) -> Path {
        self.0.push(Step::Index(index));
        self
    }

    /// The steps from the root.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// What `value` holds here: null where nothing is, unknown below an unknown.
    pub fn lookup<'v>(&self, value: &'v Value) -> &'v Value {
        let mut here = value;
        for step in &self.0 {
            if here.is_unknown() {
                return &UNKNOWN;
            }
            here = match step {
                Step::Attribute(name) | Step::Key(name) => here.get(name),
                Step::Index(index) => here
                    .as_list()
                    .and_then(|items| usize::try_from(*index).ok().and_then(|index| items.get(index)))
                    .unwrap_or(&NULL),
            };
        }
        here
    }
}

impl From<&str> for Path {
    /// Attributes separated by dots; the empty text is the root.
    fn from(text: &str) -> Self {
        text.split('.').filter(|name| !name.is_empty()).fold(Path::root(), Path::attribute)
    }
}

impl From<String> for Path {
    fn from(text: String) -> Self {
        Path::from(text.as_str())
    }
}

impl From<&Path> for Path {
    fn from(path: &Path) -> Self {
        path.clone()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Attribute(name) if position == 0 => write!(f, "{name}")?,
                Step::Attribute(name) => write!(f, ".{name}")?,
                Step::Key(key) => write!(f, "[{key:?}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_path_reads_as_it_is_written_in_a_configuration() {
        assert_eq!(Path::from("wait").attribute("boot_timeout").to_string(), "wait.boot_timeout");
        assert_eq!(Path::from("devices").key("eth0").to_string(), "devices[\"eth0\"]");
        assert_eq!(Path::from("a.b").index(0).to_string(), "a.b[0]");
    }

    #[test]
    fn below_an_unknown_everything_is_unknown() {
        let value = Value::from(BTreeMap::from([("a".to_owned(), Value::Unknown)]));
        assert!(Path::from("a.b").lookup(&value).is_unknown());
        assert!(Path::from("c.b").lookup(&value).is_null());
    }
}
