use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::canvas::Canvas;
use super::print::{aligned, table};
use super::view::View;
use crate::customize::{AppReport, RESULTS, RunReport, print_app};
use crate::{artefact, output};

/// Reports on runs of `customize`: the file that was given, or those of an output directory.
#[derive(Serialize)]
pub(super) struct RunView {
    kind: &'static str,
    #[serde(flatten)]
    results: Results,
    /// `sweep.json` next to `report.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    sweep: Option<Results>,
}

/// Content of `report.json` or `sweep.json`.
#[derive(Serialize)]
struct Results {
    file: PathBuf,
    #[serde(flatten)]
    report: RunReport,
}

impl RunView {
    /// Reads a file, or the files of a directory.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let of_dir = || RESULTS.map(|name| path.join(name)).into_iter().filter(|it| it.is_file());
        let files = if path.is_dir() { of_dir().collect() } else { vec![path.to_owned()] };
        let mut results = files.into_iter().map(Results::read);
        Ok(Self {
            kind: "run",
            results: results.next().context("there are no results")??,
            sweep: results.next().transpose()?,
        })
    }
}

impl Results {
    fn read(file: PathBuf) -> anyhow::Result<Self> {
        Ok(Self { report: artefact::read(&file)?, file })
    }

    fn print(&self) -> anyhow::Result<()> {
        let apps = &self.report.apps;
        let is_sweep = apps.windows(2).any(|pair| pair[0].app == pair[1].app);
        apps.iter().try_for_each(|app| {
            if is_sweep {
                let score = app.options.plan.score;
                output::line(&format!("budget {}, score {score}", app.budget))?;
            }
            print_app(app)?;
            output::line(&stages(app))
        })
    }
}

impl View for RunView {
    fn print(&self, _: Canvas) -> anyhow::Result<()> {
        let Some(sweep) = &self.sweep else { return self.results.print() };
        for results in [&self.results, sweep] {
            output::line(&format!("{}:", results.file.display()))?;
            results.print()?;
        }
        Ok(())
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
