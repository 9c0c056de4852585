//! What is open when the policies change.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anklume::nft::{EndpointInput, Given, Input, PolicyInput};

use super::Case;
use super::net::{Router, apply, checksum, compile, drift, icmp, inside, policy, raw, raw_of, said, shell};

pub const CASES: &[Case] = &[
    ("a connection whose policy is withdrawn gets not one more byte through", withdrawn),
    ("nor does it under an opposite policy that stands, nor when conntrack has forgotten it", opposite),
    ("nor where the other side opens one with the same ports, which that policy allows", lured),
    ("nor by a forged ICMP error, while errors of what stands pass", forged),
    ("nor by one beside any other policy of the same protocol between the two", forged_beside),
    ("nobody answers in the place of another domain", third),
    ("what was open before the first apply and is allowed goes on where conntrack knew it", before),
    ("while packets run between two forbidden domains a hundred applies let not one through", flood),
    ("nor do fifty repairs of what others changed", repairs),
];

const NAMES: [&str; 3] = ["a", "b", "c"];
/// Longer than what has arrived waits to be read, on a machine that is busy.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// A TCP connection on which both ends write all the time.
struct Talk {
    /// Bytes that each end has read.
    read: [Arc<AtomicU64>; 2],
    /// Whether both ends go on writing.
    talks: Arc<AtomicBool>,
    ports: (u16, u16),
}

