//! The stages of an app in order, each with what it is expected to need.

use std::path::PathBuf;

use litemoe_adapter::{BATCH_TOKENS, target_sites};
use litemoe_core::{LinearSite, WeightDtype};
use litemoe_merge::kept_per_layer;
use litemoe_score::ScoreOptions;

use super::args::CustomizeArgs;
use super::check::{Checked, CheckedApp, SplitRows};
use super::job::{Job, StageWork};
use super::looped::app_dir;
use super::records::{Program, Records, Stage};
use super::stages::Stages;
use super::variant::Variant;
use crate::args::refit_kind::RefitKind;
use crate::commands::mount::Mounted;
use crate::forecast::{Extraction, Memory, ModelSize, Refitting, TuneMemory, Work, is_kept_down};

/// A stage and what it is expected to need.
pub(super) struct Step {
    pub(super) stage: Stage<Job>,
    /// Index of its records among [`Steps::records`].
    pub(super) records: usize,
    /// Peak of anonymous memory, in bytes.
    pub(super) memory: u64,
    /// Floating-point operations.
    pub(super) flops: f64,
    /// Bytes that it writes.
    pub(super) written: u64,
}

/// Whether a stage has to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    ToRun,
    /// It has a valid record, and no earlier stage writes its inputs again.
    Finished,
    /// It would evaluate an adapter that is not mounted, because the foundation alone is better.
    NotNeeded,
}

/// The stages of an app.
pub(super) struct Steps {
    pub(super) steps: Vec<Step>,
    /// Records of the app, then of each proxy of a sweep.
    pub(super) records: Vec<Records>,
    pub(super) proxies: Vec<ProxySize>,
}

/// Size of a proxy and of its adapter.
pub(super) struct ProxySize {
    pub(super) kept_per_layer: usize,
    pub(super) expert_bytes: u64,
    pub(super) adapter_bytes: u64,
}

/// Forecasts of one app's stages.
struct Forecaster<'a> {
    options: &'a CustomizeArgs,
    checked: &'a Checked,
    stages: Stages<'a>,
    /// The foundation in f32, as it is scored and extracted from.
    foundation: ModelSize,
    /// The foundation as adapters are tuned and mounted on it.
    packed: ModelSize,
    rows: &'a SplitRows,
}

impl Steps {
    /// Stages in the order in which they run.
    pub(super) fn of(
        options: &CustomizeArgs,
        checked: &Checked,
        app: &CheckedApp,
        program: &Program,
    ) -> anyhow::Result<Self> {
        let dir = app_dir(options, &app.app);
        let stages = Stages { options, foundation: &checked.foundation_dir, app: &app.app, dir };
        let own = Records::new(program, stages.dir.join("stages"), options.force);
        let forecaster = Forecaster::new(options, checked, app, stages);
        let mut all = Self { steps: Vec::new(), records: vec![own], proxies: Vec::new() };
        all.steps.extend(forecaster.shared()?);
        if options.is_sweep() && !options.no_controls {
            all.steps.extend(forecaster.full()?);
        }
        for variant in &app.variants.asked {
            if options.is_sweep() {
                all.records.push(Records::new(program, variant.records.clone(), options.force));
            }
            let (steps, size) = forecaster.variant(variant, all.records.len() - 1)?;
            all.steps.extend(steps);
            all.proxies.push(size);
        }
        if !options.is_sweep() && !options.no_controls {
            all.steps.extend(forecaster.full()?);
        }
        if let Some(variant) = &app.variants.random {
            all.steps.extend(forecaster.variant(variant, 0)?.0);
        }
        Ok(all)
    }

    pub(super) fn records_of(&self, step: &Step) -> &Records {
        &self.records[step.records]
    }

    /// States of the stages, in their order.
    pub(super) fn states(&self) -> Vec<State> {
        let (mut rewritten, mut unmounted) = (Vec::new(), Vec::new());
        let states = self.steps.iter().map(|step| {
            let (stage, records) = (&step.stage, self.records_of(step));
            let reads = |paths: &[&PathBuf]| stage.inputs.iter().any(|it| paths.contains(&it));
            if reads(&unmounted) {
                return State::NotNeeded;
            }
            if reads(&rewritten) || !records.is_finished(stage) {
                rewritten.extend(&stage.outputs);
                return State::ToRun;
            }
            if matches!(stage.work, Job::Mount(_)) && mounted_nothing(records, stage) {
                unmounted.extend(&stage.outputs);
            }
            State::Finished
        });
        states.collect()
    }
}

