//! Whether a neighbour can take the address of an endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::incus::{Client, is_true};
use crate::plugin::{Diagnostics, Path, Value};
use crate::resources::session::Session;

/// Warns of endpoints in domains that are there and let their instances take any address. What cannot be read says
/// nothing. Costs one request for each domain with endpoints.
pub(super) async fn warn(session: &Session, client: &Client, values: &Value, warnings: &mut Diagnostics) {
    let endpoints = || values.get("endpoints").as_map().into_iter().flatten();
    let domains: BTreeSet<_> = endpoints().filter_map(|(_, endpoint)| endpoint.get("domain").as_str()).collect();
    for domain in domains {
        let Ok(Some(profile)) = client.read_profile(&session.project(domain), "default").await else { continue };
        let Some(eth0) = profile.devices.get("eth0") else { continue };
        let of_domain = endpoints().filter(|(_, endpoint)| endpoint.get("domain").as_str() == Some(domain));
        let addresses = of_domain.filter_map(|(name, one)| Some((name, one.get("address").as_str()?.parse().ok()?)));
        let open: Vec<(&String, IpAddr)> = addresses.filter(|(_, address)| !is_filtered(eth0, *address)).collect();
        if let Some(detail) = told(domain, &open) {
            warnings.warning(Path::from("endpoints"), "A neighbour can take the address of an endpoint", detail);
        }
    }
}

/// Whether a NIC keeps its instance from taking `address`.
fn is_filtered(nic: &BTreeMap<String, String>, address: IpAddr) -> bool {
    let of_family = if address.is_ipv4() { "security.ipv4_filtering" } else { "security.ipv6_filtering" };
    ["security.mac_filtering", of_family].into_iter().all(|key| nic.get(key).is_some_and(|value| is_true(value)))
}

fn told(domain: &str, open: &[(&String, IpAddr)]) -> Option<String> {
    let names: Vec<_> = open.iter().map(|(name, _)| format!("{name:?}")).collect();
    let advice = match (open.iter().any(|(_, one)| one.is_ipv4()), open.iter().any(|(_, one)| one.is_ipv6())) {
        (false, false) => return None,
        (true, false) => "Set `nic_filtering = true` in the domain.",
        (_, true) => {
            "Set `nic_filtering = true` in the domain; it filters IPv6 only where the Incus host is this one and has \
             `br_netfilter` on."
        }
    };
    Some(format!(
        "Nothing filters what the instances of the domain \"{domain}\" send, so each of them can take the address of {} and what \
         policies allow it. {advice}",
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(keys: &[(&str, &str)]) -> BTreeMap<String, String> {
        keys.iter().map(|(key, value)| (format!("security.{key}_filtering"), (*value).to_owned())).collect()
    }

    #[test]
    fn an_address_is_filtered_by_the_mac_and_its_own_family() {
        let (four, six) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]));
        let of = |keys: &[(&str, &str)]| [four, six].map(|address| is_filtered(&nic(keys), address));
        assert_eq!(of(&[]), [false, false]);
        assert_eq!(of(&[("mac", "true"), ("ipv4", "true")]), [true, false]);
        assert_eq!(of(&[("mac", "true"), ("ipv4", "true"), ("ipv6", "true")]), [true, true]);
        assert_eq!(of(&[("ipv4", "true"), ("ipv6", "true")]), [false, false]);
    }

    #[test]
    fn a_filter_is_on_by_every_word_that_incus_takes_for_yes() {
        for yes in ["1", "yes", "on", "True"] {
            assert!(is_filtered(&nic(&[("mac", yes), ("ipv4", yes)]), [10, 0, 0, 1].into()), "{yes}");
        }
        assert!(!is_filtered(&nic(&[("mac", "true"), ("ipv4", "0")]), [10, 0, 0, 1].into()));
    }

    #[test]
    fn what_filters_ipv6_is_said_where_an_endpoint_has_such_an_address() {
        let name = "web".to_owned();
        assert_eq!(told("pro", &[]), None);
        assert!(!told("pro", &[(&name, [10, 0, 0, 1].into())]).unwrap().contains("br_netfilter"));
        assert!(told("pro", &[(&name, [0xfd00, 0, 0, 0, 0, 0, 0, 1].into())]).unwrap().contains("br_netfilter"));
    }
}
