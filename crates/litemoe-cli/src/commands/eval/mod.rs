//! How well a model answers an app's rows: as probabilities, as texts, and as choices among labels.

mod greedy;
mod labels;
mod prediction;
mod report;
mod shares;
mod test_rows;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use litemoe_adapter::{BATCH_TOKENS, RowEvaluation, evaluate_rows};
use litemoe_core::MountedAdapter;
use serde::{Deserialize, Serialize};

use self::labels::Labels;
use self::prediction::Prediction;
pub(crate) use self::report::Evaluated;
use self::report::Found;
use self::test_rows::TestRows;
use crate::args::device::DeviceArgs;
use crate::memory::MemoryWatch;
use crate::model::Loaded;
use crate::work::{self, Work};
use crate::{artefact, progress};

/// Measure accuracy and perplexity on rows
///
/// Accuracy: the share of rows whose greedy continuation is exactly the completion, with its 95 % interval (bootstrap over
/// rows). Perplexity: exp of the mean negative log-likelihood over all completion tokens, end tokens included. Where rows have
/// a label, also the mean over labels of each one's accuracy.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct EvalArgs {
    /// The model: a Hugging Face directory, or the id of a model that was pulled.
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// The rows, a JSONL file with `prompt` and `completion`.
    #[arg(value_name = "ROWS")]
    pub(crate) data: PathBuf,
    /// An adapter, a PEFT directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    /// Use N rows, drawn by the seed, the same ones for every model [default: all].
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<NonZeroUsize>,
    /// Seed of the rows drawn.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Answer every row greedily and compare the texts: the share of answers that begin and that end with the right word, chrF,
    /// and the share that is the completion or one of the row's `references`. Takes much longer than accuracy and
    /// perplexity.
    #[arg(long)]
    pub(crate) text: bool,
    /// Write a line of JSON for every row: prompt, expected completion, greedy answer, whether the completion is exactly what
    /// the model says, its negative log-likelihood in nats, its tokens. Includes --text.
    #[arg(long, value_name = "FILE")]
    pub(crate) predictions: Option<PathBuf>,
    /// Tokens of a greedy answer at most.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(crate) max_new: usize,
    /// A JSON list of all completions there are, such as `labels.json`: also measure the share of rows whose completion is the most
    /// probable one of them. Runs every row with each of them.
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// Tokens run at once, about.
    #[arg(long, default_value_t = BATCH_TOKENS)]
    pub(crate) batch_tokens: usize,
    /// Rows longer than this many tokens are skipped and counted.
    #[arg(long, default_value_t = 512)]
    pub(crate) max_tokens: usize,
    /// Print the numbers as JSON.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

impl EvalArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        work::run(&self, self.json)
    }

    /// Refuses a place for the predictions where something else is, before anything is run.
    fn check_predictions(&self) -> anyhow::Result<()> {
        let Some(path) = &self.predictions else { return Ok(()) };
        let inputs = [Some(&self.data), self.labels.as_ref()];
        if path.is_dir() || inputs.into_iter().flatten().any(|input| artefact::same(input, path)) {
            bail!("the predictions would replace {}", path.display());
        }
        artefact::create_parent(path)
    }

    fn scores(
        &self,
        loaded: &Loaded,
        mounted: Option<&MountedAdapter>,
        rows: &TestRows,
    ) -> anyhow::Result<Vec<RowEvaluation>> {
        let bar = progress::bar(rows.sequences.len() as u64, "evaluating");
        let told = &mut |done| bar.set_position(done as u64);
        let (model, batch_tokens) = (&loaded.model, self.batch_tokens);
        let scores = evaluate_rows(model, &rows.sequences, mounted, batch_tokens, told)?;
        bar.finish_and_clear();
        Ok(scores)
    }

    fn answers(
        &self,
        loaded: &Loaded,
        mounted: Option<&MountedAdapter>,
        rows: &TestRows,
    ) -> anyhow::Result<Option<Vec<String>>> {
        let wanted = self.text || self.predictions.is_some();
        wanted.then(|| greedy::answers(loaded, mounted, &rows.rows, self.max_new)).transpose()
    }

    fn write_predictions(&self, found: &Found<'_>) -> anyhow::Result<()> {
        let (Some(path), Some(answers)) = (&self.predictions, &found.answers) else {
            return Ok(());
        };
        let prediction = |place: usize| {
            let choice = found.choices.as_ref().map(|choices| choices[place]);
            let (number, row) = (found.rows.numbers[place], &found.rows.rows[place]);
            Prediction::new(number, row, &found.scores[place], &answers[place], choice)
        };
        artefact::write_lines(path, (0..answers.len()).map(prediction))
    }
}

impl Work for EvalArgs {
    type Report = Evaluated;

    fn execute(&self) -> anyhow::Result<Evaluated> {
        let (start, memory) = (Instant::now(), MemoryWatch::start());
        self.check_predictions()?;
        let labels = self.labels.as_deref().map(Labels::read).transpose()?;
        let loaded = Loaded::open(&self.model, self.device)?;
        let rows = TestRows::read(
            &self.data,
            &loaded,
            self.max_tokens,
            self.limit.map(NonZeroUsize::get),
            self.seed,
        )?;
        labels.as_ref().map(|labels| labels.expect_completions(&rows)).transpose()?;
        let mounted = self.adapter.as_deref().map(|dir| loaded.adapter(dir)).transpose()?;
        let mounted = mounted.as_ref();

        let scores = self.scores(&loaded, mounted, &rows)?;
        let choices = labels
            .as_ref()
            .map(|labels| labels.choices(&loaded, mounted, &rows, self.batch_tokens));
        let found = Found {
            choices: choices.transpose()?,
            answers: self.answers(&loaded, mounted, &rows)?,
            rows: &rows,
            scores,
        };
        self.write_predictions(&found)?;
        Ok(Evaluated::new(&found, start.elapsed(), memory.peak()))
    }
}
