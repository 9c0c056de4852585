//! Where the firewall of `anklume_nft_isolation` is: on the host of Incus, reached by ssh too, and nowhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Case;
use crate::cli::Workspace;
use crate::nft_isolation::{HOST, has_table, isolation, output, table};

pub(crate) const CASES: &[Case] = &[
    ("the_host_is_reached_by_ssh_and_strangers_are_refused", ssh),
    ("a_machine_that_is_not_the_incus_host_is_refused", elsewhere),
    ("a_bridge_that_incus_itself_has_lost_is_no_sign_of_another_machine", lost),
    ("an_https_address_needs_to_be_told_where_nft_runs", unsaid),
    ("rules_are_planned_where_no_incus_can_be_reached", offline),
];

const POLICY: &str = "    web = { from = \"a\", to = \"b\", ports = [\"443\"], protocol = \"tcp\" }";

/// A real sshd on the loopback of a run's network namespace, and a client that knows it once told.
struct Sshd {
    dir: PathBuf,
    daemon: Child,
}

const PORT: u16 = 2222;

impl Sshd {
    fn new(run: &Workspace) -> Self {
        let dir = run.dir().join("ssh");
        fs::create_dir_all(dir.join("bin")).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        // Where sshd separates its privileges; Debian's own unit makes it.
        fs::create_dir_all("/run/sshd").unwrap();
        for key in ["host", "user", "stranger"] {
            let made =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join(key)).status();
            assert!(made.unwrap().success());
        }
        fs::copy(dir.join("user.pub"), dir.join("authorized")).unwrap();
        let shown = dir.display();
        fs::write(
            dir.join("sshd_config"),
            format!(
                "Port {PORT}\nListenAddress 127.0.0.1\nHostKey {shown}/host\nAuthorizedKeysFile {shown}/authorized\nUsePAM no\n\
                 PasswordAuthentication no\nPermitRootLogin prohibit-password\nStrictModes no\nPidFile none\n"
            ),
        )
        .unwrap();
        fs::write(
            dir.join("config"),
            format!(
                "Host incus-host\n  HostName 127.0.0.1\n  Port {PORT}\n  User root\n  UserKnownHostsFile {shown}/known\n  \
                 GlobalKnownHostsFile /dev/null\n  IdentitiesOnly yes\n  IdentityAgent none\n  IdentityFile {shown}/identity\n"
            ),
        )
        .unwrap();
        let client = dir.join("bin/ssh");
        fs::write(&client, format!("#!/bin/sh\nexec /usr/bin/ssh -F {shown}/config \"$@\"\n")).unwrap();
        fs::set_permissions(&client, fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap();
        run.set("PATH", &format!("{}:{path}", dir.join("bin").display()));
        let daemon = Self::start(run, &dir);
        let sshd = Self { dir, daemon };
        sshd.identity("user");
        sshd
    }

