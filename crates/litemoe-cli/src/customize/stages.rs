use std::path::{Path, PathBuf};

use litemoe_adapter::EXPERTS;
use litemoe_core::{Criterion, MergeMethod, MoeLayer, Plan, Stack};
use litemoe_merge::{RefitOptions, sum_bytes};

use super::app::App;
use super::args::CustomizeArgs;
use super::stage::{Runner, Stage};
use crate::args::auto::Auto;
use crate::args::plan::PlanArgs;
use crate::args::refit::{RefitArgs, proxy_refit};
use crate::args::refit_kind::RefitKind;
use crate::artefact;
use crate::commands::eval::{EvalArgs, Evaluated};
use crate::commands::extract::{ExtractArgs, Extracted};
use crate::commands::mount::{MountArgs, Mounted};
use crate::commands::plan::{PlanCommand, Planned};
use crate::commands::score::{MeasureArgs, ScoreReport, ScoreWork};
use crate::commands::tune::{TuneCommand, TunedReport};
use crate::work::with_defaults;

/// Stages of the loop for one app.
pub(super) struct Stages<'a> {
    pub(super) options: &'a CustomizeArgs,
    pub(super) foundation: &'a Path,
    pub(super) app: &'a App,
    /// Directory of the app's artefacts.
    pub(super) dir: &'a Path,
    pub(super) runner: &'a Runner,
}

