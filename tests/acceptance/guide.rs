//! The guide "Lost or moved state": its blocks are read from the page, section by section, and run in their order.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::Case;
use crate::cli::{APPLY, Outcome, PLAN, Workspace};
use crate::hcl::CREATE_FIRST;
use crate::marks;
use crate::web_server::{Answer, Place, Request, Server};
use crate::wording::{
    ANOTHER_SERVER, CONTINUED, NAME_IN_USE, NAME_STILL_IN_USE, NOTHING_REPLACED, RECOVER, RENAMED_OUTSIDE,
    REPLACED_OUTSIDE, TWO_FOR_ONE, UNPROVEN,
};

pub(crate) const CASES: &[Case] = &[
    ("every_block_of_the_guide_to_lost_states_is_run", every),
    ("the_guide_recovers_a_lost_state", |run| section(run, "gdlost", "Recover a lost state", lost)),
    ("the_guide_works_from_another_checkout", |run| {
        section(run, "gdmove", "Work from another checkout or in CI", checkouts);
    }),
    ("the_guide_keeps_two_environments", |run| section(run, "gd2", "Keep two environments on one host", environments)),
    ("the_guide_imports_a_whole_environment", |run| section(run, "gdimp", "Import a whole environment", imports)),
    ("the_guide_renames_a_label", |run| section(run, "gdlabel", "Rename a resource label", labels)),
    ("the_guide_removes_an_element_of_a_list", |run| section(run, "gdlist", "Remove an element from a list", lists)),
    ("the_guide_replaces_an_object", |run| section(run, "gdrepl", "Replace an object", replaces)),
    ("the_guide_accepts_another_server", |run| section(run, "gdserv", "Use a reinstalled or another server", servers)),
    ("the_guide_runs_tests_beside_an_environment", |run| {
        section(run, "gdt", "Run tests beside a running environment", tests);
    }),
    ("the_guide_repairs_changes_of_the_incus_command", |run| {
        section(run, "gdfix", "Repair changes of the incus command", repairs);
    }),
];

/// Unprotected, so that a test can destroy what it has applied.
const OPEN: &str = "  delete_protection = false\n";
const WEB: &str = "anklume_instance.web";

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/guides/lost-or-moved-state.md");
    fs::read_to_string(path).unwrap()
}

/// A fenced block, with the language after its fence.
struct Block {
    language: String,
    text: String,
}

/// A section of the guide for one test, in which the domain `shop` has a name of its own.
struct Section<'r> {
    run: &'r Workspace,
    name: String,
    heading: String,
    /// The text on one line.
    prose: String,
    /// The blocks that were not run yet.
    blocks: VecDeque<Block>,
}

/// The headings of the page, each with the text below it.
fn headings(page: &str) -> Vec<(&str, &str)> {
    page.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap()).collect()
}

fn blocks(text: &str) -> VecDeque<Block> {
    let fenced = text.split("\n```").skip(1).step_by(2);
    let block =
        |text: &str| text.split_once('\n').map(|(language, text)| (language.to_owned(), text.to_owned() + "\n"));
    fenced.filter_map(block).map(|(language, text)| Block { language, text }).collect()
}

/// The text below a heading, for the domain `name` and the image of the tests.
fn text_of(heading: &str, name: &str) -> String {
    let page = page();
    let found = headings(&page).into_iter().find(|(found, _)| *found == heading);
    let (_, text) = found.unwrap_or_else(|| panic!("the guide has no section {heading:?}"));
    text.replace("shop", name).replace("images:debian/13", "busybox")
}

impl<'r> Section<'r> {
    fn new(run: &'r Workspace, word: &str, heading: &str) -> Self {
        let name = run.domain(word);
        let text = text_of(heading, &name);
        let prose = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { run, name, heading: heading.to_owned(), prose, blocks: blocks(&text) }
    }

    fn next(&mut self, language: &str) -> String {
        let block = self.blocks.pop_front().unwrap_or_else(|| panic!("{}: no block left", self.heading));
        assert_eq!(block.language, language, "{}:\n{}", self.heading, block.text);
        block.text
    }

    /// The next block, a piece of configuration.
    fn hcl(&mut self) -> String {
        self.next("hcl")
    }

    /// The next block, the lines of shell.
    fn sh(&mut self) -> String {
        self.next("sh")
    }

    /// Runs the next block, lines of shell that have to succeed.
    fn succeeds(&mut self, run: &Workspace) -> Outcome {
        let outcome = run.script(&self.sh());
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
        outcome
    }

