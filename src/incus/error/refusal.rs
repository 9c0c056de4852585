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
    /// The configuration key is unknown, or belongs to the other instance type.
    UnknownKey(String),
    /// The instance has `security.protection.delete`.
    Protected,
    /// The project still holds something.
    ProjectNotEmpty,
    /// Something still uses the object; Incus' words.
    InUse(String),
    /// The key cannot change while the virtual machine runs.
    VmKeyNotLive(String),
    /// The memory of the running virtual machine cannot become what it shall be.
    MemoryNotLive,
    /// The instance runs, and must not for this.
    IsRunning,
    /// The instance is stopped, and must not be for this.
    IsStopped,
    /// Another operation runs on the object.
    Busy,
    /// The change of a profile is saved, but instances that use it could not follow.
    SavedButInstancesFailed,
    /// The agent of the virtual machine does not answer.
    AgentNotRunning,
    /// The command to run in the instance does not exist there.
    CommandNotFound,
    /// The host has not the memory that the virtual machine asks for.
    NoMemory,
    /// The host cannot run virtual machines; Incus' reason.
    NoVirtualMachines(String),
    /// The trust token is unknown, used up or expired.
    TokenRefused,
    /// The client is not allowed to.
    Forbidden,
    /// The object changed since it was read.
    Changed,
    /// The container's monitor ended at the start; its log says why.
    StartFailed,
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

    /// What `text` with HTTP `status` means.
    ///
    /// Written for Incus 6.0.4 to 7.3; a text that is not recognised is [`Refusal::Other`], or what its status says.
    pub fn classify(status: u16, text: &str) -> Self {
        let low = text.to_lowercase();
        let has = |part: &str| low.contains(part);
        // Deleting one bridge while another goes: Incus walks all links of the host (seen on 6.0.4).
        if has("is busy running a") || has("failed to delete bridge children interfaces") {
            return Self::Busy;
        }
        if has("incusd forkstart") {
            return Self::StartFailed;
        }
        if has("dnsmasq: failed to create listening socket") {
            return Self::GatewayTaken;
        }
        if has("profile change still saved") {
            return Self::SavedButInstancesFailed;
        }
        if let Some(key) = quoted_before(text, " cannot be updated when VM is running") {
            return Self::VmKeyNotLive(key);
        }
        if let Some(key) =
            after(text, "Unknown configuration key: ").or_else(|| after(text, "Unknown configuration key "))
        {
            return Self::UnknownKey(key);
        }
        if has("already defined on another nic") {
            return Self::AddressTaken;
        }
        if has("is assigned to parent managed network") {
            return Self::AddressIsGateway;
        }
        if has("ip address") && (has("not within network") || has("not within the network")) {
            return Self::AddressOutsideSubnet;
        }
        if let Some((_, reason)) =
            text.split_once("Instance type \"virtual-machine\" is not supported on this server: ")
        {
            return Self::NoVirtualMachines(reason.to_owned());
        }
        if has("cannot increase memory size beyond boot time size")
            || has("memory hotplug feature is disabled")
            || has("exceeds instance current maximum")
            || has("cannot live update memory limit")
            || has("failed setting memory to")
        {
            return Self::MemoryNotLive;
        }
        if has("cannot set up guest memory") {
            return Self::NoMemory;
        }
        if low.trim() == "command not found" {
            return Self::CommandNotFound;
        }
        if has("agent isn't currently running") || has("failed to connect to the agent") {
            return Self::AgentNotRunning;
        }
        if has("instance is protected") {
            return Self::Protected;
        }
        if has("only empty projects can be") {
            return Self::ProjectNotEmpty;
        }
        if has("certificate add operation") && has("no") || has("token has expired") || has("token has been used") {
            return Self::TokenRefused;
        }
        if has("no root device could be found") || has("no root disk") {
            return Self::NoRootDisk;
        }
        if has("image") && has("type") && (has("doesn't match") || has("does not match")) {
            return Self::ImageTypeMismatch;
        }
        if has("requested image couldn't be found") || has("image not provided") || has("image") && has("not found") {
            return Self::ImageNotFound;
        }
        // A 404 may be about the object of the request, too; a device of its body is named before the cause.
        if has("device") && has("storage volume not found") {
            return Self::VolumeNotFound;
        }
        if has("device") && has("network not found") {
            return Self::NetworkNotFound;
        }
        if status != 404 || has("storage pool not found") {
            if has("storage pool") && has("not found") || has("storage pool") && has("doesn't exist") {
                return Self::PoolNotFound;
            }
            if has("profile") && (has("not found") || has("doesn't exist")) {
                return Self::ProfileNotFound;
            }
            if has("network") && (has("not found") || has("doesn't exist")) {
                return Self::NetworkNotFound;
            }
        }
        if has("already exists") || has("unique constraint failed") {
            return Self::AlreadyExists;
        }
        if has("currently in use") || has("still in use") || has("is in use") {
            return Self::InUse(text.to_owned());
        }
        if has("already stopped") || has("instance is not running") {
            return Self::IsStopped;
        }
        if has("already running") || has("instance is running") || has("instance is currently running") {
            return Self::IsRunning;
        }
        match status {
            403 => Self::Forbidden,
            404 => Self::NotFound,
            409 => Self::AlreadyExists,
            412 => Self::Changed,
            _ => Self::Other,
        }
    }
}

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

    #[test]
    fn known_texts_have_a_meaning() {
        check(500, r#"Instance is busy running a "start" operation"#, Busy);
        check(500, "Failed to delete bridge children interfaces: Failed to run: ip -d -j link show net-x", Busy);
        check(500, "Failed creating instance record: UNIQUE constraint failed: instances.name", AlreadyExists);
        check(500, r#"Profile "x" already exists"#, AlreadyExists);
        check(409, "anything", AlreadyExists);
        check(500, r#"Image "x" not found"#, ImageNotFound);
        check(404, r#"Image "x" not found"#, ImageNotFound);
        check(500, "Failed getting remote image info: The requested image couldn't be found", ImageNotFound);
        check(
            400,
            "Requested image's type 'container' doesn't match instance type 'virtual-machine'",
            ImageTypeMismatch,
        );
        check(500, "Failed loading storage pool: Storage pool not found", PoolNotFound);
        check(400, r#"Requested profile "x" doesn't exist"#, ProfileNotFound);
        check(500, r#"IP address "10.1.0.2" already defined on another NIC"#, AddressTaken);
        check(500, r#"Device IP address "10.9.0.2" not within network "net-pro" subnet"#, AddressOutsideSubnet);
        check(
            500,
            r#"IP address "10.1.0.254" is assigned to parent managed network device "net-pro""#,
            AddressIsGateway,
        );
        check(500, "dnsmasq: failed to create listening socket for 10.1.0.254: in use", GatewayTaken);
        check(
            400,
            "Invalid config: Unknown configuration key: security.secureboot",
            UnknownKey("security.secureboot".into()),
        );
        check(400, "Instance is protected from being deleted", Protected);
        check(400, "Only empty projects can be removed", ProjectNotEmpty);
        check(400, "Profile is currently in use", InUse("Profile is currently in use".into()));
        check(
            500,
            r#"Key "security.nesting" cannot be updated when VM is running"#,
            VmKeyNotLive("security.nesting".into()),
        );
        check(400, "Instance is running", IsRunning);
        check(400, "The instance is already stopped", IsStopped);
        check(500, "VM agent isn't currently running", AgentNotRunning);
        check(
            500,
            "Cannot increase memory size beyond boot time size when VM is running (Boot time size 256MiB, new size 512MiB)",
            MemoryNotLive,
        );
        check(400, "Command not found", CommandNotFound);
        check(
            500,
            r#"Failed creating instance record: Instance type "virtual-machine" is not supported on this server: vhost_vsock kernel module not loaded"#,
            NoVirtualMachines("vhost_vsock kernel module not loaded".into()),
        );
        check(
            500,
            "The following instances failed to update (profile change still saved):\n - Project: p",
            SavedButInstancesFailed,
        );
        check(404, "Instance not found", NotFound);
        check(404, "Network not found", NotFound);
        check(404, "Failed loading project: Project not found", NotFound);
        let device = r#"Invalid devices: Device validation failed for "eth1": "#;
        let network =
            r#"Failed loading device "eth1": Failed to load network "n" for project "default": Network not found"#;
        check(404, &format!("{device}{network}"), NetworkNotFound);
        check(
            404,
            r#"Failed add validation for device "v": Failed loading custom volume: Storage volume not found"#,
            VolumeNotFound,
        );
        check(500, r#"Requested profile "x" doesn't exist"#, ProfileNotFound);
        check(500, "Failed to run: /usr/libexec/incus/incusd forkstart pro_web: exit status 1", StartFailed);
        check(500, "something new", Other);
    }
}
