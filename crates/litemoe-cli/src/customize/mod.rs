//! `litemoe customize`: all stages of the loop, for one or several apps.

mod app;
mod args;
mod check;
mod history;
mod job;
mod looped;
mod outputs;
mod preview;
mod records;
mod refit;
mod report;
mod single_file;
mod stage;
mod stage_files;
mod stages;
mod steps;
mod sweep_table;
mod table;
mod variant;

use std::io;
use std::path::PathBuf;

use anyhow::{Context, bail};
use litemoe_files::TargetLock;

pub(crate) use self::args::CustomizeArgs;
use self::check::{Checked, CheckedApp};
use self::history::{History, REPORT, SWEEP};
pub(crate) use self::job::StageArgs;
use self::looped::Loop;
use self::preview::Preview;
use self::records::Program;
use self::report::Report;
pub(crate) use self::report::{AppReport, Report as RunReport};
pub(crate) use self::table::print_app;
use crate::input_files::InputFiles;
use crate::{fingerprints, output, row_check};

/// Files of results in an output directory.
pub(crate) const RESULTS: [&str; 2] = [REPORT, SWEEP];

impl CustomizeArgs {
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        if self.dry_run {
            fingerprints::keep_none();
        }
        // A directory that is not there cannot be in use; it is made once everything is checked.
        let locks_now = self.out.exists() && !self.dry_run;
        let lock = locks_now.then(|| self.lock()).transpose()?;
        let checked = Checked::of(&self)?;
        self.weights = self.weights.fixed_by(&checked.foundation.checkpoint);
        self.weights.check(&self.device.open()?)?;
        let program = Program::this()?;
        if self.dry_run {
            let preview = Preview::of(&self, &checked, &program)?;
            return if self.json { output::json(&preview) } else { preview.print() };
        }
        preview::before(&self, &checked, &program)?;
        let _lock = lock.map_or_else(|| self.lock(), Ok)?;
        let (foundation, apps) = checked.write_inputs()?;
        for CheckedApp { app, .. } in &apps {
            row_check::note(&app.sources()).with_context(|| format!("app {}", app.name))?;
        }
        let rows = apps.iter().map(|it| &it.app);
        let rows = rows.flat_map(|app| [&app.train, &app.validation, &app.test]);
        let inputs: Vec<&PathBuf> = rows.chain([&foundation]).collect();
        let inputs = InputFiles::of(&inputs);
        let mut report = Report { apps: Vec::new() };
        for CheckedApp { app, variants, .. } in &apps {
            let looped = Loop::new(&self, &foundation, app, variants, &program)?;
            let reports = looped.run().with_context(|| format!("app {}", app.name))?;
            report.apps.extend(reports);
        }
        inputs.expect_unchanged()?;
        History::write(&outputs::results(&self), &report)?;
        if self.json {
            return output::json(&report);
        }
        if self.is_sweep() {
            return sweep_table::print(&report, &self.out);
        }
        table::print(&report, &self.out, &foundation)
    }

    /// Locks the output directory for this run: the lock of `report.json`, also in a sweep.
    fn lock(&self) -> anyhow::Result<TargetLock> {
        TargetLock::new(&self.out.join(REPORT)).or_else(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => {
                bail!("another `litemoe customize` is at work in {}", self.out.display())
            }
            _ => Err(error).with_context(|| format!("cannot lock {}", self.out.display())),
        })
    }
}
