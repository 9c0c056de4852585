//! What is open when the policies change.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::Case;
use super::net::{Router, apply, checksum, icmp, inside, policy, raw, shell};

pub const CASES: &[Case] = &[
    ("a connection whose policy is withdrawn gets not one more byte through", withdrawn),
    ("nor does it under an opposite policy that stands, nor when conntrack has forgotten it", opposite),
    ("nor by a forged ICMP error, while errors of what stands pass", forged),
    ("what stays allowed loses nothing while others change", kept),
    ("while packets run between two forbidden domains a hundred applies let not one through", flood),
];

const NAMES: [&str; 3] = ["a", "b", "c"];
/// Longer than a packet is under way on this machine.
const UNDER_WAY: Duration = Duration::from_millis(100);

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
        apply(&router.ruleset(&NAMES, &all[1..]));
        lost.is_dead(Duration::from_secs(2));
        kept.flows();
    }
}

fn opposite() {
    let router = Router::up("", &NAMES);
    let all = [("x", policy("a", "b", Some("tcp"), &["500"])), ("opposite", policy("b", "a", None, &[]))];
    apply(&router.ruleset(&NAMES, &all));
    let talk = Talk::open("a1", "b1", router.v4("b1"), 500);
    talk.flows();
    apply(&router.ruleset(&NAMES, &all[1..]));
    talk.is_dead(Duration::from_secs(2));
    // Conntrack forgets within a second, long before TCP gives up: the next packet to come is one of b to a.
    shell(
        "cd /proc/sys/net/netfilter; for it in established unacknowledged max_retrans; do echo 1 >nf_conntrack_tcp_timeout_$it; done",
    );
    talk.is_dead(Duration::from_secs(8));
    shell(
        "cd /proc/sys/net/netfilter; echo 432000 >nf_conntrack_tcp_timeout_established; echo 300 >nf_conntrack_tcp_timeout_max_retrans; echo 300 >nf_conntrack_tcp_timeout_unacknowledged",
    );
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
    assert_eq!(heard(a, b, talk.ports), [3, 11, 12]);
    apply(&router.ruleset(&NAMES, &all[1..]));
    assert_eq!(heard(a, b, talk.ports), [0; 0]);
    talk.is_dead(Duration::from_millis(500));
    apply(&router.ruleset(&NAMES, &all[..1]));
    assert_eq!(heard(a, b, talk.ports), [3, 11, 12]);
    apply(&router.ruleset(&NAMES, &[]));
    assert_eq!(heard(a, b, talk.ports), [0; 0]);
}

/// The kinds of ICMP errors about the connection from `a` that arrive there when `b` forges them.
fn heard(a: IpAddr, b: IpAddr, ports: (u16, u16)) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(target)) = (a, b) else { unreachable!("of IPv4") };
    let mut quoted = vec![0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6, 0, 0];
    quoted.extend(source.octets());
    quoted.extend(target.octets());
    let sum = checksum(&quoted);
    quoted[10..12].copy_from_slice(&sum);
    quoted.extend(ports.0.to_be_bytes());
    quoted.extend(ports.1.to_be_bytes());
    quoted.extend(b"\0\0\0\0 secret");
    let listener = inside("a1", move || raw(a)).join().unwrap();
    inside("b1", move || {
        for kind in [3, 4, 5, 11, 12] {
            raw(a).send_to(&icmp(kind, 1, [0; 4], &quoted), SocketAddr::new(a, 0)).unwrap();
        }
    })
    .join()
    .unwrap();
    listener.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut kinds = Vec::new();
    let mut buffer = [0; 2048];
    while let Ok(length) = listener.recv(&mut buffer) {
        if buffer[..length].ends_with(b" secret") {
            kinds.push(buffer[20]);
        }
    }
    kinds
}

fn kept() {
    let router = Router::up("", &NAMES);
    let (source, target) = (router.v4("a1"), router.v4("b1"));
    let rulesets = |round: u16| {
        let port = (1000 + round).to_string();
        let kept = policy("a", "b", Some("udp"), &["600"]);
        router.ruleset(&NAMES, &[("kept", kept), ("x", policy("c", "b", Some("tcp"), &[&port]))])
    };
    apply(&rulesets(0));
    let receiver = inside("b1", move || UdpSocket::bind(SocketAddr::new(target, 600)).unwrap()).join().unwrap();
    let sender = inside("a1", move || UdpSocket::bind(SocketAddr::new(source, 0)).unwrap()).join().unwrap();
    let running = Arc::new(AtomicBool::new(true));
    let goes_on = Arc::clone(&running);
    let sending = std::thread::spawn(move || {
        let mut sent = 0_u64;
        while goes_on.load(Ordering::SeqCst) {
            sender.send_to(b"x", SocketAddr::new(target, 600)).unwrap();
            sent += 1;
            std::thread::sleep(Duration::from_micros(200));
        }
        sent
    });
    receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let receiving = std::thread::spawn(move || {
        let mut received = 0_u64;
        while receiver.recv(&mut [0; 16]).is_ok() {
            received += 1;
        }
        received
    });
    for round in 1..=30 {
        apply(&rulesets(round));
    }
    running.store(false, Ordering::SeqCst);
    let (sent, received) = (sending.join().unwrap(), receiving.join().unwrap());
    assert!(sent > 1000, "{sent}");
    assert_eq!(sent, received);
}

fn flood() {
    let router = Router::up("", &NAMES);
    let target = router.v4("b1");
    let rulesets: Vec<_> = (0..4_u16)
        .map(|round| {
            let port = (1000 + round).to_string();
            let mut policies = vec![("x", policy("c", "b", Some("tcp"), &[&port])), ("y", policy("b", "c", None, &[]))];
            policies.truncate(1 + usize::from(round % 2));
            router.ruleset(if round == 3 { &NAMES } else { &["a", "b", "c", "later"] }, &policies)
        })
        .collect();
    apply(&rulesets[0]);
    let receiver = inside("b1", move || UdpSocket::bind(SocketAddr::new(target, 700)).unwrap()).join().unwrap();
    let running = Arc::new(AtomicBool::new(true));
    let senders: Vec<_> = ["a1", "a2"]
        .into_iter()
        .map(|guest| {
            let running = Arc::clone(&running);
            inside(guest, move || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                let mut sent = 0_u64;
                while running.load(Ordering::Relaxed) {
                    sent += u64::from(socket.send_to(b"x", SocketAddr::new(target, 700)).is_ok());
                }
                sent
            })
        })
        .collect();
    for round in 1..=100 {
        apply(&rulesets[round % rulesets.len()]);
    }
    running.store(false, Ordering::Relaxed);
    let sent: u64 = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
    receiver.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(receiver.recv(&mut [0; 16]).is_err(), "a packet passed");
    println!("{sent} packets were sent, none passed");
    assert!(sent > 100_000, "{sent}");
}
