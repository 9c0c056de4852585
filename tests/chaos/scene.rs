//! One configuration with every kind of resource, before and after each kind of change.

use std::fmt::Write as _;

use crate::stranger::Subject;

/// A change that is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Everything is made.
    Create,
    /// Keys, sizes, names, policies and what runs change in place.
    Update,
    /// Most is destroyed, then created again; an instance that uses a replaced profile stays.
    Replace,
    /// `create_before_destroy` replaces most under its own name, which is refused: "Nothing was replaced".
    Swap,
    /// Everything goes.
    Delete,
}

pub(crate) const PHASES: [Phase; 5] = [Phase::Create, Phase::Update, Phase::Replace, Phase::Swap, Phase::Delete];

/// The name of the only domain.
pub(crate) const DOMAIN: &str = "chaos";

/// What differs between one configuration and the next.
#[derive(Clone)]
struct Cast {
    is_updated: bool,
    /// A change replaces what is triggered by it.
    turn: u8,
    image: String,
    source_of_copy: &'static str,
    lifecycle: &'static str,
    /// Of the second instance, which one phase keeps.
    kept: Option<&'static str>,
}

/// The configuration of a phase.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Before,
    After,
    /// After the advice was followed, with this turn.
    Advised(u8),
}

impl Phase {
    /// What the change starts from; `None` = nothing.
    pub(crate) fn before(self, fingerprint: &str) -> Option<String> {
        (self != Self::Create).then(|| world(&self.cast(fingerprint, Act::Before)))
    }

    /// What the change leads to.
    pub(crate) fn after(self, fingerprint: &str) -> String {
        self.configuration(fingerprint, Act::After)
    }

    /// The configuration that converges: [`Self::after`]; of [`Self::Swap`] without `create_before_destroy`, and with this
    /// `turn`.
    pub(crate) fn advised(self, fingerprint: &str, turn: u8) -> String {
        self.configuration(fingerprint, Act::Advised(turn))
    }

    fn configuration(self, fingerprint: &str, act: Act) -> String {
        if self == Self::Delete { String::new() } else { world(&self.cast(fingerprint, act)) }
    }

    fn cast(self, fingerprint: &str, act: Act) -> Cast {
        let is_after = act != Act::Before;
        Cast {
            is_updated: is_after && self == Self::Update,
            turn: match (self, act) {
                (Self::Swap, Act::Advised(turn)) => turn,
                (Self::Replace | Self::Swap, _) if is_after => 1,
                _ => 0,
            },
            image: if is_after && self == Self::Replace { fingerprint.to_owned() } else { "busybox".to_owned() },
            source_of_copy: if is_after && self == Self::Replace { "saved" } else { "data" },
            lifecycle: match (self, act) {
                (Self::Replace, _) | (Self::Swap, Act::Advised(_)) => {
                    "  lifecycle {\n    replace_triggered_by = [terraform_data.turn]\n  }\n"
                }
                (Self::Swap, _) => {
                    "  lifecycle {\n    create_before_destroy = true\n    replace_triggered_by = [terraform_data.turn]\n  }\n"
                }
                _ => "",
            },
            kept: (self == Self::Replace)
                .then_some("  running = true\n  profiles = [\"default\", anklume_profile.p.name]"),
        }
    }

    /// The names that a stranger can take inside the domain.
    pub(crate) fn names(self) -> Vec<Subject> {
        let mut names = vec![
            Subject::Instance("one"),
            Subject::Instance("two"),
            Subject::Volume { pool: "default", name: "data" },
            Subject::Volume { pool: "default", name: "copy" },
            Subject::Volume { pool: "default", name: "saved" },
            Subject::Iso("cd"),
            Subject::Profile("small"),
        ];
        if self == Self::Update {
            names.extend([
                Subject::Instance("zwei"),
                Subject::Volume { pool: "second", name: "copy" },
                Subject::Volume { pool: "default", name: "kept" },
                Subject::Profile("little"),
            ]);
        }
        names
    }
}

