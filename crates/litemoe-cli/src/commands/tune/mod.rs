mod bar;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use litemoe_adapter::peft::PeftConfig;
use litemoe_adapter::{
    AdapterRecord, Checkpoint, LoraOptions, RECORD_VERSION, SiteMap, TuneData, TuneMetrics,
    TuneOptions, Tuned, check_fit, check_save, init_lora, load_for, save, target_sites, tune,
};
use litemoe_core::{Adapters, LanguageModel, LinearSite, MoeModel, Plan, WeightDtype};
use litemoe_files::map_large_allocations;
use litemoe_model::{Checkpoint as ModelCheckpoint, Outline};
use serde::{Deserialize, Serialize};

use self::bar::{Bar, Log};
use super::hot::hottest;
use crate::args::device::DeviceArgs;
use crate::args::tune::TuneArgs;
use crate::args::weights::WeightArgs;
use crate::dry_run::DryRun;
use crate::forecast::{Lengths, Memory, ModelSize, Speed, TuneMemory, Work as Passes};
use crate::input::Rows;
use crate::input_files::InputFiles;
use crate::memory::{MemoryWatch, Peak, anonymous_bytes};
use crate::model::{self, Loaded, Opened};
use crate::row_check::{self, Source};
use crate::splits::Split;
use crate::work::{self, Report, Work};
use crate::{artefact, fingerprints, hub, output};

/// Tune a LoRA adapter on a model with frozen weights
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct TuneCommand {
    /// The model to tune on, a proxy or the foundation: a Hugging Face model directory, or the id of a pulled model.
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// File of training rows.
    #[arg(value_name = "ROWS")]
    pub(crate) train: PathBuf,
    /// File of validation rows.
    #[arg(long, value_name = "ROWS")]
    pub(crate) validation: PathBuf,
    /// Plan that the proxy was extracted with; leave it out to tune on the foundation.
    #[arg(long, value_name = "PLAN")]
    pub(crate) plan: Option<PathBuf>,
    /// Output directory of the adapter, in PEFT's format.
    #[arg(long, value_name = "DIR", default_value = "adapter")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) options: TuneArgs,
    /// Adapter to start from. Its LoRAs keep their rank and scale and must be among the targets; the other targets are
    /// initialised.
    #[arg(long, value_name = "DIR")]
    pub(crate) init: Option<PathBuf>,
    /// Scores of the foundation, from `litemoe score`; required with --hot-experts.
    #[arg(long, value_name = "FILE", requires = "hot_experts")]
    pub(crate) scores: Option<PathBuf>,
    /// Keep the order of the training rows instead of shuffling them in every epoch.
    #[arg(long)]
    pub(crate) in_order: bool,
    /// Seed of the LoRA initialisation, the order of the rows, and the router noise.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Return freed memory to the operating system at once: the least memory, at about half the speed. With
    /// --recompute.
    #[arg(long, requires = "recompute")]
    #[serde(skip)]
    pub(crate) trim: bool,
    /// Resume from the checkpoint of an interrupted run.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) resume: bool,
    /// Check everything and print what the run would need, with estimates of memory and time; write nothing.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) dry_run: bool,
    /// Print the report as JSON.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) weights: WeightArgs,
}

/// What is read before the weights.
struct Prepared {
    opened: Opened,
    plan: Option<Plan>,
    /// The adapter before the first step.
    initial: Adapters,
    train: Rows,
    validation: Rows,
}

/// Report of `tune`.
#[derive(Serialize, Deserialize)]
pub(crate) struct TunedReport {
    adapter: PathBuf,
    /// Number format of the frozen weights.
    #[serde(default)]
    dtype: WeightDtype,
    /// Bytes of the adapter's files.
    pub(crate) adapter_bytes: u64,
    /// Bytes of the LoRA matrices in memory.
    pub(crate) memory_bytes: u64,
    steps: usize,
    best_step: usize,
    validation_loss: f64,
    validation_accuracy: f64,
    /// Step that this process resumed after; 0 if it started fresh.
    resumed_after: usize,
    /// Training losses of the steps of this process.
    losses: Vec<f64>,
    tokens: u64,
    /// Throughput of the steps of this process.
    tokens_per_second: f64,
    skipped: usize,
    seconds: f64,
    pub(crate) peak_bytes: Peak,
}

