use std::path::Path;

use serde::Serialize;

use super::canvas::Canvas;
use super::print::{aligned, table};
use super::view::View;
use crate::customize::{AppReport, RunReport, print_app};
use crate::{artefact, output};

/// Report on a run of `customize`.
#[derive(Serialize)]
pub(super) struct RunView {
    kind: &'static str,
    #[serde(flatten)]
    report: RunReport,
}

impl RunView {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        Ok(Self { kind: "run", report: artefact::read(path)? })
    }
}

impl View for RunView {
    fn print(&self, _: Canvas) -> anyhow::Result<()> {
        self.report.apps.iter().try_for_each(|app| {
            print_app(app)?;
            output::line(&stages(app))
        })
    }
}

/// Stages of an app and their times, the longest first.
fn stages(app: &AppReport) -> String {
    let mut stages: Vec<(&String, f64)> =
        app.seconds.iter().map(|(name, &time)| (name, time)).collect();
    stages.sort_by(|(_, x), (_, y)| y.total_cmp(x));
    let total: f64 = stages.iter().map(|(_, time)| time).sum();
    let mut table = table(["stage", "seconds", "share"]);
    for (name, time) in stages {
        table.add_row([
            name.clone(),
            format!("{time:.1}"),
            format!("{:.1} %", 100.0 * time / total),
        ]);
    }
    table.add_row(["all".to_owned(), format!("{total:.1}"), String::new()]);
    aligned(table).to_string()
}
