//! What a run would do: `--dry-run`, and the note about memory before the first stage.

use std::path::PathBuf;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::args::CustomizeArgs;
use super::check::{Checked, CheckedApp, SplitRows};
use super::looped::app_dir;
use super::outputs;
use super::records::Program;
use super::steps::{ProxySize, State, Steps};
use super::variant::Variant;
use crate::forecast::{Lengths, Speed, available_bytes};
use crate::output;
use crate::written_dir::WrittenDir;

/// Forecast of a run.
#[derive(Debug, Serialize)]
pub(super) struct Preview {
    apps: Vec<AppPreview>,
    /// Directory of the foundation, and whether the embedded one is to be written there.
    foundation: PathBuf,
    writes_foundation: bool,
    /// Estimates of the stages that would run: the largest peak of anonymous memory, and the time of all.
    memory_bytes: u64,
    seconds: f64,
    /// Memory that is available now; `None` where the system does not report it.
    available_bytes: Option<u64>,
    /// Bytes to be written, and free on the disk.
    written_bytes: u64,
    free_bytes: u64,
}

/// Forecast for one app.
#[derive(Debug, Serialize)]
struct AppPreview {
    app: String,
    dir: PathBuf,
    rows: RowsPreview,
    proxies: Vec<ProxyPreview>,
    stages: Vec<StagePreview>,
}

/// Rows by use.
#[derive(Debug, Serialize)]
struct RowsPreview {
    train: Count,
    calibration: Count,
    validation: Count,
    guard: Count,
    test: Count,
    skipped: usize,
}

/// Number of rows and of their tokens.
#[derive(Debug, Clone, Copy, Serialize)]
struct Count {
    rows: usize,
    tokens: u64,
}

/// A proxy.
#[derive(Debug, Serialize)]
struct ProxyPreview {
    budget: String,
    score: String,
    refit: String,
    dir: PathBuf,
    /// Experts that a layer keeps, at most.
    kept_per_layer: usize,
    /// Bytes of the routed experts, as a proxy has them.
    expert_bytes: u64,
    foundation_expert_bytes: u64,
    /// Bytes of the adapter's file.
    adapter_bytes: u64,
}

/// A stage.
#[derive(Debug, Serialize)]
struct StagePreview {
    name: String,
    about: &'static str,
    /// Directory of the stage's record.
    records: PathBuf,
    finished: bool,
    /// Estimated peak of anonymous memory.
    memory_bytes: u64,
    /// Estimated time.
    seconds: f64,
    outputs: Vec<PathBuf>,
}

/// Checks the room on the disk, and notes if a stage that is to run may need more memory than there is.
pub(super) fn before(
    options: &CustomizeArgs,
    checked: &Checked,
    program: &Program,
) -> anyhow::Result<()> {
    let mut needed = unwritten_bytes(checked);
    let mut most = (0, String::new());
    for app in &checked.apps {
        let steps = Steps::of(options, checked, app, program)?;
        for (step, state) in steps.steps.iter().zip(steps.states()) {
            outputs::check_record(steps.records_of(step), &step.stage.name)?;
            if state == State::ToRun {
                needed += step.written;
                most = most.max((step.memory, step.stage.name.clone()));
            }
        }
    }
    outputs::expect_room(options, needed)?;
    let (memory, stage) = most;
    if let Some(available) = available_bytes().filter(|&available| memory > available) {
        let [memory, available] = [memory, available].map(output::bytes);
        output::note(&format!(
            "warning: the stage {stage} may need about {memory} of memory, but {available} are available"
        ));
    }
    Ok(())
}

impl Preview {
    /// Looks at records and outputs, and measures the machine's speed.
    pub(super) fn of(
        options: &CustomizeArgs,
        checked: &Checked,
        program: &Program,
    ) -> anyhow::Result<Self> {
        let speed = Speed::probe(&checked.foundation.checkpoint, &options.device.open()?);
        let mut written = unwritten_bytes(checked);
        let apps = checked.apps.iter().map(|app| {
            let steps = Steps::of(options, checked, app, program)?;
            let stages = steps.steps.iter().zip(steps.states());
            let needed = stages.filter(|(_, state)| *state != State::NotNeeded);
            let stages = needed.map(|(step, state)| {
                let finished = state == State::Finished;
                if !finished {
                    written += step.written;
                }
                StagePreview {
                    name: step.stage.name.clone(),
                    about: step.stage.about,
                    records: steps.records_of(step).dir.clone(),
                    finished,
                    memory_bytes: step.memory,
                    seconds: speed.seconds(step.flops),
                    outputs: step.stage.outputs.clone(),
                }
            });
            let stages = stages.collect();
            Ok(AppPreview {
                app: app.app.name.clone(),
                dir: app_dir(options, &app.app),
                rows: RowsPreview::of(&app.rows),
                proxies: proxies(checked, app, &steps),
                stages,
            })
        });
        let apps = apps.collect::<anyhow::Result<Vec<_>>>()?;
        let to_run = || apps.iter().flat_map(|app| &app.stages).filter(|stage| !stage.finished);
        Ok(Self {
            memory_bytes: to_run().map(|stage| stage.memory_bytes).max().unwrap_or(0),
            seconds: to_run().map(|stage| stage.seconds).sum(),
            foundation: checked.foundation_dir.clone(),
            writes_foundation: checked.writes_foundation(),
            available_bytes: available_bytes(),
            written_bytes: written,
            free_bytes: outputs::expect_room(options, written)?,
            apps,
        })
    }

