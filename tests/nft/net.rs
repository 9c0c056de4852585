//! A router, its bridges and their guests; and packets between them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anklume::nft::{
    Applied, Fingerprint, Given, Host, Input, Isolation, Limit, PolicyInput, Ruleset, Standing, Sudo, Via,
};
use rustix::net::{AddressFamily, SocketType, ipproto};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Whose the tables of the tests are: as long as a real one.
pub const OWNER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// Ports on which every guest echoes, TCP and UDP.
pub const PORTS: [u16; 2] = [443, 444];
/// How long what has to pass may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what must not pass is waited for.
const BRIEF: Duration = Duration::from_millis(200);

/// What a command printed; it has to succeed.
#[track_caller]
pub fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
pub fn shell(script: &str) {
    said("sh", &["-ec", script]);
}

pub fn no_table() {
    shell("nft flush ruleset; rm -rf /run/anklume*");
}

/// Whether packets within a bridge meet the rules of the host; `None` where the kernel has no `br_netfilter`, or has not
/// loaded it: it changes every bridge of a machine, so it is loaded under `CI=true` only.
pub fn bridge_nf(value: &str) -> Option<()> {
    for name in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
        let path = Path::new("/proc/sys/net/bridge").join(name);
        if !path.exists() {
            println!("WITHOUT: bridge-nf, as this kernel has no br_netfilter");
            return None;
        }
        std::fs::write(path, value).unwrap();
    }
    Some(())
}

/// Runs in the network namespace of a guest.
pub fn inside<T: Send + 'static>(guest: &str, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let namespace = File::open(format!("/run/netns/{guest}")).unwrap();
    std::thread::spawn(move || {
        use std::os::fd::AsFd as _;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    })
}

/// A router with a bridge per domain and two guests on each: `<domain>1` and `<domain>2`.
pub struct Router {
    prefix: String,
    names: Vec<String>,
}

impl Router {
    pub fn up(prefix: &str, names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut script = String::from(
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0\n",
        );
        for (index, name) in names.iter().enumerate() {
            let bridge = format!("{prefix}net-{name}");
            script += &format!(
                "ip link add {bridge} type bridge\nip addr add 10.9.{index}.254/24 dev {bridge}\n\
                 ip addr add fd00:{index}::254/64 dev {bridge} nodad\nip link set {bridge} up\n"
            );
            for guest in 1..=2 {
                script += &guest_script(&format!("{name}{guest}"), &bridge, index, guest);
            }
        }
        shell(&script);
        for name in &names {
            for guest in 1..=2 {
                echo(&format!("{name}{guest}"));
            }
        }
        Self { prefix: prefix.to_owned(), names }
    }

    /// A machine outside, on an interface that is no bridge: `out`, 192.0.2.1.
    pub fn with_outside(self) -> Self {
        shell(
            "ip netns add out\nip link add up0 type veth peer name eth0 netns out\nip addr add 192.0.2.254/24 dev up0\n\
             ip link set up0 up\nip -n out link set lo up\nip -n out addr add 192.0.2.1/24 dev eth0\nip -n out link set eth0 up\n\
             ip -n out route add default via 192.0.2.254",
        );
        echo("out");
        self
    }

    fn index(&self, guest: &str) -> (usize, u16) {
        let (name, number) = guest.split_at(guest.len() - 1);
        (self.names.iter().position(|known| known == name).unwrap(), number.parse().unwrap())
    }

    pub fn v4(&self, guest: &str) -> IpAddr {
        let (index, number) = self.index(guest);
        IpAddr::V4(Ipv4Addr::new(10, 9, u8::try_from(index).unwrap(), u8::try_from(number).unwrap()))
    }

    pub fn v6(&self, guest: &str) -> IpAddr {
        let (index, number) = self.index(guest);
        IpAddr::V6(Ipv6Addr::new(0xfd00, u16::try_from(index).unwrap(), 0, 0, 0, 0, 0, number))
    }

