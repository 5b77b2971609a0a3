//! Architecture and sizes of a model, and sizes of its proxies under byte budgets.

mod forecast;
mod print;
mod report;
mod sizes;

use std::path::Path;

use anyhow::bail;
use litemoe_core::Budget;

use self::forecast::ModelForecast;
use self::report::Inspected;
use crate::args::forecast::ForecastArgs;
use crate::{model, output};

/// Budgets shown without `--budget`.
const USUAL: [Budget; 4] =
    [Budget::Share(0.5), Budget::Share(0.33), Budget::Share(0.25), Budget::Share(0.1)];

/// Prints the report of a model.
pub(super) fn run(
    path: &Path,
    budgets: &[Budget],
    forecast: &ForecastArgs,
    json: bool,
) -> anyhow::Result<()> {
    let checkpoint = model::open(path)?;
    let can_be_cut = checkpoint.plan().is_none() && !checkpoint.moe_layers().is_empty();
    if !can_be_cut && !budgets.is_empty() {
        let model = path.display();
        bail!("--budget: {model} is a proxy with a router of its own, or has no experts");
    }
    let mut inspected = Inspected::of(&checkpoint);
    match budgets {
        [] if can_be_cut => USUAL.iter().for_each(|&budget| inspected.try_budget(budget)),
        asked => asked.iter().try_for_each(|&budget| inspected.budget(budget))?,
    }
    if forecast.is_given() {
        let budgets = inspected.budgets.iter().map(|line| line.budget);
        inspected.forecast = Some(ModelForecast::of(&checkpoint, forecast, budgets)?);
    }
    if json {
        return output::json(&inspected);
    }
    inspected.print()
}