    fn start(run: &Workspace, dir: &Path) -> Child {
        let log = fs::File::create(dir.join("log")).unwrap();
        let mut command = run.inside("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(dir.join("sshd_config"));
        let daemon = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        let started = Instant::now();
        while !fs::read_to_string(dir.join("log")).unwrap().contains("listening on 127.0.0.1") {
            assert!(started.elapsed() < Duration::from_secs(10), "{}", fs::read_to_string(dir.join("log")).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    /// The client's own key from now on.
    fn identity(&self, key: &str) {
        for (from, to) in [(key.to_owned(), "identity"), (format!("{key}.pub"), "identity.pub")] {
            fs::copy(self.dir.join(from), self.dir.join(to)).unwrap();
        }
    }

    /// The client's user has accepted the key of the host.
    fn known(&self, key: &str) {
        let key = fs::read_to_string(self.dir.join(format!("{key}.pub"))).unwrap();
        fs::write(self.dir.join("known"), format!("[127.0.0.1]:{PORT} {key}")).unwrap();
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn ssh(here: &Workspace) {
    let run = here.elsewhere("ssh", &[]);
    let mut sshd = Sshd::new(&run);
    let block = "  nft = { via = \"ssh\", destination = \"incus-host\" }\n";
    let file = run.dir().join("rules.nft");
    let domain = "resource \"anklume_domain\" \"a\" {\n  name = \"a\"\n  storage_pool = \"default\"\n}\n\n";
    let configure = |policies: &str, more: &str| {
        run.configure_provider(block, &format!("{domain}{}", isolation(&["a", "b"], policies, more)));
    };
    let persist = format!("  persist_path = {file:?}");
    configure(POLICY, &persist);

    let refused = run.apply_fails();
    assert!(refused.contains("Unable to create isolation") && refused.contains("key"), "{refused}");
    sshd.known("stranger");
    let refused = run.apply_fails();
    assert!(refused.contains("Unable to create isolation") && refused.contains("key"), "{refused}");
    sshd.known("host");
    sshd.identity("stranger");
    let refused = run.apply_fails();
    assert!(refused.contains("Unable to create isolation") && refused.contains("incus-host"), "{refused}");
    assert!(!has_table(&run) && !file.exists());

    sshd.identity("user");
    run.apply();
    run.plan_is_empty();
    let whole = table(&run);
    assert!(whole.contains("net-a"), "{whole}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // What is kept is what stands.
    output(&run, "nft", &["-c", "-f", file.to_str().unwrap()]);

    output(&run, "nft", &["delete", "table", "inet", "anklume"]);
    output(&run, "nft", &["-f", file.to_str().unwrap()]);
    run.plan_is_empty();
    assert_eq!(table(&run), whole);
    output(&run, "nft", &["flush", "table", "inet", "anklume"]);
    run.plan_updates(&[HOST]);
    configure("", &persist);
    run.apply();
    run.plan_is_empty();
    assert!(table(&run) != whole && table(&run).contains("net-a"));

    let _ = sshd.daemon.kill();
    let _ = sshd.daemon.wait();
    let refused = run.plan_fails();
    assert!(refused.contains("Unable to read isolation") && refused.contains("incus-host"), "{refused}");
    sshd.daemon = Sshd::start(&run, &sshd.dir);
    run.destroy();
    assert!(!has_table(&run) && !file.exists());
}

/// A network namespace without the bridges of the Incus that is asked.
fn elsewhere(here: &Workspace) {
    let domain = here.domain("nfar");
    here.configure(&format!(
        "resource \"anklume_domain\" \"d\" {{\n  name = \"{domain}\"\n  storage_pool = \"default\"\n}}\n"
    ));
    here.apply();
    let far = here.elsewhere("far", &[]);
    far.configure_provider(
        &format!("  address = \"unix://{}\"\n", here.socket().display()),
        &isolation(&["a", "b"], POLICY, ""),
    );
    let refused = far.apply_fails();
    assert!(refused.contains("nft does not run on the Incus host") && refused.contains("via = \"ssh\""), "{refused}");
    // A bridge of the same name is another one.
    let bridge = here.attributes("anklume_domain.d")["bridge"].as_str().unwrap().to_owned();
    output(&far, "ip", &["link", "add", &bridge, "type", "bridge"]);
    let refused = far.apply_fails();
    assert!(refused.contains("nft does not run on the Incus host") && refused.contains("MAC address"), "{refused}");
    output(&far, "ip", &["link", "delete", &bridge]);
    assert!(!has_table(&far) && !has_table(here));
    here.destroy();
}

/// As a deletion that was interrupted leaves it.
fn lost(here: &Workspace) {
    let run = here.elsewhere("lost", &[]);
    let domain = run.domain("nlost");
    run.configure(&format!(
        "resource \"anklume_domain\" \"d\" {{\n  name = \"{domain}\"\n  storage_pool = \"default\"\n}}\n\n{}",
        isolation(&["a", "b"], POLICY, "")
    ));
    run.apply();
    let bridge = run.attributes("anklume_domain.d")["bridge"].as_str().unwrap().to_owned();
    output(&run, "ip", &["link", "delete", &bridge]);
    assert!(run.plan().iter().all(|(address, _)| address != HOST));
    run.destroy();
    assert_eq!(run.leftovers(), Vec::<String>::new());
}

fn unsaid(run: &Workspace) {
    let https = format!("  address = \"{}\"\n  server_fingerprint = \"{}\"\n", run.address(), "0".repeat(64));
    run.configure_provider(&https, &isolation(&["a", "b"], POLICY, ""));
    let refused = run.plan_fails();
    assert!(refused.contains("Where nft runs is not said"), "{refused}");
    for (block, said) in [
        ("  nft = { via = \"ssh\" }\n", "needs `destination`"),
        ("  nft = { via = \"telnet\" }\n", "neither \"local\" nor \"ssh\""),
        ("  nft = { via = \"ssh\", destination = \"-oProxyCommand=touch /tmp/x\" }\n", "destination"),
    ] {
        run.configure_provider(block, &isolation(&["a", "b"], POLICY, ""));
        let refused = run.plan_fails();
        assert!(refused.contains(said), "{refused}");
    }
}

fn offline(run: &Workspace) {
    run.configure_provider("  address = \"unix:///nonexistent/unix.socket\"\n", &isolation(&["a", "b"], POLICY, ""));
    let text = run.succeed(&["plan", "-refresh=false", "-input=false", "-no-color"]).text;
    assert!(text.contains("\"policy/web\"") && text.contains("tcp"), "{text}");
    // The client itself takes most of it: 200 domains, 2,000 policies.
    run.configure(
        "locals {\n  names = [for n in range(200) : format(\"d%03d\", n)]\n}\n\n\
         resource \"anklume_nft_isolation\" \"host\" {\n  domains = { for name in local.names : name => null }\n  policies = {\n    \
         for n in concat(range(1000), range(1000, 2000)) : \"p${n}\" => {\n      from = local.names[n % 200]\n      \
         to = local.names[(n + 1 + floor(n / 200)) % 200]\n      ports = [\"443\", \"8000-8010\"]\n      protocol = \"tcp\"\n    }\n  }\n}\n",
    );
    let begun = Instant::now();
    let log = run.dir().join("requests");
    run.set("TF_LOG_PROVIDER", "TRACE");
    run.set("TF_LOG_PATH", log.to_str().unwrap());
    let text = run.succeed(&["plan", "-refresh=false", "-input=false", "-no-color"]).text;
    let whole = begun.elapsed();
    run.set("TF_LOG_PROVIDER", "OFF");
    let log = fs::read_to_string(log).unwrap();
    let served = log.lines().filter(|line| line.contains("request served"));
    let times = served.filter_map(|line| line.split_once("tf_req_duration_ms=")?.1.split(' ').next()?.parse().ok());
    let times: Vec<u64> = times.collect();
    let own_ms: u64 = times.iter().sum();
    println!("200 domains and 2,000 policies: {own_ms} ms of {whole:?} are the provider's ({})", run.client());
    // The schema, the validation, the configuration and the plan at least.
    assert!(times.len() >= 4 && text.contains("\"policy/p1999\""), "{times:?}");
    // The longest is the plan.
    assert!(times.iter().all(|time| *time < 1000) && whole < Duration::from_secs(10), "{times:?} ms of {whole:?}");
    // All that is wrong, at once.
    let wrong = "    a = { from = \"a\", to = \"host\" }\n    b = { from = \"a\", to = \"b\", ports = [\"443\"] }";
    run.configure(&isolation(&["a", "b"], wrong, ""));
    let refused = run.plan_fails();
    assert!(refused.contains("host") && refused.contains("protocol"), "{refused}");
}