    /// The rules of `domains` and `policies` on this router.
    pub fn ruleset(&self, domains: &[&str], policies: &[(&str, PolicyInput)]) -> Ruleset {
        ruleset(&self.prefix, domains, policies)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let script = "for guest in $(ip netns list | cut -d' ' -f1); do ip netns del $guest; done\n\
             for link in $(ls /sys/class/net); do case $link in lo) ;; *) ip link del $link 2>/dev/null || true;; esac; done";
        let _ = Command::new("sh").args(["-c", script]).status();
    }
}

fn guest_script(guest: &str, bridge: &str, index: usize, number: usize) -> String {
    let link = format!("v{index}-{number}");
    format!(
        "ip netns add {guest}\nip netns exec {guest} sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0\n\
         ip link add {link} type veth peer name eth0 netns {guest}\nip link set {link} master {bridge} up\n\
         ip -n {guest} link set lo up\nip -n {guest} link set eth0 up\n\
         ip -n {guest} addr add 10.9.{index}.{number}/24 brd + dev eth0\nip -n {guest} addr add fd00:{index}::{number}/64 dev eth0 nodad\n\
         ip -n {guest} route add default via 10.9.{index}.254\nip -n {guest} -6 route add default via fd00:{index}::254\n"
    )
}

/// Echoes on every port of [`PORTS`] until the end of the process.
pub fn echo(guest: &str) {
    for port in PORTS {
        inside(guest, move || {
            let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            let udp = UdpSocket::bind(any).unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 2048];
                while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                    let _ = udp.send_to(&buffer[..length], from);
                }
            });
            let tcp = TcpListener::bind(any).unwrap();
            std::thread::spawn(move || {
                for mut stream in tcp.incoming().flatten() {
                    std::thread::spawn(move || {
                        let mut buffer = [0; 2048];
                        while let Ok(length @ 1..) = stream.read(&mut buffer) {
                            if stream.write_all(&buffer[..length]).is_err() {
                                break;
                            }
                        }
                    });
                }
            });
        })
        .join()
        .unwrap();
    }
}

/// A kind of packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Tcp(u16),
    Udp(u16),
    Ping,
}

/// Whether a guest gets an answer.
#[derive(Debug, Clone)]
pub struct Probe {
    pub from: String,
    pub to: IpAddr,
    pub kind: Kind,
    /// What is expected; decides how long is waited.
    pub passes: bool,
}

/// Runs all at once and fails with all that is not as expected.
#[track_caller]
pub fn check(probes: &[Probe]) {
    let running: Vec<_> = probes.iter().map(|probe| (probe, inside(&probe.from, answered(probe)))).collect();
    let wrong: Vec<String> = running
        .into_iter()
        .filter_map(|(probe, thread)| (thread.join().unwrap() != probe.passes).then(|| format!("{probe:?}")))
        .collect();
    assert!(wrong.is_empty(), "not as expected ({} of {}):\n{}", wrong.len(), probes.len(), wrong.join("\n"));
}

fn answered(probe: &Probe) -> impl FnOnce() -> bool + Send + 'static {
    let (to, kind, wait) = (probe.to, probe.kind, if probe.passes { PATIENCE } else { BRIEF });
    move || match kind {
        Kind::Tcp(port) => tcp(SocketAddr::new(to, port), wait),
        Kind::Udp(port) => udp(SocketAddr::new(to, port), wait),
        Kind::Ping => ping(to, wait),
    }
}

fn tcp(to: SocketAddr, wait: Duration) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&to, wait) else { return false };
    stream.set_read_timeout(Some(wait)).unwrap();
    stream.write_all(b"x").is_ok() && stream.read(&mut [0; 1]).is_ok_and(|length| length == 1)
}