fn world(cast: &Cast) -> String {
    let pick = |now: &'static str, updated: &'static str| if cast.is_updated { updated } else { now };
    let Cast { turn, image, source_of_copy, lifecycle, kept, .. } = cast;
    let mut text = format!(
        "resource \"terraform_data\" \"turn\" {{\n  input = {turn}\n}}\n\n\
         resource \"anklume_domain\" \"d\" {{\n  name = \"{DOMAIN}\"\n  storage_pool = \"default\"\n  subnet_id = 7\n{}}}\n\n",
        pick("", "  description = \"changed\"\n  nat = false\n  config = { \"limits.instances\" = \"9\" }\n")
    );
    let mut resource = |kind: &str, label: &str, body: &str| {
        let lifecycle = if label == "two" && kept.is_some() { "" } else { *lifecycle };
        let domain = if kind == "nft_isolation" { "" } else { "  domain = anklume_domain.d.name\n" };
        let _ = writeln!(text, "resource \"anklume_{kind}\" \"{label}\" {{\n{domain}{body}\n{lifecycle}}}\n");
    };
    resource(
        "profile",
        "p",
        pick(
            "  name = \"small\"\n  config = { \"limits.memory\" = \"64MiB\" }",
            "  name = \"little\"\n  config = { \"limits.memory\" = \"96MiB\" }",
        ),
    );
    let volume = |name: &str, rest: &str| format!("  name = \"{name}\"\n  delete_protection = false\n{rest}");
    resource(
        "volume",
        "data",
        &volume("data", pick("  size = \"16MiB\"", "  size = \"24MiB\"\n  description = \"more\"")),
    );
    resource(
        "volume",
        "copy",
        &volume(
            "copy",
            &format!(
                "  source = {{ volume = anklume_volume.{source_of_copy}.name, pool = \"default\" }}{}",
                pick("", "\n  pool = \"second\"")
            ),
        ),
    );
    resource("volume", "saved", &volume(pick("saved", "kept"), "  source = { file = \"../saved.tar.gz\" }"));
    resource(
        "volume",
        "cd",
        &volume(
            "cd",
            &format!(
                "  content_type = \"iso\"\n  source = {{ file = \"../cd.iso\" }}\n{}",
                pick("", "  description = \"a disk\"")
            ),
        ),
    );
    let instance = |name: &str, rest: &str| {
        let image = if name == "two" && kept.is_some() { "busybox" } else { image.as_str() };
        format!(
            "  name = \"{name}\"\n  image = \"{image}\"\n  stop_timeout = \"0s\"\n  delete_protection = false\n  \
             wait = {{ addresses = false }}\n{rest}"
        )
    };
    let attached = "  volumes = { data = { volume = anklume_volume.data.name, mount = \"/srv\" } }\n  \
                    depends_on = [anklume_nft_isolation.host]\n  profiles = [\"default\", anklume_profile.p.name]";
    let changed = pick("", "\n  config = { \"environment.A\" = \"b\" }\n  nesting = true\n  boot_autostart = true");
    resource("instance", "one", &instance("one", &format!("{attached}{changed}")));
    resource(
        "instance",
        "two",
        &instance(
            pick("two", "zwei"),
            kept.unwrap_or(pick(
                "  running = false",
                "  running = true\n  ipv4_address = \"10.120.7.9\"\n  root_disk = { pool = \"second\" }",
            )),
        ),
    );
    let policy = pick(
        "web = { from = \"chaos\", to = \"far\", protocol = \"tcp\", ports = [\"80\"] }",
        "ping = { from = \"chaos\", to = \"far\", protocol = \"icmp\" }",
    );
    resource(
        "nft_isolation",
        "host",
        &format!("  domains = {{ {DOMAIN} = null, far = null }}\n  policies = {{ {policy} }}"),
    );
    text
}
