//! Every call of every resource against an Incus whose answers are mutated: it ends, with a result or a diagnostic. Time is
//! paused.

use std::time::Duration;

use anklume::plugin::{Call, Create, Failure, Private, Provider, Resource, Stored, Update, Value};
use anklume::resources::Anklume;
use rand::Rng;
use rand::rngs::StdRng;

use crate::incus::{Incus, Lies, corpus};
use crate::rounds::rounds;

type Session = <Anklume as Provider>::Session;

/// Far beyond every limit of a call, in paused time.
const END: Duration = Duration::from_secs(7200);
/// The longest text of a diagnostic that anybody would read, in bytes.
const TEXT_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Import,
    Read,
    Create,
    Update,
    Delete,
}

const STEPS: [Step; 5] = [Step::Import, Step::Read, Step::Create, Step::Update, Step::Delete];

/// Its name, an import id, and the paths of what a create makes.
type Kind = (&'static str, &'static str, &'static [&'static str]);

const KINDS: [Kind; 4] = [
    ("domain", "pro", &["/projects/pro", "/networks/net-pro"]),
    ("profile", "pro/small", &["/profiles/small"]),
    ("instance", "pro/web", &["/instances/web"]),
    ("volume", "pro/default/data", &["/storage-pools/default/volumes/custom/data"]),
];

fn resource(kind: &str) -> Box<dyn Resource<Session>> {
    let name = format!("anklume_{kind}");
    Anklume.resources().into_iter().find(|resource| resource.type_name() == name).unwrap()
}

fn session(incus: &Incus) -> Session {
    let mut block = Value::object();
    block.set("address", incus.address());
    block.set("owner", "fuzz");
    Anklume.configure(block, "1.11.4").unwrap()
}

/// What is configured, with what else an import found.
fn wanted(kind: &str, prior: &Value) -> Value {
    let Value::Map(mut members) = prior.clone() else { panic!("{prior:?}") };
    let config = Value::from_json(&corpus(&format!("messages/{kind}.json")));
    members.extend(config.as_map().unwrap().clone());
    members.remove("timeouts");
    Value::Map(members)
}

fn shown(failure: &Failure) -> String {
    failure.diagnostics.iter().map(|told| format!("{}: {}\n", told.summary, told.detail)).collect()
}

async fn call(session: &Session, kind: &str, id: &str, step: Step, stored: Stored) -> Result<(), Failure> {
    let (resource, call) = (resource(kind), Call::default());
    let (config, private) = (wanted(kind, &stored.state), stored.private.clone());
    match step {
        Step::Import => resource.import(session, &call, id).await.map(|_| ()),
        Step::Read => resource.read(session, &call, stored).await.map(|_| ()),
        Step::Create => {
            let input = Create { planned: config.clone(), config, private: Private::default() };
            resource.create(session, &call, input).await.map(|_| ())
        }
        Step::Update => {
            let input = Update { planned: config.clone(), config, prior: stored.state, private };
            resource.update(session, &call, input).await.map(|_| ())
        }
        Step::Delete => resource.delete(session, &call, Stored::new(config, private)).await,
    }
}

/// One call, in a runtime of its own whose time is paused; how many requests it made, and how it ended.
fn run(dice: &mut StdRng, kind: Kind, step: Step, lies: Lies) -> Result<(usize, Result<(), Failure>), String> {
    let (kind, id, made) = kind;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let truthful = Incus::start(Lies::None, dice);
        let stored = resource(kind).import(&session(&truthful), &Call::default(), id).await;
        let stored = stored.map_err(|failure| shown(&failure))?;
        let incus = Incus::start(lies, dice);
        if step == Step::Create {
            made.iter().for_each(|path| incus.set(path, false));
        }
        let session = session(&incus);
        let ended = tokio::spawn(async move { call(&session, kind, id, step, stored).await });
        let ended = match tokio::time::timeout(END, ended).await {
            Ok(ended) => ended.map_err(|panic| format!("{step:?} of {kind}: {panic}"))?,
            Err(_) => return Err(format!("{step:?} of {kind} does not end")),
        };
        Ok((incus.requests(), ended))
    })
}

#[test]
fn true_answers_of_the_corpus_make_every_call_succeed() {
    use rand::SeedableRng;
    let mut dice = StdRng::seed_from_u64(0);
    for kind in KINDS {
        for step in STEPS {
            let (requests, ended) = run(&mut dice, kind, step, Lies::None).unwrap();
            assert!(requests > 0, "{step:?} of {}", kind.0);
            if let Err(failure) = ended {
                panic!("{step:?} of {}: {}", kind.0, shown(&failure));
            }
        }
    }
}

#[test]
fn a_mutated_answer_ends_in_a_result_or_a_diagnostic() {
    let (mut failed, mut fine) = (0, 0);
    rounds("a_mutated_answer_ends_in_a_result_or_a_diagnostic", 1000, |dice| {
        let (kind, step) = (KINDS[dice.random_range(0..KINDS.len())], STEPS[dice.random_range(0..STEPS.len())]);
        let lies = Lies::From(dice.random_range(0..6), [10, 30, 100][dice.random_range(0..3)]);
        match run(dice, kind, step, lies)?.1 {
            Ok(()) => fine += 1,
            Err(failure) => {
                failed += 1;
                if !failure.diagnostics.has_errors() {
                    return Err(format!("{step:?} of {} failed without a diagnostic", kind.0));
                }
                let text = shown(&failure);
                if text.len() > TEXT_BYTES {
                    return Err(format!(
                        "{step:?} of {}: {} bytes: {}...",
                        kind.0,
                        text.len(),
                        text.chars().take(300).collect::<String>()
                    ));
                }
            }
        }
        Ok(())
    });
    println!("{failed} calls ended in diagnostics, {fine} in results");
}