impl<'a> Forecaster<'a> {
    fn new(
        options: &'a CustomizeArgs,
        checked: &'a Checked,
        app: &'a CheckedApp,
        stages: Stages<'a>,
    ) -> Self {
        Self {
            options,
            checked,
            stages,
            foundation: ModelSize::of(&checked.foundation.checkpoint, WeightDtype::F32),
            packed: ModelSize::of(
                &checked.foundation.checkpoint,
                options.weights.of(&checked.foundation.checkpoint),
            ),
            rows: &app.rows,
        }
    }

    fn memory<'m>(&self, model: &'m ModelSize, adapter: f64) -> Memory<'m> {
        Memory { model, program: self.checked.program_bytes, adapter }
    }

    /// Stages before the first proxy.
    fn shared(&self) -> anyhow::Result<[Step; 2]> {
        let foundation = self.stages.eval("foundation", self.stages.foundation, None)?;
        let held = self.rows.calibration.tokens().min(ScoreOptions::default().held_tokens as f64);
        let score = step(
            self.stages.score()?,
            0,
            self.memory(&self.foundation, 0.0).score(self.rows.scoring, held),
            Work(&self.foundation).score(&self.rows.calibration),
            0.0,
        );
        Ok([self.eval(foundation, 0, &self.packed, 0.0), score])
    }

    /// The control on the whole foundation.
    fn full(&self) -> anyhow::Result<[Step; 2]> {
        let adapter = self.adapter_values(None)?;
        let full =
            self.stages.eval("full", self.stages.foundation, Some(&self.stages.full_adapter()))?;
        Ok([
            self.tune(self.stages.tune_full()?, 0, &self.packed, adapter),
            self.eval(full, 0, &self.packed, adapter),
        ])
    }

    /// Stages of a proxy, from plan to mounted adapter.
    fn variant(&self, variant: &Variant, records: usize) -> anyhow::Result<(Vec<Step>, ProxySize)> {
        let checkpoint = &self.checked.foundation.checkpoint;
        let layers = checkpoint.moe_layers();
        let kept_per_layer = kept_per_layer(variant.plan.budget, layers)?;
        let removed: u64 = layers
            .iter()
            .map(|layer| layer.n_experts.saturating_sub(kept_per_layer) as u64 * layer.expert_bytes)
            .sum();
        let (proxy, stages) = (self.packed.keeping(kept_per_layer), &self.stages);
        let adapter = self.adapter_values(Some((kept_per_layer, variant.refit)))?;
        let eval = |name: &str, model: &std::path::Path, size: &ModelSize, mounted: Option<_>| {
            let mounted: Option<std::path::PathBuf> = mounted;
            let stage = stages.eval(&variant.stage(name), model, mounted.as_deref())?;
            let adapter = if mounted.is_some() { adapter } else { 0.0 };
            Ok::<_, anyhow::Error>(self.eval(stage, records, size, adapter))
        };
        let bare = self.checked.bare_bytes;
        let plan = Memory { program: bare, ..self.memory(&self.foundation, 0.0) }.extract();
        let mut steps = vec![
            step(stages.plan(variant)?, records, plan, 0.0, 0.0),
            self.extract(variant, records, kept_per_layer, checkpoint.bytes_in_proxy() - removed)?,
            eval("proxy", &variant.proxy(), &proxy, None)?,
            self.tune(stages.tune(variant)?, records, &proxy, adapter),
        ];
        if variant.evaluates_tuned {
            steps.push(eval("tuned_proxy", &variant.proxy(), &proxy, Some(variant.adapter()))?);
        }
        let n_tried = self.options.mount.guard().max_tried(true) as f64;
        steps.push(step(
            stages.mount(variant)?,
            records,
            self.memory(&self.packed, adapter).mount(self.rows.guard.largest(BATCH_TOKENS)),
            n_tried * Work(&self.packed).eval(&self.rows.guard),
            file_bytes(adapter),
        ));
        steps.push(eval("mounted", stages.foundation, &self.packed, Some(variant.mounted()))?);
        let size = ProxySize {
            kept_per_layer,
            expert_bytes: checkpoint.expert_bytes() - removed,
            adapter_bytes: file_bytes(adapter) as u64,
        };
        Ok((steps, size))
    }

    fn extract(
        &self,
        variant: &Variant,
        records: usize,
        kept: usize,
        proxy_bytes: u64,
    ) -> anyhow::Result<Step> {
        let (rows, batch) = (&self.rows.calibration, self.rows.scoring);
        let rank = (variant.refit == RefitKind::LowRank).then_some(self.options.refit_rank);
        let refit = Refitting { rank, rows, batch };
        let extraction = Extraction {
            foundation: &self.foundation,
            sites: &self.checked.sites,
            kept,
            refit: (variant.refit != RefitKind::None).then_some(refit),
        };
        Ok(step(
            self.stages.extract(variant)?,
            records,
            extraction.memory(self.checked.program_bytes),
            extraction.flops(),
            extraction.written(proxy_bytes) as f64,
        ))
    }

    fn eval<W: StageWork>(
        &self,
        stage: Stage<W>,
        records: usize,
        model: &ModelSize,
        adapter: f64,
    ) -> Step {
        let memory = self.memory(model, adapter).eval(self.rows.test.largest(BATCH_TOKENS));
        step(stage, records, memory, Work(model).eval(&self.rows.test), 0.0)
    }

    fn tune<W: StageWork>(
        &self,
        stage: Stage<W>,
        records: usize,
        model: &ModelSize,
        adapter: f64,
    ) -> Step {
        let options = self.options.tune.tune();
        let tuned = TuneMemory {
            batch: self
                .rows
                .train
                .largest_random(options.micro_batch.min(options.batch), options.batch),
            parts: options.threads,
            recompute: options.recompute,
        };
        let memory = self
            .memory(model, adapter)
            .tune(tuned, self.rows.validation.largest(options.validation_tokens()));
        let flops = Work(model).tuning(&options, &self.rows.train, &self.rows.validation);
        // The adapter, and the checkpoint with two moments and the best adapter.
        step(stage, records, memory, flops, 5.0 * file_bytes(adapter))
    }

    /// Values of the adapter's matrices, on the foundation or on a proxy with its refit.
    fn adapter_values(&self, proxy: Option<(usize, RefitKind)>) -> anyhow::Result<f64> {
        let lora = self.options.tune.lora();
        let share = self.options.tune.hot_experts.unwrap_or(1.0);
        let value = |site: &LinearSite| {
            let rank = match proxy {
                Some((kept, RefitKind::LowRank)) if is_kept_down(site, kept) => {
                    self.options.refit_rank
                }
                _ => lora.rank_at(site),
            };
            let values = rank as f64 * (site.d_in + site.d_out) as f64;
            if site.role.is_expert() { share * values } else { values }
        };
        let is_there = |site: &LinearSite| match (site.role.expert(), proxy) {
            (Some((expert, _)), Some((kept, _))) => expert.expert < kept,
            _ => true,
        };
        let targets = target_sites(&self.checked.sites, &lora)?;
        Ok(targets.into_iter().filter(|site| is_there(site)).map(value).sum())
    }
}

/// Whether the guard of a finished mounting found the foundation alone to be best.
fn mounted_nothing(records: &Records, stage: &Stage<Job>) -> bool {
    let record = records.key(stage).ok().and_then(|key| records.valid::<Mounted>(stage, &key));
    record.is_some_and(|record| record.report.choice.is_none())
}

/// Bytes of an adapter's file.
fn file_bytes(values: f64) -> f64 {
    values * size_of::<f32>() as f64
}

fn step<W: StageWork>(
    stage: Stage<W>,
    records: usize,
    memory: u64,
    flops: f64,
    written: f64,
) -> Step {
    Step { stage: stage.of_any_work(), records, memory, flops, written: written as u64 }
}
