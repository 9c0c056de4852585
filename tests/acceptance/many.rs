//! Many volumes at once.

use crate::Case;
use crate::cli::Workspace;

pub(crate) const CASES: &[Case] =
    &[("fifty_volumes_are_created_attached_detached_and_destroyed_in_one_apply_each", fifty)];

/// Two containers, and `count` volumes, of which the containers have the half each if `attached`.
fn configuration(domain: &str, count: usize, attached: bool) -> String {
    let volumes = |half: usize| match attached {
        true => format!(
            "{{ for i in range({half}, {count}, 2) : \"d${{i}}\" => {{ volume = anklume_volume.it[i].name, mount = \"/srv/d${{i}}\" }} }}"
        ),
        false => "{}".to_owned(),
    };
    let instance = |half: usize| {
        format!(
            "resource \"anklume_instance\" \"box{half}\" {{\n  name = \"box{half}\"\n  domain = anklume_domain.d.name\n  image = \"busybox\"\n  \
             stop_timeout = \"0s\"\n  delete_protection = false\n  wait = {{ addresses = false }}\n  volumes = {}\n}}\n\n",
            volumes(half)
        )
    };
    format!(
        "resource \"anklume_domain\" \"d\" {{\n  name = \"{domain}\"\n  storage_pool = \"default\"\n}}\n\n\
         resource \"anklume_volume\" \"it\" {{\n  count = {count}\n  name = \"data-${{count.index}}\"\n  domain = anklume_domain.d.name\n  \
         size = \"16MiB\"\n  delete_protection = false\n}}\n\n{}{}",
        instance(0),
        instance(1)
    )
}

fn fifty(run: &Workspace) {
    let (name, incus) = (run.domain("fifty"), run.incus());
    let volumes = || incus.list(&format!("/1.0/storage-pools/default/volumes/custom?project={name}")).len();
    let attached = || {
        let of = |name: String| {
            let devices = incus.query(&name)["devices"].clone();
            devices.as_object().unwrap().keys().filter(|device| device.starts_with("sv-")).count()
        };
        of(format!("/1.0/instances/box0?project={name}")) + of(format!("/1.0/instances/box1?project={name}"))
    };
    for (count, with, there) in
        [(0, false, (0, 0)), (50, false, (50, 0)), (50, true, (50, 50)), (50, false, (50, 0)), (0, false, (0, 0))]
    {
        run.configure(&configuration(&name, count, with));
        run.apply();
        run.plan_is_empty();
        assert_eq!((volumes(), attached()), there);
    }
    // All at once, and destroyed while attached.
    run.configure(&configuration(&name, 50, true));
    run.apply();
    run.plan_is_empty();
    assert_eq!((volumes(), attached()), (50, 50));
    run.configure(&configuration(&name, 0, false));
    run.apply();
    run.plan_is_empty();
    assert_eq!((volumes(), attached()), (0, 0));
    let notes = |of: &str| incus.instance(&name, of).unwrap()["config"].to_string().contains("detached");
    assert!(!notes("box0") && !notes("box1"));
    run.destroy();
    assert!(incus.project(&name).is_none());
}
