use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use litemoe_text::RowFile;

use super::lengths::Lengths;
use super::report::{Checked, FileReport, Problem};
use super::tokens::Encoder;
use crate::args::rows::RowArgs;
use crate::input::draw;
use crate::output;
use crate::row_check::{self, Overlap, Repeats, Source};
use crate::splits;

/// Check rows before anything is computed with them
///
/// Reads a file of rows, or the train, validation and test rows of a directory, and reports their shape, their lengths,
/// duplicates, and rows that splits share. With a model, lengths are in tokens, and every row is rendered by the chat
/// template. What a command would refuse is an error; what is unusual is a warning.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// File of rows, or directory of an app.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Model whose tokenizer and chat template the rows are for: a Hugging Face model directory, or the id of a pulled
    /// model.
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Render and measure N rows of each file, at least 1, drawn by --seed [default: all].
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
    /// Also print the first N rows of each file as tokens: what the model reads, and which tokens are in the loss. Needs
    /// --model.
    #[arg(long, value_name = "N", requires = "model")]
    show: Option<usize>,
    /// Seed that draws the rows of --limit.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    row_args: RowArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl CheckArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        self.row_args.check()?;
        let splits = match self.path.is_dir() {
            true => splits::in_dir(&self.path)?,
            false => BTreeMap::new(),
        };
        let sources = match self.path.is_dir() {
            true => Source::all(&splits),
            false => vec![Source::whole(&self.path)],
        };
        if sources.is_empty() {
            let dir = self.path.display();
            bail!(
                "{dir} has no rows: there is no file train, validation or test with .jsonl, .json or .csv"
            );
        }
        let encoder = self.model.as_deref().map(Encoder::open).transpose()?;
        let checked = self.check(&sources, encoder.as_ref())?;
        if self.json {
            output::json(&checked)?;
        } else {
            checked.print()?;
        }
        match checked.errors.len() {
            0 => Ok(()),
            1 => bail!("{}", checked.errors[0].message),
            n => bail!("{n} errors; the first is: {}", checked.errors[0].message),
        }
    }

    fn check(&self, sources: &[Source<'_>], encoder: Option<&Encoder>) -> anyhow::Result<Checked> {
        let mut checked = Checked::default();
        let mut files = Vec::new();
        for source in sources {
            match RowFile::read(source.path) {
                Ok(file) => {
                    checked.files.push(self.file_report(
                        *source,
                        &file,
                        encoder,
                        &mut checked.errors,
                    )?);
                    files.push((*source, file));
                }
                Err(error) => checked.errors.push(Problem::of(source.path, &error)),
            }
        }
        checked.overlaps = Overlap::all(&files);
        checked.warnings = row_check::warnings(&files);
        checked.warnings.extend(checked.files.iter().flat_map(FileReport::warnings));
        Ok(checked)
    }

    fn file_report(
        &self,
        source: Source<'_>,
        file: &RowFile,
        encoder: Option<&Encoder>,
        errors: &mut Vec<Problem>,
    ) -> anyhow::Result<FileReport> {
        let limit = self.limit.map_or(usize::MAX, NonZeroUsize::get);
        let drawn = draw(file.rows.len(), limit, self.seed);
        let path: &Path = source.path;
        let found = encoder.map(|encoder| encoder.encode(file, &drawn, self.row_args));
        if let Some(refusal) = found.as_ref().and_then(|found| found.refusal.as_ref()) {
            errors.push(Problem::in_row(path, refusal, found.as_ref().map_or(0, |it| it.refused)));
        }
        if let (Some(found), Some(encoder)) = (&found, encoder)
            && found.too_long == drawn.len()
        {
            errors.push(Problem::none_within(path, drawn.len(), encoder.max_tokens(self.row_args)));
        }
        let lengths = match &found {
            Some(found) => Lengths::new("tokens", found.lengths.clone()),
            None => {
                Lengths::new("characters", drawn.iter().map(|&row| characters(file, row)).collect())
            }
        };
        let first = &drawn[..self.show.unwrap_or(0).min(drawn.len())];
        let shown = encoder.map(|encoder| encoder.show(file, first, self.row_args)).transpose()?;
        Ok(FileReport {
            split: source.split,
            file: path.to_owned(),
            format: file.format.name(),
            shape: file.shape.name(),
            rows: file.rows.len(),
            checked: drawn.len(),
            repeats: Repeats::of(file),
            too_long: found.as_ref().map(|found| found.too_long),
            special_tokens: found.map(|found| found.special_tokens).unwrap_or_default(),
            max_tokens: encoder.map(|encoder| encoder.max_tokens(self.row_args)),
            lengths,
            shown: shown.unwrap_or_default(),
        })
    }
}

/// Number of characters of a row's texts.
fn characters(file: &RowFile, row: usize) -> usize {
    file.rows[row].texts().iter().map(|text| text.chars().count()).sum()
}