fn udp(to: SocketAddr, wait: Duration) -> bool {
    let socket = UdpSocket::bind(SocketAddr::new(any(to.ip()), 0)).unwrap();
    socket.set_read_timeout(Some(wait)).unwrap();
    let _ = socket.send_to(b"x", to);
    socket.recv(&mut [0; 16]).is_ok()
}

pub fn any(of: IpAddr) -> IpAddr {
    if of.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// A raw socket of ICMP or ICMPv6.
pub fn raw(of: IpAddr) -> UdpSocket {
    let socket = if of.is_ipv4() {
        rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP))
    } else {
        rustix::net::socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6))
    };
    UdpSocket::from(socket.unwrap())
}

/// A raw socket of a protocol by its number.
pub fn raw_of(protocol: u32, of: IpAddr) -> UdpSocket {
    let family = if of.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let protocol = rustix::net::Protocol::from_raw(protocol.try_into().unwrap());
    UdpSocket::from(rustix::net::socket(family, SocketType::RAW, Some(protocol)).unwrap())
}

fn ping(to: IpAddr, wait: Duration) -> bool {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let socket = raw(to);
    let (request, reply, header) = if to.is_ipv4() { (8, 0, 20) } else { (128, 129, 0) };
    let _ = socket.send_to(&icmp(request, 0, [id[0], id[1], 0, 1], b"ping"), SocketAddr::new(to, 0));
    let end = Instant::now() + wait;
    let mut buffer = [0; 2048];
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left)).unwrap();
        if let Ok((length, _)) = socket.recv_from(&mut buffer) {
            let message = &buffer[header..length];
            if message.len() >= 8 && message[0] == reply && message[4..6] == id {
                return true;
            }
        }
    }
    false
}

/// An ICMP message with its checksum; of ICMPv6 the kernel writes it.
pub fn icmp(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    message.extend(body);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    message
}

/// The checksum of RFC 1071.
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

pub fn policy(from: &str, to: &str, protocol: Option<&str>, ports: &[&str]) -> PolicyInput {
    let ports: Vec<_> = ports.iter().map(|port| Given::Known((*port).to_owned())).collect();
    PolicyInput {
        from: from.to_owned().into(),
        to: to.to_owned().into(),
        ports: Given::Known((!ports.is_empty()).then_some(ports)),
        protocol: Given::Known(protocol.map(str::to_owned)),
        bidirectional: Given::Known(false),
    }
}

pub fn ruleset(prefix: &str, domains: &[&str], policies: &[(&str, PolicyInput)]) -> Ruleset {
    compile(&Input {
        prefix: prefix.to_owned(),
        domains: Given::Known(domains.iter().map(|name| (name.to_string(), Given::Known(None))).collect()),
        endpoints: Given::Known(BTreeMap::new()),
        policies: Given::Known(policies.iter().map(|(name, policy)| (name.to_string(), policy.clone())).collect()),
    })
}

#[track_caller]
pub fn compile(input: &Input) -> Ruleset {
    let parsed = Isolation::parse(input);
    assert_eq!(parsed.problems, []);
    parsed.isolation.unwrap().compile(owner()).unwrap()
}

pub fn owner() -> Fingerprint {
    OWNER.parse().unwrap()
}

pub fn host() -> Host {
    Host::new(Via::Local, Sudo::Without)
}

pub fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

pub fn limit() -> Limit {
    Limit { deadline: Some(tokio::time::Instant::now() + Duration::from_secs(30)), ..Limit::default() }
}

#[track_caller]
pub fn apply(ruleset: &Ruleset) -> Applied {
    wait(async { host().apply(ruleset, None, &limit()).await }).unwrap()
}

/// The lines of the drift of our own table.
#[track_caller]
pub fn drift(ruleset: &Ruleset) -> Vec<String> {
    match wait(async { host().read(ruleset, None, &limit()).await }).unwrap() {
        Standing::Ours(drift) => drift.lines().to_vec(),
        other => panic!("{other:?}"),
    }
}
