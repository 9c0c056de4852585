//! Ctrl-C during a create, and the next command at once: it waits for what Incus still carries out.

use rustix::process::Signal;

use crate::Case;
use crate::cli::{APPLY, DESTROY, Workspace};
use crate::hcl::{domain, instance};

pub(crate) const CASES: &[Case] = &[
    ("a_destroy_at_once_after_an_interrupted_create_works", |run| {
        cut_short(run, "ctdest", DESTROY);
        assert!(run.incus().project(&run.domain("ctdest")).is_none());
    }),
    ("an_apply_at_once_after_an_interrupted_create_works", |run| {
        cut_short(run, "ctapply", APPLY);
        run.plan_is_empty();
        run.destroy();
    }),
];

/// Two rounds of as many instances as the client creates at once.
fn cut_short(run: &Workspace, word: &str, next: &[&str]) {
    let (name, incus) = (run.domain(word), run.incus());
    let instances: String = (0..10).map(|i| instance(&format!("i{i}"), &format!("i{i}"), "")).collect();
    run.configure(&(domain(&name) + &instances));
    for _ in 0..2 {
        run.succeed(&[APPLY, &["-target=anklume_domain.d"]].concat());
        let begun = || !incus.list(&format!("/1.0/instances?project={name}")).is_empty();
        let (_, interrupted) = run.interrupted_apply(Signal::INT, begun);
        let after = run.run(next);
        assert!(after.code == Some(0), "{interrupted}\n{}", after.text);
        if next == APPLY {
            run.destroy();
        }
    }
    if next == APPLY {
        run.apply();
    }
}
