//! The rules between domains, with real packets: a router, its bridges and their guests in network namespaces of their
//! own. What runs here meets no interface, table or file of the machine.
//!
//! Wants root and nft; where they are not to be had, that is a failure under `CI=true` and said loudly elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test fails by panicking")]

mod apply;
mod boot;
mod established;
mod kept;
mod matrix;
mod net;
mod rules;
mod ssh;
mod unharmed;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};

/// A test: its name, a true sentence, and what shows it.
type Case = (&'static str, fn());

/// Set in the process that is alone in its namespaces.
const INSIDE: &str = "ANKLUME_NFT_INSIDE";

/// Makes the namespaces what a host is: a `/run` of its own for locks and names, an `/etc` of its own, and the interfaces it
/// really has.
const ENTER: &str = "mount -t tmpfs -o mode=755 tmpfs /run && cp -a /etc /run/etc && mount --bind /run/etc /etc && mount -t sysfs sysfs /sys && \
                     ip link set lo up && exec \"$@\"";

fn main() -> ExitCode {
    if apply::is_child() {
        return apply::child();
    }
    let mut arguments = Arguments::from_args();
    if std::env::var_os(INSIDE).is_none() && !arguments.list {
        let reason = match (is_root(), runs("nft"), runs("ip"), runs("unshare")) {
            (false, ..) => "not root",
            (_, false, ..) => "nft is not installed",
            (_, _, false, _) => "ip is not installed",
            (.., false) => "unshare is not installed",
            _ => {
                if std::env::var("CI").is_ok_and(|ci| ci == "true") {
                    let _ = Command::new("modprobe").arg("br_netfilter").status();
                }
                let this = std::env::current_exe().unwrap();
                let error = Command::new("unshare")
                    .args(["--net", "--mount", "--propagation", "private", "sh", "-c", ENTER, "sh"])
                    .arg(this)
                    .args(std::env::args_os().skip(1))
                    .env(INSIDE, "1")
                    .exec();
                panic!("unshare: {error}");
            }
        };
        println!("\nnft: NOT RUN: {reason}\n");
        return if std::env::var("CI").is_ok_and(|ci| ci == "true") { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let all: [(&str, &[Case]); 8] = [
        ("rules", rules::CASES),
        ("matrix", matrix::CASES),
        ("established", established::CASES),
        ("kept", kept::CASES),
        ("unharmed", unharmed::CASES),
        ("apply", apply::CASES),
        ("boot", boot::CASES),
        ("ssh", ssh::CASES),
    ];
    // There is one table per host.
    arguments.test_threads = Some(1);
    let trials = all.iter().flat_map(|(story, cases)| {
        cases.iter().map(move |&(sentence, body)| {
            Trial::test(format!("{story}::{sentence}"), move || {
                net::no_table();
                let begun = std::time::Instant::now();
                body();
                println!("{:6.1} s", begun.elapsed().as_secs_f32());
                Ok(())
            })
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    println!("nft ran on {}", net::said("nft", &["--version"]).trim());
    conclusion.exit_code()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}
