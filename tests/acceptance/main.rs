//! Acceptance: the provider as its users run it, with real clients on a real Incus.
//!
//! One private Incus serves the whole run (`tests/lab/incus.sh`); tests share it, in parallel, by using domains of their
//! own. With `ANKLUME_VM=SUITE` it is a machine of its own with virtual machines (`tests/lab/vm.sh`), and their cases run. Where it cannot be had, that is a failure under `CI=true` and said loudly elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test fails by panicking")]

mod adoption;
mod another_checkout;
mod by_hand;
mod cli;
mod cut_short;
mod domain;
mod errors;
mod examples;
mod foreign;
mod golden;
mod guide;
mod hcl;
mod incus;
mod instance;
mod interruption;
mod iso;
mod lab;
mod lost_state;
mod many;
mod marks;
mod meanwhile;
mod nft_drift;
mod nft_host;
mod nft_isolation;
mod offline;
mod profile;
mod profile_in_use;
mod protection;
mod relabel;
mod rename;
mod renamed_outside;
mod replace;
mod restart;
mod root_disk;
mod saved_plan;
mod server_identity;
mod swapped;
mod two_states;
mod url;
mod vm;
mod volume;
mod volumes;
mod watcher;
#[path = "../web/server.rs"]
#[allow(dead_code, reason = "shared with the tests of the web layer, which use other parts of it")]
mod web_server;
mod wording;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use cli::{Client, Workspace};
use lab::{Kind, Lab};
use libtest_mimic::{Arguments, Trial};

