use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use litemoe_text::TextError;
use serde::Serialize;

use super::lengths::{Bin, Lengths};
use super::shown::ShownRow;
use super::tokens::Refusal;
use crate::output;
use crate::row_check::{Overlap, Repeats};
use crate::splits::Split;

/// Width of a histogram's longest bar.
const BAR: usize = 40;

/// Report of `data check`.
#[derive(Default, Serialize)]
pub(super) struct Checked {
    pub(super) files: Vec<FileReport>,
    pub(super) overlaps: Vec<Overlap>,
    /// What is unusual, one sentence each.
    pub(super) warnings: Vec<String>,
    /// What a command would refuse.
    pub(super) errors: Vec<Problem>,
}

/// Report of one file.
#[derive(Serialize)]
pub(super) struct FileReport {
    pub(super) split: Option<Split>,
    pub(super) file: PathBuf,
    pub(super) format: &'static str,
    pub(super) shape: &'static str,
    pub(super) rows: usize,
    /// Number of rows that were measured: all, or those of `--limit`.
    pub(super) checked: usize,
    #[serde(flatten)]
    pub(super) repeats: Repeats,
    /// Measured rows longer than `max_tokens`; only with a model.
    pub(super) too_long: Option<usize>,
    pub(super) max_tokens: Option<usize>,
    /// Number of measured rows whose text has each special token; only with a model.
    pub(super) special_tokens: BTreeMap<String, usize>,
    pub(super) lengths: Lengths,
    /// The first measured rows as tokens, with `--show`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) shown: Vec<ShownRow>,
}

/// A file or row that is refused.
#[derive(Serialize)]
pub(super) struct Problem {
    pub(super) file: PathBuf,
    pub(super) line: Option<usize>,
    pub(super) message: String,
}

impl Problem {
    /// Error of reading a file.
    pub(super) fn of(file: &Path, error: &TextError) -> Self {
        let line = match error {
            TextError::Row { line, .. } => Some(*line),
            _ => None,
        };
        Self { file: file.to_owned(), line, message: error.to_string() }
    }

    /// Error of a file whose rows are all skipped.
    pub(super) fn none_within(file: &Path, n_rows: usize, max_tokens: usize) -> Self {
        let message =
            format!("{}: none of {n_rows} rows is within {max_tokens} tokens", file.display());
        Self { file: file.to_owned(), line: None, message }
    }

    /// Error of encoding a row, the first of `n`.
    pub(super) fn in_row(file: &Path, Refusal { line, error }: &Refusal, n: usize) -> Self {
        let others = match n {
            1 => String::new(),
            _ => format!(" ({n} rows of the file cannot be encoded)"),
        };
        let message = format!("{}, line {line}: {error}{others}", file.display());
        Self { file: file.to_owned(), line: Some(*line), message }
    }
}

impl FileReport {
    pub(super) fn warnings(&self) -> Vec<String> {
        let (file, checked) = (self.file.display(), self.checked);
        let mut warnings = Vec::new();
        if let (Some(too_long @ 1..), Some(max)) = (self.too_long, self.max_tokens) {
            warnings.push(format!(
                "{file}: {too_long} of {checked} rows are longer than {max} tokens and would be skipped"
            ));
        }
        for (token, rows) in &self.special_tokens {
            warnings.push(format!(
                "{file}: the text of {rows} of {checked} rows has the special token {token}, which the model does not \
                 read as text"
            ));
        }
        warnings
    }

    fn print(&self) -> anyhow::Result<()> {
        let Self { rows, format, shape, .. } = self;
        let name = self.split.map_or("rows", Split::name);
        let rows = output::counted(*rows, "row", "rows");
        output::line(&format!("{name}: {rows}, {format}, {shape}, {}", self.file.display()))?;
        let Lengths { unit, min, median, p95, max, histogram } = &self.lengths;
        output::line(&format!("  {unit}: {min} to {max}, median {median}, 95 % up to {p95}"))?;
        let most = histogram.iter().map(|bin| bin.rows).max().unwrap_or(0).max(1);
        for Bin { up_to, rows } in histogram {
            let bar = "█".repeat((rows * BAR).div_ceil(most));
            output::line(format!("  ≤ {up_to:<7} {rows:>7} {bar}").trim_end())?;
        }
        self.shown.iter().try_for_each(ShownRow::print)
    }
}

impl Checked {
    pub(super) fn print(&self) -> anyhow::Result<()> {
        self.files.iter().try_for_each(FileReport::print)?;
        for warning in &self.warnings {
            output::line(&format!("warning: {warning}"))?;
        }
        if self.warnings.is_empty() && self.errors.is_empty() {
            output::line("nothing unusual")?;
        }
        Ok(())
    }
}
