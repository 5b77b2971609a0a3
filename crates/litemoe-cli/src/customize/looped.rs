use std::path::{Path, PathBuf};

use anyhow::Context;
use litemoe_core::WeightDtype;

use super::app::App;
use super::args::CustomizeArgs;
use super::records::{Program, Records};
use super::report::{
    AdapterBytes, AppReport, PeakBytes, Quality, RecordedOptions, ServeBytes, recovery,
    recovery_perplexity,
};
use super::stage::Runner;
use super::stages::Stages;
use super::variant::{Variant, Variants};
use crate::commands::extract::ExpertBytes;
use crate::commands::mount::Mounted;
use crate::commands::tune::TunedReport;
use crate::forecast::ModelSize;
use crate::model;

/// The loop of `customize` for one app.
pub(super) struct Loop<'a> {
    stages: Stages<'a>,
    variants: &'a Variants,
    program: &'a Program,
    runner: Runner,
}

/// Results that all proxies of an app share.
struct Shared {
    /// The foundation on the test rows, and their number.
    foundation: Quality,
    rows: u64,
    /// Fingerprint of the foundation.
    fingerprint: String,
}

/// Results of the control: full tuning on the foundation.
struct Full {
    quality: Quality,
    tuned: TunedReport,
}

/// Results of one proxy, from plan to mounted adapter.
struct Branch {
    proxy: Quality,
    tuned_proxy: Option<Quality>,
    mounted: Quality,
    mount: Mounted,
    expert_bytes: ExpertBytes,
    tuned: TunedReport,
}

impl<'a> Loop<'a> {
    pub(super) fn new(
        options: &'a CustomizeArgs,
        foundation: &'a Path,
        app: &'a App,
        variants: &'a Variants,
        program: &'a Program,
    ) -> anyhow::Result<Self> {
        let stages = Stages { options, foundation, app, dir: app_dir(options, app) };
        let records = Records::new(program, stages.dir.join("stages"), options.force);
        let runner = Runner::new(&app.name, records)?;
        Ok(Self { stages, variants, program, runner })
    }

    /// Runs all stages and collects the reports: one, or in a sweep one for each proxy.
    pub(super) fn run(&self) -> anyhow::Result<Vec<AppReport>> {
        let Stages { options, foundation, app, dir } = &self.stages;
        crate::output::note(&format!("{}: {}", app.name, dir.display()));
        let evaluated = self.runner.run(self.stages.eval("foundation", foundation, None)?)?;
        let (foundation, rows) = (Quality::of(&evaluated), evaluated.rows);
        let fingerprint = self.runner.run(self.stages.score()?)?.fingerprint;
        let shared = Shared { foundation, rows, fingerprint };
        if options.is_sweep() {
            let full = self.full()?;
            let variants = self.variants.asked.iter();
            return variants
                .map(|variant| self.of_sweep(variant, &shared, full.as_ref()))
                .collect();
        }
        let variant = self.variants.asked.first().context("there is no proxy to make")?;
        let branch = self.branch(&self.runner, variant, foundation)?;
        let full = self.full()?;
        let random = self.variants.random.as_ref();
        let random = random.map(|random| self.branch(&self.runner, random, foundation));
        let (full, random) = (full.as_ref(), random.transpose()?);
        let report = self.report(&self.runner, variant, &shared, &branch, full)?;
        Ok(vec![AppReport {
            random_proxy: random.as_ref().map(|random| random.proxy),
            random_mounted: random.as_ref().map(|random| random.mounted),
            random_choice: random.as_ref().and_then(|random| random.mount.choice),
            ..report
        }])
    }

    /// Runs the stages of one proxy of a sweep.
    fn of_sweep(
        &self,
        variant: &Variant,
        shared: &Shared,
        full: Option<&Full>,
    ) -> anyhow::Result<AppReport> {
        crate::output::note(&format!("{}: {}", self.stages.app.name, variant.dir.display()));
        let (records, force) = (variant.records.clone(), self.stages.options.force);
        let runner =
            Runner::new(&self.stages.app.name, Records::new(self.program, records, force))?;
        let branch = self.branch(&runner, variant, shared.foundation)?;
        self.report(&runner, variant, shared, &branch, full)
    }

