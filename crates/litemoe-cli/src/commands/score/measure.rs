use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use litemoe_core::{
    BatchLimits, Criterion, LanguageModel, PlanOptions, Privacy, SimilarityKind, WeightDtype,
};
use litemoe_score::{ScoreOptions, ShardIndex, score, score_private};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};

use super::report::ScoreReport;
use crate::args::device::DeviceArgs;
use crate::args::listed;
use crate::args::rows::RowArgs;
use crate::dry_run::DryRun;
use crate::forecast::{Batch, Lengths, Memory, ModelSize, Speed, Work as Passes};
use crate::input::Rows;
use crate::input_files::InputFiles;
use crate::memory::{MemoryWatch, anonymous_bytes};
use crate::model::Opened;
use crate::work::Work;
use crate::{artefact, hub, output, progress};

/// Options of measuring scores.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct MeasureArgs {
    /// The model: a Hugging Face model directory, or the id of a pulled model.
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// File of the app's calibration rows.
    #[arg(value_name = "ROWS")]
    pub(crate) data: PathBuf,
    /// Output file of the scores.
    #[arg(long, value_name = "FILE", default_value = "scores.json")]
    pub(crate) out: PathBuf,
    /// Number of calibration rows, drawn by --seed [default: all, in order].
    #[arg(long, value_name = "N")]
    pub(crate) rows: Option<usize>,
    /// Score shard I of N shards of the rows (1/N to N/N), cut between batches; `litemoe score merge` adds the shards
    /// up.
    #[arg(long, value_name = "I/N")]
    #[serde(skip)]
    pub(crate) shard: Option<ShardIndex>,
    /// Also measure expert similarity.
    #[arg(long, value_name = "KIND", conflicts_with = "noise", value_parser = listed::similarity())]
    pub(crate) similarity: Option<SimilarityKind>,
    /// Also write the similarities to a separate file.
    #[arg(long, value_name = "FILE", requires = "similarity")]
    pub(crate) similarity_out: Option<PathBuf>,
    /// κ of the affinity, in [0, 1]: weight of the mean router probability of two experts; their difference has weight
    /// 1−κ.
    #[arg(long, default_value_t = 0.2)]
    pub(crate) kappa: f64,
    /// Differential privacy: noise multiplier, above 0 and at most 1e6. Rows are scored one by one and weigh the same, the
    /// sums of --noise-score get normal noise and are rounded, and hashes of the rows are left out. 1 is about ε = 5.3 at δ
    /// = 1e-5 for the content of each row, 2 is 2.5 and 4 is 1.2; the number of rows is public, and with each run on the same
    /// rows the privacy lost adds up.
    #[arg(long, value_name = "MULTIPLIER", conflicts_with_all = ["rows", "shard"], value_parser = multiplier)]
    pub(crate) noise: Option<f64>,
    /// Criterion whose sums are released with --noise [default: task].
    #[arg(long, value_name = "SCORE", requires = "noise", value_parser = listed::criterion())]
    pub(crate) noise_score: Option<Criterion>,
    /// Maximum rows per batch.
    #[arg(long, default_value_t = 16)]
    pub(crate) batch: usize,
    /// Maximum tokens per batch, padding counted; a longer row is a batch of its own. Memory grows with it.
    #[arg(long, value_name = "N", default_value_t = ScoreOptions::default().batch_tokens)]
    pub(crate) batch_tokens: usize,
    /// Seed of the criterion random, and of drawing rows.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Check everything and print what the run would need, with estimates of memory and time; write nothing.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) dry_run: bool,
    /// Print the report as JSON.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: bool,
}

/// Work of `score`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ScoreWork {
    pub(crate) measure: MeasureArgs,
    pub(crate) row_args: RowArgs,
    pub(crate) device: DeviceArgs,
}

impl Work for ScoreWork {
    type Report = ScoreReport;

    fn execute(&self) -> anyhow::Result<ScoreReport> {
        self.measure.execute(self.row_args, self.device)
    }
}

