use std::path::{Path, PathBuf};

use anyhow::Context;
use litemoe_core::Criterion;

use super::app::App;
use super::args::CustomizeArgs;
use super::report::{
    AdapterBytes, AppReport, PeakBytes, Quality, RecordedOptions, ServeBytes, recovery,
    recovery_perplexity,
};
use super::stage::Runner;
use super::stages::Stages;
use crate::commands::extract::ExpertBytes;
use crate::commands::mount::Mounted;
use crate::commands::tune::TunedReport;
use crate::model;

/// The loop of `customize` for one app.
pub(super) struct Loop<'a> {
    options: &'a CustomizeArgs,
    foundation: &'a Path,
    app: &'a App,
    dir: PathBuf,
    runner: Runner,
}

/// Results of the controls: full tuning on the foundation, and a random proxy.
struct Controls {
    full: Quality,
    tuned: TunedReport,
    random: Branch,
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
    ) -> anyhow::Result<Self> {
        let dir = options.out.join(&app.name);
        let runner = Runner::new(&app.name, dir.join("stages"), options.force)?;
        Ok(Self { options, foundation, app, dir, runner })
    }

    fn stages(&self) -> Stages<'_> {
        let Self { options, foundation, app, dir, runner } = self;
        Stages { options, foundation, app, dir, runner }
    }

    /// Runs all stages and collects the report.
    pub(super) fn run(&self) -> anyhow::Result<AppReport> {
        crate::output::note(&format!("{}: {}", self.app.name, self.dir.display()));
        let evaluated = self.stages().eval("foundation", self.foundation, None)?;
        let (foundation, rows) = (Quality::of(&evaluated), evaluated.rows);
        let fingerprint = self.stages().score()?.fingerprint;
        let branch = self.branch("", self.options.plan.score, foundation)?;
        let controls = match self.options.no_controls {
            true => None,
            false => Some(self.controls(foundation)?),
        };
        let controls = controls.as_ref();
        let (full, random) = (controls.map(|it| it.full), controls.map(|it| &it.random));
        Ok(AppReport {
            app: self.app.name.clone(),
            budget: self.options.plan.budget.to_string(),
            rows,
            seed: self.options.seed,
            options: self.recorded_options()?,
            fingerprint,
            foundation,
            proxy: branch.proxy,
            random_proxy: random.map(|random| random.proxy),
            random_mounted: random.map(|random| random.mounted),
            tuned_proxy: branch.tuned_proxy.context("the tuned proxy was not evaluated")?,
            mounted: branch.mounted,
            full,
            choice: branch.mount.choice,
            random_choice: random.and_then(|random| random.mount.choice),
            recovery: full.and_then(|full| recovery(foundation, branch.mounted, full)),
            recovery_perplexity: full
                .and_then(|full| recovery_perplexity(foundation, branch.mounted, full)),
            expert_bytes: branch.expert_bytes,
            adapter_bytes: AdapterBytes {
                mounted: branch.mount.adapter_bytes,
                full: controls.map(|controls| controls.tuned.adapter_bytes),
            },
            serve_bytes: ServeBytes {
                mounted: branch.mount.memory_bytes,
                full: controls.map(|controls| controls.tuned.memory_bytes),
                proxy: memory_bytes(&self.dir.join("proxy"))? + branch.tuned.memory_bytes,
                foundation: memory_bytes(self.foundation)?,
            },
            peak_bytes: PeakBytes {
                tune_proxy: branch.tuned.peak_bytes.anonymous,
                tune_full: controls.map(|controls| controls.tuned.peak_bytes.anonymous),
            },
            seconds: self.runner.seconds(),
        })
    }

    fn controls(&self, foundation: Quality) -> anyhow::Result<Controls> {
        let adapter = self.dir.join("full-adapter");
        let tuned = self.stages().tune("tune_full", self.foundation, &adapter, None)?;
        let full = self.quality("full", self.foundation, Some(&adapter))?;
        let random = self.branch("random_", Criterion::Random, foundation)?;
        Ok(Controls { full, tuned, random })
    }

    /// Runs the stages from plan to mounted adapter for one criterion; `prefix` distinguishes stage names.
    fn branch(
        &self,
        prefix: &str,
        score: Criterion,
        foundation: Quality,
    ) -> anyhow::Result<Branch> {
        let dir = if prefix.is_empty() { self.dir.clone() } else { self.dir.join("random") };
        let name = |stage: &str| format!("{prefix}{stage}");
        let (plan, proxy) = (dir.join("plan.json"), dir.join("proxy"));
        let stages = self.stages();
        stages.plan(&name("plan"), score, &plan)?;
        let extracted = stages.extract(&name("extract"), &plan, &proxy)?;
        let proxy_quality = self.quality(&name("proxy"), &proxy, None)?;
        let adapter = dir.join("adapter");
        let tuned = stages.tune(&name("tune"), &proxy, &adapter, Some(&plan))?;
        let tuned_proxy = match prefix {
            "" => Some(self.quality("tuned_proxy", &proxy, Some(&adapter))?),
            _ => None,
        };
        let mounted_dir = dir.join("mounted");
        let mount = stages.mount(&name("mount"), &adapter, &plan, &mounted_dir)?;
        let mounted = match mount.choice {
            None => foundation,
            Some(_) => self.quality(&name("mounted"), self.foundation, Some(&mounted_dir))?,
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

    fn quality(&self, name: &str, model: &Path, adapter: Option<&Path>) -> anyhow::Result<Quality> {
        Ok(Quality::of(&self.stages().eval(name, model, adapter)?))
    }

    fn recorded_options(&self) -> anyhow::Result<RecordedOptions> {
        Ok(RecordedOptions {
            plan: self.options.plan.options()?,
            tune: self.options.tune.clone(),
            calibration_rows: self.options.calibration_rows,
            refit: self.stages().refit()?.to_string(),
            refit_rank: self.options.refit_rank,
            mount: self.options.mount.clone(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            threads: self.options.tune.tune().threads,
        })
    }
}

/// Bytes of a model's parameters in f32.
fn memory_bytes(dir: &Path) -> anyhow::Result<u64> {
    let checkpoint = model::open(dir)?;
    let parameters: u64 = checkpoint.stored_parts().map(|part| part.parameters).sum();
    Ok(parameters * size_of::<f32>() as u64)
}
