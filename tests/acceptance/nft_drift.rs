//! `anklume_nft_isolation` beside others: changes by hand, an apply that dies, another isolation.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::Case;
use crate::cli::{APPLY, Workspace};
use crate::nft_isolation::{HOST, has_table, isolation, output, table, unmarked};

pub(crate) const CASES: &[Case] = &[
    ("every_change_by_hand_is_shown_by_name_and_repaired", drift),
    ("what_the_state_forgot_is_continued_within_a_day_and_later_on_request", forgotten),
    ("a_replacement_that_would_keep_the_table_fails", replaced),
    ("a_table_in_the_place_of_ours_is_neither_changed_nor_destroyed", swapped),
    ("an_apply_that_is_killed_converges", killed),
    ("a_file_that_cannot_be_written_is_told_and_the_next_apply_works", unwritten),
    ("two_isolations_of_one_host_are_refused", two),
];

/// The rules of the table as nft shows them: chain, handle and text.
fn rules(run: &Workspace) -> Vec<(String, String, String)> {
    let mut chain = String::new();
    let mut found = Vec::new();
    for line in output(run, "nft", &["-a", "list", "table", "inet", "anklume"]).lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("chain ") {
            chain = rest.split(' ').next().unwrap().to_owned();
        } else if let (false, Some((text, handle))) = (chain.is_empty(), line.split_once(" # handle "))
            && !line.starts_with("type ")
        {
            found.push((chain.clone(), handle.to_owned(), text.to_owned()));
        }
    }
    found
}

/// The sets and maps of the table that hold something.
fn sets(run: &Workspace) -> Vec<(String, String)> {
    let listed: Value = serde_json::from_str(&output(run, "nft", &["-j", "list", "table", "inet", "anklume"])).unwrap();
    let objects = listed["nftables"].as_array().unwrap().clone();
    let of = |kind: &str| {
        let full = objects.iter().map(|object| object[kind].clone()).filter(|set| set["elem"].is_array());
        full.map(|set| (kind.to_owned(), set["name"].as_str().unwrap().to_owned())).collect::<Vec<_>>()
    };
    [of("set"), of("map")].concat()
}

