use std::path::Path;

use anyhow::{Context, bail};
use litemoe_core::{LanguageModel, Sequence};
use litemoe_text::read_rows;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::model::Loaded;

/// An app's rows as a model's tokens.
pub(crate) struct Rows {
    pub(crate) sequences: Vec<Sequence>,
    /// Rows left out because they are too long.
    pub(crate) skipped: usize,
}

impl Rows {
    /// Reads a JSONL file; rows longer than `max_tokens`, or than the model takes, are counted and left out.
    pub(crate) fn read(file: &Path, loaded: &Loaded, max_tokens: usize) -> anyhow::Result<Self> {
        Self::read_first(file, loaded, max_tokens, None)
    }

    /// The same of the first rows only.
    pub(crate) fn read_first(
        file: &Path,
        loaded: &Loaded,
        max_tokens: usize,
        limit: Option<usize>,
    ) -> anyhow::Result<Self> {
        let mut rows = read_rows(file)?;
        rows.truncate(limit.unwrap_or(usize::MAX));
        let max_tokens = max_tokens.min(loaded.model.max_tokens());
        let encoded = loaded.tokenizer.encode_all(&rows, max_tokens);
        let encoded = encoded.with_context(|| format!("{}", file.display()))?;
        if encoded.sequences.is_empty() {
            bail!("{}: none of {} rows is within {max_tokens} tokens", file.display(), rows.len());
        }
        let skipped = encoded.skipped_too_long;
        if skipped > 0 {
            let file = file.display();
            crate::output::note(&format!(
                "{file}: {skipped} rows longer than {max_tokens} tokens are skipped"
            ));
        }
        Ok(Self { sequences: encoded.sequences, skipped })
    }

    /// `count` of the rows, drawn by a seed, in their own order.
    pub(crate) fn drawn(mut self, count: usize, seed: u64) -> Self {
        if count < self.sequences.len() {
            let mut order: Vec<usize> = (0..self.sequences.len()).collect();
            order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            order.truncate(count);
            order.sort_unstable();
            self.sequences = order.into_iter().map(|row| self.sequences[row].clone()).collect();
        }
        self
    }
}
