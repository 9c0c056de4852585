//! What others made under a name of ours: not a byte of it changes, whatever is applied or destroyed.

use crate::Case;
use crate::cli::{APPLY, Workspace};
use crate::nft_isolation::output;

pub(crate) const CASES: &[Case] = &[
    ("no_byte_of_a_foreign_object_of_the_same_name_changes", untouched),
    ("of_two_applies_at_once_of_the_same_names_one_makes_them_and_the_other_is_refused", at_once),
];

const DOMAINS: &str = r#"resource "anklume_domain" "x" {
  name         = "x"
  storage_pool = "default"
}

resource "anklume_domain" "y" {
  name         = "y"
  storage_pool = "default"
}

resource "anklume_nft_isolation" "host" {
  domains = { x = null, y = null }
}
"#;

/// The domain `x`, and what is in it, described as `description`.
fn inside(description: &str) -> String {
    let mut text =
        "resource \"anklume_domain\" \"x\" {\n  name = \"x\"\n  storage_pool = \"default\"\n}\n\n".to_owned();
    for (kind, label, rest) in [
        ("profile", "p", ""),
        ("volume", "v", "  size = \"16MiB\"\n  delete_protection = false\n"),
        ("volume", "cd", "  content_type = \"iso\"\n  source = { file = \"cd.iso\" }\n  delete_protection = false\n"),
        ("instance", "i", "  image = \"busybox\"\n  running = false\n  delete_protection = false\n"),
    ] {
        text += &format!(
            "resource \"anklume_{kind}\" \"{label}\" {{\n  name = \"{label}\"\n  domain = anklume_domain.x.name\n  \
             description = \"{description}\"\n{rest}}}\n\n"
        );
    }
    text
}

const INSIDE: [&str; 4] = [
    "/1.0/profiles/p?project=x",
    "/1.0/storage-pools/default/volumes/custom/v?project=x",
    "/1.0/instances/i?project=x",
    "/1.0/storage-pools/default/volumes/custom/cd?project=x",
];

fn make_inside(run: &Workspace, has_iso: bool) {
    let incus = run.incus();
    let iso = run.dir().join("cd.iso");
    let mut commands = vec![
        vec!["profile", "create", "p", "-q"],
        vec!["storage", "volume", "create", "default", "v", "size=16MiB", "-q"],
        vec!["init", "busybox", "i", "-c", "user.whose=theirs", "-q"],
    ];
    if has_iso {
        commands.push(vec!["storage", "volume", "import", "default", iso.to_str().unwrap(), "cd", "--type=iso", "-q"]);
    }
    for command in commands {
        incus.run(&[command.as_slice(), &["--project", "x"]].concat());
    }
}

fn delete_inside(run: &Workspace, has_iso: bool) {
    let incus = run.incus();
    let mut commands = vec![
        vec!["delete", "i", "-f"],
        vec!["profile", "delete", "p"],
        vec!["storage", "volume", "delete", "default", "v", "-q"],
    ];
    if has_iso {
        commands.push(vec!["storage", "volume", "delete", "default", "cd", "-q"]);
    }
    for command in commands {
        incus.run(&[command.as_slice(), &["--project", "x"]].concat());
    }
}

/// From two directories, so that they are two owners: what one has made the other neither takes nor changes.
fn at_once(here: &Workspace) {
    let run = here.elsewhere("once", &[]);
    let name = run.domain("once");
    let rest = [
        "  image = \"busybox\"\n  running = false\n  delete_protection = false\n",
        "  size = \"16MiB\"\n  delete_protection = false\n",
    ];
    let hcl = format!(
        "resource \"anklume_domain\" \"d\" {{\n  name = \"{name}\"\n  storage_pool = \"default\"\n}}\n\n\
         resource \"anklume_instance\" \"i\" {{\n  name = \"i\"\n  domain = anklume_domain.d.name\n{}}}\n\n\
         resource \"anklume_volume\" \"v\" {{\n  name = \"v\"\n  domain = anklume_domain.d.name\n{}}}\n",
        rest[0], rest[1]
    );
    let other = run.beside();
    for one in [&run, &other] {
        one.configure(&hcl);
    }
    let (first, (second, other)) = std::thread::scope(|scope| {
        let running = scope.spawn(move || {
            let outcome = other.run(APPLY);
            (outcome, other)
        });
        (run.run(APPLY), running.join().unwrap())
    });
    let outcomes = [first.code, second.code];
    assert!(outcomes.contains(&Some(0)) && outcomes.contains(&Some(1)), "{outcomes:?}");
    let (winner, loser, refused) = if first.code == Some(0) { (&run, &other, second) } else { (&other, &run, first) };
    assert!(refused.text.contains("Unable to create domain"), "{}", refused.text);
    winner.plan_is_empty();
    loser.destroy();
    winner.plan_is_empty();
    winner.destroy();
    assert_eq!(run.leftovers(), Vec::<String>::new());
}

fn untouched(here: &Workspace) {
    let run = here.elsewhere("foreign", &[]);
    let incus = run.incus();
    let bytes = |paths: &[&str]| paths.iter().map(|path| incus.run(&["query", path])).collect::<Vec<_>>();
    let errors = |text: &str| text.matches("Error: ").count();

    incus.run(&["project", "create", "x", "-q"]);
    incus.run(&["network", "create", "net-y", "-q"]);
    output(&run, "nft", &["add", "table", "inet", "anklume"]);
    output(&run, "nft", &["add", "chain", "inet", "anklume", "theirs"]);
    let outside = || {
        let table = output(&run, "nft", &["list", "table", "inet", "anklume"]);
        (bytes(&["/1.0/projects/x", "/1.0/profiles/default?project=x", "/1.0/networks/net-y"]), table)
    };
    let before = outside();
    run.configure(DOMAINS);
    let refused = run.fail_in_full(APPLY);
    assert_eq!(errors(&refused), 3, "{refused}");
    assert_eq!(outside(), before);
    run.destroy();
    assert_eq!(outside(), before);
    incus.run(&["project", "delete", "x"]);
    incus.run(&["network", "delete", "net-y"]);
    output(&run, "nft", &["delete", "table", "inet", "anklume"]);

    std::fs::write(run.dir().join("cd.iso"), vec![7; 1 << 20]).unwrap();
    let all = inside("ours");
    run.configure(all.split("resource \"anklume_profile\"").next().unwrap());
    run.apply();
    make_inside(&run, true);
    let before = bytes(&INSIDE);
    run.configure(&all);
    let refused = run.fail_in_full(APPLY);
    assert_eq!(errors(&refused), 4, "{refused}");
    assert_eq!(bytes(&INSIDE), before);
    delete_inside(&run, true);

    // Ours are in the state, and somebody's stand under their names.
    run.apply();
    delete_inside(&run, false);
    make_inside(&run, false);
    let before = bytes(&INSIDE[..3]);
    run.configure(&inside("changed"));
    let refused = run.fail_in_full(&[APPLY, &["-refresh=false"]].concat());
    assert_eq!(errors(&refused), 3, "{refused}");
    assert_eq!(bytes(&INSIDE[..3]), before);
    let mut destroy = vec!["destroy", "-auto-approve", "-input=false", "-no-color", "-refresh=false"];
    destroy.extend(["-target=anklume_profile.p", "-target=anklume_volume.v", "-target=anklume_instance.i"]);
    run.succeed(&destroy);
    assert_eq!(bytes(&INSIDE[..3]), before);
    delete_inside(&run, false);
    run.destroy();
    assert_eq!(run.leftovers(), Vec::<String>::new());
}
