use std::path::Path;

use litemoe_core::Sequence;
use litemoe_text::Row;

use crate::args::rows::RowArgs;
use crate::input::{RowModel, draw, encode, read};

/// Evaluated rows in file order, as text and as tokens.
pub(super) struct TestRows {
    pub(super) rows: Vec<Row>,
    pub(super) sequences: Vec<Sequence>,
    /// Row numbers in the file, from 1.
    pub(super) numbers: Vec<usize>,
    /// Number of rows skipped because they are too long.
    pub(super) skipped: usize,
}

impl TestRows {
    /// Draws `limit` rows of a file by a seed, then skips rows that are too long. The draw depends only on the
    /// number of rows in the file.
    pub(super) fn read(
        file: &Path,
        model: &impl RowModel,
        args: RowArgs,
        limit: Option<usize>,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let rows = read(file, args)?;
        let drawn = draw(rows.rows.len(), limit.unwrap_or(usize::MAX), seed);
        let encoded = encode(&rows, drawn, file, model, args.max_tokens)?;
        Ok(Self {
            rows: encoded.rows.iter().map(|&row| rows.rows[row].clone()).collect(),
            sequences: encoded.sequences,
            numbers: encoded.rows.iter().map(|row| row + 1).collect(),
            skipped: encoded.skipped_too_long,
        })
    }
}
