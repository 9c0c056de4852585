//! A state that is pointed at another Incus: one error names both servers, and nothing is created a second time.

use std::fs;

use crate::Case;
use crate::cli::{APPLY, DESTROY, PLAN, Workspace};
use crate::hcl::{domain, profile, stopped, volume};
use crate::wording::ANOTHER_SERVER;

pub(crate) const CASES: &[Case] = &[
    ("a_state_on_another_server_is_one_error_until_that_server_is_accepted", another),
    ("a_server_that_the_environment_changes_is_one_error", by_environment),
];

fn environment(name: &str) -> String {
    domain(name) + &profile("p", "p", "") + &volume("v", "v", "") + &stopped("i", "i", "")
}

fn fingerprint(run: &Workspace) -> String {
    run.incus().query("/1.0")["environment"]["certificate_fingerprint"].as_str().unwrap().to_owned()
}

/// Plan, apply and destroy are refused, by one error that names both servers.
fn is_refused(here: &Workspace, there: &Workspace) {
    for command in [PLAN, APPLY, DESTROY] {
        let refused = here.run(command);
        assert_eq!(there.leftovers(), [""; 0], "{} built or left something", command[0]);
        let words = refused.words();
        assert!(refused.code == Some(1) && words.matches(ANOTHER_SERVER).count() == 1, "{}", refused.text);
        assert!(words.contains(&fingerprint(here)) && words.contains(&fingerprint(there)), "{}", refused.text);
    }
}

fn another(here: &Workspace) {
    let (name, there) = (here.domain("siaddr"), here.elsewhere("identity", &[]));
    let address = format!("  address = \"unix://{}\"\n", there.socket().display());
    here.configure(&environment(&name));
    here.apply();
    here.configure_provider(&address, &environment(&name));
    is_refused(here, &there);

    let kept = fs::read(here.dir().join("terraform.tfstate")).unwrap();
    let accepted = format!("{address}  accept_server = \"{}\"\n", fingerprint(&there));
    here.configure_provider(&accepted, &environment(&name));
    here.apply();
    here.plan_is_empty();
    assert!(there.incus().instance(&name, "i").is_some() && here.incus().instance(&name, "i").is_some());
    here.destroy();
    assert_eq!(there.leftovers(), [""; 0]);
    fs::write(here.dir().join("terraform.tfstate"), kept).unwrap();
    here.configure(&environment(&name));
    here.plan_is_empty();
    here.destroy();
}

fn by_environment(here: &Workspace) {
    let (name, there) = (here.domain("sienv"), here.elsewhere("identity-env", &[]));
    here.configure(&environment(&name));
    here.apply();
    here.set("INCUS_DIR", there.lab().join("incus").to_str().unwrap());
    is_refused(here, &there);
    here.set("INCUS_DIR", here.lab().join("incus").to_str().unwrap());
    here.plan_is_empty();
    here.destroy();
}
