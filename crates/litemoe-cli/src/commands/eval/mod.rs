use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use litemoe_adapter::{BATCH_TOKENS, evaluate};
use serde::Serialize;

use crate::device::DeviceArgs;
use crate::input::Rows;
use crate::memory::{MemoryWatch, Peak};
use crate::model::Loaded;
use crate::{output, progress};

/// Measure accuracy and perplexity on rows
///
/// Accuracy: the share of rows whose greedy continuation is exactly the completion. Perplexity: exp of the mean
/// negative log-likelihood over all completion tokens, end tokens included.
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// The model: a Hugging Face directory, or the id of a model that was pulled.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The rows, a JSONL file with `prompt` and `completion`.
    #[arg(value_name = "ROWS")]
    data: PathBuf,
    /// An adapter, a PEFT directory.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Use the first N rows [default: all].
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Tokens run at once, about.
    #[arg(long, default_value_t = BATCH_TOKENS)]
    batch_tokens: usize,
    /// Rows longer than this many tokens are skipped and counted.
    #[arg(long, default_value_t = 512)]
    max_tokens: usize,
    /// Print the numbers as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Serialize)]
struct Evaluated {
    accuracy: f64,
    perplexity: f64,
    rows: u64,
    tokens: u64,
    skipped: usize,
    seconds: f64,
    peak_bytes: Peak,
}

impl EvalArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (start, memory) = (Instant::now(), MemoryWatch::start());
        let loaded = Loaded::open(&self.model, self.device)?;
        let rows = Rows::read_first(&self.data, &loaded, self.max_tokens, self.limit)?;
        let adapters = self.adapter.as_deref().map(|dir| loaded.adapter(dir)).transpose()?;
        let bar = progress::bar(rows.sequences.len() as u64, "evaluating");
        let found = evaluate(
            &loaded.model,
            &rows.sequences,
            adapters.as_ref(),
            self.batch_tokens,
            &mut |done| {
                bar.set_position(done as u64);
            },
        )?;
        bar.finish_and_clear();
        let evaluated = Evaluated {
            accuracy: found.accuracy(),
            perplexity: found.perplexity(),
            rows: found.rows,
            tokens: found.tokens,
            skipped: rows.skipped,
            seconds: start.elapsed().as_secs_f64(),
            peak_bytes: memory.peak(),
        };
        if self.json {
            return output::json(&evaluated);
        }
        let Evaluated { accuracy, perplexity, rows, tokens, .. } = evaluated;
        output::line(&format!(
            "accuracy {:.1} %, perplexity {perplexity:.3} ({rows} rows, {tokens} tokens)",
            100.0 * accuracy
        ));
        Ok(())
    }
}