impl TuneCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        row_check::note(&[
            Source::of(Split::Train, &self.train),
            Source::of(Split::Validation, &self.validation),
        ])?;
        if self.dry_run {
            fingerprints::keep_none();
            return self.preview()?.print(self.json);
        }
        if self.trim {
            map_large_allocations();
        }
        work::run(&self, self.json)
    }

    /// Checks the options before anything is read.
    fn check(&self) -> anyhow::Result<()> {
        self.options.check()?;
        if self.out.file_name().is_none() {
            bail!("--out {} does not name a folder", self.out.display());
        }
        Ok(check_save(&self.out)?)
    }

    /// Checks targets and ranks against the model's headers.
    fn check_targets(&self, checkpoint: &ModelCheckpoint) -> anyhow::Result<()> {
        let (sites, lora) = (checkpoint.linear_sites(), self.lora_options());
        Ok(lora.check_ranks(&target_sites(&sites, &lora)?)?)
    }

    /// Paths of all inputs.
    fn inputs(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut inputs = vec![hub::locate(&self.model)?];
        inputs.extend([&self.train, &self.validation].map(PathBuf::clone));
        let others = [&self.plan, &self.init, &self.scores];
        inputs.extend(others.into_iter().filter_map(Option::clone));
        Ok(inputs)
    }

    /// Checks what can be known before the weights are read; reads plan, scores, rows and the adapter to start from.
    fn prepared(&self) -> anyhow::Result<Prepared> {
        self.device.open()?;
        artefact::expect_checkpoint(&artefact::checkpoint_of(&self.out))?;
        let opened = Opened::open(&self.model)?;
        let plan =
            self.plan.as_deref().map(|path| read_plan(path, &opened.checkpoint)).transpose()?;
        self.check_targets(&opened.checkpoint)?;
        let initial = self.initial(&opened.checkpoint, plan.as_ref())?;
        let args = self.options.row_args;
        let train = Rows::read(&self.train, &opened, args)?;
        let limit = Some(self.options.validation_rows);
        let validation = Rows::read_first(&self.validation, &opened, args, limit)?;
        Ok(Prepared { opened, plan, initial, train, validation })
    }

    /// What a run would need.
    fn preview(&self) -> anyhow::Result<DryRun> {
        self.check()?;
        let inputs = self.inputs()?;
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        artefact::expect_no_input(&self.out, &inputs)?;
        let Prepared { opened, initial, train, validation, .. } = self.prepared()?;
        let (options, rows) = (self.tune_options(), Lengths::of(&train.sequences));
        let validated = Lengths::of(&validation.sequences);
        let adapter = model::n_values(&initial) as f64;
        // The forecast counts it.
        drop(initial);
        let model = ModelSize::of(&opened.checkpoint, self.weights.of(&opened.checkpoint));
        let memory = Memory { model: &model, program: anonymous_bytes(), adapter };
        let tune = TuneMemory {
            batch: rows.largest_random(options.micro_batch.min(options.batch), options.batch),
            parts: options.threads,
            recompute: options.recompute,
        };
        let flops = Passes(&model).tuning(&options, &rows, &validated);
        let speed = Speed::probe(&opened.checkpoint, &self.device.open()?);
        Ok(DryRun::new(
            (&train.sequences, train.skipped),
            memory.tune(tune, validated.largest(options.validation_tokens())),
            speed.seconds(flops),
            vec![self.out.clone()],
        ))
    }

    /// The adapter before the first step: fresh LoRAs, and those of `--init`.
    fn initial(
        &self,
        checkpoint: &ModelCheckpoint,
        plan: Option<&Plan>,
    ) -> anyhow::Result<Adapters> {
        let (outline, device) = (Outline::of(checkpoint), self.device.open()?);
        let sites = self.sites(&outline, checkpoint, plan)?;
        let mut initial = init_lora(&sites, &self.lora_options(), self.seed, &device)?;
        let Some(dir) = &self.init else { return Ok(initial) };
        let given = load_for(dir, &outline, model::base_of(checkpoint, dir), &device)?;
        check_fit(&given.mounted.adapters, outline.linear_sites())?;
        if given.record.as_ref().is_some_and(|record| record.mount.is_some()) {
            bail!(
                "--init {}: it is mounted, with a routing that tuning would not keep; start from the adapter that was tuned",
                dir.display()
            );
        }
        for (site, lora) in given.mounted.adapters.loras() {
            if initial.insert(site.clone(), lora.clone()).is_none() {
                bail!("--init {}: {site} is not among the targets", dir.display());
            }
        }
        Ok(initial)
    }

    /// Linear weights that the targets select from.
    fn sites(
        &self,
        outline: &Outline,
        checkpoint: &ModelCheckpoint,
        plan: Option<&Plan>,
    ) -> anyhow::Result<Vec<LinearSite>> {
        let sites = outline.linear_sites();
        let Some(share) = self.options.hot_experts else { return Ok(sites.to_vec()) };
        let path = self.scores.as_ref().context("--hot-experts needs --scores")?;
        let scores = artefact::read_scores(path)?;
        let foundation = plan.map_or(checkpoint.fingerprint(), |plan| &plan.fingerprint);
        if scores.fingerprint != *foundation {
            let (path, found) = (path.display(), &scores.fingerprint);
            bail!("{path} is of the model {found}, but the foundation is {foundation}");
        }
        hottest(sites, &scores, plan, share)
    }

    fn save(&self, loaded: &Loaded, plan: Option<&Plan>, tuned: &Tuned) -> anyhow::Result<()> {
        let (trained_on, sites) = (loaded.checkpoint.fingerprint(), loaded.model.linear_sites());
        let record = AdapterRecord {
            version: RECORD_VERSION,
            program: format!("litemoe {}", env!("CARGO_PKG_VERSION")),
            foundation: plan.map_or(trained_on, |plan| &plan.fingerprint).clone(),
            trained_on: trained_on.clone(),
            plan: plan.map(Plan::hash),
            refit: loaded.checkpoint.origin().and_then(|origin| origin.refit.clone()),
            map: SiteMap::tuned(&tuned.adapters, sites, plan.is_some()),
            mount: None,
            lora: self.lora_options(),
            tune: self.tune_options(),
            dtype: self.weights.of(&loaded.checkpoint),
            metrics: TuneMetrics {
                best_step: tuned.best_step,
                validation_loss: tuned.validation.map(|found| found.loss()),
                validation_accuracy: tuned.validation.map(|found| found.accuracy()),
                tokens: tuned.tokens,
            },
            peft_sha256: None,
        };
        let task = if loaded.model.has_encoder() { "SEQ_2_SEQ_LM" } else { "CAUSAL_LM" };
        let config = PeftConfig {
            base_model: Some(model::base(&loaded.checkpoint)),
            task_type: Some(task.to_owned()),
            ..PeftConfig::default()
        };
        Ok(save(&self.out, &tuned.adapters, sites, &config, Some(&record))?)
    }

    fn report(
        &self,
        (dtype, tuned): (WeightDtype, &Tuned),
        log: Log,
        skipped: usize,
        start: Instant,
        memory: &MemoryWatch,
    ) -> anyhow::Result<TunedReport> {
        let seconds = start.elapsed().as_secs_f64();
        let validation = tuned.validation.context("nothing was validated")?;
        Ok(TunedReport {
            adapter: self.out.clone(),
            dtype,
            adapter_bytes: artefact::folder_bytes(&self.out)?,
            memory_bytes: model::matrix_bytes(&tuned.adapters),
            steps: self.options.steps,
            best_step: tuned.best_step,
            validation_loss: validation.loss(),
            validation_accuracy: validation.accuracy(),
            resumed_after: log.resumed_after,
            losses: log.losses,
            tokens: tuned.tokens,
            tokens_per_second: log.tokens_per_second,
            skipped,
            seconds,
            peak_bytes: memory.peak(),
        })
    }

    fn lora_options(&self) -> LoraOptions {
        self.options.lora()
    }

    fn tune_options(&self) -> TuneOptions {
        TuneOptions { shuffle: !self.in_order, seed: self.seed, ..self.options.tune() }
    }
}

