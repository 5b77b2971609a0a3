use std::path::PathBuf;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use litemoe_core::{LanguageModel, SimilarityKind};
use litemoe_score::{ScoreOptions, score};
use serde::Serialize;

use crate::device::DeviceArgs;
use crate::input::Rows;
use crate::memory::{MemoryWatch, Peak};
use crate::model::Loaded;
use crate::{artefact, output, progress};

/// Measure how much each expert of a model matters on an app's rows
#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    /// The model: a Hugging Face directory, or the id of a model that was pulled.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The app's rows, a JSONL file with `prompt` and `completion`.
    #[arg(value_name = "ROWS")]
    data: PathBuf,
    /// The scores to write.
    #[arg(long, value_name = "FILE", default_value = "scores.json")]
    out: PathBuf,
    /// Rows to use, drawn by the seed [default: all, in order].
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// Measure how alike the experts are too: affinity or expert_output_gated.
    #[arg(long, value_name = "KIND", requires = "similarity_out")]
    similarity: Option<SimilarityKind>,
    /// Where to write that.
    #[arg(long, value_name = "FILE", requires = "similarity")]
    similarity_out: Option<PathBuf>,
    /// κ of the affinity: the weight of the joint level against the gap.
    #[arg(long, default_value_t = 0.2)]
    kappa: f64,
    /// Most rows run at once.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Most tokens run at once, padding counted; a longer row runs alone. Memory grows with it.
    #[arg(long, value_name = "N", default_value_t = ScoreOptions::default().batch_tokens)]
    batch_tokens: usize,
    /// Rows longer than this many tokens are skipped and counted.
    #[arg(long, default_value_t = 512)]
    max_tokens: usize,
    /// Seed of the random scores, and of the rows drawn.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Serialize)]
struct Scored {
    scores: PathBuf,
    fingerprint: String,
    input_sha256: String,
    sequences: u64,
    tokens: u64,
    skipped: usize,
    seconds: f64,
    peak_bytes: Peak,
}

impl ScoreArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (start, memory) = (Instant::now(), MemoryWatch::start());
        if self.similarity_out.as_ref() == Some(&self.out) {
            bail!("--out and --similarity-out are both {}", self.out.display());
        }
        let loaded = Loaded::stream(&self.model, self.device)?;
        let rows = Rows::read(&self.data, &loaded, self.max_tokens)?;
        let rows = match self.rows {
            Some(count) => rows.drawn(count, self.seed),
            None => rows,
        };
        let steps = rows.sequences.len() * loaded.model.n_blocks();
        let bar = progress::bar(steps as u64, "scoring");
        let options = ScoreOptions {
            batch: self.batch,
            batch_tokens: self.batch_tokens,
            seed: self.seed,
            kappa: self.kappa,
            similarities: self.similarity.into_iter().collect(),
            ..ScoreOptions::default()
        };
        let scored = score(&loaded.model, &rows.sequences, &options, &loaded.about(), |done| {
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        scored.warnings.iter().for_each(|warning| output::note(&format!("warning: {warning}")));
        if let (Some(path), Some(similarity)) = (&self.similarity_out, scored.similarities.first())
        {
            artefact::write(path, similarity)?;
        }
        artefact::write(&self.out, &scored.scores)?;
        self.report(&scored.scores, rows.skipped, start, &memory)
    }

    fn report(
        &self,
        scores: &litemoe_core::ExpertScores,
        skipped: usize,
        start: Instant,
        memory: &MemoryWatch,
    ) -> anyhow::Result<()> {
        let scored = Scored {
            scores: self.out.clone(),
            fingerprint: scores.fingerprint.to_string(),
            input_sha256: scores.input_sha256.clone(),
            sequences: scores.sequences,
            tokens: scores.tokens,
            skipped,
            seconds: start.elapsed().as_secs_f64(),
            peak_bytes: memory.peak(),
        };
        if self.json {
            return output::json(&scored);
        }
        let Scored { sequences, tokens, .. } = scored;
        output::line(&format!("{} written: {sequences} rows, {tokens} tokens", self.out.display()));
        Ok(())
    }
}