impl Talk {
    fn open(from: &str, to: &str, address: IpAddr, port: u16) -> Self {
        let listener = inside(to, move || TcpListener::bind(SocketAddr::new(address, port)).unwrap()).join().unwrap();
        let accepted = std::thread::spawn(move || listener.accept().unwrap().0);
        let target = SocketAddr::new(address, port);
        let client =
            inside(from, move || TcpStream::connect_timeout(&target, Duration::from_secs(5)).unwrap()).join().unwrap();
        let local = client.local_addr().unwrap().port();
        let server = accepted.join().unwrap();
        let talks = Arc::new(AtomicBool::new(true));
        let read = [client, server].map(|stream| {
            let (count, talks) = (Arc::new(AtomicU64::new(0)), Arc::clone(&talks));
            let (counter, mut writer, mut reader) = (Arc::clone(&count), stream.try_clone().unwrap(), stream);
            std::thread::spawn(move || {
                while let Ok(length @ 1..) = reader.read(&mut [0; 4096]) {
                    counter.fetch_add(length as u64, Ordering::SeqCst);
                }
            });
            std::thread::spawn(move || {
                writer.set_nodelay(true).unwrap();
                loop {
                    if talks.load(Ordering::SeqCst) && writer.write_all(b"x").is_err() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            count
        });
        Self { read, talks, ports: (local, port) }
    }

    fn counts(&self) -> [u64; 2] {
        [0, 1].map(|end| self.read[end].load(Ordering::SeqCst))
    }

    #[track_caller]
    fn flows(&self) {
        let before = self.counts();
        std::thread::sleep(Duration::from_millis(300));
        let after = self.counts();
        assert!(after[0] > before[0] && after[1] > before[1], "{before:?} {after:?}");
    }

    /// Not one byte more for `length`, in either direction.
    #[track_caller]
    fn is_dead(&self, length: Duration) {
        std::thread::sleep(UNDER_WAY);
        let before = self.counts();
        std::thread::sleep(length);
        assert_eq!(self.counts(), before);
    }
}

fn withdrawn() {
    let router = Router::up("", &NAMES);
    for address in [router.v4("b1"), router.v6("b1")] {
        let all = [("x", policy("a", "b", Some("tcp"), &["500"])), ("y", policy("a", "b", Some("tcp"), &["501"]))];
        apply(&router.ruleset(&NAMES, &all));
        let (lost, kept) = (Talk::open("a1", "b1", address, 500), Talk::open("a1", "b1", address, 501));
        lost.flows();
        kept.flows();
        shell(
            "nft 'add table inet witness; flush table inet witness\n\
             add chain inet witness after { type filter hook forward priority 10; }\n\
             add rule inet witness after tcp dport 500 counter\nadd rule inet witness after tcp sport 500 counter'",
        );
        let passed = || said("nft", &["list", "table", "inet", "witness"]);
        apply(&router.ruleset(&NAMES, &all[1..]));
        // Nothing that comes after the transaction gets behind our chain.
        let before = passed();
        assert!(!before.contains("packets 0 "), "{before}");
        lost.is_dead(Duration::from_secs(2));
        assert_eq!(passed(), before);
        kept.flows();
    }
}

/// Whether conntrack forgets a TCP connection within a second, long before TCP gives up: the next packet to come may be one
/// of the other side.
fn conntrack_forgets(soon: bool) {
    for (name, value) in [("established", "432000"), ("unacknowledged", "300"), ("max_retrans", "300")] {
        let path = format!("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_{name}");
        std::fs::write(path, if soon { "1" } else { value }).unwrap();
    }
}

fn opposite() {
    let router = Router::up("", &NAMES);
    let all = [("x", policy("a", "b", Some("tcp"), &["500"])), ("opposite", policy("b", "a", None, &[]))];
    let open = || {
        apply(&router.ruleset(&NAMES, &all));
        let talk = Talk::open("a1", "b1", router.v4("b1"), 500);
        talk.flows();
        talk
    };
    let talk = open();
    apply(&router.ruleset(&NAMES, &all[1..]));
    talk.is_dead(Duration::from_secs(2));
    talk.talks.store(false, Ordering::SeqCst);

    // Without the rule that wants a SYN first, that brings the connection back.
    for with_the_rule in [false, true] {
        let talk = open();
        apply(&router.ruleset(&NAMES, &all[1..]));
        if !with_the_rule {
            shell(
                "line=$(nft -a list chain inet anklume listed | grep 'ct state.*tcp flags')\n\
                 nft delete rule inet anklume listed handle ${line##* }",
            );
        }
        conntrack_forgets(true);
        std::thread::sleep(UNDER_WAY);
        let before = talk.counts();
        std::thread::sleep(Duration::from_secs(6));
        let after = talk.counts();
        let moved = after != before;
        println!("with the rule: {with_the_rule}; bytes {before:?}, 6 s later {after:?}");
        assert_eq!(moved, !with_the_rule);
        conntrack_forgets(false);
        talk.talks.store(false, Ordering::SeqCst);
    }
}

/// A TCP segment without data.
fn segment(from: SocketAddr, to: SocketAddr, flags: u8) -> Vec<u8> {
    let mut segment = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let (IpAddr::V4(source), IpAddr::V4(target)) = (from.ip(), to.ip()) else { panic!("IPv4 only") };
    let length = u16::try_from(segment.len()).unwrap().to_be_bytes();
    let pseudo = [&source.octets()[..], &target.octets(), &[0, 6], &length, &segment].concat();
    segment[16..18].copy_from_slice(&checksum(&pseudo));
    segment
}

/// Who may open connections opens one with the ports of another that was withdrawn: what is sent again in that is no answer.
fn lured() {
    const SYN: u8 = 2;
    let router = Router::up("", &NAMES);
    let all = [("x", policy("a", "b", Some("tcp"), &["500"])), ("opposite", policy("b", "a", None, &[]))];
    let (a, b) = (router.v4("a1"), router.v4("b1"));
    for with_the_rule in [false, true] {
        apply(&router.ruleset(&NAMES, &all));
        let talk = Talk::open("a1", "b1", b, 500);
        talk.flows();
        apply(&router.ruleset(&NAMES, &all[1..]));
        if !with_the_rule {
            shell(
                "line=$(nft -a list chain inet anklume listed | grep 'ct direction reply tcp')\n\
                 nft delete rule inet anklume listed handle ${line##* }",
            );
        }
        shell(
            "nft 'add table inet witness; flush table inet witness\n\
             add chain inet witness after { type filter hook forward priority 10; }\n\
             add rule inet witness after iifname net-a oifname net-b tcp dport 500 tcp flags & (syn | rst) == 0 counter'",
        );
        conntrack_forgets(true);
        let (from, to) = (SocketAddr::new(b, 500), SocketAddr::new(a, talk.ports.0));
        let socket = inside("b1", move || raw_of(6, b)).join().unwrap();
        for _ in 0..16 {
            std::thread::sleep(Duration::from_millis(500));
            socket.send_to(&segment(from, to, SYN), SocketAddr::new(to.ip(), 0)).unwrap();
        }
        let witness = said("nft", &["list", "table", "inet", "witness"]);
        println!(
            "with the rule: {with_the_rule}; {}",
            witness.lines().find(|line| line.contains("packets")).unwrap().trim()
        );
        assert_eq!(witness.contains("packets 0 "), with_the_rule, "{witness}");
        conntrack_forgets(false);
        talk.talks.store(false, Ordering::SeqCst);
    }
    // Whom the policy lets open a connection has one that answers, though.
    let talk = Talk::open("b1", "a1", a, 443 + 57);
    talk.flows();
    talk.talks.store(false, Ordering::SeqCst);
}

fn forged() {
    let router = Router::up("", &NAMES);
    let (a, b) = (router.v4("a1"), router.v4("b1"));
    let all = [
        ("x", policy("a", "b", Some("tcp"), &["500"])),
        ("opposite", policy("b", "a", None, &[])),
        ("other", policy("a", "c", None, &[])),
    ];
    apply(&router.ruleset(&NAMES, &all));
    let talk = Talk::open("a1", "b1", b, 500);
    talk.flows();
    // Unreachable, time exceeded, parameter problem; a redirect and a source quench are never let through.
    let every = [(0, 3), (0, 11), (0, 12)];
    let heard = || heard([("a1", a), ("b1", b)], &[talk.ports]);
    assert_eq!(heard(), every);
    apply(&router.ruleset(&NAMES, &all[1..]));
    assert_eq!(heard(), []);
    talk.is_dead(Duration::from_millis(500));
    apply(&router.ruleset(&NAMES, &all[..1]));
    assert_eq!(heard(), every);
    apply(&router.ruleset(&NAMES, &[]));
    assert_eq!(heard(), []);
}

fn forged_beside() {
    let router = Router::up("", &NAMES);
    for (a, b, kinds) in
        [(router.v4("a1"), router.v4("b1"), &[3, 11, 12][..]), (router.v6("a1"), router.v6("b1"), &[1, 2, 3, 4][..])]
    {
        let endpoint = |domain: &str, address: IpAddr| EndpointInput {
            domain: domain.to_owned().into(),
            address: address.to_string().into(),
        };
        let rules = |policies: &[(u16, PolicyInput)]| {
            compile(&Input {
                prefix: String::new(),
                domains: Given::Known(NAMES.iter().map(|name| (name.to_string(), Given::Known(None))).collect()),
                endpoints: Given::Known(
                    [("A".to_owned(), endpoint("a", a)), ("B".to_owned(), endpoint("b", b))].into(),
                ),
                policies: Given::Known(policies.iter().map(|(name, one)| (name.to_string(), one.clone())).collect()),
            })
        };
        let pairs = [("a", "b"), ("A", "b"), ("a", "B"), ("A", "B")];
        let from_port = |first: u16| -> Vec<(u16, PolicyInput)> {
            let ports = first..;
            pairs
                .iter()
                .zip(ports)
                .map(|((from, to), port)| (port, policy(from, to, Some("tcp"), &[&port.to_string()])))
                .collect()
        };
        let (withdrawn, standing) = (from_port(500), from_port(510));
        apply(&rules(&[&withdrawn[..], &standing].concat()));
        let talks: Vec<Talk> = withdrawn.iter().map(|(port, _)| Talk::open("a1", "b1", b, *port)).collect();
        let onward: Vec<(u16, u16)> = talks.iter().map(|talk| talk.ports).collect();
        let back: Vec<(u16, u16)> = onward.iter().map(|(from, to)| (*to, *from)).collect();
        let heard = || {
            let (a, b) = (("a1", a), ("b1", b));
            [heard([a, b], &onward), heard([b, a], &back)]
        };
        let every: Vec<(usize, u8)> = (0..4).flat_map(|talk| kinds.iter().map(move |kind| (talk, *kind))).collect();
        let (every, none) = ([every.clone(), every], [Vec::new(), Vec::new()]);
        assert_eq!(heard(), every, "of what stands");
        apply(&rules(&standing));
        assert_eq!(heard(), none, "beside other policies of the same protocol");
        for (from, to) in pairs {
            apply(&rules(&[(1, policy(from, to, None, &[]))]));
            assert_eq!(heard(), every, "of any protocol from {from} to {to}");
        }
    }
}

/// Which ICMP errors, about which connections from `a`, arrive there when `b` forges them.
fn heard([(to, a), (from, b)]: [(&str, IpAddr); 2], connections: &[(u16, u16)]) -> Vec<(usize, u8)> {
    const SECRET: &[u8] = b"\0\0\0\0 secret";
    let (header, kinds, begin) = match (a, b) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let mut header = vec![0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6, 0, 0];
            header.extend([source.octets(), target.octets()].concat());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum);
            (header, &[3, 4, 5, 11, 12], 20)
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 40, 6, 64];
            header.extend([source.octets(), target.octets()].concat());
            (header, &[1, 2, 3, 4, 137], 0)
        }
        _ => unreachable!("of one family"),
    };
    let listener = inside(to, move || raw(a)).join().unwrap();
    let quotes: Vec<Vec<u8>> = connections
        .iter()
        .map(|(from, to)| [&header[..], &from.to_be_bytes(), &to.to_be_bytes(), SECRET].concat())
        .collect();
    let sent = quotes.clone();
    inside(from, move || {
        for quoted in sent {
            for kind in kinds {
                raw(a).send_to(&icmp(*kind, 1, [0; 4], &quoted), SocketAddr::new(a, 0)).unwrap();
            }
        }
    })
    .join()
    .unwrap();
    listener.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut found = Vec::new();
    let mut buffer = [0; 2048];
    while let Ok(length) = listener.recv(&mut buffer) {
        if let Some(about) = quotes.iter().position(|quoted| buffer[..length].ends_with(quoted)) {
            found.push((about, buffer[begin]));
        }
    }
    found.sort_unstable();
    found
}

