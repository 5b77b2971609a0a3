use std::path::{Path, PathBuf};

use super::app::App;
use super::args::CustomizeArgs;
use super::records::Stage;
use super::variant::Variant;
use crate::args::refit::{RefitArgs, proxy_refit};
use crate::args::refit_kind::RefitKind;
use crate::artefact;
use crate::commands::eval::EvalArgs;
use crate::commands::extract::ExtractArgs;
use crate::commands::mount::MountArgs;
use crate::commands::plan::PlanCommand;
use crate::commands::score::{MeasureArgs, ScoreWork};
use crate::commands::tune::TuneCommand;
use crate::work::with_defaults;

/// Stages of the loop for one app.
pub(super) struct Stages<'a> {
    pub(super) options: &'a CustomizeArgs,
    pub(super) foundation: &'a Path,
    pub(super) app: &'a App,
    /// Directory of what all proxies share.
    pub(super) dir: PathBuf,
}

impl Stages<'_> {
    fn scores(&self) -> PathBuf {
        self.dir.join("scores.json")
    }

    /// Adapter of the control: tuned on the whole foundation.
    pub(super) fn full_adapter(&self) -> PathBuf {
        self.dir.join("full-adapter")
    }

    /// Evaluates a model, with or without an adapter, on the test rows.
    pub(super) fn eval(
        &self,
        name: &str,
        model: &Path,
        adapter: Option<&Path>,
    ) -> anyhow::Result<Stage<EvalArgs>> {
        let inputs = [Some(model), Some(self.app.test.as_path()), adapter];
        let work = EvalArgs {
            adapter: adapter.map(Path::to_owned),
            limit: Some(self.options.limit),
            seed: self.options.seed,
            row_args: self.options.tune.row_args,
            device: self.options.device,
            weights: self.options.weights,
            ..with_defaults(&[], &[model, &self.app.test])?
        };
        Ok(Stage {
            name: name.to_owned(),
            about: match adapter {
                Some(_) => "evaluating on the test rows, with the adapter",
                None => "evaluating on the test rows",
            },
            work,
            inputs: inputs.into_iter().flatten().map(Path::to_owned).collect(),
            outputs: vec![],
            checkpoint: None,
        })
    }

    /// Scores the foundation's experts on the calibration rows.
    pub(super) fn score(&self) -> anyhow::Result<Stage<ScoreWork>> {
        let scores = self.scores();
        let measure = MeasureArgs {
            out: scores.clone(),
            rows: Some(self.options.calibration_rows),
            similarity: self.options.how.measured_similarity(),
            seed: self.options.seed,
            ..with_defaults(&[], &[self.foundation, &self.app.train])?
        };
        let (row_args, device) = (self.options.tune.row_args, self.options.device);
        Ok(Stage {
            name: "score".to_owned(),
            about: "scoring the foundation's experts on training rows",
            work: ScoreWork { measure, row_args, device },
            inputs: vec![self.foundation.to_owned(), self.app.train.clone()],
            outputs: vec![scores],
            checkpoint: None,
        })
    }

    /// Plans a proxy.
    pub(super) fn plan(&self, variant: &Variant) -> anyhow::Result<Stage<PlanCommand>> {
        let (scores, plan) = (self.scores(), variant.plan_file());
        let work = PlanCommand {
            out: plan.clone(),
            options: variant.plan.clone(),
            ..with_defaults(&[], &[self.foundation, &scores])?
        };
        Ok(Stage {
            name: variant.stage("plan"),
            about: "choosing the experts to keep, merge and drop",
            work,
            inputs: vec![self.foundation.to_owned(), scores],
            outputs: vec![plan],
            checkpoint: None,
        })
    }

    /// Extracts a proxy, with its refit.
    pub(super) fn extract(&self, variant: &Variant) -> anyhow::Result<Stage<ExtractArgs>> {
        let (plan, proxy, kind) = (variant.plan_file(), variant.proxy(), variant.refit);
        let (is_refitted, is_low_rank) = (kind != RefitKind::None, kind == RefitKind::LowRank);
        let defaults: ExtractArgs = with_defaults(&[], &[self.foundation, &plan])?;
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
        let mut inputs = vec![self.foundation.to_owned(), plan];
        inputs.extend(is_refitted.then(|| self.app.train.clone()));
        let mut outputs = vec![proxy.clone()];
        outputs.extend(is_low_rank.then(|| proxy_refit(&proxy)));
        Ok(Stage {
            name: variant.stage("extract"),
            about: match is_refitted {
                true => "writing the proxy and refitting its down projections",
                false => "writing the proxy",
            },
            work: ExtractArgs { out: proxy, refit, ..defaults },
            inputs,
            outputs,
            checkpoint: None,
        })
    }

    /// Tunes an adapter on a proxy.
    pub(super) fn tune(&self, variant: &Variant) -> anyhow::Result<Stage<TuneCommand>> {
        let (plan, proxy) = (variant.plan_file(), variant.proxy());
        let init = (variant.refit == RefitKind::LowRank).then(|| proxy_refit(&proxy));
        let about = "tuning an adapter on the proxy";
        self.tuned(variant.stage("tune"), about, &proxy, variant.adapter(), Some(plan), init)
    }

    /// Tunes an adapter on the whole foundation.
    pub(super) fn tune_full(&self) -> anyhow::Result<Stage<TuneCommand>> {
        let (name, about) = ("tune_full".to_owned(), "tuning on the whole foundation");
        self.tuned(name, about, self.foundation, self.full_adapter(), None, None)
    }

    fn tuned(
        &self,
        name: String,
        about: &'static str,
        model: &Path,
        adapter: PathBuf,
        plan: Option<PathBuf>,
        init: Option<PathBuf>,
    ) -> anyhow::Result<Stage<TuneCommand>> {
        let options = self.options.tune.clone();
        let scores = options.hot_experts.map(|_| self.scores());
        let rows = [&self.app.train, &self.app.validation].map(PathBuf::as_path);
        let [train, validation] = rows;
        let given = [Path::new("--validation"), validation];
        let inputs = [model, train, validation].map(Some);
        let others = [plan.as_deref(), scores.as_deref(), init.as_deref()];
        let inputs = inputs.into_iter().chain(others).flatten().map(Path::to_owned).collect();
        let checkpoint = Some(artefact::checkpoint_of(&adapter));
        let work = TuneCommand {
            plan,
            out: adapter.clone(),
            options,
            init,
            scores,
            seed: self.options.seed,
            device: self.options.device,
            weights: self.options.weights,
            ..with_defaults(&given, &[model, train])?
        };
        Ok(Stage { name, about, work, inputs, outputs: vec![adapter], checkpoint })
    }

    /// Mounts a proxy's adapter on the foundation.
    pub(super) fn mount(&self, variant: &Variant) -> anyhow::Result<Stage<MountArgs>> {
        let (adapter, plan, mounted) = (variant.adapter(), variant.plan_file(), variant.mounted());
        let work = MountArgs {
            plan: Some(plan.clone()),
            out: mounted.clone(),
            validation: Some(self.app.validation.clone()),
            options: self.options.mount.clone(),
            row_args: self.options.tune.row_args,
            device: self.options.device,
            weights: self.options.weights,
            ..with_defaults(&[], &[self.foundation, &adapter])?
        };
        let inputs = vec![self.foundation.to_owned(), adapter, plan, self.app.validation.clone()];
        Ok(Stage {
            name: variant.stage("mount"),
            about: "mounting the adapter on the foundation",
            work,
            inputs,
            outputs: vec![mounted],
            checkpoint: None,
        })
    }
}
