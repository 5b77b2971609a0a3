mod print;
mod report;
mod sizes;

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use litemoe_core::Budget;

use self::report::Inspected;
use crate::{model, output};

/// Budgets shown without `--budget`.
const USUAL: [Budget; 4] =
    [Budget::Share(0.5), Budget::Share(0.33), Budget::Share(0.25), Budget::Share(0.1)];

/// Show a model's architecture and sizes, and the sizes of its proxies under byte budgets
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The model: a Hugging Face model directory, or the id of a pulled model.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Byte budget to show: a share of the expert bytes, in (0, 1], or an amount such as 4MiB; may be repeated
    /// [default: 0.5, 0.33, 0.25 and 0.1].
    #[arg(long)]
    budget: Vec<Budget>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl InspectArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let checkpoint = model::open(&self.model)?;
        let can_be_cut = checkpoint.plan().is_none() && !checkpoint.moe_layers().is_empty();
        if !can_be_cut && !self.budget.is_empty() {
            let model = self.model.display();
            bail!("--budget: {model} is a proxy with a router of its own, or has no experts");
        }
        let mut inspected = Inspected::of(&checkpoint);
        match &self.budget[..] {
            [] if can_be_cut => USUAL.iter().for_each(|&budget| inspected.try_budget(budget)),
            asked => asked.iter().try_for_each(|&budget| inspected.budget(budget))?,
        }
        if self.json {
            return output::json(&inspected);
        }
        inspected.print()
    }
}