fn third() {
    let router = Router::up("", &NAMES);
    apply(&router.ruleset(
        &NAMES,
        &[("x", policy("a", "b", Some("udp"), &["53"])), ("y", policy("a", "c", Some("udp"), &["53"]))],
    ));
    shell(
        "for it in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$it; done\n\
         ip -n c1 addr add 10.9.1.1/32 dev lo\nip -n c1 addr add fd00:1::1/128 dev lo nodad",
    );
    for (a, b) in [(router.v4("a1"), router.v4("b1")), (router.v6("a1"), router.v6("b1"))] {
        let bound =
            |guest: &str, address: SocketAddr| inside(guest, move || UdpSocket::bind(address).unwrap()).join().unwrap();
        let target = SocketAddr::new(b, 53);
        let (asks, answers, forges) = (bound("a1", SocketAddr::new(a, 0)), bound("b1", target), bound("c1", target));
        asks.connect(target).unwrap();
        asks.send(b"?").unwrap();
        answers.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let (_, from) = answers.recv_from(&mut [0; 16]).unwrap();
        forges.send_to(b"forged", from).unwrap();
        std::thread::sleep(UNDER_WAY);
        answers.send_to(b"true", from).unwrap();
        asks.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 16];
        let length = asks.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"true");
    }
}

