//! Writing, reading back, and all that comes between.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anklume::nft::{
    Applied, Error, Fingerprint, Host, Limit, PersistPath, Removed, Ruleset, Standing, Sudo, TableMark, Via,
};
use tokio_util::sync::CancellationToken;

use super::Case;
use super::net::{OWNER, apply, drift, host, limit, owner, policy, ruleset, said, shell, wait};

pub const CASES: &[Case] = &[
    ("what was applied reads back without drift, and is removed wholly", life),
    ("whatever is changed by hand is shown by name and repaired", by_hand),
    ("a table of another, or of nobody, is refused and left alone", foreign),
    ("table and file are recognised by the last 32 digits of their mark, and an apply writes all of it", marked),
    ("the file is written whole, read back and removed, and another's is left alone", file),
    ("a change touches only the elements that change", minimal),
    ("applies at the same time end with one of them", race),
    ("killed at any point it leaves the old rules or the new", killed),
    ("a busy lock ends with the deadline, and a stop ends it at once", busy),
    ("without nft, with an old one and without permission it says so", refusals),
    ("the interfaces are those of the host where nft runs", interfaces),
];

/// The file that a child process writes.
const KEPT: &str = "/run/kept/anklume.nft";

/// Which of two rulesets a child process applies.
const CHILD: &str = "ANKLUME_NFT_CHILD";

pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

pub fn child() -> ExitCode {
    let (rules, file) = (of(&std::env::var(CHILD).unwrap()), KEPT.parse().unwrap());
    wait(async { host().apply(&rules, Some(&file), &limit()).await }).unwrap();
    ExitCode::SUCCESS
}

