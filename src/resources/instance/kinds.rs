//! Keys that only one type of instance has (Incus 6.0 to 7.3). Pure.
//!
//! Incus answers "Unknown configuration key" for the other type, which sends the operator looking for a typo.

/// Keys of containers, or how they begin.
const CONTAINER: &[&str] = &[
    "limits.cpu.allowance",
    "limits.cpu.priority",
    "limits.hugepages.",
    "limits.memory.enforce",
    "limits.memory.swap",
    "limits.processes",
    "linux.",
    "migration.incremental.",
    "nvidia.",
    "oci.",
    "raw.lxc",
    "raw.seccomp",
    "security.bpffs.",
    "security.guestapi.images",
    "security.idmap.",
    "security.privileged",
    "security.protection.shift",
    "security.syscalls.",
];

/// Keys of virtual machines, or how they begin.
const VM: &[&str] = &[
    "agent.nic_config",
    "limits.memory.hotplug",
    "limits.memory.hugepages",
    "raw.qemu",
    "security.agent.metrics",
    "security.iommu",
    "security.sev",
    "smbios11.",
];

/// Keys of a GPU that set what its device file looks like in a container.
pub(super) const CONTAINER_GPU: [&str; 3] = ["gid", "mode", "uid"];

/// Whether only containers have `key`.
pub(super) fn is_of_containers(key: &str) -> bool {
    CONTAINER.iter().any(|start| key.starts_with(start))
}

/// Whether only virtual machines have `key`.
pub(super) fn is_of_vms(key: &str) -> bool {
    VM.iter().any(|start| key.starts_with(start))
}