fn drift(here: &Workspace) {
    let run = here.elsewhere("drift", &[]);
    let policies = "
    web  = { from = \"a\", to = \"b\", ports = [\"80\", \"443\"], protocol = \"tcp\" }
    ping = { from = \"b\", to = \"c\", protocol = \"icmp\", bidirectional = true }";
    let file = run.dir().join("rules.nft");
    let persist = format!("  persist_path = {file:?}");
    run.configure(&isolation(&["a", "b", "c"], policies, &persist));
    run.apply();
    let written = || unmarked(&fs::read_to_string(&file).unwrap());
    let (whole, kept) = (table(&run), written());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let nft = |words: &[&str]| drop(output(&run, "nft", words));
    // Shown by a plan that repairs it, with the names of what differs; then as it was.
    let repaired = |what: &str, named: &[&str]| {
        let text = run.succeed(&["plan", "-input=false", "-no-color"]).text;
        assert!(!text.contains("No changes"), "{what}: {text}");
        for name in named {
            assert!(text.contains(name), "{what}: {name} is not shown\n{text}");
        }
        run.apply();
        run.plan_is_empty();
        assert_eq!(table(&run), whole, "{what}");
        assert_eq!(written(), kept, "{what}");
    };

    let count = rules(&run).len();
    // Some of them, the first and the last included: each takes three runs of the client.
    for index in (0..count).step_by(6).chain([count - 1]) {
        let (chain, handle, text) = rules(&run).swap_remove(index);
        nft(&["delete", "rule", "inet", "anklume", &chain, "handle", &handle]);
        repaired(&format!("deleted: {text}"), &["changed by others"]);
    }
    for (kind, name) in sets(&run) {
        nft(&["flush", &kind, "inet", "anklume", &name]);
        repaired(&format!("flushed: {kind} {name}"), &["changed by others"]);
    }
    let (chain, ..) = rules(&run).swap_remove(0);
    for verb in ["add", "insert"] {
        nft(&[verb, "rule", "inet", "anklume", &chain, "ip", "daddr", "10.9.9.9", "accept"]);
        repaired(&format!("{verb} rule"), &["changed by others"]);
    }
    nft(&["add", "chain", "inet", "anklume", "mine"]);
    repaired("a chain more", &["mine"]);
    // The last rule moves to the front: the same rules in another order.
    let (chain, handle, text) = rules(&run).pop().unwrap();
    nft(&["delete", "rule", "inet", "anklume", &chain, "handle", &handle]);
    let words: Vec<_> = text.split(' ').collect();
    let first = rules(&run).into_iter().find(|(of, ..)| *of == chain).map(|(_, handle, _)| handle);
    if let Some(first) = first {
        nft(&[&["insert", "rule", "inet", "anklume", chain.as_str(), "handle", first.as_str()], words.as_slice()]
            .concat());
        repaired("reordered", &["changed by others"]);
    }
    nft(&["flush", "table", "inet", "anklume"]);
    repaired("flushed", &["the chain was flushed"]);
    nft(&["delete", "table", "inet", "anklume"]);
    repaired("deleted", &["policy/web", "policy/ping", "table: missing"]);

    fs::write(&file, "something else").unwrap();
    run.apply_fails();
    fs::remove_file(&file).unwrap();
    repaired("no file", &["changed by others"]);
    fs::write(&file, format!("{}# more\n", fs::read_to_string(&file).unwrap())).unwrap();
    repaired("another file", &["changed by others"]);
    // After a boot that did not load it, the file of the same owner is in nobody's way.
    nft(&["delete", "table", "inet", "anklume"]);
    run.configure(&isolation(&["a", "b", "c"], "", &persist));
    run.apply();
    run.plan_is_empty();
    run.configure(&isolation(&["a", "b", "c"], policies, ""));
    run.apply();
    assert!(!file.exists());
    nft(&["delete", "table", "inet", "anklume"]);
    assert!(run.succeed(&["plan", "-input=false", "-no-color"]).text.contains("will be created"));
    // What is left of one whose table is gone is its file, and a destroy takes it away; of a tainted one too.
    for taint in [false, true] {
        run.configure(&isolation(&["a", "b", "c"], policies, &persist));
        run.apply();
        if taint {
            run.succeed(&["taint", HOST]);
        }
        nft(&["delete", "table", "inet", "anklume"]);
        run.destroy();
        assert!(!has_table(&run) && !file.exists(), "tainted: {taint}");
    }
}

/// The mark of the table, 64 digits.
pub(crate) fn mark(run: &Workspace) -> String {
    let text = output(run, "nft", &["list", "table", "inet", "anklume"]);
    let (_, rest) = text.split_once("comment \"anklume ").unwrap_or_else(|| panic!("no mark in {text}"));
    rest.split('"').next().unwrap().to_owned()
}

/// Puts the same table under another mark in the place of the table.
pub(crate) fn remark(run: &Workspace, to: &str) {
    let text = output(run, "nft", &["list", "table", "inet", "anklume"]).replace(&mark(run), to);
    let script = run.dir().join("remarked.nft");
    fs::write(&script, format!("delete table inet anklume\n{text}")).unwrap();
    output(run, "nft", &["-f", script.to_str().unwrap()]);
    assert_eq!(mark(run), to);
}

fn forgotten(here: &Workspace) {
    let run = here.elsewhere("forgotten", &[]);
    let configure = |more: &str| {
        let policies = format!("    web = {{ from = \"a\", to = \"b\", ports = [\"80\"], protocol = \"tcp\"{more} }}");
        run.configure(&isolation(&["a", "b"], &policies, ""));
    };
    let continued = || {
        let before = mark(&run);
        let text = run.apply();
        assert!(text.contains("Continued an interrupted create"), "{text}");
        assert!(mark(&run)[..32] == before[..32] && mark(&run)[32..] != before[32..], "{before} {}", mark(&run));
        run.plan_is_empty();
    };
    configure("");
    run.apply();
    run.forget(HOST);
    continued();
    configure(", bidirectional = false");
    run.plan_is_empty();
    run.forget(HOST);
    continued();
    configure(", bidirectional = true");
    run.apply();
    run.forget(HOST);
    continued();

    // Older than a day.
    run.forget(HOST);
    let (fresh, now) = (mark(&run), SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    remark(&run, &format!("{}{:08x}{}", &fresh[..32], now - 25 * 3600, &fresh[40..]));
    let (old, whole) = (mark(&run), table(&run));
    let refused = run.apply_fails();
    for said in [
        "the name is already in use",
        "with the mark of this state and configuration, since 20",
        "ANKLUME_RECOVER=1 tofu apply",
    ] {
        assert!(refused.contains(said), "{said}: {refused}");
    }
    assert_eq!((mark(&run), table(&run)), (old, whole));
    run.set("ANKLUME_RECOVER", "1");
    continued();
    run.set("ANKLUME_RECOVER", "0");
    run.destroy();
    assert!(!has_table(&run));
}

fn replaced(here: &Workspace) {
    let run = here.elsewhere("replaced", &[]);
    let policies = "    web = { from = \"a\", to = \"b\", ports = [\"80\"], protocol = \"tcp\" }";
    let configure = |more: &str| run.configure(&isolation(&["a", "b"], policies, more));
    let replace = [APPLY, &["-replace=anklume_nft_isolation.host"]].concat();
    configure("  lifecycle {\n    create_before_destroy = true\n  }");
    run.apply();
    let whole = table(&run);
    let refused = run.fail(&replace);
    assert!(refused.contains("Nothing was replaced") && refused.contains("create_before_destroy"), "{refused}");
    assert_eq!(table(&run), whole);
    run.apply();
    run.plan_is_empty();
    assert_eq!(table(&run), whole);

    configure("");
    run.apply();
    let before = mark(&run);
    run.succeed(&replace);
    assert_ne!(mark(&run), before);
    run.plan_is_empty();
    run.destroy();
    assert!(!has_table(&run));
}

fn swapped(here: &Workspace) {
    let run = here.elsewhere("swapped", &[]);
    let file = run.dir().join("rules.nft");
    let configure = |port: u16| {
        let policies = format!("    web = {{ from = \"a\", to = \"b\", ports = [\"{port}\"], protocol = \"tcp\" }}");
        run.configure(&isolation(&["a", "b"], &policies, &format!("  persist_path = {file:?}")));
    };
    let without_refresh = [APPLY, &["-refresh=false"]].concat();
    let destroy = ["destroy", "-auto-approve", "-input=false", "-no-color", "-refresh=false"];
    for taint in [false, true] {
        configure(80);
        run.apply();
        remark(&run, &format!("{}{}", &mark(&run)[..32], "5".repeat(32)));
        // The file of ours goes with it, so that nothing of the resource is left.
        fs::remove_file(&file).unwrap();
        let (stranger, whole) = (mark(&run), table(&run));
        let text = run.succeed(&["plan", "-input=false", "-no-color"]).text;
        assert!(
            text.contains("The isolation was replaced outside Terraform") && text.contains("will be created"),
            "{text}"
        );
        configure(81);
        let refused = run.fail(&without_refresh);
        assert!(refused.contains("Unable to update isolation: it was replaced outside Terraform"), "{refused}");
        assert!(refused.contains("id = \"inet anklume\""), "{refused}");
        if taint {
            run.succeed(&["taint", HOST]);
        }
        run.succeed(&destroy);
        assert_eq!((mark(&run), table(&run)), (stranger, whole), "tainted: {taint}");
        output(&run, "nft", &["delete", "table", "inet", "anklume"]);
    }
}

/// Killed at any moment, what is there is the old or the new, and the next apply gets there.
fn killed(here: &Workspace) {
    let run = here.elsewhere("killed", &[]);
    let configure = |port: u32| {
        let policies = format!("    web = {{ from = \"a\", to = \"b\", ports = [\"{port}\"], protocol = \"tcp\" }}");
        run.configure(&isolation(&["a", "b"], &policies, ""));
    };
    configure(1000);
    run.apply();
    for round in 1..5 {
        let old = table(&run);
        let new = old.replace(&(999 + round).to_string(), &(1000 + round).to_string());
        configure(1000 + round);
        run.apply_and_kill_within(Duration::from_millis(30 + 120 * u64::from(round)));
        let there = table(&run);
        assert!(there == old || there == new, "{there}");
        run.apply();
        run.plan_is_empty();
        assert_eq!(table(&run), new);
    }
    run.destroy();
}

fn unwritten(here: &Workspace) {
    let run = here.elsewhere("unwritten", &[]);
    let policies = "    web = { from = \"a\", to = \"b\", ports = [\"80\"], protocol = \"tcp\" }";
    let at = |path: &std::path::Path| isolation(&["a", "b"], policies, &format!("  persist_path = {path:?}"));
    let (missing, file) = (run.dir().join("missing/rules.nft"), run.dir().join("rules.nft"));
    run.configure(&at(&missing));
    let refused = run.apply_fails();
    assert!(
        refused.contains("Unable to create isolation") && refused.contains("The directory has to exist"),
        "{refused}"
    );
    assert!(!has_table(&run));
    run.configure(&at(&file));
    run.apply();
    run.plan_is_empty();
    run.configure(&at(&missing));
    let refused = run.apply_fails();
    assert!(refused.contains("Unable to update isolation") && file.exists(), "{refused}");
    run.configure(&at(&file));
    run.plan_is_empty();
    run.destroy();
    assert!(!has_table(&run) && !file.exists());
}

fn two(here: &Workspace) {
    let run = here.elsewhere("two", &[]);
    let policies = "    web = { from = \"a\", to = \"b\", ports = [\"80\"], protocol = \"tcp\" }";
    let one = isolation(&["a", "b"], policies, "");
    run.configure(&format!("{one}{}", one.replace("\"host\"", "\"more\"")));
    let refused = run.plan_fails();
    assert!(refused.contains("Two resources for one object"), "{refused}");

    run.configure(&one);
    run.apply();
    let (whole, other) = (table(&run), run.beside());
    other.configure(&one);
    let refused = other.apply_fails();
    for said in [
        "the name is already in use",
        "without a mark that proves",
        "to = anklume_nft_isolation.<name>",
        "id = \"inet anklume\"",
    ] {
        assert!(refused.contains(said), "{said}: {refused}");
    }
    assert_eq!(table(&run), whole);
    run.destroy();

    // One without a mark is somebody's too.
    output(&run, "nft", &["add", "table", "inet", "anklume"]);
    output(&run, "nft", &["add", "chain", "inet", "anklume", "mine"]);
    output(&run, "nft", &["add", "rule", "inet", "anklume", "mine", "accept"]);
    let whole = table(&run);
    let refused = run.apply_fails();
    assert!(
        refused.contains("the name is already in use") && refused.contains("nft list table inet anklume"),
        "{refused}"
    );
    let import = |id: &str| run.fail(&["import", "-input=false", "-no-color", HOST, id]);
    let refused = import("inet anklume");
    assert!(
        refused.contains("the table carries no mark") && refused.contains("nft list table inet anklume"),
        "{refused}"
    );
    assert_eq!(table(&run), whole);
    output(&run, "nft", &["delete", "table", "inet", "anklume"]);
    assert!(import("inet anklume").contains("it does not exist"));
    assert!(import("anklume").contains("Write: import { to = anklume_nft_isolation.<name>"));
}
