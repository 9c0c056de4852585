//! What the provider keeps beside the state, unseen by the operator.

/// A small store of texts, kept byte for byte as long as nothing in it changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Private {
    raw: Vec<u8>,
    entries: serde_json::Map<String, serde_json::Value>,
}

impl Private {
    /// Reads what the core kept; what is no JSON object counts as empty, and is kept until something is set.
    pub fn from_bytes(raw: Vec<u8>) -> Private {
        let entries = serde_json::from_slice(&raw).unwrap_or_default();
        Private { raw, entries }
    }

    /// What the core shall keep; nothing at all when empty.
    pub fn into_bytes(self) -> Vec<u8> {
        self.raw
    }

    /// Whether the core kept nothing.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The text under `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.get(name).and_then(serde_json::Value::as_str)
    }

    /// Keeps `value` under `name`.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if self.get(name) != Some(&value) {
            self.entries.insert(name.to_owned(), serde_json::Value::String(value));
            self.write();
        }
    }

    /// Forgets what is under `name`.
    pub fn remove(&mut self, name: &str) {
        if self.entries.remove(name).is_some() {
            self.write();
        }
    }

    fn write(&mut self) {
        self.raw = match self.entries.is_empty() {
            true => Vec::new(),
            false => serde_json::Value::Object(self.entries.clone()).to_string().into_bytes(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untouched_bytes_are_kept() {
        let raw = br#"{ "b" : "2", "n": 1 }"#.to_vec();
        let mut private = Private::from_bytes(raw.clone());
        private.set("b", "2");
        private.remove("absent");
        assert_eq!(private.into_bytes(), raw);
    }

    #[test]
    fn what_is_set_is_found_again() {
        let mut private = Private::default();
        private.set("fingerprint", "abc");
        let mut again = Private::from_bytes(private.into_bytes());
        assert_eq!(again.get("fingerprint"), Some("abc"));
        again.remove("fingerprint");
        assert!(again.is_empty());
    }
}
