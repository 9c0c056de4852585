//! The only place that matches texts of the server.

/// What a refusal of Incus means.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// An object of that name exists, or a racing create won.
    AlreadyExists,
    /// The object or its project does not exist.
    NotFound,
    /// No image of that alias or fingerprint in reach.
    ImageNotFound,
    /// The image exists, but for the other instance type.
    ImageTypeMismatch,
    /// The storage pool does not exist.
    PoolNotFound,
    /// A profile named by the instance does not exist.
    ProfileNotFound,
    /// The network named by a NIC does not exist.
    NetworkNotFound,
    /// The custom volume named by a disk does not exist.
    VolumeNotFound,
    /// The instance has no root disk, neither its own nor from a profile.
    NoRootDisk,
    /// A NIC of another instance has the address.
    AddressTaken,
    /// The NIC's address is not in the network's subnet.
    AddressOutsideSubnet,
    /// The NIC's address is the bridge's own.
    AddressIsGateway,
    /// Another bridge has the gateway (`dnsmasq: failed to create listening socket`).
    GatewayTaken,
    /// The key of an instance, a profile or a project is unknown, or belongs to the other instance type.
    UnknownKey(String),
    /// The key of a network is unknown.
    UnknownNetworkKey(String),
    /// The instance has `security.protection.delete`.
    Protected,
    /// The project still holds something.
    ProjectNotEmpty,
    /// Something still uses the object.
    InUse,
    /// Instances have their root disk from the profile: it keeps its pool, and stays.
    RootDiskInUse,
    /// Limits or restrictions of the project forbid it.
    ProjectRule,
    /// The server cannot run virtual machines; Incus' reason.
    NoVirtualMachines(String),
    /// The host has not the memory that the virtual machine asks for.
    NoMemory,
    /// The command to run in the instance does not exist there.
    CommandNotFound,
    /// The memory of the running virtual machine cannot become what it shall be.
    MemoryNotLive,
    /// The key cannot change while the virtual machine runs.
    VmKeyNotLive(String),
    /// The instance runs, and must not for this.
    IsRunning,
    /// The instance is stopped, and must not be for this.
    IsStopped,
    /// Another operation runs on the object.
    Busy,
    /// The database of Incus gave no turn: what was asked for was not done, or not all of it.
    DatabaseBusy,
    /// The change of a profile is saved, but instances that use it could not follow.
    SavedButInstancesFailed,
    /// The agent of the virtual machine does not answer.
    AgentNotRunning,
    /// The trust token is unknown, used up or expired.
    TokenRefused,
    /// The client is not allowed to.
    Forbidden,
    /// Incus was interrupted while it made the instance, of which it has the record alone.
    HalfMade,
    /// The container's monitor ended at the start; its log says why.
    StartFailed,
    /// A volume cannot become smaller, or not that small.
    CannotShrink,
    /// The image of a virtual machine does not boot with secure boot.
    SecureBootUnsupported,
    /// A block volume belongs to one instance.
    NotShared,
    /// What a volume holds is more than its quota.
    QuotaTooSmall,
    /// The virtual machine ended while it was being started.
    DiedAtStart,
    /// Anything else: show the text.
    Other,
}

impl Refusal {
    /// Whether the text of a 404 is about an operation, not about what that worked on (Incus 6.0.4 to 7.3).
    pub(crate) fn is_forgotten_operation(text: &str) -> bool {
        let low = text.trim().to_lowercase();
        matches!(low.as_str(), "not found" | "no reason given")
            || low.contains("operation") && low.contains("not found")
    }

    /// `text` without what says nothing: Incus 6.0.4 names the device of a gateway `""`.
    pub(crate) fn readable(text: String) -> String {
        if text.contains(NAMELESS) { text.replace(NAMELESS, "managed network") } else { text }
    }

