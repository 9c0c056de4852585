//! `cloud_init = { user_data, vendor_data, network_config }`: what cloud-init reads inside a guest. All of it may hold
//! secrets, so none of it stands in `config`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::keys::{self, Own};
use crate::plugin::{Attribute, Problem, Value};

/// Member, key, and the key's older name, which Incus (6.0 to 7.3) still reads where the key is not set.
const MEMBERS: [(&str, &str, &str); 3] = [
    ("user_data", "cloud-init.user-data", "user.user-data"),
    ("vendor_data", "cloud-init.vendor-data", "user.vendor-data"),
    ("network_config", "cloud-init.network-config", "user.network-config"),
];

/// The keys of this attribute, older names included.
pub const OWN: &[Own] = &[
    ("cloud-init.user-data", "cloud_init.user_data"),
    ("cloud-init.vendor-data", "cloud_init.vendor_data"),
    ("cloud-init.network-config", "cloud_init.network_config"),
    ("user.user-data", "cloud_init.user_data"),
    ("user.vendor-data", "cloud_init.vendor_data"),
    ("user.network-config", "cloud_init.network_config"),
];

/// What is configured.
#[derive(Clone, Default, Deserialize)]
pub struct CloudInit {
    user_data: Option<String>,
    vendor_data: Option<String>,
    network_config: Option<String>,
}

impl CloudInit {
    /// Brings the keys of an object to this; none of the older names stays.
    pub fn write(&self, config: &mut BTreeMap<String, String>) {
        let values = [&self.user_data, &self.vendor_data, &self.network_config];
        for ((_, key, older), value) in MEMBERS.into_iter().zip(values) {
            keys::put(config, key, value.clone());
            config.remove(older);
        }
    }
}

/// The attribute, as an object has it; null where it has none and `prior` was null.
#[must_use]
pub fn read(config: &BTreeMap<String, String>, prior: &Value) -> Value {
    let found = MEMBERS.map(|(name, key, older)| (name, config.get(key).or_else(|| config.get(older)).cloned()));
    if prior.as_map().is_none() && found.iter().all(|(_, value)| value.is_none()) {
        return Value::Null;
    }
    Value::Map(found.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
}

/// `cloud_init`; `what` says when a change is seen.
#[must_use]
pub fn attribute(what: &str) -> Attribute {
    let member = |name: &str, what: &str| Attribute::string(name).optional().sensitive().check(filled).describe(what);
    Attribute::single(
        "cloud_init",
        vec![
            member("user_data", "User data, such as `#cloud-config`."),
            member("vendor_data", "Vendor data."),
            member("network_config", "Network configuration."),
        ],
    )
    .optional()
    .describe(what)
}

/// Incus drops a key with the empty value: every plan would show it again.
fn filled(value: &Value) -> Result<(), Problem> {
    match value.as_str() {
        Some("") => Err(Problem::new("Nothing for cloud-init", "This is empty. Remove it, or write `null`.")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_older_name_is_read_and_replaced() {
        let mut found = config(&[("user.user-data", "#cloud-config"), ("user.mine", "1")]);
        let value = read(&found, &Value::Null);
        assert_eq!(value.get("user_data").as_str(), Some("#cloud-config"));
        value.decode::<CloudInit>().unwrap().write(&mut found);
        assert_eq!(found, config(&[("cloud-init.user-data", "#cloud-config"), ("user.mine", "1")]));
    }

    #[test]
    fn an_empty_text_is_refused() {
        assert!(filled(&"".into()).is_err() && filled(&"#cloud-config".into()).is_ok() && filled(&Value::Null).is_ok());
    }

    #[test]
    fn none_is_null_unless_an_empty_one_was_configured() {
        assert!(read(&config(&[]), &Value::Null).is_null());
        assert!(read(&config(&[]), &Value::object()).as_map().is_some());
    }
}