/// Two rulesets that differ a lot.
fn of(which: &str) -> Ruleset {
    let names: Vec<String> = (0..60).map(|index| format!("{which}{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let policies: Vec<_> =
        (0..59).map(|index| (names[index], policy(names[index], names[index + 1], Some("tcp"), &["1-99"]))).collect();
    ruleset(if which == "x" { "" } else { "001-" }, &names, &policies)
}

fn some() -> Ruleset {
    let policies = [
        ("intranet", policy("perso", "pro", Some("tcp"), &["443", "8000-8010"])),
        ("ping", policy("pro", "perso", Some("icmp"), &[])),
    ];
    ruleset("", &["perso", "pro"], &policies)
}

fn life() {
    let rules = some();
    assert_eq!(wait(async { host().read(&rules, None, &limit()).await }).unwrap(), Standing::Absent);
    assert_eq!(apply(&rules), Applied::Created);
    assert_eq!(drift(&rules), [""; 0]);
    assert_eq!(apply(&rules), Applied::Continued);
    let remove = || wait(async { host().remove(&owner(), None, &limit()).await }).unwrap();
    assert_eq!(remove(), Removed::Done);
    assert_eq!(remove(), Removed::Absent);
    assert_eq!(said("nft", &["list", "ruleset"]), "");
    shell("test -z \"$(ls /run | grep script)\"");
}

fn by_hand() {
    let rules = some();
    let named = |change: &str, words: &[&str]| {
        apply(&rules);
        shell(change);
        let lines = drift(&rules);
        for word in words {
            assert!(lines.iter().any(|line| line.contains(word)), "{change}: {word} is not in {lines:?}");
        }
        assert!(!lines.is_empty(), "{change}");
        apply(&rules);
        assert_eq!(drift(&rules), [""; 0], "{change}");
    };
    named(
        "nft delete element inet anklume open '{ \"net-perso\" . \"net-pro\" . 6 . 443 }'",
        &["policy/intranet: missing open { \"net-perso\" . \"net-pro\" . 6 . 443 }"],
    );
    named("nft delete element inet anklume bridges '{ \"net-pro\" }'", &["domain/pro: missing"]);
    named(
        "nft add element inet anklume open '{ \"net-pro\" . \"net-perso\" . 6 . 22 }'",
        &["unknown/open: \"net-pro\" . \"net-perso\" . 6 . 22"],
    );
    named("nft add element inet anklume open '{ \"net-a\" . \"net-b\" . 6 . 22 comment \"x\" }'", &["layout/open"]);
    named("nft insert rule inet anklume forward accept", &["layout/forward: added rule: [{\"accept\":null}]"]);
    named("nft add rule inet anklume back counter", &["layout/back: added rule"]);
    for comment in ["anklume ffffffffffffffff", "mine"] {
        let last = format!("nft add rule inet anklume forward counter comment '\"{comment}\"'");
        named(&last, &["layout/forward: added rule"]);
    }
    named("nft insert rule inet anklume forward counter comment mine", &["layout/forward: added rule"]);
    named(
        "line=$(nft -a list chain inet anklume listed | grep @same)\n\
         nft replace rule inet anklume listed handle ${line##* } ${line%%#*} comment mine",
        &["layout/listed: a rule has a comment"],
    );
    named("nft flush chain inet anklume listed", &["layout/listed: the chain was flushed"]);
    named("nft flush table inet anklume", &["layout/forward: the chain was flushed", "layout/listed"]);
    named("nft flush set inet anklume open", &["policy/intranet: missing", "policy/ping: missing"]);
    named("nft add chain inet anklume mine", &["layout/mine: the chain is not ours"]);
    named("nft add set inet anklume mine '{ type mark; }'", &["layout/mine: the set is not ours"]);
    named("nft add element inet anklume bridges '{ * }'", &["layout/bridges: has"]);
    named(
        "nft 'add counter inet anklume one; add map inet anklume two { type ifname : counter; }; \
         add element inet anklume two { \"x\" : \"one\" }'",
        &["layout/table: has counter one", "layout/table: has map two"],
    );
    named("nft add map inet anklume mine '{ type mark : mark; }'", &["layout/table: has map mine"]);
    named("nft add table inet anklume '{ flags dormant; }'", &["layout/table: has table flag dormant"]);
    named("nft add chain inet anklume forward '{ policy drop; }'", &["layout/forward: the kernel calls"]);
    for (chain, what) in
        [("listed", "missing rule: iifname . oifname @same accept"), ("forward", "missing rule: iifname @bridges")]
    {
        let first = format!(
            "nft delete rule inet anklume {chain} handle $(nft -a list chain inet anklume {chain} | sed -n 's/.* handle //p' | sed -n 2p)"
        );
        named(&first, &[&format!("layout/{chain}: {what}")]);
    }
    named(
        "line=$(nft -a list chain inet anklume forward | grep '@bridges.*net-')\n\
         nft delete rule inet anklume forward handle ${line##* }\nnft add rule inet anklume forward ${line%%#*}",
        &["layout/forward: the rules are in another order"],
    );
    apply(&rules);
    shell("nft delete table inet anklume");
    assert_eq!(wait(async { host().read(&rules, None, &limit()).await }).unwrap(), Standing::Absent);
    // A rule that is gone has no line; one that stands in part says what is missing.
    apply(&rules);
    shell(
        "nft flush set inet anklume open; nft add element inet anklume open '{ \"net-perso\" . \"net-pro\" . 6 . 443 }'",
    );
    let Standing::Ours(drift) = wait(async { host().read(&rules, None, &limit()).await }).unwrap() else { panic!() };
    let there = drift.rules();
    assert_eq!(
        there["policy/intranet"],
        "perso -> pro tcp 443,8000-8010 (missing open { \"net-perso\" . \"net-pro\" . 6 . 8000-8010 })"
    );
    assert_eq!(there["domain/pro"], "bridge net-pro");
}

fn foreign() {
    let rules = some();
    let other = rules.script().replace(OWNER, "ffffffffffffffff");
    let flushed = format!("{other}\nflush table inet anklume\n");
    for (table, comment) in [
        (other.as_str(), Some("anklume ffffffffffffffff")),
        (flushed.as_str(), Some("anklume ffffffffffffffff")),
        (
            "table inet anklume {\n chain forward {\n type filter hook forward priority -1; policy accept;\n }\n}\n",
            None,
        ),
    ] {
        std::fs::write("/run/foreign.nft", table).unwrap();
        shell("nft flush ruleset; nft -f /run/foreign.nft");
        let before = said("nft", &["-j", "list", "ruleset"]);
        let applied = wait(async { host().apply(&rules, None, &limit()).await });
        assert_eq!(applied, Err(Error::Foreign { comment: comment.map(str::to_owned) }));
        let standing = wait(async { host().read(&rules, None, &limit()).await }).unwrap();
        assert_eq!(standing, Standing::Foreign { comment: comment.map(str::to_owned) });
        assert_eq!(wait(async { host().remove(&owner(), None, &limit()).await }).unwrap(), Removed::Foreign);
        assert_eq!(said("nft", &["-j", "list", "ruleset"]), before);
    }
}

fn marked() {
    shell("mkdir -p /run/marked");
    let path: PersistPath = "/run/marked/anklume.nft".parse().unwrap();
    let mark =
        |first: char| format!("{}{}", first.to_string().repeat(32), &OWNER[32..]).parse::<Fingerprint>().unwrap();
    let found = || wait(async { host().mark(&limit()).await }).unwrap();
    assert_eq!(found(), TableMark::NoTable);
    let before = some();
    wait(async { host().apply(&before, Some(&path), &limit()).await }).unwrap();
    let lines = |rules: &Ruleset| match wait(async { host().read(rules, Some(&path), &limit()).await }).unwrap() {
        Standing::Ours(drift) => drift.lines().to_vec(),
        other => panic!("{other:?}"),
    };
    let after = before.with_mark(mark('a'));
    assert_eq!(lines(&after), [""; 0]);
    assert_eq!(found(), TableMark::Marked(owner()));
    let applied = wait(async { host().apply(&after, Some(&path), &limit()).await });
    assert_eq!(applied, Ok(Applied::Continued));
    assert_eq!(found(), TableMark::Marked(mark('a')));
    let listed = said("nft", &["list", "table", "inet", "anklume"]);
    assert!(!listed.contains(OWNER) && !std::fs::read_to_string(path.as_str()).unwrap().contains(OWNER), "{listed}");
    assert_eq!(lines(&before), [""; 0]);
    // An apply that ended between table and file.
    apply(&before);
    assert_eq!(lines(&after), [format!("file: {path} holds something else")]);
    let removed = wait(async { host().remove(&mark('b'), Some(&path), &limit()).await });
    assert_eq!((removed, found()), (Ok(Removed::Done), TableMark::NoTable));
    assert_eq!(std::fs::read_dir("/run/marked").unwrap().count(), 0);
    shell("nft add table inet anklume");
    assert_eq!(found(), TableMark::Unmarked);
}

fn file() {
    shell("mkdir -p /run/rules");
    let path: PersistPath = "/run/rules/anklume.nft".parse().unwrap();
    let rules = some();
    let applied = || wait(async { host().apply(&rules, Some(&path), &limit()).await });
    let read = || match wait(async { host().read(&rules, Some(&path), &limit()).await }).unwrap() {
        Standing::Ours(drift) => drift.lines().to_vec(),
        other => panic!("{other:?}"),
    };
    applied().unwrap();
    assert_eq!(read(), [""; 0]);
    let text = std::fs::read_to_string(path.as_str()).unwrap();
    assert!(text.starts_with(&format!("# anklume {OWNER}\n")));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(path.as_str()).unwrap().permissions().mode() & 0o777, 0o600);
    // What a boot does with it, beside what others have.
    shell("nft flush ruleset; nft add table ip others");
    shell(&format!("nft -f '{path}'"));
    assert_eq!(read(), [""; 0]);
    shell("nft list table ip others");
    std::fs::write(path.as_str(), text.replace("priority -1", "priority 7")).unwrap();
    assert_eq!(read(), [format!("file: {path} holds something else")]);
    applied().unwrap();
    for (change, what) in [
        (format!("chmod 644 '{path}'"), "has mode and owner 644 0, not 600 0"),
        (format!("chown 7 '{path}'"), "has mode and owner 600 7, not 600 0"),
        (format!("printf '\\000' >>'{path}'"), "holds something else"),
    ] {
        shell(&change);
        assert_eq!(read(), [format!("file: {path} {what}")]);
        applied().unwrap();
        assert_eq!(read(), [""; 0]);
    }
    shell(&format!("rm '{path}'; mkfifo '{path}'"));
    assert!(matches!(applied(), Err(Error::File { said, .. }) if said == "is no regular file"));
    std::fs::remove_file(path.as_str()).unwrap();
    assert_eq!(read(), [format!("file: {path} is missing")]);
    applied().unwrap();
    assert_eq!(read(), [""; 0]);
    assert_eq!(std::fs::read_dir("/run/rules").unwrap().count(), 1);
    assert_eq!(wait(async { host().remove(&owner(), Some(&path), &limit()).await }).unwrap(), Removed::Done);
    assert_eq!(std::fs::read_dir("/run/rules").unwrap().count(), 0);
    // A file of somebody else is refused before the table is touched, and never removed.
    std::fs::write(path.as_str(), "flush ruleset\n").unwrap();
    assert_eq!(applied(), Err(Error::ForeignFile { path: path.to_string(), comment: None }));
    assert_eq!(said("nft", &["list", "tables"]), "table ip others\n");
    assert_eq!(wait(async { host().remove_file(&owner(), &path, &limit()).await }).unwrap(), Removed::Foreign);
    assert_eq!(std::fs::read_to_string(path.as_str()).unwrap(), "flush ruleset\n");
    let nowhere: PersistPath = "/run/nowhere/x.nft".parse().unwrap();
    let error = wait(async { host().apply(&rules, Some(&nowhere), &limit()).await }).unwrap_err();
    assert!(matches!(&error, Error::File { said, .. } if said == "no such directory"), "{error}");
    // Nothing is half made.
    assert_eq!(said("nft", &["list", "tables"]), "table ip others\n");
}

fn minimal() {
    apply(&some());
    let handles = || said("nft", &["-a", "-t", "list", "table", "inet", "anklume"]);
    let before = handles();
    let policies = [("intranet", policy("perso", "pro", Some("tcp"), &["443"]))];
    apply(&ruleset("", &["perso", "pro", "later"], &policies));
    assert_eq!(handles(), before);
}

fn race() {
    let (x, y) = (of("x"), of("y"));
    wait(async {
        let mut running = tokio::task::JoinSet::new();
        for index in 0..12 {
            let rules = if index % 2 == 0 { x.clone() } else { y.clone() };
            running.spawn(async move { host().apply(&rules, None, &limit()).await });
        }
        while let Some(applied) = running.join_next().await {
            applied.unwrap().unwrap();
        }
    });
    assert!(drift(&x).is_empty() || drift(&y).is_empty());
}

fn killed() {
    let (x, y) = (of("x"), of("y"));
    shell("mkdir -p /run/kept");
    apply(&x);
    let (mut ends, mut files) = ([0, 0], [0, 0, 0]);
    for round in 0..40_u64 {
        let which = if drift(&x).is_empty() { "y" } else { "x" };
        let mut child = Command::new(std::env::current_exe().unwrap()).env(CHILD, which).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(4000 * round + 137 * (round % 7)));
        child.kill().unwrap();
        child.wait().unwrap();
        // The shell ends with its input; a transaction that it runs is finished under the lock.
        shell("exec 9>>/run/anklume-nft.lock; flock -w 10 9");
        let whole = [drift(&x).is_empty(), drift(&y).is_empty()];
        assert!(whole[0] || whole[1], "killed in round {round}: {:?} {:?}", drift(&x), drift(&y));
        ends[usize::from(whole[1])] += 1;
        // The file, too: none yet, or one of the two, whole.
        match std::fs::read_to_string(KEPT) {
            Err(_) => files[2] += 1,
            Ok(text) => {
                let is = |rules: &Ruleset| text.ends_with(&rules.script());
                assert!(is(&x) || is(&y), "killed in round {round}: {text}");
                files[usize::from(is(&y))] += 1;
            }
        }
    }
    println!("ended with the one {} times, with the other {} times", ends[0], ends[1]);
    println!(
        "the file was of the one {} times, of the other {} times, and not yet there {} times",
        files[0], files[1], files[2]
    );
    assert!(ends[0] > 0 && ends[1] > 0 && files[0] > 0 && files[1] > 0, "{ends:?} {files:?}");
    let file = KEPT.parse().unwrap();
    wait(async { host().apply(&x, Some(&file), &limit()).await }).unwrap();
    assert_eq!(drift(&x), [""; 0]);
    assert_eq!(std::fs::read_dir("/run/kept").unwrap().count(), 1, "nothing beside the file");
    shell("rm -r /run/kept");
}

