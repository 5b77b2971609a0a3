use std::path::Path;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};

use super::report::{AppReport, Quality, Report};
use super::table::{in_words, unless_f32};
use crate::output;

const HEADER: [&str; 9] = [
    "app",
    "budget",
    "score",
    "experts",
    "accuracy, mounted (95 %)",
    "perplexity",
    "recovery",
    "adapter",
    "mounted with",
];

/// Prints one table of all proxies of a sweep, with the foundation and full tuning of each app.
pub(super) fn print(report: &Report, out: &Path) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(HEADER);
    for (index, app) in report.apps.iter().enumerate() {
        if index == 0 || report.apps[index - 1].app != app.app {
            table.add_row(reference(app, "the foundation", app.foundation, None));
            if let Some(full) = app.full {
                table.add_row(reference(app, "tuned in full", full, app.adapter_bytes.full));
            }
        }
        table.add_row(row(app));
    }
    for column in table.column_iter_mut().skip(3).take(5) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let dtype = report.apps.first().map(|app| unless_f32(app.options.dtype, "weights in "));
    if let Some(weights) = dtype.filter(|text| !text.is_empty()) {
        output::line(&weights)?;
    }
    output::line(&table.to_string())?;
    output::line(&format!(
        "recovery: the share of full tuning's gain in log-perplexity that the mounted adapter keeps\neverything is in {}",
        out.display()
    ))
}

/// Row of a model that no budget applies to.
fn reference(app: &AppReport, model: &str, quality: Quality, adapter: Option<u64>) -> [String; 9] {
    let [accuracy, perplexity] = measured(quality);
    let adapter = adapter.map_or_else(String::new, output::bytes);
    let [experts, recovery, choice] = [(); 3].map(|()| String::new());
    let (app, model, score) = (app.app.clone(), model.to_owned(), String::new());
    [app, model, score, experts, accuracy, perplexity, recovery, adapter, choice]
}

fn row(app: &AppReport) -> [String; 9] {
    let [accuracy, perplexity] = measured(app.mounted);
    [
        app.app.clone(),
        app.budget.clone(),
        app.options.plan.score.to_string(),
        output::bytes(app.expert_bytes.proxy),
        accuracy,
        perplexity,
        app.recovery_perplexity.map_or_else(String::new, |share| format!("{:.0} %", 100.0 * share)),
        output::bytes(app.adapter_bytes.mounted),
        app.choice.map_or_else(|| "not mounted".to_owned(), in_words),
    ]
}

fn measured(Quality { accuracy, accuracy_95: [low, high], perplexity }: Quality) -> [String; 2] {
    let [accuracy, low, high] = [accuracy, low, high].map(|share| 100.0 * share);
    [format!("{accuracy:.1} % ({low:.1}–{high:.1})"), format!("{perplexity:.3}")]
}