impl Work for TuneCommand {
    type Report = TunedReport;

    fn execute(&self) -> anyhow::Result<TunedReport> {
        let (start, memory) = (Instant::now(), MemoryWatch::start());
        self.check()?;
        let inputs = self.inputs()?;
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        let _lock = artefact::lock_dir(&self.out, &inputs)?;
        let inputs = InputFiles::of(&inputs);
        let Prepared { opened, plan, initial, train, validation } = self.prepared()?;
        let loaded = opened.load(self.device, self.weights)?;
        let state = artefact::checkpoint_of(&self.out);
        if !self.resume && state.exists() {
            std::fs::remove_file(&state)
                .with_context(|| format!("cannot remove {}", state.display()))?;
        }
        let checkpoint = Checkpoint {
            path: &state,
            every: self.options.validate_every,
            model: loaded.checkpoint.fingerprint(),
            dtype: self.weights.of(&loaded.checkpoint),
        };
        let data = TuneData { train: &train.sequences, validation: &validation.sequences };
        let mut bar = Bar::new(self.options.steps);
        let tuned =
            tune(&loaded.model, &initial, data, &self.tune_options(), Some(checkpoint), &mut bar)?;
        let log = bar.finish();
        inputs.expect_unchanged()?;
        self.save(&loaded, plan.as_ref(), &tuned)?;
        std::fs::remove_file(&state)
            .with_context(|| format!("cannot remove {}", state.display()))?;
        let dtype = self.weights.of(&loaded.checkpoint);
        self.report((dtype, &tuned), log, train.skipped + validation.skipped, start, &memory)
    }

    fn resumed(self) -> Self {
        Self { resume: true, ..self }
    }
}

impl Report for TunedReport {
    fn print(&self) -> anyhow::Result<()> {
        output::line(&format!(
            "{} written: step {} of {}, validation loss {:.4}, accuracy {:.1} %",
            self.adapter.display(),
            self.best_step,
            self.steps,
            self.validation_loss,
            100.0 * self.validation_accuracy
        ))
    }
}

/// Reads a plan and checks that the proxy was extracted with it.
fn read_plan(path: &Path, proxy: &ModelCheckpoint) -> anyhow::Result<Plan> {
    let plan: Plan = artefact::read(path)?;
    let dir = proxy.dir().display();
    let Some(origin) = proxy.origin() else {
        bail!(
            "{dir} is no proxy that `litemoe extract` wrote, so it has no plan: leave out --plan"
        );
    };
    if origin.plan != plan.hash() {
        let (path, hash) = (path.display(), plan.hash());
        bail!(
            "{path} is not the plan of {dir}: it is {hash}, but the proxy was made by {}",
            origin.plan
        );
    }
    Ok(plan)
}
