//! What can be known before the first stage: everything that a stage would refuse later is refused here, before anything is
//! written.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use litemoe_adapter::{RowLimits, target_sites};
use litemoe_core::{BatchLimits, LinearRole, LinearSite, MoeLayer, RouterRule, Sequence};
use litemoe_merge::kept_per_layer;
use litemoe_score::ScoreOptions;
use tempfile::TempDir;

use super::app::{self, App, NamedApp};
use super::args::CustomizeArgs;
use super::history::History;
use super::looped::app_dir;
use super::outputs;
use super::variant::Variants;
use crate::forecast::{Batch, Lengths};
use crate::hub;
use crate::input::{draw, encode_quietly, read};
use crate::memory::anonymous_bytes;
use crate::model::Opened;
use crate::written_dir::WrittenDir;

/// Everything that a run needs, checked.
pub(super) struct Checked {
    /// Directory of the foundation, which may still have to be written.
    pub(super) foundation_dir: PathBuf,
    foundation_files: Option<WrittenDir>,
    pub(super) foundation: Opened,
    /// Linear weights of the foundation that the adapter's targets select from.
    pub(super) sites: Vec<LinearSite>,
    /// Bytes of this program: alone, and with the tokenizer.
    pub(super) bare_bytes: u64,
    pub(super) program_bytes: u64,
    pub(super) apps: Vec<CheckedApp>,
    /// Copies of files that are still to be written.
    _scratch: TempDir,
}

/// An app, its proxies, and the lengths of its rows.
pub(super) struct CheckedApp {
    pub(super) app: App,
    pub(super) variants: Variants,
    pub(super) rows: SplitRows,
}

/// Lengths of tokenized rows by use.
pub(super) struct SplitRows {
    pub(super) train: Lengths,
    /// Training rows for scores and refit.
    pub(super) calibration: Lengths,
    /// The largest batch of them.
    pub(super) scoring: Batch,
    /// Validation rows during tuning.
    pub(super) validation: Lengths,
    /// Validation rows of the guard.
    pub(super) guard: Lengths,
    pub(super) test: Lengths,
    /// Number of rows of these files that are skipped because they are too long.
    pub(super) skipped: usize,
}

impl Checked {
    /// Checks options, foundation, rows and outputs; writes nothing outside a temporary directory.
    pub(super) fn of(options: &CustomizeArgs) -> anyhow::Result<Self> {
        options.weights.check(&options.device.open()?)?;
        options.check()?;
        History::read(&outputs::results(options))?;
        let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
        let (foundation_dir, foundation_files) = match &options.foundation {
            Some(named) => (hub::locate(named)?, None),
            None => {
                let files = app::embedded_foundation(&options.out)?;
                files.check()?;
                (files.dir.clone(), Some(files))
            }
        };
        let apps = open_apps(options)?;
        let given = options.foundation.is_some().then_some(&*foundation_dir);
        outputs::expect_outside(options, given, &apps)?;
        let readable = foundation_files.as_ref().map(|files| files.readable(scratch.path()));
        let readable = readable.unwrap_or_else(|| Ok(foundation_dir.clone()))?;
        let bare_bytes = anonymous_bytes();
        let foundation = Opened::open(&readable)?;
        let program_bytes = anonymous_bytes();
        let sites = foundation.checkpoint.linear_sites();
        check_targets(options, &sites, foundation.checkpoint.moe_layers())?;
        let apps = apps.into_iter().map(|app| {
            let name = app.name.clone();
            CheckedApp::of(options, &foundation, app, &scratch)
                .with_context(|| format!("app {name}"))
        });
        let apps = apps.collect::<anyhow::Result<_>>()?;
        Ok(Self {
            foundation_dir,
            foundation_files,
            foundation,
            sites,
            bare_bytes,
            program_bytes,
            apps,
            _scratch: scratch,
        })
    }

    /// Writes the embedded foundation and the splits of single files. Returns the foundation's directory and the apps,
    /// and drops what only the checks needed.
    pub(super) fn write_inputs(self) -> anyhow::Result<(PathBuf, Vec<CheckedApp>)> {
        self.written_inputs().try_for_each(WrittenDir::write)?;
        Ok((self.foundation_dir, self.apps))
    }

    /// Whether the embedded foundation is still to be written.
    pub(super) fn writes_foundation(&self) -> bool {
        self.foundation_files.as_ref().is_some_and(|files| !files.is_there())
    }

    /// Directories that the program writes before the first stage.
    pub(super) fn written_inputs(&self) -> impl Iterator<Item = &WrittenDir> {
        let apps = self.apps.iter().filter_map(|app| app.app.written.as_ref());
        self.foundation_files.iter().chain(apps)
    }
}

