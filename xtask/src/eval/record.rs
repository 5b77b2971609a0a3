//! `results/loop.json`: what `litemoe customize --json` printed, where it was run, and whose the data is.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The loop on some apps, all under one foundation, budget and seed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// Commit of the program; `+` when there were changes.
    pub(super) commit: String,
    /// Processors that the program could use.
    pub(super) cpus: usize,
    /// As printed, each with the `source` of its data.
    pub(super) apps: Vec<Value>,
}

/// Whose an app's data is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Source {
    pub(super) source: String,
    pub(super) licence: String,
}

impl Source {
    /// Reads `meta.json` of an app's folder.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("meta.json");
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }
}

/// How well a model does on the test rows.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Quality {
    /// In 0..=1.
    pub(super) accuracy: f64,
    pub(super) perplexity: f64,
}

/// The part of an app's results that the table shows.
#[derive(Debug, Deserialize)]
pub(super) struct App {
    pub(super) app: String,
    pub(super) budget: Value,
    pub(super) rows: u64,
    pub(super) seed: u64,
    pub(super) fingerprint: String,
    pub(super) foundation: Quality,
    pub(super) proxy: Quality,
    pub(super) tuned_proxy: Quality,
    pub(super) mounted: Quality,
    pub(super) full: Quality,
    pub(super) random_mounted: Quality,
    pub(super) scale: f64,
    pub(super) recovery_perplexity: Option<f64>,
    pub(super) expert_bytes: ExpertBytes,
    pub(super) peak_bytes: PeakBytes,
    pub(super) seconds: BTreeMap<String, f64>,
    /// Absent for the app that the project wrote itself.
    pub(super) source: Option<Source>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ExpertBytes {
    pub(super) foundation: u64,
    pub(super) proxy: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct PeakBytes {
    pub(super) tune_proxy: u64,
    pub(super) tune_full: u64,
}

impl Record {
    /// A record of no app yet, for the checkout at `root`.
    pub(super) fn new(root: &Path) -> Result<Self> {
        let cpus = thread::available_parallelism()?.get();
        Ok(Self { commit: commit(root)?, cpus, apps: vec![] })
    }

    /// Reads a record.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }

    /// Adds the apps of a report of `litemoe customize --json`.
    pub(super) fn add(&mut self, mut report: Value, source: Option<&Source>) -> Result<()> {
        let apps = report.get_mut("apps").and_then(Value::as_array_mut);
        for mut app in apps.context("the report has no apps")?.drain(..) {
            if let (Some(source), Some(app)) = (source, app.as_object_mut()) {
                app.insert("source".to_owned(), serde_json::to_value(source)?);
            }
            self.apps.push(app);
        }
        self.apps().map(|_| ())
    }

    /// The apps as the table needs them; all of one foundation, budget, seed and number of rows.
    pub(super) fn apps(&self) -> Result<Vec<App>> {
        let apps: Vec<App> = (self.apps.iter())
            .map(|app| App::deserialize(app).context("an app's results"))
            .collect::<Result<_>>()?;
        for app in &apps {
            let (a, b) = (app.setting(), apps[0].setting());
            if a != b {
                bail!("{} ran under {a:?}, but {} under {b:?}", app.app, apps[0].app);
            }
        }
        Ok(apps)
    }
}

impl App {
    fn setting(&self) -> (&str, &Value, u64, u64) {
        (&self.fingerprint, &self.budget, self.seed, self.rows)
    }
}

/// The commit checked out at `root`; with a `+` when there are changes.
pub(super) fn commit(root: &Path) -> Result<String> {
    let git = |args: &[&str]| -> Result<String> {
        let output = Command::new("git").args(args).current_dir(root).output()?;
        if !output.status.success() {
            bail!("git {args:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let changed = !git(&["status", "--porcelain"])?.is_empty();
    Ok(git(&["rev-parse", "--short=12", "HEAD"])? + if changed { "+" } else { "" })
}
