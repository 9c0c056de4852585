//! The same, over OpenSSH's own client and a real server on loopback.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anklume::nft::{Applied, Error, Host, Limit, PersistPath, Removed, Standing, Sudo, Via};

use super::Case;
use super::net::{limit, owner, policy, ruleset, said, shell, wait};

pub const CASES: &[Case] = &[
    ("over ssh it applies, reads and removes, and refuses what is not known", over_ssh),
    ("a user who is not root gets there by sudo where it wants no password, and is told where it does", by_sudo),
];

const ROOM: &str = "/run/ssh-test";

/// A server with keys of its own, and a client configuration that names it `host`, `stranger`, `closed`, `mute`.
struct Server(Child);

impl Server {
    fn up() -> Option<Self> {
        let program =
            ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].into_iter().find(|path| std::path::Path::new(path).exists());
        let Some(program) = program.filter(|_| Command::new("ssh").arg("-V").output().is_ok()) else {
            println!("NOT RUN: no OpenSSH server and client (openssh-server, openssh-client)");
            assert!(std::env::var("CI").is_ok_and(|ci| ci != "true") || std::env::var("CI").is_err());
            return None;
        };
        shell(&format!(
            "mkdir -p {ROOM} /run/sshd; chmod 711 {ROOM}; cd {ROOM}\n\
             for key in host_key user_key other_key; do rm -f $key $key.pub; ssh-keygen -q -t ed25519 -N '' -f $key; done\n\
             cp user_key.pub authorized\n\
             printf '[127.0.0.1]:2222 %s\\n' \"$(cut -d' ' -f1,2 host_key.pub)\" >known\n\
             printf 'Port 2222\\nListenAddress 127.0.0.1\\nHostKey {ROOM}/host_key\\nAuthorizedKeysFile {ROOM}/authorized\\nPidFile none\\n\
             StrictModes no\\nUsePAM no\\nPermitRootLogin yes\\nPasswordAuthentication no\\nKbdInteractiveAuthentication no\\n' >server\n\
             base='HostName 127.0.0.1\\nPort 2222\\nUser root\\nIdentitiesOnly yes\\nIdentityAgent none\\nGlobalKnownHostsFile /dev/null\\n'\n\
             {{ printf \"Host host\\n${{base}}IdentityFile {ROOM}/user_key\\nUserKnownHostsFile {ROOM}/known\\n\"\n\
             printf \"Host stranger\\n${{base}}IdentityFile {ROOM}/user_key\\nUserKnownHostsFile /dev/null\\n\"\n\
             printf \"Host locked\\n${{base}}IdentityFile {ROOM}/other_key\\nUserKnownHostsFile {ROOM}/known\\n\"\n\
             printf \"Host mute\\nHostName 127.0.0.1\\nPort 2223\\n\"; }} >client\n\
             printf '#!/bin/sh\\nexec /usr/bin/ssh -F {ROOM}/client \"$@\"\\n' >ssh; chmod 755 ssh"
        ));
        let server = Command::new(program)
            .args(["-D", "-e", "-f", &format!("{ROOM}/server")])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..100 {
            if std::net::TcpStream::connect("127.0.0.1:2222").is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(Self(server))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn host(name: &str) -> Host {
    host_of(name, Sudo::Without)
}

fn host_of(name: &str, sudo: Sudo) -> Host {
    // The configuration of a user is in their home; here it is given by name.
    let path = format!("{ROOM}:{}", std::env::var("PATH").unwrap());
    Host::new(Via::Ssh(name.parse().unwrap()), sudo).with_path(&path)
}

fn over_ssh() {
    let Some(_server) = Server::up() else { return };
    let rules = ruleset("", &["perso", "pro"], &[("x", policy("perso", "pro", Some("tcp"), &["443"]))]);
    let path: PersistPath = "/run/ssh-test/here.nft".parse().unwrap();
    let apply = |name: &str| wait(async { host(name).apply(&rules, Some(&path), &limit()).await });
    assert_eq!(apply("host"), Ok(Applied::Created));
    assert_eq!(apply("root@host"), Ok(Applied::Continued));
    let standing = wait(async { host("host").read(&rules, Some(&path), &limit()).await }).unwrap();
    assert!(matches!(&standing, Standing::Ours(drift) if drift.is_empty()), "{standing:?}");
    assert!(wait(async { host("host").interfaces(&limit()).await }).unwrap().contains_key("lo"));

    // A large one, and what is changed there by hand.
    let large = super::rules::large(200);
    assert_eq!(wait(async { host("host").apply(&large, Some(&path), &limit()).await }), Ok(Applied::Continued));
    shell("nft flush chain inet anklume listed");
    assert_eq!(apply("host"), Ok(Applied::Continued));

    let before = said("nft", &["-j", "list", "ruleset"]);
    let error = apply("stranger").unwrap_err();
    assert!(matches!(error, Error::HostKey { .. }), "{error}");
    let error = apply("locked").unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    let error = apply("mute").unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    // One who takes the connection and never says a word.
    let _mute = std::net::TcpListener::bind("127.0.0.1:2223").unwrap();
    let soon = Limit { deadline: Some(tokio::time::Instant::now() + Duration::from_secs(1)), ..Limit::default() };
    // The deadline begins when the runtime does.
    let error = wait(async { host("mute").apply(&rules, None, &soon).await }).unwrap_err();
    assert!(error.is_deadline(), "{error}");
    assert_eq!(said("nft", &["-j", "list", "ruleset"]), before);

    // A key that has changed since.
    shell(&format!(
        "sed -i \"s/ssh-ed25519 .*/$(cut -d' ' -f1,2 {ROOM}/other_key.pub | sed 's#/#\\\\/#g')/\" {ROOM}/known"
    ));
    let error = apply("host").unwrap_err();
    assert!(matches!(error, Error::HostKey { .. }), "{error}");
    shell(&format!("printf '[127.0.0.1]:2222 %s\\n' \"$(cut -d' ' -f1,2 {ROOM}/host_key.pub)\" >{ROOM}/known"));

    let removed = wait(async { host("host").remove(&owner(), Some(&path), &limit()).await }).unwrap();
    assert_eq!((removed, said("nft", &["list", "ruleset"]).as_str()), (Removed::Done, ""));
    assert!(!std::path::Path::new(path.as_str()).exists());
}

/// `sudo` itself, for two users of an `/etc` that is the tests' own: `admin` needs no password, `other` may do nothing.
fn by_sudo() {
    let Some(_server) = Server::up() else { return };
    if Command::new("sudo").arg("--version").output().is_err() {
        println!("NOT RUN: no sudo");
        return;
    }
    shell(
        "for user in admin:4711 other:4712; do\n\
         echo \"${user%:*}:x:${user#*:}:${user#*:}::/run/ssh-test:/bin/sh\" >>/etc/passwd\n\
         echo \"${user%:*}:x:${user#*:}:\" >>/etc/group; echo \"${user%:*}:*:19000:0:99999:7:::\" >>/etc/shadow\ndone\n\
         echo 'root ALL=(ALL) ALL\nadmin ALL=(root) NOPASSWD: ALL' >/etc/sudoers; chmod 440 /etc/sudoers",
    );
    let rules = ruleset("", &["perso", "pro"], &[("x", policy("perso", "pro", Some("tcp"), &["443"]))]);
    let path: PersistPath = "/run/ssh-test/by-sudo.nft".parse().unwrap();
    let by = |user: &str, sudo: Sudo| host_of(&format!("{user}@host"), sudo);
    let apply = |host: Host| wait(async { host.apply(&rules, Some(&path), &limit()).await });
    let error = apply(by("admin", Sudo::Without)).unwrap_err();
    assert!(matches!(error, Error::NoPermission { .. }), "{error}");
    let error = apply(by("other", Sudo::With)).unwrap_err();
    assert!(matches!(error, Error::Sudo { .. }), "{error}");
    assert_eq!(said("nft", &["list", "ruleset"]), "");

    assert_eq!(apply(by("admin", Sudo::With)), Ok(Applied::Created));
    let standing = wait(async { by("admin", Sudo::With).read(&rules, Some(&path), &limit()).await }).unwrap();
    assert!(matches!(&standing, Standing::Ours(drift) if drift.is_empty()), "{standing:?}");
    assert_eq!(said("stat", &["-c", "%a %u", path.as_str()]), "600 0\n");
    assert_eq!(apply(Host::new(Via::Local, Sudo::With)), Ok(Applied::Continued));
    let removed = wait(async { by("admin", Sudo::With).remove(&owner(), Some(&path), &limit()).await }).unwrap();
    assert_eq!((removed, said("nft", &["list", "ruleset"]).as_str()), (Removed::Done, ""));
    assert!(!std::path::Path::new(path.as_str()).exists());
}
