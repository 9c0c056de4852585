//! The same work through the client: its directories, its configuration, its runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Fault;
use crate::cli::Client;
use crate::lab::Lab;
use crate::table::Timed;

/// The domain, and so the project, of every container.
pub(crate) const DOMAIN: &str = "cost";

/// One directory with one configuration and one state.
pub(crate) struct Directory<'a> {
    lab: &'a Lab,
    client: &'a Client,
    path: PathBuf,
}

impl<'a> Directory<'a> {
    /// `var.n` containers in one domain, by `provider`, through `socket` where one is given.
    pub(crate) fn of_containers(
        lab: &'a Lab,
        client: &'a Client,
        name: &str,
        provider: &Path,
        socket: Option<&Path>,
    ) -> Result<Self, Fault> {
        let hcl = r#"resource "anklume_instance" "it" {
  count             = var.n
  name              = "ours-${count.index}"
  domain            = anklume_domain.it.name
  image             = "busybox"
  delete_protection = false
  stop_timeout      = "0s"
  wait              = { addresses = false }
}
"#;
        Self::of_domain(lab, client, name, provider, socket, hcl)
    }

    /// `var.n` volumes, of which one container has the first `var.attached`.
    pub(crate) fn of_volumes(
        lab: &'a Lab,
        client: &'a Client,
        name: &str,
        provider: &Path,
        socket: Option<&Path>,
    ) -> Result<Self, Fault> {
        let hcl = r#"variable "attached" {
  type = number
}

resource "anklume_volume" "it" {
  count             = var.n
  name              = "ours-${count.index}"
  domain            = anklume_domain.it.name
  size              = "16MiB"
  delete_protection = false
}

resource "anklume_instance" "box" {
  name              = "box"
  domain            = anklume_domain.it.name
  image             = "busybox"
  delete_protection = false
  stop_timeout      = "0s"
  wait              = { addresses = false }
  volumes = {
    for i in range(var.attached) : "d${i}" => { volume = anklume_volume.it[i].name, mount = "/srv/d${i}" }
  }
}
"#;
        Self::of_domain(lab, client, name, provider, socket, hcl)
    }

    fn of_domain(
        lab: &'a Lab,
        client: &'a Client,
        name: &str,
        provider: &Path,
        socket: Option<&Path>,
        rest: &str,
    ) -> Result<Self, Fault> {
        let address = socket.map(|socket| format!("address = \"unix://{}\"", socket.display())).unwrap_or_default();
        let hcl = format!(
            r#"provider "anklume" {{
  {address}
}}

variable "n" {{
  type = number
}}

resource "anklume_domain" "it" {{
  name         = "{DOMAIN}"
  storage_pool = "default"
}}

{rest}"#
        );
        Self::of_provider(lab, client, name, provider, &hcl)
    }

    /// A configuration of `provider`.
    pub(crate) fn of_provider(
        lab: &'a Lab,
        client: &'a Client,
        name: &str,
        provider: &Path,
        hcl: &str,
    ) -> Result<Self, Fault> {
        let source = "terraform {\n  required_providers {\n    anklume = { source = \"anklume/anklume\" }\n  }\n}\n\n";
        let it = Self { lab, client, path: lab.workspace(name) };
        let provider = provider.parent().ok_or("the provider is in no directory")?;
        let overrides = format!(
            "provider_installation {{\n  dev_overrides {{ \"anklume/anklume\" = {provider:?} }}\n  direct {{}}\n}}\n"
        );
        fs::write(it.path.join("cli.tfrc"), overrides)?;
        fs::write(it.path.join("main.tf"), format!("{source}{hcl}"))?;
        Ok(it)
    }

    /// `var.n` times `terraform_data`: what the client itself costs.
    pub(crate) fn of_data(lab: &'a Lab, client: &'a Client) -> Result<Self, Fault> {
        let hcl = "variable \"n\" {\n  type = number\n}\n\nresource \"terraform_data\" \"it\" {\n  count = var.n\n  input = count.index\n}\n";
        Self::of_client(lab, client, "cost-data", hcl)
    }

    /// A configuration that takes the client alone.
    pub(crate) fn of_client(lab: &'a Lab, client: &'a Client, name: &str, hcl: &str) -> Result<Self, Fault> {
        let it = Self { lab, client, path: lab.workspace(name) };
        fs::write(it.path.join("main.tf"), hcl)?;
        fs::write(it.path.join("cli.tfrc"), "")?;
        it.run(&["init", "-input=false"])?;
        Ok(it)
    }

    /// Gives a variable another value from now on.
    pub(crate) fn set(&self, variable: &str, value: &str) -> Result<(), Fault> {
        Ok(fs::write(self.path.join("set.auto.tfvars"), format!("{variable} = {value}\n"))?)
    }

    /// Runs the client, which has to succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Duration, Fault> {
        let mut command = self.lab.command(&self.client.path);
        command.args(arguments).arg("-no-color").current_dir(&self.path);
        command.env("TF_CLI_CONFIG_FILE", self.path.join("cli.tfrc"));
        command.env("TF_IN_AUTOMATION", "1").env("CHECKPOINT_DISABLE", "1");
        let start = Instant::now();
        let output = command.output()?;
        let time = start.elapsed();
        if output.status.success() {
            return Ok(time);
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(format!("{} {}: {text}", self.client.name, arguments.join(" ")).into())
    }

    /// Applies with `n` of them.
    pub(crate) fn apply(&self, n: usize) -> Result<Duration, Fault> {
        self.run(&["apply", "-auto-approve", "-input=false", &format!("-var=n={n}")])
    }

    /// Plans with `n` of them.
    pub(crate) fn plan(&self, n: usize) -> Result<Duration, Fault> {
        self.run(&["plan", "-input=false", &format!("-var=n={n}")])
    }

    /// Plans of both in turn, `n` of each: the middle ones of five.
    pub(crate) fn plan_beside(&self, other: &Self, n: usize) -> Result<Timed, Fault> {
        let (mut ours, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            beside.push(other.plan(n)?);
            ours.push(self.plan(n)?);
        }
        ours.sort_unstable();
        beside.sort_unstable();
        Ok(Timed { ours: ours[2], beside: beside[2] })
    }

    /// Applies with `n` volumes, the first `attached` of which the container has.
    pub(crate) fn apply_volumes(&self, n: usize, attached: usize) -> Result<Duration, Fault> {
        let [n, attached] = [format!("-var=n={n}"), format!("-var=attached={attached}")];
        self.run(&["apply", "-auto-approve", "-input=false", &n, &attached])
    }

    /// Destroys the container and the domain, and what volumes there are.
    pub(crate) fn destroy_volumes(&self) -> Result<Duration, Fault> {
        self.run(&["destroy", "-auto-approve", "-input=false", "-var=n=0", "-var=attached=0"])
    }

    /// Destroys everything.
    pub(crate) fn destroy(&self) -> Result<Duration, Fault> {
        self.run(&["destroy", "-auto-approve", "-input=false", "-var=n=0"])
    }
}