impl Stages<'_> {
    /// Evaluates a model, with or without an adapter, on the test rows.
    pub(super) fn eval(
        &self,
        name: &str,
        model: &Path,
        adapter: Option<&Path>,
    ) -> anyhow::Result<Evaluated> {
        let inputs = [Some(model), Some(self.app.test.as_path()), adapter];
        let about = match adapter {
            Some(_) => "evaluating on the test rows, with the adapter",
            None => "evaluating on the test rows",
        };
        let work = EvalArgs {
            adapter: adapter.map(Path::to_owned),
            limit: Some(self.options.limit),
            seed: self.options.seed,
            row_args: self.options.tune.row_args,
            device: self.options.device,
            ..with_defaults(&[], &[model, &self.app.test])?
        };
        self.runner.run(Stage {
            name,
            about,
            work,
            inputs: inputs.into_iter().flatten().collect(),
            outputs: vec![],
            checkpoint: None,
        })
    }

    /// Scores the foundation's experts on the calibration rows.
    pub(super) fn score(&self) -> anyhow::Result<ScoreReport> {
        let scores = self.dir.join("scores.json");
        let merges = self.options.plan.merge != MergeMethod::None;
        let measure = MeasureArgs {
            out: scores.clone(),
            rows: Some(self.options.calibration_rows),
            similarity: merges.then(|| self.options.plan.merging().similarity),
            seed: self.options.seed,
            ..with_defaults(&[], &[self.foundation, &self.app.train])?
        };
        let (row_args, device) = (self.options.tune.row_args, self.options.device);
        self.runner.run(Stage {
            name: "score",
            about: "scoring the foundation's experts on training rows",
            work: ScoreWork { measure, row_args, device },
            inputs: vec![self.foundation, &self.app.train],
            outputs: vec![&scores],
            checkpoint: None,
        })
    }

    /// Plans a proxy by one criterion.
    pub(super) fn plan(
        &self,
        name: &str,
        score: Criterion,
        plan: &Path,
    ) -> anyhow::Result<Planned> {
        let scores = self.dir.join("scores.json");
        let work = PlanCommand {
            out: plan.to_owned(),
            options: PlanArgs { score, ..self.options.plan.clone() },
            ..with_defaults(&[], &[self.foundation, &scores])?
        };
        self.runner.run(Stage {
            name,
            about: "choosing the experts to keep, merge and drop",
            work,
            inputs: vec![self.foundation, &scores],
            outputs: vec![plan],
            checkpoint: None,
        })
    }

    /// Extracts a proxy, with its refit.
    pub(super) fn extract(
        &self,
        name: &str,
        plan: &Path,
        proxy: &Path,
    ) -> anyhow::Result<Extracted> {
        let (kind, change) = (self.refit()?, proxy_refit(proxy));
        let (is_refitted, is_low_rank) = (kind != RefitKind::None, kind == RefitKind::LowRank);
        let defaults: ExtractArgs = with_defaults(&[], &[self.foundation, plan])?;
        let refit = RefitArgs {
            refit: kind,
            data: is_refitted.then(|| self.app.train.clone()),
            rows: self.options.calibration_rows,
            seed: self.options.seed,
            row_args: self.options.tune.row_args,
            refit_rank: is_low_rank.then_some(self.options.refit_rank),
            device: self.options.device,
            ..defaults.refit
        };
        let mut inputs = vec![self.foundation, plan];
        inputs.extend(is_refitted.then_some(self.app.train.as_path()));
        let mut outputs = vec![proxy];
        outputs.extend(is_low_rank.then_some(change.as_path()));
        self.runner.run(Stage {
            name,
            about: match is_refitted {
                true => "writing the proxy and refitting its down projections",
                false => "writing the proxy",
            },
            work: ExtractArgs { out: proxy.to_owned(), refit, ..defaults },
            inputs,
            outputs,
            checkpoint: None,
        })
    }

    /// Tunes an adapter on a proxy, or on the foundation if there is no plan.
    pub(super) fn tune(
        &self,
        name: &str,
        model: &Path,
        adapter: &Path,
        plan: Option<&Path>,
    ) -> anyhow::Result<TunedReport> {
        let options = self.options.tune.clone();
        let scores = options.hot_experts.map(|_| self.dir.join("scores.json"));
        let starts_refitted = plan.is_some() && self.refit()? == RefitKind::LowRank;
        let init = starts_refitted.then(|| proxy_refit(model));
        let rows = [&self.app.train, &self.app.validation].map(PathBuf::as_path);
        let [train, validation] = rows;
        let given = [Path::new("--validation"), validation];
        let inputs = [model, train, validation].map(Some);
        let others = [plan, scores.as_deref(), init.as_deref()];
        let inputs = inputs.into_iter().chain(others).flatten().collect();
        let work = TuneCommand {
            plan: plan.map(Path::to_owned),
            out: adapter.to_owned(),
            options,
            init: init.clone(),
            scores: scores.clone(),
            seed: self.options.seed,
            device: self.options.device,
            ..with_defaults(&given, &[model, train])?
        };
        self.runner.run(Stage {
            name,
            about: match plan {
                Some(_) => "tuning an adapter on the proxy",
                None => "tuning on the whole foundation",
            },
            work,
            inputs,
            outputs: vec![adapter],
            checkpoint: Some(&artefact::checkpoint_of(adapter)),
        })
    }

    /// Mounts an adapter on the foundation.
    pub(super) fn mount(
        &self,
        name: &str,
        adapter: &Path,
        plan: &Path,
        mounted: &Path,
    ) -> anyhow::Result<Mounted> {
        let work = MountArgs {
            plan: Some(plan.to_owned()),
            out: mounted.to_owned(),
            validation: Some(self.app.validation.clone()),
            options: self.options.mount.clone(),
            row_args: self.options.tune.row_args,
            device: self.options.device,
            ..with_defaults(&[], &[self.foundation, adapter])?
        };
        self.runner.run(Stage {
            name,
            about: "mounting the adapter on the foundation",
            work,
            inputs: vec![self.foundation, adapter, plan, &self.app.validation],
            outputs: vec![mounted],
            checkpoint: None,
        })
    }

    /// Kind of the refit; decides `auto`.
    pub(super) fn refit(&self) -> anyhow::Result<RefitKind> {
        if let Auto::Given(kind) = self.options.refit {
            return Ok(kind);
        }
        let tune = &self.options.tune;
        let carried = |target: &String| target == EXPERTS || target == "down_proj";
        let is_carried = tune.hot_experts.is_none()
            && (tune.targets.is_empty() || tune.targets.iter().any(carried));
        let checkpoint = crate::model::open(self.foundation)?;
        let in_encoder = |layer: &MoeLayer| layer.id.stack == Stack::Encoder;
        let is_decoder = !checkpoint.moe_layers().iter().any(in_encoder);
        let plan: Plan = artefact::read(&self.dir.join("plan.json"))?;
        let is_small = |layer: &MoeLayer| {
            let kept = plan.layers.get(&layer.id).map_or(0, |layer| layer.groups.len());
            sum_bytes(kept * layer.d_expert) <= RefitOptions::default().max_sum_bytes
        };
        let fits = checkpoint.moe_layers().iter().all(is_small);
        Ok(if is_carried && is_decoder && fits { RefitKind::LowRank } else { RefitKind::None })
    }
}
