mod print;
mod report;
mod sizes;

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use litemoe_core::Budget;

use self::report::Inspected;
use crate::{model, output};

/// Budgets that are shown when none is asked for.
const USUAL: [Budget; 4] =
    [Budget::Share(0.5), Budget::Share(0.33), Budget::Share(0.25), Budget::Share(0.1)];

/// Show what a model is made of, and what a budget would leave
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The model: a Hugging Face directory, or the id of a model that was pulled.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// A budget to try: a share of the expert bytes, or an amount such as 4MiB; may be given again
    /// [default: 0.5, 0.33, 0.25 and 0.1].
    #[arg(long)]
    budget: Vec<Budget>,
    /// Print JSON.
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
        inspected.print();
        Ok(())
    }
}
