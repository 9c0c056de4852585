//! The marks of the objects that a state describes, read and written by the `incus` command.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cli::Workspace;

pub(crate) const INCARNATION: &str = "user.anklume.incarnation";
const OWNER: &str = "user.anklume.owner";
const HOUR: u64 = 60 * 60;

/// One object in Incus: the words of the `incus` command that set a key of it, and those of its project.
struct Object {
    set: Vec<String>,
    place: Vec<String>,
    path: String,
}

impl Object {
    /// The objects of a resource: two of a domain, one of everything else.
    fn of(kind: &str, attributes: &Value) -> Vec<Self> {
        let text = |name: &str| attributes[name].as_str().unwrap_or_default().to_owned();
        let (name, project) = (text("name"), text("domain"));
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let within = |set: &[&str], path: String| {
            vec![Self {
                set: words(set),
                place: words(&["--project", &project]),
                path: format!("{path}?project={project}"),
            }]
        };
        match kind {
            "anklume_domain" => {
                let bridge = text("bridge");
                [("project", name, "projects"), ("network", bridge, "networks")]
                    .map(|(word, name, path)| Self {
                        set: words(&[word, "set", &name]),
                        place: Vec::new(),
                        path: format!("/1.0/{path}/{name}"),
                    })
                    .into()
            }
            "anklume_profile" => within(&["profile", "set", &name], format!("/1.0/profiles/{name}")),
            "anklume_instance" => within(&["config", "set", &name], format!("/1.0/instances/{name}")),
            "anklume_volume" => {
                let pool = text("pool");
                let path = format!("/1.0/storage-pools/{pool}/volumes/custom/{name}");
                within(&["storage", "volume", "set", &pool, &name], path)
            }
            other => panic!("the marks of {other} are not known here"),
        }
    }

    fn write(&self, run: &Workspace, key: &str, value: &str) {
        let mut words = self.set.clone();
        words.push(format!("{key}={value}"));
        words.extend(self.place.iter().cloned());
        run.incus().run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// Sets the time of every mark back by 25 hours.
pub(crate) fn age(run: &Workspace) {
    let long_ago = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 25 * HOUR;
    run.each_in_state(|kind, held| {
        for object in Object::of(kind, &held["attributes"]) {
            let mark = run.incus().query(&object.path)["config"][INCARNATION].as_str().unwrap().to_owned();
            let random = mark.split_once('-').map_or(&mark[..24], |(_, random)| random);
            object.write(run, INCARNATION, &format!("{long_ago:08x}-{random}"));
        }
    });
}

/// Makes of an applied state what the provider of commit 9e7e552 would have left: a state without `uid` and `owner`, the
/// incarnation beside it in private state, 32 hexadecimal digits as the mark, and the owner of this directory in its
/// former form.
pub(crate) fn as_of_the_first_version(run: &Workspace) {
    let mut number = 0;
    let owner = Sha256::digest(format!("{}:default", run.dir().display()));
    let owner: String = owner[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    run.each_in_state(|kind, held| {
        number += 1;
        let mark = format!("{:032x}", 0xa000_0000_u64 + number);
        for object in Object::of(kind, &held["attributes"]) {
            object.write(run, INCARNATION, &mark);
            if kind == "anklume_instance" {
                object.write(run, OWNER, &owner);
                object.write(run, "user.anklume.uuid", "");
            }
        }
        for later in ["uid", "owner"] {
            held["attributes"].as_object_mut().unwrap().remove(later);
        }
        let private = held["private"].as_str().map(|text| STANDARD.decode(text).unwrap());
        let mut private: Value = private.map_or_else(|| json!({}), |text| serde_json::from_slice(&text).unwrap());
        for later in ["owner", "server", "replaces", "planned"] {
            private.as_object_mut().unwrap().remove(later);
        }
        private["incarnation"] = mark.into();
        held["private"] = STANDARD.encode(private.to_string()).into();
    });
}
