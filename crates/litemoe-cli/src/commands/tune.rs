use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::ProgressBar;
use litemoe_adapter::peft::PeftConfig;
use litemoe_adapter::{
    AdapterRecord, Checkpoint, LoraOptions, RECORD_VERSION, SiteMap, StepReport, TuneData,
    TuneMetrics, TuneOptions, Tuned, Watcher, fresh, save, tune,
};
use litemoe_core::{Adapters, LanguageModel, MoeModel, Plan};
use serde::Serialize;

use crate::customize::options::TuneArgs;
use crate::device::DeviceArgs;
use crate::input::Rows;
use crate::memory::{MemoryWatch, Peak};
use crate::model::{self, Loaded};
use crate::{artefact, output, progress};

/// Tune a LoRA adapter beside a model's frozen weights
#[derive(Debug, Args)]
pub(crate) struct TuneCommand {
    /// The model to tune on, a Hugging Face directory: a proxy, or the foundation.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The training rows, a JSONL file with `prompt` and `completion`.
    #[arg(value_name = "ROWS")]
    train: PathBuf,
    /// The validation rows.
    #[arg(long, value_name = "ROWS")]
    validation: PathBuf,
    /// The plan that made the proxy; without it MODEL is the foundation itself.
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    /// The adapter's folder, in PEFT's layout.
    #[arg(long, value_name = "DIR", default_value = "adapter")]
    out: PathBuf,
    #[command(flatten)]
    options: TuneArgs,
    /// Start from this adapter instead of a fresh one.
    #[arg(long, value_name = "DIR")]
    init: Option<PathBuf>,
    /// Take the training rows in order instead of shuffling them.
    #[arg(long)]
    in_order: bool,
    /// Seed of the initial adapter and of the rows' order.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Go on from the checkpoint that an interrupted run left.
    #[arg(long)]
    resume: bool,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Serialize)]
struct TunedReport {
    adapter: PathBuf,
    steps: usize,
    best_step: usize,
    validation_loss: f64,
    validation_accuracy: f64,
    losses: Vec<f64>,
    tokens: u64,
    tokens_per_second: f64,
    skipped: usize,
    seconds: f64,
    peak_bytes: Peak,
}

