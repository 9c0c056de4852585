//! What is none of the rules' business.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::Case;
use super::net::{Kind, Probe, Router, apply, bridge_nf, check, echo, icmp, inside, policy, raw, said, shell};

pub const CASES: &[Case] = &[
    ("one bridge talks to itself, listed or not, with bridge-nf on and off", same_bridge),
    ("so does a bridge on which the host has no address, and its guests reach no other", without_address),
    ("a bridge that is not listed reaches no other, and no other reaches it", unlisted),
    ("nor by a route of its own into one that is listed", by_a_rule),
    ("egress and the host are reached as before", egress),
    ("a second table of Docker's shape and flows that conntrack does not know live on", docker),
];

fn within(router: &Router, from: &str, to: &str) -> Vec<Probe> {
    let mut probes = Vec::new();
    for kind in [Kind::Tcp(443), Kind::Udp(443), Kind::Ping] {
        for address in [router.v4(to), router.v6(to)] {
            probes.push(Probe { from: from.to_owned(), to: address, kind, passes: true });
        }
    }
    probes
}

fn same_bridge() {
    let router = Router::up("", &["a", "b", "u"]);
    apply(&router.ruleset(&["a", "b"], &[]));
    for value in ["1", "0"] {
        if bridge_nf(value).is_none() && value == "1" {
            continue;
        }
        check(&within(&router, "a1", "a2"));
        check(&within(&router, "u1", "u2"));
        // What a neighbour is asked without a route: a broadcast and a multicast of the link.
        for to in ["255.255.255.255", "224.0.0.251", "10.9.2.255"] {
            assert!(hears("u1", "u2", to.parse().unwrap()), "{to} with bridge-nf {value}");
            assert!(hears("a1", "a2", to.replace("9.2.", "9.0.").parse().unwrap()), "{to} with bridge-nf {value}");
        }
    }
    // A bridge on which the host has no IPv6 at all, as Incus makes it: the link-local addresses of its guests.
    if bridge_nf("1").is_some() {
        shell("echo 1 >/proc/sys/net/ipv6/conf/net-u/disable_ipv6");
        let address = said("ip", &["-n", "u2", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link"]);
        let address = address.split_whitespace().find_map(|word| word.strip_suffix("/64")).unwrap().to_owned();
        let ping = format!("ip netns exec u1 busybox ping -6 -c 1 -W 3 {address}%eth0");
        shell(&ping);
    }
}

fn without_address() {
    let router = Router::up("", &["a", "u", "w"]).with_outside();
    shell(
        "ip route add default via 192.0.2.1\nip addr flush dev net-u\necho 1 >/proc/sys/net/ipv6/conf/net-u/disable_ipv6",
    );
    // A guest needs no address of the host to send it a frame.
    shell(
        "address=$(cat /sys/class/net/net-u/address)\n\
         ip -n u1 neigh replace 10.9.1.254 lladdr $address dev eth0\n\
         nft 'add table inet witness; add counter inet witness crossed\n\
         add chain inet witness after { type filter hook forward priority 10; }\n\
         add rule inet witness after iifname net-u oifname { net-a, net-w } counter name crossed'",
    );
    let (a, w) = (router.v4("a1"), router.v4("w1"));
    let crossed = || {
        shell("nft reset counters >/dev/null");
        inside("u1", move || {
            for to in [a, w] {
                for kind in 0..3 {
                    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                    socket.send_to(b"x", SocketAddr::new(to, 443 + kind)).unwrap();
                }
            }
        })
        .join()
        .unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let said = said("nft", &["list", "counters"]);
        said.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(crossed(), 6);
    apply(&router.ruleset(&["a"], &[]));
    for value in ["1", "0"] {
        if bridge_nf(value).is_none() && value == "1" {
            continue;
        }
        check(&within(&router, "u1", "u2"));
        assert_eq!(crossed(), 0);
    }
}

/// Whether `to` hears a packet that goes to everybody on the link.
fn hears(from: &str, to: &str, everybody: Ipv4Addr) -> bool {
    let listener = inside(to, || UdpSocket::bind("0.0.0.0:5353").unwrap()).join().unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    if everybody.is_multicast() {
        let joining = listener.try_clone().unwrap();
        let address = said("ip", &["-n", to, "-4", "-o", "addr", "show", "dev", "eth0"]);
        let address = address.split_whitespace().find_map(|word| word.split_once('/')).unwrap().0.parse().unwrap();
        inside(to, move || joining.join_multicast_v4(&everybody, &address).unwrap()).join().unwrap();
    }
    inside(from, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_broadcast(true).unwrap();
        socket.send_to(b"x", SocketAddr::from((everybody, 5353))).unwrap();
    })
    .join()
    .unwrap();
    listener.recv(&mut [0; 16]).is_ok()
}

fn unlisted() {
    for prefix in ["", "001-"] {
        unlisted_of(&Router::up(prefix, &["a", "b", "u", "w"]));
    }
}

fn unlisted_of(router: &Router) {
    apply(&router.ruleset(&["a", "b"], &[("x", policy("a", "b", None, &[]))]));
    for value in ["1", "0"] {
        if bridge_nf(value).is_none() && value == "1" {
            continue;
        }
        let mut probes = Vec::new();
        for (from, to) in [("u1", "w1"), ("w1", "u1"), ("u1", "a1"), ("a1", "u1")] {
            for kind in [Kind::Tcp(443), Kind::Udp(443), Kind::Ping] {
                for address in [router.v4(to), router.v6(to)] {
                    probes.push(Probe { from: from.to_owned(), to: address, kind, passes: false });
                }
            }
        }
        check(&probes);
    }
}

/// Rules of routing by the interface of arrival are not asked when the kernel looks up where a packet would go.
fn by_a_rule() {
    let router = Router::up("", &["a", "b", "u"]);
    shell(&format!(
        "ip -n a1 addr add 203.0.113.9/32 dev lo\nip rule add iif net-u lookup 100\nip route add 203.0.113.9 via {} dev net-a table 100",
        router.v4("a1")
    ));
    let probes = |passes: bool| {
        [Kind::Tcp(443), Kind::Udp(443), Kind::Ping].map(|kind| Probe {
            from: "u1".to_owned(),
            to: IpAddr::from([203, 0, 113, 9]),
            kind,
            passes,
        })
    };
    check(&probes(true));
    apply(&router.ruleset(&["a", "b"], &[]));
    check(&probes(false));
}

fn egress() {
    let router = Router::up("", &["a", "b"]).with_outside();
    shell(
        "nft add table ip hide && nft add chain ip hide post '{ type nat hook postrouting priority 100; }' && nft add rule ip hide post oifname up0 masquerade",
    );
    let outside: IpAddr = [192, 0, 2, 1].into();
    apply(&router.ruleset(&["a", "b"], &[]));
    let host = IpAddr::from([10, 9, 0, 254]);
    shell("ip netns attach router $$");
    echo("router");
    let mut probes = Vec::new();
    for kind in [Kind::Tcp(443), Kind::Udp(443), Kind::Ping] {
        for to in [outside, host] {
            probes.push(Probe { from: "a1".to_owned(), to, kind, passes: true });
        }
    }
    for value in ["1", "0"] {
        if bridge_nf(value).is_some() || value == "0" {
            check(&probes);
        }
    }
}

fn docker() {
    let router = Router::up("", &["a", "b"]).with_outside();
    shell(
        "ip link add docker0 type bridge\nip addr add 172.17.0.1/16 dev docker0\nip link set docker0 up\nip netns add dock\n\
         ip link add vd type veth peer name eth0 netns dock\nip link set vd master docker0 up\nip -n dock link set lo up\n\
         ip -n dock link set eth0 up\nip -n dock addr add 172.17.0.2/16 dev eth0\nip -n dock route add default via 172.17.0.1\n\
         ip -n out route add 172.17.0.0/16 via 192.0.2.254",
    );
    let table = "table ip docker {\n chain forward {\n type filter hook forward priority 0; policy drop;\n \
                 oifname \"docker0\" accept\n iifname \"docker0\" accept\n iifname \"net-*\" accept\n }\n}\n";
    std::fs::write("/run/docker.nft", table).unwrap();
    shell("nft -f /run/docker.nft");
    echo("dock");
    let before = said("nft", &["list", "table", "ip", "docker"]);
    let rules = router.ruleset(&["a", "b"], &[("x", policy("a", "b", Some("tcp"), &[]))]);
    apply(&rules);
    let outside: IpAddr = [192, 0, 2, 1].into();
    let dock: IpAddr = [172, 17, 0, 2].into();
    let mut probes = Vec::new();
    for kind in [Kind::Tcp(443), Kind::Udp(443), Kind::Ping] {
        probes.push(Probe { from: "dock".to_owned(), to: outside, kind, passes: true });
        probes.push(Probe { from: "out".to_owned(), to: dock, kind, passes: true });
        // One end is no bridge of a domain: Docker's own table accepts it, and it is none of ours.
        probes.push(Probe { from: "dock".to_owned(), to: router.v4("a1"), kind, passes: true });
    }
    for value in ["0", "1"] {
        if bridge_nf(value).is_some() || value == "0" {
            check(&probes);
        }
    }
    // An answer to nothing: conntrack calls it invalid, as it does the half of an asymmetric flow that it sees.
    let listener = inside("out", move || raw(outside)).join().unwrap();
    inside("dock", move || {
        raw(outside).send_to(&icmp(0, 0, [9, 9, 0, 1], b"stray"), SocketAddr::new(outside, 0)).unwrap()
    });
    listener.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut buffer = [0; 2048];
    let heard =
        std::iter::from_fn(|| listener.recv(&mut buffer).ok().map(|length| buffer[..length].ends_with(b"stray")));
    assert!(heard.take(50).any(|stray| stray));
    assert_eq!(said("nft", &["list", "table", "ip", "docker"]), before);
}
