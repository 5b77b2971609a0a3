use anyhow::Context;
use clap::Args;
use comfy_table::CellAlignment;
use litemoe_registry::{AppName, DayUsage, Registry, RegistryError, Usage};
use serde::Serialize;
use time::Duration;

use super::print;
use crate::args::registry::RegistryArgs;
use crate::output;

/// Show what apps used on each day
#[derive(Debug, Args)]
pub(super) struct UsageArgs {
    /// The app [default: every one].
    #[arg(value_name = "NAME")]
    name: Option<AppName>,
    /// Number of days (UTC) up to today.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Print the usage as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct AppUsage {
    app: AppName,
    /// Sum over the days.
    total: Usage,
    /// Days on which there was a request.
    days: Vec<DayUsage>,
}

impl UsageArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let registry = self.registry.open()?;
        let names = match &self.name {
            Some(name) => vec![name.clone()],
            None => registry.apps()?.into_iter().map(|app| app.name).collect(),
        };
        let today = registry.today();
        let first = today
            .checked_sub(Duration::days(i64::from(self.days) - 1))
            .context("so many days ago there was no calendar")?;
        let of = |app: AppName| -> Result<AppUsage, RegistryError> {
            AppUsage::of(&registry, app, first..=today)
        };
        let usage = names.into_iter().map(of).collect::<Result<Vec<_>, _>>()?;
        if self.json { output::json(&usage) } else { print(&usage) }
    }
}

impl AppUsage {
    fn of(
        registry: &Registry,
        app: AppName,
        days: std::ops::RangeInclusive<time::Date>,
    ) -> Result<Self, RegistryError> {
        let days = registry.usage(&app, days)?;
        let sum = |count: fn(&Usage) -> u64| {
            days.iter().fold(0_u64, |sum, day| sum.saturating_add(count(&day.usage)))
        };
        let total = Usage {
            requests: sum(|usage| usage.requests),
            prompt_tokens: sum(|usage| usage.prompt_tokens),
            cached_tokens: sum(|usage| usage.cached_tokens),
            completion_tokens: sum(|usage| usage.completion_tokens),
        };
        Ok(Self { app, total, days })
    }
}

fn print(usage: &[AppUsage]) -> anyhow::Result<()> {
    if usage.iter().all(|usage| usage.days.is_empty()) {
        return output::line("no requests");
    }
    let mut table = print::table([
        "app",
        "day",
        "requests",
        "prompt tokens",
        "of them cached",
        "completion tokens",
    ]);
    for AppUsage { app, total, days } in usage.iter().filter(|usage| !usage.days.is_empty()) {
        for day in days {
            table.add_row(row(app, &day.day.to_string(), &day.usage));
        }
        if days.len() > 1 {
            table.add_row(row(app, "all", total));
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    output::line(&table.to_string())
}

fn row(app: &AppName, day: &str, usage: &Usage) -> [String; 6] {
    let Usage { requests, prompt_tokens, cached_tokens, completion_tokens } = usage;
    let [requests, prompt, cached, completion] =
        [requests, prompt_tokens, cached_tokens, completion_tokens].map(u64::to_string);
    [app.to_string(), day.to_owned(), requests, prompt, cached, completion]
}