/// A test of one noun or story: its name, a true sentence, and what shows it.
type Case = (&'static str, fn(&Workspace));

/// What is no matter of the client, or long: the first one shows it.
const WITH_THE_FIRST_CLIENT: &[&str] = &[
    "an_iso_moves_and_is_copied_to_another_pool_with_its_marks",
    "a_withdrawn_connection_stops_and_a_kept_one_goes_on",
    "no_packet_passes_while_policies_are_applied",
    "every_change_by_hand_is_shown_by_name_and_repaired",
    "an_apply_that_is_killed_converges",
    "a_file_that_cannot_be_written_is_told_and_the_next_apply_works",
    "a_machine_that_is_not_the_incus_host_is_refused",
    "an_apply_of_twenty_containers_outlives_a_restart_of_the_daemon",
    "no_byte_of_a_foreign_object_of_the_same_name_changes",
    "what_the_client_lost_beside_the_state_is_found_again",
    "thirty_domains_at_once_have_thirty_subnets",
    "a_volume_moves_to_another_pool_with_its_users_stopped",
    "a_policy_lets_pass_what_it_says_and_nothing_else",
    "two_gibibytes_pass_through_little_memory",
    "a_root_disk_moves_to_another_pool_in_place",
    "what_changed_after_the_plan_to_what_it_says_is_taken_in",
    "what_an_interrupted_move_of_a_volume_left_is_told_apart",
    "a_move_of_a_volume_outlives_the_daemon_and_the_provider",
    "a_move_of_a_root_disk_outlives_the_daemon_and_the_provider",
    "what_a_pool_gives_its_volumes_is_no_drift",
    "what_a_volume_holds_survives_with_every_driver_of_the_kernel",
    "an_unmarked_import_is_recognised_by_its_uuid_or_time",
    "an_unmarked_profile_or_domain_outlives_a_destroy",
    "a_domain_whose_bridge_was_swapped_is_an_error_that_names_the_bridge",
    "a_domain_whose_project_was_swapped_is_an_error_that_names_the_project",
    "an_iso_whose_state_was_lost_after_an_update_is_continued",
    "an_isolation_whose_state_was_lost_is_imported",
    "a_copy_beside_its_original_changes_nothing",
    "a_server_that_the_environment_changes_is_one_error",
    "a_profile_that_somebody_else_uses_is_refused_before_anything_changes",
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let kind = Kind::asked();
    let all = [
        ("heart", vm::HEART),
        ("vm", vm::CASES),
        ("domain", domain::CASES),
        ("adoption", adoption::CASES),
        ("profile", profile::CASES),
        ("instance", instance::CASES),
        ("root_disk", root_disk::CASES),
        ("volume", volume::CASES),
        ("iso", iso::CASES),
        ("volumes", volumes::CASES),
        ("url", url::CASES),
        ("many", many::CASES),
        ("nft_isolation", nft_isolation::CASES),
        ("nft_drift", nft_drift::CASES),
        ("nft_host", nft_host::CASES),
        ("by_hand", by_hand::CASES),
        ("meanwhile", meanwhile::CASES),
        ("interruption", interruption::CASES),
        ("restart", restart::CASES),
        ("foreign", foreign::CASES),
        ("swapped", swapped::CASES),
        ("two_states", two_states::CASES),
        ("relabel", relabel::CASES),
        ("rename", rename::CASES),
        ("replace", replace::CASES),
        ("another_checkout", another_checkout::CASES),
        ("lost_state", lost_state::CASES),
        ("cut_short", cut_short::CASES),
        ("profile_in_use", profile_in_use::CASES),
        ("renamed_outside", renamed_outside::CASES),
        ("saved_plan", saved_plan::CASES),
        ("server_identity", server_identity::CASES),
        ("protection", protection::CASES),
        ("errors", errors::CASES),
        ("examples", examples::CASES),
        ("guide", guide::CASES),
        ("offline", offline::CASES),
    ];
    let (of_machines, of_containers) = all.split_at(2);
    let nouns = if kind == Kind::Private { of_containers } else { of_machines };
    if arguments.list {
        let trials = nouns.iter().flat_map(|(noun, cases)| cases.iter().map(move |case| (noun, case.0)));
        return libtest_mimic::run(
            &arguments,
            trials.map(|(n, t)| Trial::test(format!("{n}::{t}"), || Ok(()))).collect(),
        )
        .exit_code();
    }
    let (lab, clients) =
        match Client::all().and_then(|clients| Lab::find(kind.clone()).map(|lab| (Arc::new(lab), clients))) {
            Ok(ready) => ready,
            Err(reason) => {
                println!("\nacceptance: NOT RUN: {reason}\n");
                return if std::env::var("CI").is_ok_and(|ci| ci == "true") {
                    ExitCode::FAILURE
                } else {
                    ExitCode::SUCCESS
                };
            }
        };

    // A machine takes a minute and more to boot: the first client shows it.
    let clients = if kind == Kind::Private { &clients[..] } else { &clients[..1] };
    let mut trials = Vec::new();
    for (index, client) in clients.iter().cloned().map(Arc::new).enumerate() {
        for &(noun, cases) in nouns {
            for &(sentence, body) in cases {
                if index > 0 && WITH_THE_FIRST_CLIENT.contains(&sentence) {
                    continue;
                }
                let (lab, client) = (Arc::clone(&lab), Arc::clone(&client));
                let name = format!("{noun}::{sentence} ({})", client.name);
                trials.push(Trial::test(name.clone(), move || {
                    let begun = Instant::now();
                    body(&Workspace::new(lab, client));
                    println!("{:.0} s: {name}", begun.elapsed().as_secs_f32());
                    Ok(())
                }));
            }
        }
    }
    if kind != Kind::Private {
        // What one boots slows down what another measures.
        arguments.test_threads = Some(1);
    }
    let conclusion = libtest_mimic::run(&arguments, trials);

    println!("acceptance ran on Incus {} with {}", lab.server_version(), names(clients));
    let left = lab.leftovers();
    for thing in &left {
        println!("left behind: {thing}");
    }
    let ended = lab.end();
    if let Err(reason) = &ended {
        println!("left behind: {reason}");
    }
    if left.is_empty() && ended.is_ok() { conclusion.exit_code() } else { ExitCode::FAILURE }
}

fn names(clients: &[Client]) -> String {
    clients.iter().map(|client| client.version.as_str()).collect::<Vec<_>>().join(", ")
}
