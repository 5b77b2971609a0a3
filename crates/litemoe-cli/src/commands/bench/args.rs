use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};
use litemoe_core::CacheDtype;
use litemoe_model::Checkpoint;

use crate::args::cache::CacheArgs;
use crate::args::train_size::TrainSize;
use crate::args::weights::WeightArgs;
use crate::forecast::{Batch, Memory, ModelSize, attention_lora_values, available_bytes};
use crate::output;

/// Measure load, prefill, decode and tuning of a model on this machine
///
/// Runs random tokens: no tokenizer and no rows are needed. Every figure is the median of repetitions after one that is
/// not counted, with the smallest and the largest. The limits of the machine are measured too, with the share of them that
/// prefill and decode reach, and the memory is compared with the forecast from the headers.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The model: a Hugging Face model directory, or the id of a pulled model. Encoder–decoders are refused.
    #[arg(value_name = "MODEL")]
    pub(super) model: PathBuf,
    /// Tokens of the prompt.
    #[arg(long, value_name = "N", default_value = "512")]
    pub(super) prompt: NonZeroUsize,
    /// Tokens decoded after the prompt, one at a time.
    #[arg(long, value_name = "N", default_value = "64")]
    pub(super) tokens: NonZeroUsize,
    /// Rows of a tuning step and tokens of each; LoRA of rank 8 on attention.
    #[arg(long, value_name = "ROWSxTOKENS", default_value_t = TrainSize::USUAL)]
    pub(super) train: TrainSize,
    /// Repetitions that count.
    #[arg(long, value_name = "N", default_value = "5")]
    pub(super) repetitions: NonZeroUsize,
    /// What not to measure, comma-separated.
    #[arg(long, value_name = "FIGURE", value_delimiter = ',', value_enum)]
    pub(super) skip: Vec<Figure>,
    /// Seed of the tokens and of the adapter.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Print the report as JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) weights: WeightArgs,
    #[command(flatten)]
    pub(super) cache: CacheArgs,
}

/// A figure that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Figure {
    /// Loading the weights again.
    Load,
    /// The prompt, up to 512 tokens at a time.
    Prefill,
    /// Tokens one at a time, after the prompt.
    Decode,
    /// Tuning steps: forward and backward pass, AdamW.
    Tune,
    /// The limits of the machine, with the shares of them.
    Limits,
}

impl BenchArgs {
    pub(super) fn measures(&self, figure: Figure) -> bool {
        !self.skip.contains(&figure)
    }

    /// Checks the options against the model.
    pub(super) fn check(&self, checkpoint: &Checkpoint) -> anyhow::Result<()> {
        if Figure::value_variants().iter().all(|&figure| !self.measures(figure)) {
            bail!("--skip names every figure: nothing is to be measured");
        }
        let (config, dir) = (checkpoint.config(), self.model.display());
        if !config.encoder.is_empty() {
            bail!("{dir} is an encoder–decoder: only decoder-only models are measured");
        }
        let (prompt, tokens, max) = (self.prompt.get(), self.tokens.get(), config.max_tokens);
        if prompt.saturating_add(tokens) > max {
            bail!(
                "--prompt {prompt} and --tokens {tokens} are more than the {max} tokens that {dir} takes"
            );
        }
        if self.train.tokens > max && self.measures(Figure::Tune) {
            bail!("--train {}: {dir} takes rows of at most {max} tokens", self.train);
        }
        Ok(())
    }

    /// Tokens of the prompt and of what is decoded after it.
    pub(super) fn context(&self) -> usize {
        self.prompt.get() + self.tokens.get()
    }

    /// Refuses what needs more memory than there is, by the forecast; `program` is what the process takes now.
    pub(super) fn expect_memory(
        &self,
        checkpoint: &Checkpoint,
        program: u64,
    ) -> anyhow::Result<()> {
        let Some(available) = available_bytes() else { return Ok(()) };
        let size = self.size(checkpoint);
        let plain = Memory { model: &size, program, adapter: 0.0 };
        let adapted = Memory { adapter: attention_lora_values(checkpoint)?, ..plain };
        let generates = self.measures(Figure::Prefill) || self.measures(Figure::Decode);
        let needed = [
            (true, plain.weights(), "the model".to_owned()),
            (generates, plain.generate(self.context()), format!("{} tokens", self.context())),
            (
                self.measures(Figure::Tune),
                adapted.tune(self.train.step(), Batch::default()),
                format!("--train {}", self.train),
            ),
        ];
        // What the process takes already is not in what is available.
        let lacking = |bytes: u64| bytes.saturating_sub(program) > available;
        if let Some((_, bytes, what)) = needed.into_iter().find(|it| it.0 && lacking(it.1)) {
            let [bytes, available] = [bytes, available].map(output::bytes);
            bail!("{what}: needs about {bytes} of memory, but {available} are available");
        }
        Ok(())
    }

    /// Number format of keys and values.
    pub(super) fn cache_dtype(&self, checkpoint: &Checkpoint) -> CacheDtype {
        self.cache.or_default(self.weights.of(checkpoint), checkpoint.config())
    }

    /// The model as it is loaded.
    pub(super) fn size(&self, checkpoint: &Checkpoint) -> ModelSize {
        ModelSize::of(checkpoint, self.weights.of(checkpoint))
            .cached_as(self.cache_dtype(checkpoint))
    }

    /// Passes of all figures, those that warm up included.
    pub(super) fn n_passes(&self) -> u64 {
        let n = self.repetitions.get() as u64;
        let passes = [Figure::Prefill, Figure::Decode, Figure::Tune].map(|it| (it, n + 1));
        let others = [(Figure::Load, n), (Figure::Limits, 1)];
        let measured = passes.into_iter().chain(others).filter(|&(it, _)| self.measures(it));
        1 + measured.map(|(_, n)| n).sum::<u64>()
    }
}
