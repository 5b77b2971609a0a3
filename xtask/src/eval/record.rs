//! `results/loop.json`: the output of `litemoe customize --json`, the machine, and the sources of the data.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Runs of the loop on foundations, apps, budgets and seeds, all with the same number of rows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// Commit of the program; `+` marks uncommitted changes.
    pub(super) commit: String,
    pub(super) machine: Machine,
    pub(super) cells: Vec<Recorded>,
}

/// The machine of the runs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Machine {
    /// CPUs available to the program.
    pub(super) cpus: usize,
    /// CPU model, if known.
    pub(super) model: String,
}

/// One run of the loop.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Recorded {
    /// The foundation's folder.
    pub(super) foundation_name: String,
    /// Output for the app.
    pub(super) report: Value,
    /// Source of the data; absent for the app written for this project.
    pub(super) source: Option<Source>,
}

/// Source and licence of an app's data.
#[derive(Debug, Clone, Serialize, Deserialize)]
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

/// Exact-match accuracy and perplexity of a model on the test rows.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Quality {
    /// In 0..=1.
    pub(super) accuracy: f64,
    pub(super) perplexity: f64,
}

/// Fields of a run's results that the tables show.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Cell {
    #[serde(skip)]
    pub(super) foundation_name: String,
    #[serde(skip)]
    pub(super) source: Option<Source>,
    pub(super) app: String,
    pub(super) budget: String,
    pub(super) rows: u64,
    pub(super) seed: u64,
    pub(super) foundation: Quality,
    pub(super) tuned_proxy: Quality,
    pub(super) mounted: Quality,
    pub(super) full: Quality,
    pub(super) random_mounted: Quality,
    /// Mounting choice; `None` if not mounted.
    pub(super) choice: Option<Choice>,
    pub(super) recovery: Option<f64>,
    pub(super) recovery_perplexity: Option<f64>,
    pub(super) adapter_bytes: AdapterBytes,
    pub(super) peak_bytes: PeakBytes,
}

/// Routing and scale of a mounted adapter.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Choice {
    /// `full`, `restricted`, or the penalty on the router logits of other experts.
    pub(super) routing: Value,
    pub(super) scale: f64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct AdapterBytes {
    pub(super) mounted: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct PeakBytes {
    pub(super) tune_proxy: u64,
    pub(super) tune_full: u64,
}

impl Record {
    /// An empty record, for the checkout at `root`.
    pub(super) fn new(root: &Path) -> Result<Self> {
        Ok(Self { commit: commit(root)?, machine: Machine::this()?, cells: vec![] })
    }

    /// Reads a record.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }

    /// Adds the only app of a report of `litemoe customize --json`.
    pub(super) fn add(
        &mut self,
        foundation: &str,
        mut report: Value,
        source: Option<&Source>,
    ) -> Result<()> {
        let report = report.pointer_mut("/apps/0").context("the report has no app")?.take();
        let (foundation_name, source) = (foundation.to_owned(), source.cloned());
        self.cells.push(Recorded { foundation_name, report, source });
        self.cells().map(|_| ())
    }

    /// The runs as table cells; all with the same number of rows, unless an app has fewer.
    pub(super) fn cells(&self) -> Result<Vec<Cell>> {
        self.cells.iter().map(Recorded::cell).collect()
    }
}

impl Recorded {
    fn cell(&self) -> Result<Cell> {
        let cell = Cell::deserialize(&self.report).context("a run's results")?;
        let (foundation_name, source) = (self.foundation_name.clone(), self.source.clone());
        Ok(Cell { foundation_name, source, ..cell })
    }
}

impl Machine {
    fn this() -> Result<Self> {
        let cpus = thread::available_parallelism()?.get();
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let line = info.lines().find_map(|line| line.strip_prefix("model name"));
        let model = line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, name)| name);
        Ok(Self { cpus, model: model.trim().to_owned() })
    }
}

/// The commit checked out at `root`; `+` marks uncommitted changes.
pub(crate) fn commit(root: &Path) -> Result<String> {
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