    /// The section quotes `text`, and so says the outcome.
    fn quotes(&self, outcome: &Outcome, text: &str) {
        assert!(self.prose.contains(text), "{}: {text} is not quoted", self.heading);
        assert!(outcome.words().contains(text), "{}", outcome.text);
    }

    /// The section quotes `text`, by which the outcome is rejected.
    fn rejects(&self, outcome: &Outcome, text: &str) {
        self.quotes(outcome, text);
        assert_eq!(outcome.code, Some(1), "{}", outcome.text);
    }

    /// The configuration that most sections begin with.
    fn example(&self) -> String {
        blocks(&text_of("The example", &self.name)).pop_front().unwrap().text
    }

    /// The domain of the example.
    fn domain(&self) -> String {
        self.example().split_inclusive("\n\n").next().unwrap().to_owned()
    }

    /// The mark of Incus on the instance and the process that it runs.
    fn instance(&self) -> (Value, Value) {
        let incus = self.run.incus();
        let found = incus.instance(&self.name, "web").expect("the instance was deleted");
        let state = incus.query(&format!("/1.0/instances/web/state?project={}", self.name));
        (found["config"]["volatile.uuid"].clone(), state["pid"].clone())
    }

    fn created(&self, volume: &str) -> Value {
        let found = self.run.incus().volume(&self.name, "default", volume).expect("the volume was deleted");
        found["created_at"].clone()
    }
}

/// Makes `hcl`, which may have a provider block, the configuration; nothing is protected.
fn configure(run: &Workspace, hcl: &str) {
    let block = "provider \"anklume\" {\n";
    match hcl.contains(block) {
        true => run.configure_all(&hcl.replace(block, &format!("{block}{OPEN}"))),
        false => run.configure_provider(OPEN, hcl),
    }
}

