use std::path::Path;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use litemoe_adapter::{MountChoice, MountRouting};
use litemoe_core::WeightDtype;

use super::report::{AppReport, Quality, Report};
use crate::args::mount::Scale;
use crate::output;

/// Prints a table per app, and the commands that use the results.
pub(super) fn print(report: &Report, out: &Path, foundation: &Path) -> anyhow::Result<()> {
    for app in &report.apps {
        print_app(app)?;
        output::line(&next(app, &out.join(&app.app), foundation))?;
    }
    Ok(())
}

/// Prints an app's table and what it means.
pub(crate) fn print_app(app: &AppReport) -> anyhow::Result<()> {
    output::line(&describe(app))?;
    output::line(&rows(app).to_string())?;
    output::line(&verdict(app))
}

fn describe(app: &AppReport) -> String {
    let share = 100.0 * app.expert_bytes.proxy as f64 / app.expert_bytes.foundation as f64;
    format!(
        "{}: {} test rows{}; the proxy keeps {} of {} of experts ({share:.0} %)",
        app.app,
        app.rows,
        unless_f32(app.options.dtype, ", weights in "),
        output::bytes(app.expert_bytes.proxy),
        output::bytes(app.expert_bytes.foundation),
    )
}

const HEADER: [&str; 7] = [
    "model",
    "accuracy (95 %)",
    "perplexity",
    "memory to tune",
    "time to tune",
    "adapter",
    "memory to serve",
];

/// Row of the table.
struct Line {
    model: &'static str,
    quality: Option<Quality>,
    /// Peak memory of its tuning, and the name of the tuning stage.
    tuned: Option<(u64, &'static str)>,
    /// Bytes of the adapter's files.
    adapter: Option<u64>,
    /// Bytes in memory in addition to the foundation.
    serve: Option<u64>,
}

impl Line {
    fn new(model: &'static str, quality: Option<Quality>) -> Self {
        Self { model, quality, tuned: None, adapter: None, serve: None }
    }

    /// Cells of the row; `None` if the control was skipped.
    fn cells(&self, app: &AppReport) -> Option<[String; 7]> {
        let Quality { accuracy, perplexity, accuracy_95: [low, high] } = self.quality?;
        let bytes = |count: Option<u64>| count.map_or_else(String::new, output::bytes);
        let time = self.tuned.and_then(|(_, stage)| app.seconds.get(stage));
        Some([
            self.model.to_owned(),
            format!("{:.1} % ({:.1}–{:.1})", 100.0 * accuracy, 100.0 * low, 100.0 * high),
            format!("{perplexity:.3}"),
            bytes(self.tuned.map(|(bytes, _)| bytes)),
            time.map_or_else(String::new, |seconds| format!("{seconds:.0} s")),
            bytes(self.adapter),
            bytes(self.serve),
        ])
    }
}

fn rows(app: &AppReport) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(HEADER);
    let full_peak = app.peak_bytes.tune_full;
    let lines = [
        Line::new("foundation", Some(app.foundation)),
        Line::new("proxy", Some(app.proxy)),
        Line {
            tuned: Some((app.peak_bytes.tune_proxy, "tune")),
            ..Line::new("proxy, tuned", Some(app.tuned_proxy))
        },
        Line {
            adapter: Some(app.adapter_bytes.mounted),
            serve: Some(app.serve_bytes.mounted),
            ..Line::new("mounted on the foundation", Some(app.mounted))
        },
        Line {
            tuned: full_peak.map(|bytes| (bytes, "tune_full")),
            adapter: app.adapter_bytes.full,
            serve: app.serve_bytes.full,
            ..Line::new("tuned on the foundation", app.full)
        },
        Line::new("control: random proxy", app.random_proxy),
        Line::new("control: random, mounted", app.random_mounted),
    ];
    lines.iter().filter_map(|line| line.cells(app)).for_each(|cells| {
        table.add_row(cells);
    });
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Description of a mounting choice.
pub(crate) fn in_words(MountChoice { routing, scale }: MountChoice) -> String {
    let routing = match routing {
        MountRouting::Restricted => "tokens routed to the proxy's experts alone".to_owned(),
        MountRouting::Full => "tokens routed to all experts".to_owned(),
        MountRouting::Biased(penalty) => {
            format!("{penalty} off the router's logits of experts outside the proxy")
        }
    };
    match scale {
        1.0 => routing,
        scale => format!("{routing}, at scale {scale}"),
    }
}

fn verdict(app: &AppReport) -> String {
    let Some(choice) = app.choice else {
        return match app.options.mount.guard().scale {
            Some(Scale::NONE) => "not mounted, as asked",
            _ => "not mounted: on the validation rows the foundation alone is best",
        }
        .to_owned();
    };
    let mounted = format!("mounted with {}", in_words(choice));
    if app.full.is_none() {
        return format!("{mounted}; the controls were left out");
    }
    let share = |recovery: Option<f64>, why: &str| match recovery {
        Some(share) => format!("{:.0} %", 100.0 * share),
        None => format!("not stated ({why})"),
    };
    format!(
        "{mounted}; of the gain of tuning on the whole foundation it keeps {} in log-perplexity, {} in accuracy",
        share(app.recovery_perplexity, "full tuning gains under .05 nat"),
        share(app.recovery, "full tuning gains under five points"),
    )
}

/// Text with the number format of weights; empty for f32.
pub(super) fn unless_f32(dtype: WeightDtype, before: &str) -> String {
    if dtype.is_f32() { String::new() } else { format!("{before}{dtype}") }
}

/// The next commands, and when to serve the proxy instead.
fn next(app: &AppReport, dir: &Path, foundation: &Path) -> String {
    let [dir, foundation] = [dir, foundation].map(Path::display);
    let dtype = unless_f32(app.options.dtype, " --dtype ");
    let mut text = format!("everything is in {dir}\n");
    if app.choice.is_some() {
        text += &format!(
            "\nnext:\n  litemoe chat {foundation} --adapter {dir}/mounted{dtype}\n  \
             litemoe serve {foundation} --adapter {}={dir}/mounted{dtype}   (with one --adapter for each app)\n",
            app.app
        );
    }
    text + &format!(
        "on a device that serves this app alone the proxy needs {} of memory instead of the foundation's {}:\n  \
         litemoe serve {dir}/proxy --adapter {}={dir}/adapter{dtype}\n",
        output::bytes(app.serve_bytes.proxy),
        output::bytes(app.serve_bytes.foundation),
        app.app
    )
}