fn busy() {
    let holder = Command::new("flock").args(["/run/anklume-nft.lock", "sleep", "3"]).spawn();
    std::thread::sleep(Duration::from_millis(200));
    let soon =
        || Limit { deadline: Some(tokio::time::Instant::now() + Duration::from_millis(400)), ..Limit::default() };
    let error = wait(async { host().apply(&some(), None, &soon()).await }).unwrap_err();
    assert_eq!(error, Error::Busy);
    let stop = CancellationToken::new();
    let stopped = Limit { deadline: None, stop: stop.clone() };
    let error = wait(async {
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            stop.cancel();
        };
        let (host, rules) = (host(), some());
        tokio::join!(host.apply(&rules, None, &stopped), stopping).0
    })
    .unwrap_err();
    assert!(error.is_stopped() && !error.may_have_been_applied(), "{error}");
    assert_eq!(said("nft", &["list", "ruleset"]), "");
    holder.unwrap().wait().unwrap();
    apply(&some());
}

/// A program of our own in the place of nft; the machine's is where the shell looks last.
fn with_nft(script: &str) -> Error {
    std::fs::create_dir_all("/run/bin").unwrap();
    std::fs::write("/run/bin/nft", format!("#!/bin/sh\n{script}\n")).unwrap();
    shell("chmod 755 /run/bin/nft");
    let path = format!("/run/bin:{}", std::env::var("PATH").unwrap());
    let applied = wait(async { host().with_path(&path).apply(&some(), None, &limit()).await });
    applied.unwrap_err()
}

