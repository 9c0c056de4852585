//! An isolation of many domains and policies: planned, loaded and changed, beside the client with the same values in
//! `terraform_data`.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::Fault;
use crate::cli::Client;
use crate::lab::Lab;
use crate::table::Timed;
use crate::work::Directory;

/// What a plan of 2,000 policies may take, the client included.
const PLAN: Duration = Duration::from_secs(1);
/// What their apply may take, from the start of the client to its end.
const APPLY: Duration = Duration::from_secs(4);
/// Policies of a domain.
const EACH: usize = 10;

/// What one run measured.
pub(crate) struct Costs {
    policies: usize,
    /// With nothing there, with everything there, with one policy changed.
    plans: [Timed; 3],
    /// Of everything, and of one changed policy.
    applies: [Duration; 2],
    destroy: Duration,
}

/// `var.n` policies, ten for each domain; the first has the port `var.port`.
fn values() -> String {
    format!(
        r#"domains = {{ for n in range(var.n / {EACH}) : format("d%03d", n) => null }}
  policies = {{
    for it in setproduct(range(var.n / {EACH}), range({EACH})) : format("p%03d-%d", it[0], it[1]) => {{
      from     = format("d%03d", it[0])
      to       = format("d%03d", (it[0] + 1 + it[1]) % (var.n / {EACH}))
      ports    = [it[0] + it[1] == 0 ? var.port : "443", "8000-8010"]
      protocol = "tcp"
    }}
  }}"#
    )
}

pub(crate) fn measure(lab: &Lab, client: &Client, provider: &Path, policies: usize) -> Result<Costs, Fault> {
    if !(2 * EACH * EACH..=1000 * EACH).contains(&policies) || !policies.is_multiple_of(EACH) {
        return Err(format!("N is a multiple of {EACH} from {} to {}", 2 * EACH * EACH, 1000 * EACH).into());
    }
    let values = values();
    let variables = "variable \"n\" {\n  type = number\n}\n\nvariable \"port\" {\n  default = \"443\"\n}\n\n";
    let data = format!("{variables}resource \"terraform_data\" \"it\" {{\n  input = {{\n  {values}\n  }}\n}}\n");
    let data = Directory::of_client(lab, client, "cost-isolation-data", &data)?;
    let ours = format!("{variables}resource \"anklume_nft_isolation\" \"it\" {{\n  {values}\n}}\n");
    let ours = Directory::of_provider(lab, client, "cost-isolation", provider, &ours)?;

    let empty = ours.plan_beside(&data, policies)?;
    data.apply(policies)?;
    let load = ours.apply(policies)?;
    let full = ours.plan_beside(&data, policies)?;
    for directory in [&ours, &data] {
        directory.set("port", "\"444\"")?;
    }
    let changed = ours.plan_beside(&data, policies)?;
    let change = ours.apply(policies)?;
    let destroy = ours.run(&["destroy", "-auto-approve", "-input=false", &format!("-var=n={policies}")])?;
    Ok(Costs { policies, plans: [empty, full, changed], applies: [load, change], destroy })
}

impl fmt::Display for Costs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let met = |time: Duration, limit: Duration| if time <= limit { "" } else { "  NOT MET" };
        let names = ["plan, nothing there", "plan, everything there", "plan, one policy changed"];
        writeln!(formatter, "{} domains, {} policies", self.policies / EACH, self.policies)?;
        for (name, plan) in names.into_iter().zip(&self.plans) {
            let (ours, beside) = (plan.ours, plan.beside);
            let limit = met(ours, PLAN);
            writeln!(
                formatter,
                "{name:<26}{:6.2} s, of terraform_data {:.2} s (within {} s){limit}",
                ours.as_secs_f64(),
                beside.as_secs_f64(),
                PLAN.as_secs()
            )?;
        }
        for (name, time) in ["apply", "apply of one change"].into_iter().zip(self.applies) {
            let limit = met(time, APPLY);
            writeln!(formatter, "{name:<26}{:6.2} s (within {} s){limit}", time.as_secs_f64(), APPLY.as_secs())?;
        }
        writeln!(formatter, "{:<26}{:6.2} s", "destruction", self.destroy.as_secs_f64())
    }
}