    fn report(
        &self,
        runner: &Runner,
        variant: &Variant,
        shared: &Shared,
        branch: &Branch,
        full: Option<&Full>,
    ) -> anyhow::Result<AppReport> {
        let (foundation, quality) = (shared.foundation, full.map(|full| full.quality));
        let dtype = self.dtype();
        let mut seconds = self.runner.seconds();
        seconds.extend(runner.seconds());
        Ok(AppReport {
            app: self.stages.app.name.clone(),
            budget: variant.plan.budget.to_string(),
            rows: shared.rows,
            seed: self.stages.options.seed,
            options: self.recorded_options(variant)?,
            fingerprint: shared.fingerprint.clone(),
            foundation,
            proxy: branch.proxy,
            random_proxy: None,
            random_mounted: None,
            tuned_proxy: branch.tuned_proxy.context("the tuned proxy was not evaluated")?,
            mounted: branch.mounted,
            full: quality,
            choice: branch.mount.choice,
            random_choice: None,
            recovery: quality.and_then(|full| recovery(foundation, branch.mounted, full)),
            recovery_perplexity: quality
                .and_then(|full| recovery_perplexity(foundation, branch.mounted, full)),
            expert_bytes: branch.expert_bytes,
            adapter_bytes: AdapterBytes {
                mounted: branch.mount.adapter_bytes,
                full: full.map(|full| full.tuned.adapter_bytes),
            },
            serve_bytes: ServeBytes {
                mounted: branch.mount.memory_bytes,
                full: full.map(|full| full.tuned.memory_bytes),
                proxy: memory_bytes(&variant.proxy(), dtype)? + branch.tuned.memory_bytes,
                foundation: memory_bytes(self.stages.foundation, dtype)?,
            },
            peak_bytes: PeakBytes {
                tune_proxy: branch.tuned.peak_bytes.anonymous,
                tune_full: full.map(|full| full.tuned.peak_bytes.anonymous),
            },
            seconds,
        })
    }

    /// Runs the control on the whole foundation, unless controls are left out.
    fn full(&self) -> anyhow::Result<Option<Full>> {
        let Self { stages, runner, .. } = self;
        if stages.options.no_controls {
            return Ok(None);
        }
        let tuned = runner.run(stages.tune_full()?)?;
        let quality =
            self.quality(runner, "full", stages.foundation, Some(&stages.full_adapter()))?;
        Ok(Some(Full { quality, tuned }))
    }

    /// Runs the stages of one proxy, from plan to mounted adapter.
    fn branch(
        &self,
        runner: &Runner,
        variant: &Variant,
        foundation: Quality,
    ) -> anyhow::Result<Branch> {
        let stages = &self.stages;
        let (proxy, adapter, mounted) = (variant.proxy(), variant.adapter(), variant.mounted());
        let quality = |stage: &str, model: &Path, adapter: Option<&Path>| {
            self.quality(runner, &variant.stage(stage), model, adapter)
        };
        runner.run(stages.plan(variant)?)?;
        let extracted = runner.run(stages.extract(variant)?)?;
        let proxy_quality = quality("proxy", &proxy, None)?;
        let tuned = runner.run(stages.tune(variant)?)?;
        let tuned_proxy = match variant.evaluates_tuned {
            true => Some(quality("tuned_proxy", &proxy, Some(&adapter))?),
            false => None,
        };
        let mount = runner.run(stages.mount(variant)?)?;
        let mounted = match mount.choice {
            None => foundation,
            Some(_) => quality("mounted", stages.foundation, Some(&mounted))?,
        };
        Ok(Branch {
            proxy: proxy_quality,
            tuned_proxy,
            mounted,
            mount,
            expert_bytes: extracted.expert_bytes,
            tuned,
        })
    }

    fn quality(
        &self,
        runner: &Runner,
        name: &str,
        model: &Path,
        adapter: Option<&Path>,
    ) -> anyhow::Result<Quality> {
        Ok(Quality::of(&runner.run(self.stages.eval(name, model, adapter)?)?))
    }

    /// Number format of the weights, which is fixed before the first stage.
    fn dtype(&self) -> WeightDtype {
        self.stages.options.weights.dtype.unwrap_or_default()
    }

    fn recorded_options(&self, variant: &Variant) -> anyhow::Result<RecordedOptions> {
        let options = self.stages.options;
        Ok(RecordedOptions {
            plan: variant.plan.options()?,
            tune: options.tune.clone(),
            calibration_rows: options.calibration_rows,
            refit: variant.refit.to_string(),
            refit_rank: options.refit_rank,
            mount: options.mount.clone(),
            dtype: self.dtype(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            threads: options.tune.tune().threads,
        })
    }
}

/// Directory of an app's artefacts.
pub(super) fn app_dir(options: &CustomizeArgs, app: &App) -> PathBuf {
    options.out.join(&app.name)
}

/// Bytes of a model's weights in memory.
fn memory_bytes(dir: &Path, dtype: WeightDtype) -> anyhow::Result<u64> {
    Ok(ModelSize::of(&model::open(dir)?, dtype).loaded())
}
