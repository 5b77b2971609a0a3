//! `litemoe customize`: all stages of the loop, for one or several apps.

mod app;
mod args;
mod job;
mod looped;
mod report;
mod single_file;
mod stage;
mod stages;
mod table;

use std::path::PathBuf;

use anyhow::{Context, bail};

use self::app::{App, NamedApp};
pub(crate) use self::args::CustomizeArgs;
pub(crate) use self::job::StageArgs;
use self::looped::Loop;
use self::report::Report;
pub(crate) use self::report::{AppReport, Report as RunReport};
pub(crate) use self::table::print_app;
use crate::input_files::InputFiles;
use crate::{artefact, hub, output, row_check};

impl CustomizeArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        self.device.open()?;
        self.tune.check()?;
        self.plan.options()?;
        let foundation = match &self.foundation {
            Some(named) => hub::locate(named)?,
            None => app::embedded_foundation(&self.out)?,
        };
        let apps = self.open_apps()?;
        for app in &apps {
            row_check::note(&app.sources()).with_context(|| format!("app {}", app.name))?;
        }
        let rows = apps.iter().flat_map(|app| [&app.train, &app.validation, &app.test]);
        let inputs: Vec<&PathBuf> = rows.chain([&foundation]).collect();
        let inputs = InputFiles::of(&inputs);
        let mut report = Report { apps: Vec::new() };
        for app in &apps {
            let looped = Loop::new(&self, &foundation, app)?;
            report.apps.push(looped.run().with_context(|| format!("app {}", app.name))?);
        }
        inputs.expect_unchanged()?;
        artefact::write(&self.out.join("report.json"), &report)?;
        if self.json {
            output::json(&report)
        } else {
            table::print(&report, &self.out, &foundation)
        }
    }

    fn open_apps(&self) -> anyhow::Result<Vec<App>> {
        if self.apps.is_empty() {
            return Ok(vec![app::embedded_app(&self.out)?]);
        }
        let apps = self.apps.iter().map(|text| NamedApp::parse(text));
        let apps = apps.collect::<anyhow::Result<Vec<_>>>()?;
        for (index, app) in apps.iter().enumerate() {
            if apps[..index].iter().any(|other| other.name == app.name) {
                bail!("two apps are named {}: give each a name with --app NAME=DIR", app.name);
            }
        }
        apps.into_iter().map(|app| app.open(&self.out, self.seed)).collect()
    }
}
