//! The attributes of `anklume_nft_isolation`.

use crate::nft::PersistPath;
use crate::plugin::{Attribute, Problem, Schema, Type, Value};
use crate::resources::timeouts;

/// Every attribute, with what the documentation says of it.
pub(super) fn schema() -> Schema {
    Schema::new(
        0,
        "The firewall between domains, for the whole host: they cannot talk, except where a policy says so. Its rules are table \
         `inet anklume` of nftables, which nothing else may use; no other table is read or changed. Everything it drops is between two \
         bridges of domains, so egress, DHCP, DNS, Docker and libvirt are left alone. It can be applied before any domain exists: give \
         the instances `depends_on`, and no packet passes before the rules.\n\n\
         What a policy no longer allows stops with the apply, open connections too; what stays allowed is not interrupted. Only at the \
         first apply, TCP connections that are open between domains are cut, allowed ones too, if nothing on the host tracks connections \
         yet; a bridge with NAT does. `rules` is known when planning: a changed policy is one changed line.\n\n\
         A flow that a flowtable of others took over (`flow add`) crosses no rules any more, these neither: leave the bridges of domains \
         out of flowtables.\n\n\
         Traffic to the host itself never crosses these rules. What stays reachable there from every domain: DHCP of its own bridge, \
         DNS of every bridge with the names and addresses of its instances, `proxy` devices, Incus' API if it listens on all addresses, and any other service of the host. Protect those with the host's own \
         firewall.\n\n\
         One host has one isolation, in one state. A table that another state or another configuration created is left alone; import it \
         as `inet anklume` to continue it. nftables keeps no names of domains and policies, so the plan after an import shows all rules as \
         new: the rules that are there hold until the apply replaces them, in one transaction. Until then a destroy leaves the table alone. \
         Remove the isolation from the state that had it before (`state rm`), as both states know the table by the same `uid`, and write \
         the same `persist_path`.",
        vec![
            Attribute::string("id").computed().describe("`inet anklume`, the table."),
            Attribute::string("uid").computed().describe(
                "The table that this resource manages: the last 32 digits of the mark in the comment of its first rule. A table with \
                 other digits is never changed or destroyed.",
            ),
            Attribute::map("domains", Type::String).required().describe(
                "The domains that are kept apart: name to bridge, as `{ for d in [anklume_domain.pro, anklume_domain.perso] : d.name => \
                 d.bridge }`. A bridge of null is the domain's own, `net-<name>` with the provider's `nesting_prefix`. Bridges `net-*` \
                 that are not listed are kept apart from all others as well; list those between which the host routes by the interface \
                 of arrival (`ip rule ... iif`).",
            ),
            endpoints(),
            policies(),
            Attribute::string("persist_path").optional().check(persist_path).describe(
                "A file on the host where nft runs, into which the rules are written (atomically, mode 0600), to be loaded at boot as the guide \
                 \"Isolation at boot\" shows. Unset: after a reboot the domains can talk until the next apply.",
            ),
            Attribute::map("rules", Type::String).computed().describe(
                "What the firewall says, one line for each `domain/<name>` and each `policy/<name>`; known when planning. After a change \
                 by hand, what is there instead.",
            ),
            Attribute::string("ruleset").computed().describe("The rules as they are given to nft; known when planning."),
            timeouts::attribute(),
        ],
    )
}

fn endpoints() -> Attribute {
    Attribute::nested_map(
        "endpoints",
        vec![
            Attribute::string("domain").required().describe("The domain in which it is, one of `domains`."),
            Attribute::string("address").required().describe(
                "Its IPv4 or IPv6 address, such as `anklume_instance.web.ipv4_address`. Where it is known only after apply, so are the \
                 rules of its policies, and no others.",
            ),
        ],
    )
    .optional()
    .describe(
        "Single instances, for `from` and `to` of policies: exactly this address, in both directions. A neighbour in the same domain can \
         take the address, unless the domain has `nic_filtering`.",
    )
}

fn policies() -> Attribute {
    Attribute::nested_map(
        "policies",
        vec![
            Attribute::string("from").required().describe("Who may open connections: a name of `domains` or `endpoints`."),
            Attribute::string("to").required().describe("To whom: a name of `domains` or `endpoints`."),
            Attribute::list("ports", Type::String).optional().describe(
                "Ports at `to`, such as `[\"443\", \"8000-8010\"]`; they need `protocol` `tcp` or `udp`. Unset: all of the protocol.",
            ),
            Attribute::string("protocol")
                .optional()
                .describe("`tcp`, `udp` or `icmp` (ICMP and ICMPv6). Unset: everything that carries at least four bytes, as all but oddities do."),
            Attribute::bool("bidirectional")
                .default(false)
                .describe("Whether the same holds with `from` and `to` swapped. Default: false."),
            Attribute::string("description").optional().describe("Free text; it stays in the state, and never reaches nft."),
        ],
    )
    .optional()
    .describe("What may pass between domains, by a name of your choice. Answers pass too.")
}

fn persist_path(value: &Value) -> Result<(), Problem> {
    let Some(text) = value.as_str() else { return Ok(()) };
    let parsed = text.parse::<PersistPath>();
    parsed
        .map(drop)
        .map_err(|wrong| Problem::new("Invalid path of a file", format!("{text:?} is {wrong}. Write such a path.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_sound() {
        assert_eq!(schema().problems(), Vec::<String>::new());
    }
}