    /// What `text` with HTTP `status` means.
    ///
    /// Each text was provoked on Incus 6.0.4, but for those that say otherwise; one that is not recognised is
    /// [`Refusal::Other`], or what its status says. Names in a text hold no space, so phrases of two words or more are
    /// never part of one.
    pub fn classify(status: u16, text: &str) -> Self {
        let low = text.to_lowercase();
        let has = |part: &str| low.contains(part);
        if let Some(meaning) = Self::of_name(text) {
            return meaning;
        }
        let phrases: [(bool, Self); 33] = [
            // The record has no volume: seen after the daemon was killed in the middle of a create.
            (has("failed getting instance pool"), Self::HalfMade),
            // Deleting one bridge while another goes: Incus walks all links of the host.
            (has("is busy running a") || has("failed to delete bridge children interfaces"), Self::Busy),
            (Self::is_about_the_database(&low), Self::DatabaseBusy),
            (has("incusd forkstart"), Self::StartFailed),
            (has("dnsmasq: failed to create listening socket"), Self::GatewayTaken),
            (has("profile change still saved"), Self::SavedButInstancesFailed),
            (has("relies on this profile's root disk device"), Self::RootDiskInUse),
            (has("already defined on another nic"), Self::AddressTaken),
            (has("is assigned to parent managed network"), Self::AddressIsGateway),
            (has("device ip address") && has("not within network"), Self::AddressOutsideSubnet),
            // From the sources of 6.0.6: the lab has no virtual machines.
            (has("agent isn't currently running") || has("failed to connect to the agent"), Self::AgentNotRunning),
            (low.trim() == "command not found", Self::CommandNotFound),
            // Seen on 7.0.2: QEMU was gone when the start operation looked for it.
            (low.trim() == "invalid pid 0", Self::DiedAtStart),
            (has("cannot set up guest memory"), Self::NoMemory),
            (Self::is_about_live_memory(&low), Self::MemoryNotLive),
            (has("instance is protected"), Self::Protected),
            (has("only empty projects can be"), Self::ProjectNotEmpty),
            (has("reached maximum") || has("failed checking if instance"), Self::ProjectRule),
            (has("no matching certificate add operation") || has("token has expired"), Self::TokenRefused),
            (has("certificate is restricted") || has("user does not have permission"), Self::Forbidden),
            (has("no root device could be found"), Self::NoRootDisk),
            (has("requested image's type") && has("doesn't match instance type"), Self::ImageTypeMismatch),
            (Self::lacks_image(&low), Self::ImageNotFound),
            (has("storage pool not found"), Self::PoolNotFound),
            (has("requested profile") && has("doesn't exist"), Self::ProfileNotFound),
            // A 404 may be about the object of the request, too; a device of its body is named before the cause.
            (has("device") && has("storage volume not found"), Self::VolumeNotFound),
            (has("failed to load network") && has("network not found"), Self::NetworkNotFound),
            (has("already exists") || has("unique constraint failed"), Self::AlreadyExists),
            (
                low.trim() == "in use"
                    || low.trim().ends_with(": in use")
                    || has("is currently in use")
                    || has("is still in use"),
                Self::InUse,
            ),
            (has("cannot be shrunk"), Self::CannotShrink),
            (has("disk quota exceeded"), Self::QuotaTooSmall),
            // Both from the sources of 6.0 and 7.0.
            (has("incompatible with secureboot"), Self::SecureBootUnsupported),
            (has("security.shared"), Self::NotShared),
        ];
        if let Some((_, meaning)) = phrases.into_iter().find(|(said, _)| *said) {
            return meaning;
        }
        // A stop that overtakes another finds the "container is not running".
        if has("is already stopped") || has("is not running") {
            return Self::IsStopped;
        }
        if has("is already running") || has("instance is running") || has("running instance not allowed") {
            return Self::IsRunning;
        }
        match status {
            403 => Self::Forbidden,
            404 => Self::NotFound,
            409 => Self::AlreadyExists,
            _ => Self::Other,
        }
    }

    /// A text that names a key or a reason.
    fn of_name(text: &str) -> Option<Self> {
        if let Some((_, reason)) =
            text.split_once("Instance type \"virtual-machine\" is not supported on this server: ")
        {
            return Some(Self::NoVirtualMachines(reason.to_owned()));
        }
        // From the sources of 6.0.6: the lab has no virtual machines.
        if let Some(key) = quoted_before(text, " cannot be updated when VM is running") {
            return Some(Self::VmKeyNotLive(key));
        }
        if let Some(key) = after(text, "Unknown configuration key: ") {
            return Some(Self::UnknownKey(key));
        }
        if let Some(key) = after(text, "Invalid project configuration key ") {
            return Some(Self::UnknownKey(key));
        }
        if let Some((_, option)) = text.split_once("Invalid option for volume ") {
            return after(option, " option ").map(Self::UnknownKey);
        }
        let (_, option) = text.split_once("Invalid option for network ")?;
        after(option, " option ").map(Self::UnknownNetworkKey)
    }

    /// From the sources of 6.0.6 and 7.0.1.
    fn is_about_live_memory(low: &str) -> bool {
        let phrases = [
            "cannot increase memory size beyond boot time size",
            "memory hotplug feature is disabled",
            "exceeds instance current maximum",
            "cannot live update memory limit",
            "failed setting memory to",
        ];
        phrases.iter().any(|phrase| low.contains(phrase))
    }