    /// Prints the forecast as text.
    pub(super) fn print(&self) -> anyhow::Result<()> {
        for app in &self.apps {
            app.print()?;
        }
        let [memory, written, free] =
            [self.memory_bytes, self.written_bytes, self.free_bytes].map(output::bytes);
        let available = self.available_bytes.map(output::bytes);
        let available = available.map_or_else(String::new, |it| format!(" ({it} available)"));
        output::line(&format!(
            "what is to run needs about {} and {memory} of memory{available}, and writes up to {written} ({free} free)\n\
             time and memory are estimates; the time is that of the models' passes, at the speed that an expert's operations have now\n\
             nothing was written",
            output::seconds(self.seconds)
        ))
    }
}

impl AppPreview {
    fn print(&self) -> anyhow::Result<()> {
        let RowsPreview { train, calibration, validation, guard, test, skipped } = self.rows;
        let count = |Count { rows, tokens }| format!("{rows} rows ({tokens} tokens)");
        let skipped = match skipped {
            0 => String::new(),
            n => format!("; {n} rows are too long and skipped"),
        };
        output::line(&format!(
            "{}: {}\n  training {}, of these for scores and refit {}\n  validation {}, for the guard {}\n  test {}{skipped}",
            self.app,
            self.dir.display(),
            count(train),
            count(calibration),
            count(validation),
            count(guard),
            count(test),
        ))?;
        for proxy in &self.proxies {
            let share = 100.0 * proxy.expert_bytes as f64 / proxy.foundation_expert_bytes as f64;
            output::line(&format!(
                "  budget {}, score {}: the proxy keeps {} experts a layer, {} of {} ({share:.0} %); refit {}, adapter \
                 about {}",
                proxy.budget,
                proxy.score,
                proxy.kept_per_layer,
                output::bytes(proxy.expert_bytes),
                output::bytes(proxy.foundation_expert_bytes),
                proxy.refit,
                output::bytes(proxy.adapter_bytes),
            ))?;
        }
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        table.set_header(["stage", "", "memory", "time", "writes"]);
        for stage in &self.stages {
            let [memory, time] = match stage.finished {
                true => [const { String::new() }; 2],
                false => [output::bytes(stage.memory_bytes), output::seconds(stage.seconds)],
            };
            let outputs = stage.outputs.iter().map(|path| path.display().to_string());
            table.add_row([
                stage.name.clone(),
                if stage.finished { "finished" } else { "to run" }.to_owned(),
                memory,
                time,
                outputs.collect::<Vec<_>>().join(", "),
            ]);
        }
        for column in table.column_iter_mut().skip(2).take(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        output::line(&table.to_string())
    }
}

impl RowsPreview {
    fn of(rows: &SplitRows) -> Self {
        let count =
            |rows: &Lengths| Count { rows: rows.n_rows() as usize, tokens: rows.tokens() as u64 };
        Self {
            train: count(&rows.train),
            calibration: count(&rows.calibration),
            validation: count(&rows.validation),
            guard: count(&rows.guard),
            test: count(&rows.test),
            skipped: rows.skipped,
        }
    }
}

fn proxies(checked: &Checked, app: &CheckedApp, steps: &Steps) -> Vec<ProxyPreview> {
    let with_sizes = app.variants.asked.iter().zip(&steps.proxies);
    let proxy = |(variant, size): (&Variant, &ProxySize)| ProxyPreview {
        budget: variant.plan.budget.to_string(),
        score: variant.plan.score.to_string(),
        refit: variant.refit.to_string(),
        dir: variant.dir.clone(),
        kept_per_layer: size.kept_per_layer,
        expert_bytes: size.expert_bytes,
        foundation_expert_bytes: checked.foundation.checkpoint.expert_bytes(),
        adapter_bytes: size.adapter_bytes,
    };
    with_sizes.map(proxy).collect()
}

/// Bytes of foundation and rows that the program is yet to write.
fn unwritten_bytes(checked: &Checked) -> u64 {
    let unwritten = checked.written_inputs().filter(|files| !files.is_there());
    unwritten.map(WrittenDir::bytes).sum()
}
