use std::path::Path;

use anyhow::{Error, bail};
use litemoe_core::Sequence;
use litemoe_text::{Encoded, RowFile, TextError, Tokenizer};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::args::rows::RowArgs;
use crate::output;

/// Model that rows are tokenized for; its weights are not needed.
pub(crate) trait RowModel {
    fn tokenizer(&self) -> &Tokenizer;

    /// Maximum row length, in tokens.
    fn max_tokens(&self) -> usize;
}

/// Tokenized rows of an app.
pub(crate) struct Rows {
    pub(crate) sequences: Vec<Sequence>,
    /// Number of rows skipped because they are too long.
    pub(crate) skipped: usize,
}

impl Rows {
    /// Reads and tokenizes a file; skips and counts rows longer than `--max-tokens` or the model's maximum.
    pub(crate) fn read(file: &Path, model: &impl RowModel, args: RowArgs) -> anyhow::Result<Self> {
        Self::read_first(file, model, args, None)
    }

    /// As [`Self::read`], for the first `limit` rows.
    pub(crate) fn read_first(
        file: &Path,
        model: &impl RowModel,
        args: RowArgs,
        limit: Option<usize>,
    ) -> anyhow::Result<Self> {
        let rows = read(file, args)?;
        let first = (0..limit.unwrap_or(usize::MAX).min(rows.rows.len())).collect();
        let encoded = encode(&rows, first, file, model, args.max_tokens)?;
        Ok(Self { sequences: encoded.sequences, skipped: encoded.skipped_too_long })
    }

    /// Draws `count` rows by a seed and keeps their order.
    pub(crate) fn drawn(mut self, count: usize, seed: u64) -> Self {
        if count < self.sequences.len() {
            let order = draw(self.sequences.len(), count, seed);
            self.sequences = order.into_iter().map(|row| self.sequences[row].clone()).collect();
        }
        self
    }
}

/// Reads the rows of a file, with the loss on some of a conversation's turns.
pub(crate) fn read(file: &Path, args: RowArgs) -> anyhow::Result<RowFile> {
    let file = RowFile::read(file)?;
    let rows = file.rows.into_iter().map(|row| row.with_loss(args.loss)).collect();
    Ok(RowFile { rows, ..file })
}

/// Draws `count` of `n_rows` row indices by a seed, ascending; all if there are no more. Independent of the rows'
/// contents, so every model gets the same rows.
pub(crate) fn draw(n_rows: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n_rows).collect();
    if count < n_rows {
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        order.truncate(count);
        order.sort_unstable();
    }
    order
}

/// Tokenizes the selected rows of a file; skips rows longer than `max_tokens` or the model's maximum, and notes how
/// many.
pub(crate) fn encode(
    rows: &RowFile,
    which: Vec<usize>,
    file: &Path,
    model: &impl RowModel,
    max_tokens: usize,
) -> anyhow::Result<Encoded> {
    let encoded = encode_quietly(rows, which, file, model, max_tokens)?;
    let (skipped, max_tokens) = (encoded.skipped_too_long, max_tokens.min(model.max_tokens()));
    if skipped > 0 {
        let file = file.display();
        output::note(&format!(
            "{file}: {} longer than {max_tokens} tokens {} skipped",
            output::counted(skipped, "row", "rows"),
            if skipped == 1 { "is" } else { "are" },
        ));
    }
    Ok(encoded)
}

/// As [`encode`], without a note.
pub(crate) fn encode_quietly(
    rows: &RowFile,
    which: Vec<usize>,
    file: &Path,
    model: &impl RowModel,
    max_tokens: usize,
) -> anyhow::Result<Encoded> {
    let max_tokens = max_tokens.min(model.max_tokens());
    let n_rows = which.len();
    let encoded = model.tokenizer().encode_some(&rows.rows, which, max_tokens);
    let encoded = encoded.map_err(|error| match error {
        TextError::InRow { row, error } => {
            let (file, line) = (file.display(), rows.lines[row - 1]);
            Error::new(*error).context(format!("{file}, line {line}"))
        }
        error => Error::new(error).context(file.display().to_string()),
    })?;
    if encoded.sequences.is_empty() {
        bail!("{}: none of {n_rows} rows is within {max_tokens} tokens", file.display());
    }
    let skipped = encoded.skipped_too_long;
    let (rows, tokens) =
        (encoded.sequences.len(), encoded.sequences.iter().map(|row| row.tokens.len()));
    tracing::info!(file = %file.display(), rows, tokens = tokens.sum::<usize>(), skipped, "read rows");
    Ok(encoded)
}