fn before() {
    let router = Router::up("", &NAMES);
    // As Incus does for a bridge with NAT: that starts conntrack.
    shell(
        "nft add table ip hide && nft add chain ip hide post '{ type nat hook postrouting priority 100; }' && nft add rule ip hide post oifname up0 masquerade",
    );
    let address = router.v4("b1");
    let (kept, shut) = (Talk::open("a1", "b1", address, 500), Talk::open("a1", "b1", address, 501));
    kept.flows();
    shut.flows();
    apply(&router.ruleset(&NAMES, &[("x", policy("a", "b", Some("tcp"), &["500"]))]));
    shut.is_dead(Duration::from_secs(1));
    kept.flows();
}

/// Packets between two forbidden domains, as many as two guests can send.
struct Flood {
    receiver: UdpSocket,
    running: Arc<AtomicBool>,
    senders: Vec<JoinHandle<u64>>,
}

impl Flood {
    fn begin(target: IpAddr) -> Self {
        let receiver = inside("b1", move || UdpSocket::bind(SocketAddr::new(target, 700)).unwrap()).join().unwrap();
        let running = Arc::new(AtomicBool::new(true));
        let sender = |guest: &str| {
            let running = Arc::clone(&running);
            inside(guest, move || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                let mut sent = 0_u64;
                while running.load(Ordering::Relaxed) {
                    sent += u64::from(socket.send_to(b"x", SocketAddr::new(target, 700)).is_ok());
                    // Two that never rest would leave nft no core.
                    if sent.is_multiple_of(32) {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                }
                sent
            })
        };
        let senders = ["a1", "a2"].map(sender).into();
        Self { receiver, running, senders }
    }

