//! `litemoe eval`: accuracy and perplexity, text metrics of greedy answers, and label accuracy.

mod divergence;
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
use litemoe_core::{MountedAdapter, WeightDtype};
use serde::{Deserialize, Serialize};

use self::divergence::{Divergence, check_reference, divergences};
use self::labels::Labels;
use self::prediction::Prediction;
pub(crate) use self::report::Evaluated;
use self::report::Found;
use self::test_rows::TestRows;
use crate::args::cache::CacheArgs;
use crate::args::device::DeviceArgs;
use crate::args::listed;
use crate::args::rows::RowArgs;
use crate::args::weights::WeightArgs;
use crate::input_files::InputFiles;
use crate::memory::MemoryWatch;
use crate::model::{Loaded, Opened};
use crate::row_check::{self, Source};
use crate::splits::Split;
use crate::work::{self, Work};
use crate::{artefact, hub, progress};

/// Evaluate accuracy and perplexity on rows
///
/// Accuracy is exact match: the share of rows for which greedy decoding gives exactly the completion's tokens, with a
/// 95 % bootstrap confidence interval over rows. Perplexity is exp of the mean negative log-likelihood over all
/// completion tokens, end tokens included. If rows have labels, the mean over labels of each label's accuracy is
/// printed too (macro average).
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct EvalArgs {
    /// The model: a Hugging Face model directory, or the id of a pulled model.
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// File of the rows.
    #[arg(value_name = "ROWS")]
    pub(crate) data: PathBuf,
    /// Adapter to mount, a PEFT directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    /// Evaluate N rows, at least 1, drawn by --seed; the same rows for every model [default: all].
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<NonZeroUsize>,
    /// Seed that draws the rows of --limit.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Generate an answer to every row by greedy decoding and compare the texts: the shares of answers that begin with
    /// the right first word and end with the right last word, chrF, and the share that equals the completion or one of
    /// the row's `references`. Much slower than accuracy and perplexity.
    #[arg(long)]
    pub(crate) text: bool,
    /// Write one line of JSON per row: prompt, expected completion, greedy answer, exact match, negative log-likelihood
    /// in nats, number of tokens. Includes --text.
    #[arg(long, value_name = "FILE")]
    pub(crate) predictions: Option<PathBuf>,
    /// Maximum number of tokens of a greedy answer.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(crate) max_new: usize,
    /// JSON array of all possible completions, such as `labels.json`: also measure label accuracy, the share of rows
    /// whose completion is the most probable label. Evaluates every row with every label.
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// Also evaluate the same model in this number format, with the same adapter, and print by how much the model in
    /// --dtype diverges from it over the completion tokens: mean, 99th percentile and maximum of the KL divergence
    /// KL(reference ‖ model) in nats, share of tokens with the same arg-max, ratio of the perplexities. The reference has
    /// keys and values in f32; with weights in f32 too it is streamed from the files, else it is in memory as well.
    #[arg(long, value_name = "FORMAT", value_parser = listed::weight_dtype())]
    #[serde(default)]
    pub(crate) reference_dtype: Option<WeightDtype>,
    /// Approximate number of tokens per batch.
    #[arg(long, default_value_t = BATCH_TOKENS)]
    pub(crate) batch_tokens: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) row_args: RowArgs,
    /// Print the metrics as JSON.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) weights: WeightArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) cache: CacheArgs,
}

impl EvalArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        row_check::note(&[Source::of(Split::Test, &self.data)])?;
        work::run(&self, self.json)
    }

    /// Checks that the predictions replace no input and at most a regular file, and takes the stamps of the inputs.
    fn check_predictions(&self) -> anyhow::Result<InputFiles> {
        let model = hub::locate(&self.model)?;
        let mut inputs = vec![model.as_path(), &self.data];
        inputs.extend(self.labels.as_deref().into_iter().chain(self.adapter.as_deref()));
        if let Some(path) = &self.predictions {
            artefact::check_file(path, &inputs)?;
        }
        Ok(InputFiles::of(&inputs))
    }

    /// Scores of all rows, and the divergence from the reference, if there is one.
    fn scores(
        &self,
        loaded: &Loaded,
        mounted: Option<&MountedAdapter>,
        rows: &TestRows,
    ) -> anyhow::Result<(Vec<RowEvaluation>, Option<Divergence>)> {
        if let Some(dtype) = self.reference_dtype {
            let found = divergences(loaded, dtype, mounted, rows, self.batch_tokens)?;
            let divergence = Divergence::new(dtype, &found);
            return Ok((found.into_iter().map(|row| row.model).collect(), Some(divergence)));
        }
        let bar = progress::begin("evaluating", rows.sequences.len() as u64, "rows");
        let told = &mut |done| bar.set(done as u64);
        let (model, batch_tokens) = (&loaded.model, self.batch_tokens);
        let scores = evaluate_rows(model, &rows.sequences, mounted, batch_tokens, told)?;
        bar.finish();
        Ok((scores, None))
    }

    fn answers(
        &self,
        loaded: &Loaded,
        mounted: Option<&MountedAdapter>,
        rows: &TestRows,
    ) -> anyhow::Result<Option<Vec<String>>> {
        let wanted = self.wants_answers();
        wanted.then(|| greedy::answers(loaded, mounted, &rows.rows, self.max_new)).transpose()
    }

    fn wants_answers(&self) -> bool {
        self.text || self.predictions.is_some()
    }

    /// Checks that every row has a text that an answer can be compared with, if answers are wanted.
    fn expect_comparable(&self, rows: &TestRows) -> anyhow::Result<()> {
        let mut rows = rows.rows.iter().zip(&rows.numbers);
        match rows.find(|(row, _)| self.wants_answers() && row.completion().is_none()) {
            Some((_, number)) => bail!(
                "row {number} is running text, or its last turn is a tool call: --text and --predictions have no \
                 answer to compare with"
            ),
            None => Ok(()),
        }
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
        let inputs = self.check_predictions()?;
        let labels = self.labels.as_deref().map(Labels::read).transpose()?;
        self.device.open()?;
        let opened = Opened::open(&self.model)?;
        let dtype = self.weights.of(&opened.checkpoint);
        let cache_dtype = self.cache.or_default(dtype, opened.checkpoint.config());
        if let Some(reference) = self.reference_dtype {
            opened.checkpoint.expect_unquantised("a --reference-dtype")?;
            check_reference(reference, dtype, cache_dtype)?;
        }
        let rows = TestRows::read(
            &self.data,
            &opened,
            self.row_args,
            self.limit.map(NonZeroUsize::get),
            self.seed,
        )?;
        self.expect_comparable(&rows)?;
        labels.as_ref().map(|labels| labels.expect_completions(&rows)).transpose()?;
        let loaded = opened.load(self.device, self.weights)?.cached_as(self.cache, self.weights)?;
        let mounted = self.adapter.as_deref().map(|dir| loaded.adapter(dir)).transpose()?;
        let mounted = mounted.as_ref();

        let (scores, divergence) = self.scores(&loaded, mounted, &rows)?;
        let choices = labels
            .as_ref()
            .map(|labels| labels.choices(&loaded, mounted, &rows, self.batch_tokens));
        let found = Found {
            choices: choices.transpose()?,
            answers: self.answers(&loaded, mounted, &rows)?,
            rows: &rows,
            scores,
            divergence,
        };
        inputs.expect_unchanged()?;
        self.write_predictions(&found)?;
        Ok(Evaluated::new((dtype, cache_dtype), found, start.elapsed(), memory.peak()))
    }
}
