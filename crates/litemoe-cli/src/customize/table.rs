use std::path::Path;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};

use super::report::{AppReport, Quality, Report};
use crate::output;

/// Prints one table an app, and how to use what was made.
pub(super) fn print(report: &Report, out: &Path) -> anyhow::Result<()> {
    for app in &report.apps {
        output::line(&describe(app));
        output::line(&rows(app).to_string());
        output::line(&verdict(app));
        output::line(&format!("everything is in {}\n", out.join(&app.app).display()));
    }
    Ok(())
}

fn describe(app: &AppReport) -> String {
    let share = 100.0 * app.expert_bytes.proxy as f64 / app.expert_bytes.foundation as f64;
    format!(
        "{}: {} test rows; the proxy keeps {} of {} of experts ({share:.0} %)",
        app.app,
        app.rows,
        output::bytes(app.expert_bytes.proxy),
        output::bytes(app.expert_bytes.foundation),
    )
}

fn rows(app: &AppReport) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["model", "accuracy", "perplexity", "tuning memory", "tuning time"]);
    let tuned = |stage: &str, bytes: u64| {
        let seconds = app.seconds.get(stage).copied().unwrap_or(0.0);
        [output::bytes(bytes), format!("{seconds:.0} s")]
    };
    let none = || [String::new(), String::new()];
    let tuned_proxy = tuned("tune", app.peak_bytes.tune_proxy);
    let tuned_full = app.peak_bytes.tune_full.map_or_else(none, |bytes| tuned("tune_full", bytes));
    let lines = [
        ("foundation", Some(app.foundation), none()),
        ("proxy", Some(app.proxy), none()),
        ("proxy, tuned", Some(app.tuned_proxy), tuned_proxy),
        ("mounted on the foundation", Some(app.mounted), none()),
        ("tuned on the foundation", app.full, tuned_full),
        ("control: random proxy", app.random_proxy, none()),
        ("control: random, mounted", app.random_mounted, none()),
    ];
    for (name, quality, [memory, time]) in lines {
        let Some(Quality { accuracy, perplexity }) = quality else { continue };
        table.add_row([
            name.to_owned(),
            format!("{:.1} %", 100.0 * accuracy),
            format!("{perplexity:.3}"),
            memory,
            time,
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn verdict(app: &AppReport) -> String {
    if app.scale == 0.0 {
        return match app.options.scale.as_str() {
            "auto" => "the guard did not mount the adapter: on validation rows the foundation alone is best",
            _ => "not mounted, as asked",
        }
        .to_owned();
    }
    if app.full.is_none() {
        return format!("mounted at scale {}; the controls were left out", app.scale);
    }
    let share = |recovery: Option<f64>, why: &str| match recovery {
        Some(share) => format!("{:.0} %", 100.0 * share),
        None => format!("not stated ({why})"),
    };
    format!(
        "mounted at scale {}; of the gain of tuning on the whole foundation it keeps {} in log-perplexity, {} in accuracy",
        app.scale,
        share(app.recovery_perplexity, "full tuning gains under .05 nat"),
        share(app.recovery, "full tuning gains under five points"),
    )
}