impl TuneCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (start, memory) = (Instant::now(), MemoryWatch::start());
        let loaded = Loaded::open(&self.model, self.device)?;
        let plan = self.plan.as_deref().map(|path| read_plan(path, &loaded)).transpose()?;
        let train = Rows::read(&self.train, &loaded, self.options.max_tokens)?;
        let validation = Rows::read_first(
            &self.validation,
            &loaded,
            self.options.max_tokens,
            Some(self.options.validation_rows),
        )?;
        let initial = self.initial(&loaded)?;
        let state = self.checkpoint_file();
        artefact::create_parent(&state)?;
        if !self.resume && state.exists() {
            std::fs::remove_file(&state)
                .with_context(|| format!("cannot remove {}", state.display()))?;
        }
        let checkpoint = Checkpoint {
            path: &state,
            every: self.options.validate_every,
            model: loaded.checkpoint.fingerprint(),
        };
        let data = TuneData { train: &train.sequences, validation: &validation.sequences };
        let mut bar = Bar::new(self.options.steps);
        let tuned =
            tune(&loaded.model, &initial, data, &self.tune_options(), Some(checkpoint), &mut bar)?;
        let losses = bar.finish();
        self.save(&loaded, plan.as_ref(), &tuned)?;
        std::fs::remove_file(&state)
            .with_context(|| format!("cannot remove {}", state.display()))?;
        self.report(&tuned, losses, train.skipped + validation.skipped, start, &memory)
    }

    fn initial(&self, loaded: &Loaded) -> anyhow::Result<Adapters> {
        let Some(dir) = &self.init else {
            let sites = loaded.model.linear_sites();
            return Ok(fresh(sites, &self.lora_options(), self.seed, &loaded.model.device())?);
        };
        let adapter = litemoe_adapter::load(dir, &loaded.model, loaded.checkpoint.fingerprint())?;
        let (rank, scale) = (self.options.rank, self.lora_options().scale());
        if let Some((site, _)) =
            adapter.adapters.iter().find(|(_, l)| l.rank() != rank || l.scale != scale)
        {
            bail!("--init {}: {site} is not of rank {rank} and scale {scale}", dir.display());
        }
        Ok(adapter.adapters)
    }

    fn save(&self, loaded: &Loaded, plan: Option<&Plan>, tuned: &Tuned) -> anyhow::Result<()> {
        let trained_on = loaded.checkpoint.fingerprint();
        let record = AdapterRecord {
            version: RECORD_VERSION,
            program: format!("litemoe {}", env!("CARGO_PKG_VERSION")),
            foundation: plan.map_or(trained_on, |plan| &plan.fingerprint).clone(),
            trained_on: trained_on.clone(),
            plan: plan.map(Plan::hash),
            map: SiteMap::Identity,
            scale: 1.0,
            lora: self.lora_options(),
            tune: self.tune_options(),
            metrics: TuneMetrics {
                best_step: tuned.best_step,
                validation_loss: tuned.validation.map(|found| found.loss()),
                validation_accuracy: tuned.validation.map(|found| found.accuracy()),
                tokens: tuned.tokens,
            },
        };
        let config = PeftConfig {
            base_model: Some(model::base_path(&self.model)),
            task_type: Some("CAUSAL_LM".to_owned()),
            rslora: false,
        };
        let sites = loaded.model.linear_sites();
        Ok(save(&self.out, &tuned.adapters, sites, &config, Some(&record))?)
    }

    fn report(
        &self,
        tuned: &Tuned,
        losses: Vec<f64>,
        skipped: usize,
        start: Instant,
        memory: &MemoryWatch,
    ) -> anyhow::Result<()> {
        let seconds = start.elapsed().as_secs_f64();
        let validation = tuned.validation.context("nothing was validated")?;
        let report = TunedReport {
            adapter: self.out.clone(),
            steps: self.options.steps,
            best_step: tuned.best_step,
            validation_loss: validation.loss(),
            validation_accuracy: validation.accuracy(),
            losses,
            tokens: tuned.tokens,
            tokens_per_second: tuned.tokens as f64 / seconds,
            skipped,
            seconds,
            peak_bytes: memory.peak(),
        };
        if self.json {
            return output::json(&report);
        }
        output::line(&format!(
            "{} written: step {} of {}, validation loss {:.4}, accuracy {:.1} %",
            self.out.display(),
            report.best_step,
            report.steps,
            report.validation_loss,
            100.0 * report.validation_accuracy
        ));
        Ok(())
    }

    fn lora_options(&self) -> LoraOptions {
        let TuneArgs { rank, alpha, targets, .. } = &self.options;
        LoraOptions { rank: *rank, alpha: *alpha, targets: targets.clone(), rslora: false }
    }

    fn tune_options(&self) -> TuneOptions {
        let options = &self.options;
        TuneOptions {
            steps: options.steps,
            batch: options.batch,
            micro_batch: options.batch.div_ceil(options.accumulate.max(1)),
            recompute: options.recompute,
            lr: options.learning_rate,
            warmup: options.warmup,
            weight_decay: options.weight_decay,
            router_noise: options.router_noise,
            validate_every: options.validate_every,
            shuffle: !self.in_order,
            seed: self.seed,
            ..TuneOptions::default()
        }
    }

    /// Beside the adapter's folder, so that an interrupted run leaves no half adapter.
    fn checkpoint_file(&self) -> PathBuf {
        let mut name = self.out.file_name().unwrap_or_default().to_owned();
        name.push(".checkpoint");
        self.out.with_file_name(name)
    }
}

/// Reads the plan of a proxy and checks that the proxy has what the plan keeps.
fn read_plan(path: &Path, loaded: &Loaded) -> anyhow::Result<Plan> {
    let plan: Plan = artefact::read(path)?;
    for layer in loaded.checkpoint.moe_layers() {
        let kept = plan.layers.get(&layer.id).map(|plan| plan.groups.len());
        if kept != Some(layer.n_experts) {
            let (id, has) = (layer.id, layer.n_experts);
            let keeps = kept.map_or("nothing".to_owned(), |kept| format!("{kept} experts"));
            bail!(
                "{} is not the plan of this proxy: it keeps {keeps} in layer {id}, which has {has}",
                path.display()
            );
        }
    }
    Ok(plan)
}

/// The progress bar of a run.
struct Bar {
    bar: ProgressBar,
    start: Instant,
    tokens: u64,
    losses: Vec<f64>,
    validation: String,
}

impl Bar {
    fn new(steps: usize) -> Self {
        let bar = progress::bar(steps as u64, "tuning");
        Self {
            bar,
            start: Instant::now(),
            tokens: 0,
            losses: Vec::new(),
            validation: String::new(),
        }
    }

    fn finish(self) -> Vec<f64> {
        self.bar.finish_and_clear();
        self.losses
    }
}

impl Watcher for Bar {
    fn resumed(&mut self, step: usize) {
        self.bar.set_position(step as u64);
        output::note(&format!("resumed after step {step}"));
    }

    fn stepped(&mut self, report: &StepReport) {
        self.tokens += report.tokens;
        self.losses.push(report.loss);
        if let Some(validation) = report.validation {
            self.validation = format!(", validation {:.3}", validation.loss());
        }
        let speed = self.tokens as f64 / self.start.elapsed().as_secs_f64();
        self.bar.set_position(report.step as u64);
        self.bar.set_message(format!(
            "loss {:.3}{}, {speed:.0} tokens/s",
            report.loss, self.validation
        ));
    }
}