    /// What Incus itself tries again a few times before it says so, from the sources of 6.0.6.
    fn is_about_the_database(low: &str) -> bool {
        let phrases =
            ["database is locked", "cannot start a transaction within a transaction", "checkpoint in progress"];
        phrases.iter().any(|phrase| low.contains(phrase))
    }

    /// An image server's answer is from the sources of 6.0.6: the lab reaches none.
    fn lacks_image(low: &str) -> bool {
        let phrases =
            ["image not provided for instance creation", "image alias not found", "requested image couldn't be found"];
        phrases.iter().any(|phrase| low.contains(phrase))
            || low.starts_with("image \"") && low.ends_with("\" not found")
    }
}

/// What Incus 6.0.4 says where it does not know the device's name.
const NAMELESS: &str = "managed network device \"\"";

/// The first word after `lead`, without quotes and punctuation.
fn after(text: &str, lead: &str) -> Option<String> {
    let (_, rest) = text.split_once(lead)?;
    let word = rest.split_whitespace().next()?;
    Some(word.trim_matches(|c| matches!(c, '"' | '\'' | ',' | ':' | ')' | '(')).to_owned())
}

/// The quoted word that ends right before `tail`.
fn quoted_before(text: &str, tail: &str) -> Option<String> {
    let (head, _) = text.split_once(tail)?;
    let head = head.strip_suffix('"')?;
    head.rsplit_once('"').map(|(_, word)| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::Refusal::{self, *};

    fn check(status: u16, text: &str, expected: Refusal) {
        assert_eq!(Refusal::classify(status, text), expected, "{text}");
    }

    /// As Incus 6.0.4 answered.
    #[test]
    fn known_texts_have_a_meaning() {
        check(500, r#"Failed to create instance delete operation: Instance is busy running a "start" operation"#, Busy);
        check(500, "Failed to delete bridge children interfaces: Failed to run: ip -d -j link show net-x", Busy);
        check(500, "Failed to run: /usr/libexec/incus/incusd forkstart pro_web: exit status 1", StartFailed);
        check(
            500,
            r#"Failed creating instance record: Add instance info to the database: Failed to create "instances" entry: UNIQUE constraint failed: instances.project_id, instances.name"#,
            AlreadyExists,
        );
        check(500, r#"Error inserting "default" into database: The profile already exists"#, AlreadyExists);
        check(409, r#"Network "net-pro" already exists"#, AlreadyExists);
        check(409, r#"Name "web" already in use"#, AlreadyExists);
        check(500, "Image not provided for instance creation", ImageNotFound);
        check(404, r#"Image "x" not found"#, ImageNotFound);
        check(404, "Image alias not found", ImageNotFound);
        check(
            500,
            r#"Requested image's type "container" doesn't match instance type "virtual-machine""#,
            ImageTypeMismatch,
        );
        check(
            500,
            r#"Failed creating instance record: Instance type "virtual-machine" is not supported on this server: vhost_vsock kernel module not loaded"#,
            NoVirtualMachines("vhost_vsock kernel module not loaded".into()),
        );
        check(400, "Command not found", CommandNotFound);
        check(400, "Invalid PID 0", DiedAtStart);
        check(
            500,
            "Cannot increase memory size beyond boot time size when VM is running (Boot time size 256MiB, new size 512MiB)",
            MemoryNotLive,
        );
        check(
            404,
            r#"Failed add validation for device "v": Failed loading custom volume: Storage volume not found"#,
            VolumeNotFound,
        );
        check(
            404,
            "Failed creating instance record: Failed initializing instance: Failed loading storage pool: Storage pool not found",
            PoolNotFound,
        );
        check(404, "Failed getting instance pool: Instance storage pool not found", HalfMade);
        check(500, r#"Requested profile "x" doesn't exist"#, ProfileNotFound);
        check(
            500,
            "Failed creating instance record: Failed initializing instance: Failed getting root disk: No root device could be found",
            NoRootDisk,
        );
        check(
            500,
            "The following instances failed to update (profile change still saved):\n - Project: p",
            SavedButInstancesFailed,
        );
        check(400, "At least one instance relies on this profile's root disk device", RootDiskInUse);
        check(500, r#"Reached maximum number of instances in project "pro""#, ProjectRule);
        check(
            500,
            r#"Failed checking if instance update allowed: Use of low-level config "raw.lxc" on container "s" of project "pro" is forbidden"#,
            ProjectRule,
        );
        check(500, "Failed to fetch from \"projects\" table: database is locked", DatabaseBusy);
        check(500, "Something new", Other);
    }

    /// As Incus 6.0.4 answered.
    #[test]
    fn texts_about_addresses_have_a_meaning() {
        check(
            409,
            r#"Failed start validation for device "eth0": IP address "10.1.0.2" already defined on another NIC"#,
            AddressTaken,
        );
        check(
            500,
            r#"Device validation failed for "eth0": Device IP address "10.9.0.2" not within network "net-pro" subnet"#,
            AddressOutsideSubnet,
        );
        check(
            500,
            r#"Device validation failed for "eth0": IP address "10.1.0.254" is assigned to parent managed network device """#,
            AddressIsGateway,
        );
        check(
            500,
            r#"The DNS and DHCP service exited prematurely: exit status 2 ("dnsmasq: failed to create listening socket for 10.1.0.254: Address already in use")"#,
            GatewayTaken,
        );
        // The status of what a device lacks is no sign that the instance or its project is missing.
        check(
            404,
            r#"Failed creating instance record: Failed initializing instance: Invalid devices: Device validation failed for "eth0": Failed loading device "eth0": Failed to load network "nope" for project "default": Network not found"#,
            NetworkNotFound,
        );
    }

    /// As Incus 6.0.4 answered, but for the virtual machine's.
    #[test]
    fn texts_about_keys_name_the_key() {
        check(
            500,
            "Failed creating instance record: Unknown configuration key: security.secureboot",
            UnknownKey("security.secureboot".into()),
        );
        check(400, r#"Invalid project configuration key "nope""#, UnknownKey("nope".into()));
        check(500, r#"Invalid option for volume "pro_data" option "block.x""#, UnknownKey("block.x".into()));
        check(500, r#"Invalid option for network "net-pro" option "nope""#, UnknownNetworkKey("nope".into()));
        check(
            500,
            r#"Key "security.nesting" cannot be updated when VM is running"#,
            VmKeyNotLive("security.nesting".into()),
        );
    }

    /// As Incus 6.0.4 answered, but for the agent's.
    #[test]
    fn texts_about_what_stands_in_the_way_have_a_meaning() {
        check(500, "Instance is protected", Protected);
        check(500, "Only empty projects can be removed.", ProjectNotEmpty);
        check(500, "Profile is currently in use", InUse);
        check(400, "The network is currently in use", InUse);
        check(400, "The storage volume is still in use", InUse);
        check(500, "Volume is still in use by running instances", InUse);
        check(500, "In use", InUse);
        check(
            400,
            "The image used by this instance is incompatible with secureboot. Please set security.secureboot=false on the instance",
            SecureBootUnsupported,
        );
        check(500, "Block volumes cannot be shrunk: Cannot be shrunk", CannotShrink);
        check(
            500,
            "Failed to run: btrfs qgroup limit -e none 0/258 cd.iso: exit status 1 (ERROR: unable to limit requested quota group: Disk quota exceeded)",
            QuotaTooSmall,
        );
        check(409, "Volume by that name already exists", AlreadyExists);
        check(400, "Instance is running", IsRunning);
        check(500, "The instance is already running", IsRunning);
        check(500, "Renaming of running instance not allowed", IsRunning);
        check(400, "The instance is already stopped", IsStopped);
        check(500, r#"container is not running: "pro_web""#, IsStopped);
        check(500, "VM agent isn't currently running", AgentNotRunning);
        check(403, "No matching certificate add operation found", TokenRefused);
        check(500, "Failed during search for certificate add token operation: Token has expired", TokenRefused);
        check(403, "Certificate is restricted", Forbidden);
        check(500, "Certificate is restricted", Forbidden);
        check(500, r#"User does not have permissions for project "default""#, Forbidden);
        check(403, r#"User does not have permission for project "default""#, Forbidden);
        check(403, "not authorized", Forbidden);
    }

    /// As Incus 6.0.4 answered.
    #[test]
    fn what_is_gone_is_not_found_whatever_its_name() {
        check(404, r#"Failed to fetch instance "image" in project "pro": Instance not found"#, NotFound);
        check(404, "Failed loading network: Network not found", NotFound);
        check(404, "Fetch profile: Profile not found", NotFound);
        check(404, r#"Fetch project "nope": Project not found"#, NotFound);
        check(404, "Failed loading project: Project not found", NotFound);
        check(404, "Storage pool volume not found", NotFound);
        assert!(Refusal::is_forgotten_operation("Operation not found"));
    }

    #[test]
    fn a_nameless_device_is_not_shown() {
        let text = r#"IP address "10.1.0.254" is assigned to parent managed network device """#;
        let shown = Refusal::readable(text.to_owned());
        assert_eq!(shown, r#"IP address "10.1.0.254" is assigned to parent managed network"#);
        assert_eq!(Refusal::readable("x".to_owned()), "x");
    }
}