impl CheckedApp {
    /// Checks an app: budgets and refits of its proxies, outputs, rows.
    fn of(
        options: &CustomizeArgs,
        foundation: &Opened,
        app: App,
        scratch: &TempDir,
    ) -> anyhow::Result<Self> {
        let layers = foundation.checkpoint.moe_layers();
        let variants = Variants::of(options, layers, &app_dir(options, &app))?;
        outputs::check(options, &app, &variants)?;
        if let Some(files) = &app.written {
            files.check()?;
        }
        let apps_scratch = scratch.path().join("apps");
        std::fs::create_dir_all(&apps_scratch).context("cannot create a temporary folder")?;
        let readable = app.readable(&apps_scratch)?;
        if let Some(file) = &app.single_file {
            // Errors name the lines of the file that the user knows.
            encoded(options, foundation, file, None)?;
        }
        let rows = SplitRows::read(options, foundation, &readable)?;
        Ok(Self { app, variants, rows })
    }
}

impl SplitRows {
    fn read(options: &CustomizeArgs, foundation: &Opened, app: &App) -> anyhow::Result<Self> {
        let limits = limits(foundation);
        let part = |file: &Path, rows: &'static str, part: Option<Part>| {
            let (sequences, skipped) = encoded(options, foundation, file, part)?;
            limits.check(rows, &sequences).with_context(|| file.display().to_string())?;
            Ok::<_, anyhow::Error>((sequences, skipped))
        };
        let (train, skipped) = part(&app.train, "training", None)?;
        let drawn = draw(train.len(), options.calibration_rows, options.seed);
        let calibration: Vec<_> = drawn.into_iter().map(|row| train[row].clone()).collect();
        let defaults = ScoreOptions::default();
        let batches = BatchLimits { rows: defaults.batch, tokens: defaults.batch_tokens };
        let first = |count| Some(Part::First(count));
        let (validation, _) =
            part(&app.validation, "validation", first(options.tune.validation_rows))?;
        let (guard, skipped_validation) =
            part(&app.validation, "validation", first(options.mount.guard_rows))?;
        let drawn = Part::Drawn(options.limit.get(), options.seed);
        let (test, skipped_test) = part(&app.test, "test", Some(drawn))?;
        Ok(Self {
            train: Lengths::of(&train),
            calibration: Lengths::of(&calibration),
            scoring: Batch::of_scoring(&calibration, batches),
            validation: Lengths::of(&validation),
            guard: Lengths::of(&guard),
            test: Lengths::of(&test),
            skipped: skipped + skipped_validation + skipped_test,
        })
    }
}

/// Rows of a file that are used.
#[derive(Clone, Copy)]
enum Part {
    First(usize),
    /// This many, by a seed.
    Drawn(usize, u64),
}

/// Tokenizes rows of a file as the stages do. Also returns the number of rows that are too long.
fn encoded(
    options: &CustomizeArgs,
    foundation: &Opened,
    file: &Path,
    part: Option<Part>,
) -> anyhow::Result<(Vec<Sequence>, usize)> {
    let args = options.tune.row_args;
    let rows = read(file, args)?;
    let n_rows = rows.rows.len();
    let which = match part {
        None => (0..n_rows).collect(),
        Some(Part::First(count)) => (0..count.min(n_rows)).collect(),
        Some(Part::Drawn(count, seed)) => draw(n_rows, count, seed),
    };
    let encoded = encode_quietly(&rows, which, file, foundation, args.max_tokens)?;
    Ok((encoded.sequences, encoded.skipped_too_long))
}

/// Checks targets and ranks, on the foundation and on the smallest proxy: its routers may have fewer rows.
fn check_targets(
    options: &CustomizeArgs,
    sites: &[LinearSite],
    layers: &[MoeLayer],
) -> anyhow::Result<()> {
    let lora = options.tune.lora();
    lora.check_ranks(&target_sites(sites, &lora)?)?;
    if options.how.router != RouterRule::DropRows {
        return Ok(());
    }
    for &budget in &options.budget {
        let kept = kept_per_layer(budget, layers)?;
        let of_proxy = |site: &LinearSite| match site.role {
            LinearRole::Router { .. } => LinearSite { d_out: site.d_out.min(kept), ..site.clone() },
            _ => site.clone(),
        };
        let sites: Vec<_> = sites.iter().map(of_proxy).collect();
        lora.check_ranks(&target_sites(&sites, &lora)?)?;
    }
    Ok(())
}

fn limits(foundation: &Opened) -> RowLimits {
    let config = foundation.checkpoint.config();
    RowLimits {
        vocab: config.vocab,
        max_tokens: config.max_tokens,
        has_encoder: !config.encoder.is_empty(),
    }
}

fn open_apps(options: &CustomizeArgs) -> anyhow::Result<Vec<App>> {
    if options.apps.is_empty() {
        return Ok(vec![app::embedded_app(&options.out)?]);
    }
    let apps = options.apps.iter().map(|text| NamedApp::parse(text));
    let apps = apps.collect::<anyhow::Result<Vec<_>>>()?;
    for (index, app) in apps.iter().enumerate() {
        if apps[..index].iter().any(|other| other.name == app.name) {
            bail!("two apps are named {}: give each a name with --app NAME=DIR", app.name);
        }
    }
    apps.into_iter().map(|app| app.open(&options.out, options.seed)).collect()
}