    /// How many were sent, and how many came through.
    fn end(self) -> (u64, u64) {
        self.running.store(false, Ordering::Relaxed);
        let sent = self.senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        self.receiver.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let passed = std::iter::from_fn(|| self.receiver.recv(&mut [0; 16]).ok()).count() as u64;
        println!("{sent} packets were sent, {passed} passed");
        (sent, passed)
    }
}

fn flood() {
    let router = Router::up("", &NAMES);
    let rulesets: Vec<_> = (0..4_u16)
        .map(|round| {
            let port = (1000 + round).to_string();
            let mut policies = vec![("x", policy("c", "b", Some("tcp"), &[&port])), ("y", policy("b", "c", None, &[]))];
            policies.truncate(1 + usize::from(round % 2));
            router.ruleset(if round == 3 { &NAMES } else { &["a", "b", "c", "later"] }, &policies)
        })
        .collect();
    apply(&rulesets[0]);
    let flood = Flood::begin(router.v4("b1"));
    for round in 1..=100 {
        apply(&rulesets[round % rulesets.len()]);
    }
    let (sent, passed) = flood.end();
    assert!(sent > 100_000 && passed == 0, "{passed} of {sent}");
}

fn repairs() {
    let router = Router::up("", &NAMES);
    let rules = router.ruleset(&NAMES, &[("x", policy("c", "b", Some("tcp"), &["80"]))]);
    apply(&rules);
    let damages = [
        "add chain inet anklume mine { type filter hook forward priority -1; }",
        "add chain inet anklume forward { policy drop; }",
        "add map inet anklume mine { type ifname : verdict; elements = { \"x\" : goto listed }; }",
        "add element inet anklume open { \"net-x\" . \"net-y\" . 6 . 22 comment \"x\" }",
        "add rule inet anklume forward counter",
    ];
    let flood = Flood::begin(router.v4("b1"));
    for round in 0..50 {
        said("nft", &[damages[round % damages.len()]]);
        apply(&rules);
    }
    let (sent, passed) = flood.end();
    assert!(sent > 50_000 && passed == 0, "{passed} of {sent}");

    // A base chain that others moved is made anew: a packet that is between the two right then may pass.
    let moved = rules.script().replace("priority -1", "priority 7");
    std::fs::write("/run/moved.nft", moved).unwrap();
    let flood = Flood::begin(router.v4("b1"));
    for _ in 0..10 {
        shell("nft -f /run/moved.nft");
        apply(&rules);
    }
    flood.end();
    assert_eq!(drift(&rules), [""; 0]);
}