/// Runs a section, all blocks of it.
fn section(run: &Workspace, word: &str, heading: &str, body: fn(&mut Section<'_>)) {
    let mut section = Section::new(run, word, heading);
    body(&mut section);
    let left = section.blocks.pop_front();
    assert!(left.is_none(), "{heading}: not run:\n{}", left.unwrap().text);
    assert!(run.incus().project(&section.name).is_none());
}

fn every(_: &Workspace) {
    let (page, tests) = (page(), include_str!("guide.rs"));
    for (heading, text) in headings(&page) {
        assert!(blocks(text).is_empty() || tests.contains(&format!("{heading:?}")), "no test runs {heading:?}");
    }
    let first = page.split("\n## ").next().unwrap();
    assert!(blocks(first).is_empty(), "a block before the first heading");
}

fn lost(section: &mut Section<'_>) {
    let run = section.run;
    configure(run, &section.example());
    run.apply();
    let before = section.instance();
    run.lose_state();
    let continued = section.succeeds(run);
    section.quotes(&continued, CONTINUED);
    marks::age(run);
    run.lose_state();
    section.rejects(&run.run(APPLY), NAME_IN_USE);
    section.succeeds(run);
    run.plan_is_empty();
    assert_eq!(section.instance(), before);
    run.forget(WEB);
    configure(run, &section.example().replace("\"/srv\"", "\"/mnt\""));
    section.rejects(&run.run(APPLY), UNPROVEN);
    configure(run, &section.example());
    run.apply();
    run.plan_is_empty();
    assert_eq!(section.instance(), before);
    run.destroy();
}

/// Keeps one state.
fn state_server(run: &Workspace) -> (Server, Arc<Mutex<Option<Vec<u8>>>>) {
    let kept = Arc::<Mutex<Option<Vec<u8>>>>::default();
    let state = Arc::clone(&kept);
    let answer = move |request: &Request| {
        let mut state = state.lock().unwrap();
        match (request.method.as_str(), &*state) {
            ("GET", Some(text)) => Answer::bytes(text),
            ("GET", None) => Answer::text(404, ""),
            _ => {
                *state = Some(request.body.clone());
                Answer::text(200, "")
            }
        }
    };
    (Server::start(Place { namespace: Some(&run.network()), tls: None }, answer), kept)
}

fn checkouts(section: &mut Section<'_>) {
    let run = section.run;
    let (server, state) = state_server(run);
    let address = format!("https://states.example.org/{}", section.name);
    let backend = section.hcl();
    assert!(backend.contains(&address), "{backend}");
    let remote = backend.replace(&address, &server.url("/state")) + &section.example();
    let here = run.beside();
    for checkout in [run, &here] {
        checkout.offer_to_init();
        configure(checkout, &remote);
    }
    run.succeed(&["init", "-input=false", "-no-color"]);
    run.apply();
    let before = section.instance();
    let planned = section.succeeds(&here);
    assert!(planned.text.contains("No changes."), "{}", planned.text);

    let moved = |hcl: &str| {
        let there = run.beside();
        fs::write(there.dir().join("terraform.tfstate"), state.lock().unwrap().as_ref().unwrap()).unwrap();
        configure(&there, hcl);
        there
    };
    let there = moved(&section.example());
    there.plan_updates(&[WEB]);
    assert_eq!(changed(&there), ["owner"].map(str::to_owned).into());
    section.succeeds(&there);
    there.plan_is_empty();
    assert_eq!(section.instance(), before);

    let named = section.hcl() + &section.example();
    let job = moved(&named);
    job.apply();
    moved(&named).plan_is_empty();
    assert_eq!(section.instance(), before);
    there.lose_state();
    there.set(RECOVER, "1");
    section.rejects(&there.run(APPLY), UNPROVEN);
    job.destroy();
}

/// The attributes that differ in the updates of the last plan.
fn changed(run: &Workspace) -> BTreeSet<String> {
    let plan: Value = serde_json::from_str(&run.succeed(&["show", "-json", "tfplan"]).text).unwrap();
    let changes = plan["resource_changes"].as_array().unwrap().iter().map(|resource| &resource["change"]);
    let mut names = BTreeSet::new();
    for change in changes.filter(|change| change["actions"][0] == "update") {
        let all = change["before"].as_object().unwrap().keys();
        names.extend(all.filter(|name| change["before"][*name] != change["after"][*name]).cloned());
    }
    names
}

fn environments(section: &mut Section<'_>) {
    let run = section.run;
    let hcl = section.hcl();
    configure(run, &hcl);
    section.succeeds(run);
    let there = |word: &str| run.incus().project(&format!("{}-{word}", section.name)).is_some();
    assert!(there("prod") && there("stage"));
    configure(run, &hcl.replace("${terraform.workspace}", "prod"));
    section.rejects(&run.run(APPLY), NAME_IN_USE);
    run.destroy();
    assert!(there("prod") && !there("stage"));
    run.succeed(&["workspace", "select", "prod"]);
    configure(run, &hcl);
    run.plan_is_empty();
    run.destroy();
    assert!(!there("prod"));
}

fn imports(section: &mut Section<'_>) {
    let run = section.run;
    let complete = section.hcl();
    let blocks: Vec<_> = complete.split("\n\n").filter(|block| !block.starts_with("import {")).collect();
    configure(run, &blocks.join("\n\n"));
    run.apply();
    let there = run.beside();
    configure(&there, &complete);
    let instances = ["anklume_instance.shop[\"db\"]", "anklume_instance.shop[\"web\"]"];
    there.plan_updates(&instances.map(|address| address.replace("shop", &section.name)).each_ref().map(String::as_str));
    assert_eq!(changed(&there), ["owner"].map(str::to_owned).into());
    let imported = section.succeeds(&there);
    assert!(imported.text.contains("Plan: 5 to import, 0 to add, 2 to change, 0 to destroy."), "{}", imported.text);
    there.plan_is_empty();
    there.destroy();
}

fn labels(section: &mut Section<'_>) {
    let run = section.run;
    configure(run, &section.example());
    run.apply();
    let before = (section.instance(), section.created("data"));
    let renamed =
        section.example().replace("\"data\" {", "\"files\" {").replace("anklume_volume.data", "anklume_volume.files");
    configure(run, &renamed);
    section.rejects(&run.run(APPLY), TWO_FOR_ONE);
    let moved = section.hcl();
    configure(run, &format!("{renamed}\n{moved}"));
    assert_eq!(run.plan(), []);
    run.apply();
    run.succeed(&["state", "mv", "anklume_volume.files", "anklume_volume.data"]);
    let imported = section.hcl();
    configure(run, &format!("{renamed}\n{imported}"));
    run.apply();
    run.plan_is_empty();
    assert_eq!((section.instance(), section.created("data")), before);
    configure(run, &renamed);
    run.plan_is_empty();
    run.destroy();
}

fn lists(section: &mut Section<'_>) {
    let (run, domain) = (section.run, section.domain());
    let with = |hcl: &str| configure(run, &format!("{domain}{hcl}"));
    let without_one = |hcl: &str| hcl.replace("\"one\", ", "");
    let counted = section.hcl();
    with(&counted);
    run.apply();
    let before = section.created("two");
    with(&without_one(&counted).replace("count = 2", "count = 1"));
    section.rejects(&run.run(APPLY), NAME_STILL_IN_USE);
    let keyed = section.hcl();
    with(&keyed);
    assert_eq!(run.plan(), []);
    run.apply();
    with(&without_one(&keyed));
    assert_eq!(run.plan(), [("anklume_volume.data[\"one\"]".to_owned(), "delete".to_owned())]);
    run.apply();
    assert_eq!(section.created("two"), before);
    run.destroy();
}

fn replaces(section: &mut Section<'_>) {
    let run = section.run;
    let first = section.example().replace("  name    = \"web\"\n", &format!("  name    = \"web\"\n  {CREATE_FIRST}\n"));
    configure(run, &first);
    run.apply();
    let before = section.instance();
    let replace = section.sh();
    section.rejects(&run.script(&replace), NOTHING_REPLACED);
    assert_eq!(section.instance(), before);
    configure(run, &section.example());
    let replaced = run.script(&replace);
    assert_eq!(replaced.code, Some(0), "{}", replaced.text);
    assert_ne!(section.instance().0, before.0);
    run.plan_is_empty();
    run.destroy();
}

fn servers(section: &mut Section<'_>) {
    let run = section.run;
    let there = run.elsewhere("guide", &[]);
    let address = format!("  address = \"unix://{}\"\n", there.socket().display());
    configure(run, &section.domain());
    run.apply();
    let kept = fs::read(run.dir().join("terraform.tfstate")).unwrap();
    run.configure_provider(&address, &section.domain());
    let rejected = run.run(PLAN);
    section.rejects(&rejected, ANOTHER_SERVER);
    let told = section.succeeds(&there).text;
    let fingerprint = told.split('"').find(|part| part.len() == 64).expect("no fingerprint");
    assert!(rejected.words().contains(fingerprint), "{}", rejected.text);
    let accepted = section.hcl();
    let example = accepted.split('"').find(|part| part.len() == 64).unwrap();
    let accepted = accepted.replace(example, fingerprint).replace("  accept", &format!("{address}  accept"));
    configure(run, &(accepted + &section.domain()));
    run.apply();
    assert!(there.incus().project(&section.name).is_some());
    run.plan_is_empty();
    run.destroy();
    fs::write(run.dir().join("terraform.tfstate"), kept).unwrap();
    configure(run, &section.domain());
    run.plan_is_empty();
    run.destroy();
}

fn tests(section: &mut Section<'_>) {
    let run = section.run;
    let hcl = section.hcl();
    configure(run, &hcl);
    run.apply();
    let test = section.hcl();
    let path = format!("tests/{}.tftest.hcl", section.name);
    assert!(section.prose.contains(&format!("`{path}`")), "{path}");
    fs::create_dir(run.dir().join("tests")).unwrap();
    fs::write(run.dir().join(&path), &test).unwrap();
    let command = section.sh();
    let tested = run.script(&command);
    assert!(tested.code == Some(0) && tested.text.contains("1 passed, 0 failed"), "{}", tested.text);
    assert!(run.incus().project(&format!("{}-test", section.name)).is_none());
    fs::write(run.dir().join(&path), test.replace("-test", "")).unwrap();
    section.rejects(&run.script(&command), NAME_IN_USE);
    run.plan_is_empty();
    run.destroy();
}

fn repairs(section: &mut Section<'_>) {
    let (run, name) = (section.run, section.name.clone());
    let incus = run.incus();
    let inside: &[&str] = &["--project", &name];
    configure(run, &section.example());
    run.apply();
    incus.run(&[&["delete", "web", "-f"], inside].concat());
    incus.run(&[&["launch", "busybox", "web", "-q"], inside].concat());
    let theirs = section.instance();
    section.quotes(&run.run(PLAN), REPLACED_OUTSIDE);
    section.succeeds(run);
    run.plan_updates(&[WEB]);
    run.apply();
    run.plan_is_empty();
    assert_eq!(section.instance(), theirs);
    incus.run(&[&["stop", "web", "-f"], inside].concat());
    incus.run(&[&["rename", "web", "elsewhere"], inside].concat());
    section.quotes(&run.run(PLAN), RENAMED_OUTSIDE);
    run.apply();
    run.plan_is_empty();
    run.destroy();
}