impl MeasureArgs {
    /// Checks what can be known before the weights are read, and reads the rows.
    fn prepared(
        &self,
        row_args: RowArgs,
        device: DeviceArgs,
    ) -> anyhow::Result<(Opened, Rows, ScoreOptions)> {
        if self.similarity_out.as_ref() == Some(&self.out) {
            bail!("--out and --similarity-out are both {}", self.out.display());
        }
        let model = hub::locate(&self.model)?;
        let inputs = [model.as_path(), &self.data];
        for out in [Some(&self.out), self.similarity_out.as_ref()].into_iter().flatten() {
            artefact::check_target(out, &inputs)?;
        }
        device.open()?;
        let opened = Opened::open(&self.model)?;
        let rows = Rows::read(&self.data, &opened, row_args)?;
        let rows = match self.rows {
            Some(count) => rows.drawn(count, self.seed),
            None => rows,
        };
        let options = ScoreOptions {
            batch: self.batch,
            batch_tokens: self.batch_tokens,
            seed: self.seed,
            kappa: self.kappa,
            similarities: self.similarity.into_iter().collect(),
            ..ScoreOptions::default()
        };
        Ok((opened, rows, options))
    }

    /// What a run would need.
    pub(super) fn preview(&self, row_args: RowArgs, device: DeviceArgs) -> anyhow::Result<DryRun> {
        let (opened, rows, options) = self.prepared(row_args, device)?;
        let sequences = match self.shard {
            Some(shard) => &rows.sequences[shard.rows(&rows.sequences, &options)?],
            None => &rows.sequences,
        };
        let (model, lengths) =
            (ModelSize::of(&opened.checkpoint, WeightDtype::F32), Lengths::of(sequences));
        let memory = Memory { model: &model, program: anonymous_bytes(), adapter: 0.0 };
        let rows_at_once = if self.noise.is_some() { 1 } else { self.batch };
        let limits = BatchLimits { rows: rows_at_once, tokens: self.batch_tokens };
        let held = lengths.tokens().min(options.held_tokens as f64);
        let speed = Speed::probe(&opened.checkpoint, &device.open()?);
        Ok(DryRun::new(
            (sequences, rows.skipped),
            memory.score(Batch::of_scoring(sequences, limits), held),
            speed.seconds(Passes(&model).score(&lengths)),
            [Some(&self.out), self.similarity_out.as_ref()]
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
        ))
    }

    fn privacy(&self) -> Option<Privacy> {
        let criterion = self.noise_score.unwrap_or(PlanOptions::default().score);
        self.noise.map(|noise_multiplier| Privacy { criterion, noise_multiplier })
    }

    fn execute(&self, row_args: RowArgs, device: DeviceArgs) -> anyhow::Result<ScoreReport> {
        let (start, memory) = (Instant::now(), MemoryWatch::start());
        let inputs = InputFiles::of(&[&hub::locate(&self.model)?, &self.data]);
        let (opened, rows, options) = self.prepared(row_args, device)?;
        artefact::create_parent(&self.out)?;
        self.similarity_out.as_deref().map_or(Ok(()), artefact::create_parent)?;
        let sequences = match self.shard {
            Some(shard) => &rows.sequences[shard.rows(&rows.sequences, &options)?],
            None => &rows.sequences,
        };
        let loaded = opened.stream(device)?;
        let steps = sequences.len() * loaded.model.n_blocks();
        let bar = progress::begin("scoring", steps as u64, "row-blocks");
        let advance = |done| bar.set(done as u64);
        let (model, about) = (&loaded.model, loaded.about());
        let scored = match self.privacy() {
            Some(privacy) => {
                let mut rng = unpredictable()?;
                score_private(model, sequences, &options, privacy, &about, &mut rng, advance)?
            }
            None => score(model, sequences, &options, &about, advance)?,
        };
        bar.finish();
        // Only all shards together tell whether there are enough rows.
        for warning in scored.warnings.iter().filter(|_| self.shard.is_none()) {
            output::note(&format!("warning: {warning}"));
        }
        inputs.expect_unchanged()?;
        if let (Some(path), Some(kind)) = (&self.similarity_out, self.similarity) {
            let similarity = scored.scores.similarity(kind).context("it was not measured")?;
            artefact::write_checksummed(path, &similarity)?;
        }
        artefact::write_checksummed(&self.out, &scored.scores)?;
        let out = self.out.clone();
        Ok(ScoreReport::new(out, &scored.scores, rows.skipped, start, &memory))
    }
}

/// Parses a noise multiplier.
fn multiplier(text: &str) -> Result<f64, String> {
    let multiplier = text.parse().ok().filter(|&noise_multiplier| {
        Privacy { criterion: Criterion::Task, noise_multiplier }.is_valid()
    });
    multiplier.ok_or_else(|| "a noise multiplier is above 0 and at most 1e6".to_owned())
}

/// Random numbers that nobody can predict.
fn unpredictable() -> anyhow::Result<ChaCha20Rng> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the system gives no random numbers")?;
    Ok(ChaCha20Rng::from_seed(seed))
}
