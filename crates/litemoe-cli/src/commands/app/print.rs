//! Apps as text.

use std::fmt::Display;

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use litemoe_registry::{App, Settings, UnixTime};
use time::OffsetDateTime;

use crate::output;

/// Prints a line with a name and a text.
pub(super) fn field(name: &str, text: &str) -> anyhow::Result<()> {
    output::line(&format!("{name:<17} {text}"))
}

/// A time as a day and a time of day in UTC.
pub(super) fn time(time: UnixTime) -> String {
    let Ok(found) = OffsetDateTime::from_unix_timestamp(time.0) else { return time.0.to_string() };
    let (hour, minute, second) = found.to_hms();
    format!("{} {hour:02}:{minute:02}:{second:02} UTC", found.date())
}

/// A limit, or `none`.
fn limit(limit: Option<impl Display>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string())
}

/// A list of names, or `none`.
fn names(names: &impl Display) -> String {
    let text = names.to_string();
    if text.is_empty() { "none".to_owned() } else { text }
}

/// Prints an app and its settings.
pub(super) fn app(app: &App) -> anyhow::Result<()> {
    let Settings { models, adapters, weight, priority, .. } = &app.settings;
    field("app", app.name.as_str())?;
    field("created", &time(app.created))?;
    if let Some(revoked) = app.revoked {
        field("revoked", &time(revoked))?;
    }
    field("models", &names(models))?;
    field("shared adapters", &names(adapters))?;
    field("requests/minute", &limit(app.settings.requests_per_minute))?;
    field("tokens/minute", &limit(app.settings.tokens_per_minute))?;
    field("concurrency", &limit(app.settings.concurrency))?;
    field("cache", &limit(app.settings.cache_bytes.map(output::bytes)))?;
    field("storage", &limit(app.settings.storage_bytes.map(output::bytes)))?;
    field("tokens/day", &limit(app.settings.tokens_per_day))?;
    field("weight", &weight.to_string())?;
    field("priority", priority.as_str())
}

/// Prints a line for each app.
pub(super) fn table_of(apps: &[App]) -> anyhow::Result<()> {
    if apps.is_empty() {
        return output::line("no apps");
    }
    let header = [
        "app",
        "models",
        "requests/min",
        "tokens/min",
        "tokens/day",
        "weight",
        "priority",
        "created",
    ];
    let mut table = table(header);
    for app in apps {
        let settings = &app.settings;
        let created = match app.revoked {
            None => app.created.day().to_string(),
            Some(revoked) => format!("revoked {}", revoked.day()),
        };
        table.add_row([
            app.name.to_string(),
            names(&settings.models),
            limit(settings.requests_per_minute),
            limit(settings.tokens_per_minute),
            limit(settings.tokens_per_day),
            settings.weight.to_string(),
            settings.priority.to_string(),
            created,
        ]);
    }
    output::line(&table.to_string())
}

pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(header);
    table
}
