//! Blocks of small configurations. A test writes only the arguments that matter to it; a configuration is their sum.

/// The domain `d`.
pub(crate) fn domain(name: &str) -> String {
    domain_of("d", name, "")
}

/// A domain with a label of its own and further arguments.
pub(crate) fn domain_of(label: &str, name: &str, rest: &str) -> String {
    format!(
        r#"resource "anklume_domain" "{label}" {{
  name         = "{name}"
  storage_pool = "default"
  {rest}
}}

"#
    )
}

/// A profile of the domain `d`.
pub(crate) fn profile(label: &str, name: &str, rest: &str) -> String {
    member("profile", label, name, rest)
}

/// An unprotected volume of 16 MiB in the domain `d`.
pub(crate) fn volume(label: &str, name: &str, rest: &str) -> String {
    let size = if rest.contains("size ") { "" } else { r#"size = "16MiB""# };
    member("volume", label, name, &format!("delete_protection = false\n  {size}\n  {rest}"))
}

/// An unprotected container of the domain `d` that stops at once; it runs.
pub(crate) fn instance(label: &str, name: &str, rest: &str) -> String {
    let given = r#"image             = "busybox"
  delete_protection = false
  stop_timeout      = "0s""#;
    member("instance", label, name, &format!("{given}\n  {rest}"))
}

/// [`instance`], stopped.
pub(crate) fn stopped(label: &str, name: &str, rest: &str) -> String {
    instance(label, name, &format!("running = false\n  {rest}"))
}

/// The argument that mounts the volume with the label `label` at `/srv`.
pub(crate) fn mount(label: &str) -> String {
    format!(r#"volumes = {{ data = {{ volume = anklume_volume.{label}.name, mount = "/srv" }} }}"#)
}

/// An `import` block.
pub(crate) fn import(to: &str, id: &str) -> String {
    format!("import {{\n  to = {to}\n  id = \"{id}\"\n}}\n\n")
}

/// The block of a resource whose replacement is created before the old object is destroyed.
pub(crate) const CREATE_FIRST: &str = "lifecycle {\n    create_before_destroy = true\n  }";

fn member(kind: &str, label: &str, name: &str, rest: &str) -> String {
    format!(
        r#"resource "anklume_{kind}" "{label}" {{
  name   = "{name}"
  domain = anklume_domain.d.name
  {rest}
}}

"#
    )
}
