//! What stays allowed while policies change.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Case;
use super::net::{Router, apply, inside, policy};

pub const CASES: &[Case] = &[
    ("what stays allowed loses no packet while others change", kept),
    ("a stream that stays allowed arrives whole and in order, both ways", stream),
];

const NAMES: [&str; 3] = ["a", "b", "c"];

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

/// Writes the numbers from 0 on, and then ends its half of the connection; how many there were.
fn counts(mut to: TcpStream, running: Arc<AtomicBool>) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut next = 0_u64;
        while running.load(Ordering::SeqCst) {
            let some: Vec<u8> = (next..next + 64).flat_map(u64::to_le_bytes).collect();
            to.write_all(&some).unwrap();
            next += 64;
            std::thread::sleep(Duration::from_micros(500));
        }
        to.shutdown(Shutdown::Write).unwrap();
        next
    })
}

/// Reads to the end; how many numbers came, each the one after the one before.
fn is_counted(from: TcpStream) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        from.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut from = BufReader::new(from);
        let mut next = 0_u64;
        while !from.fill_buf().unwrap().is_empty() {
            let mut number = [0; 8];
            from.read_exact(&mut number).unwrap();
            assert_eq!(u64::from_le_bytes(number), next);
            next += 1;
        }
        next
    })
}

fn stream() {
    let router = Router::up("", &NAMES);
    for target in [router.v4("b1"), router.v6("b1")] {
        let rulesets = |round: u16| {
            let (port, kept) = ((1000 + round).to_string(), policy("a", "b", Some("tcp"), &["600"]));
            // Its port is one element with the one beside it, and alone again, by turns.
            let beside = if round.is_multiple_of(2) { "599" } else { "601-700" };
            let others = ["x", "y"].into_iter().zip([port.as_str(), beside]);
            let others = others.map(|(name, port)| (name, policy("a", "b", Some("tcp"), &[port])));
            let all: Vec<_> = [("kept", kept)].into_iter().chain(others).collect();
            router.ruleset(&NAMES, &all)
        };
        apply(&rulesets(0));
        let at = SocketAddr::new(target, 600);
        let listener = inside("b1", move || TcpListener::bind(at).unwrap()).join().unwrap();
        let client = inside("a1", move || TcpStream::connect_timeout(&at, Duration::from_secs(5)).unwrap());
        let ends = [listener.accept().unwrap().0, client.join().unwrap()];
        let running = Arc::new(AtomicBool::new(true));
        let [server, client] =
            ends.map(|end| (counts(end.try_clone().unwrap(), Arc::clone(&running)), is_counted(end)));
        for round in 1..=25 {
            apply(&rulesets(round));
        }
        running.store(false, Ordering::SeqCst);
        let written = [server.0.join().unwrap(), client.0.join().unwrap()];
        let read = [client.1.join().unwrap(), server.1.join().unwrap()];
        println!("{} and {} bytes of a stream through 25 applies, all in order", read[0] * 8, read[1] * 8);
        assert!(written.iter().all(|count| *count > 10_000), "{written:?}");
        assert_eq!(read, written);
    }
}