fn refusals() {
    assert!(matches!(with_nft("echo 'nftables v0.9.8 (E.D.S.)'"), Error::TooOld { version } if version == "0.9.8"));
    assert_eq!(with_nft("exit 127"), Error::NoNft);
    let says = |text: &str| {
        format!("case $1 in --version) echo 'nftables v1.0.6 (x)';; *) echo \"{text}\" >&2; exit 1;; esac")
    };
    assert!(matches!(with_nft(&says("Operation not permitted (you must be root)")), Error::NoPermission { .. }));
    let lacking = "netlink: Error: cache initialization failed: Protocol not supported";
    assert!(matches!(with_nft(&says(lacking)), Error::Kernel { .. }));
    let refusing = "case $* in --version) echo 'nftables v1.0.6 (x)';; *list*) echo 'Error: No such file or directory' >&2; exit 1;; \
                    *) echo 'Error: Could not process rule: No such file or directory' >&2; exit 1;; esac";
    assert!(matches!(with_nft(refusing), Error::Kernel { .. }));
    let no_json = "case $* in --version) echo 'nftables v1.0.6 (x)';; *) echo nonsense;; esac";
    assert!(matches!(with_nft(no_json), Error::Garbled { .. }));
    // Who is not root.
    let output =
        Command::new("setpriv").args(["--reuid=65534", "--clear-groups", "nft", "list", "tables"]).output().unwrap();
    assert!(!output.status.success());
    let host = Host::new(Via::Local, Sudo::With);
    let error = wait(async { host.apply(&some(), None, &limit()).await });
    // Root needs no password where sudo is installed at all.
    assert!(matches!(error, Ok(_) | Err(Error::NoProgram { program: "sudo" })), "{error:?}");
}

fn interfaces() {
    let names = wait(async { host().interfaces(&limit()).await }).unwrap();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), [("lo".to_owned(), "00:00:00:00:00:00".to_owned())]);
}
