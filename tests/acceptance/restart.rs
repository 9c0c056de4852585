//! The daemon restarts while it is asked for much.

use crate::Case;
use crate::cli::Workspace;

pub(crate) const CASES: &[Case] = &[("an_apply_of_twenty_containers_outlives_a_restart_of_the_daemon", restarted)];

const COUNT: usize = 20;

fn restarted(here: &Workspace) {
    let run = here.elsewhere("restart", &[]);
    let (name, incus) = (run.domain("many"), run.incus());
    run.configure(&format!(
        "resource \"anklume_domain\" \"d\" {{\n  name = \"{name}\"\n  storage_pool = \"default\"\n}}\n\n\
         resource \"anklume_instance\" \"it\" {{\n  count = {COUNT}\n  name = \"box-${{count.index}}\"\n  \
         domain = anklume_domain.d.name\n  image = \"busybox\"\n  stop_timeout = \"0s\"\n  delete_protection = false\n  \
         wait = {{ addresses = false }}\n}}\n"
    ));
    let there = || {
        let found = incus.find(&format!("/1.0/instances?recursion=1&project={name}"));
        found.and_then(|found| found.as_array().cloned()).unwrap_or_default()
    };
    let text = run.disturbed_apply(|| there().len() >= COUNT / 4, || run.restart_incus());
    if !text.contains("Apply complete!") {
        println!("{text}");
        assert!(text.contains("Apply again") || text.contains("apply again"), "it says what to do: {text}");
        run.apply();
    }
    run.plan_is_empty();
    let running = there().iter().filter(|instance| instance["status"] == "Running").count();
    assert_eq!(running, COUNT);
    run.destroy();
    assert_eq!(run.leftovers(), Vec::<String>::new());
}
