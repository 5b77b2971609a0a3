use std::path::Path;

use litemoe_core::Sequence;
use litemoe_text::{Row, read_rows};

use crate::input::{draw, encode};
use crate::model::Loaded;

/// The rows that are evaluated, in the file's order: text and tokens of each.
pub(super) struct TestRows {
    pub(super) rows: Vec<Row>,
    pub(super) sequences: Vec<Sequence>,
    /// The number of each in the file, from 1.
    pub(super) numbers: Vec<usize>,
    /// Rows left out because they are too long.
    pub(super) skipped: usize,
}

impl TestRows {
    /// Draws `limit` of a JSONL file's rows by a seed and leaves out those that are too long. Which are drawn depends on how many
    /// the file has, and on nothing else.
    pub(super) fn read(
        file: &Path,
        loaded: &Loaded,
        max_tokens: usize,
        limit: Option<usize>,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let rows = read_rows(file)?;
        let drawn = draw(rows.len(), limit.unwrap_or(usize::MAX), seed);
        let encoded = encode(&rows, drawn, file, loaded, max_tokens)?;
        Ok(Self {
            rows: encoded.rows.iter().map(|&row| rows[row].clone()).collect(),
            sequences: encoded.sequences,
            numbers: encoded.rows.iter().map(|row| row + 1).collect(),
            skipped: encoded.skipped_too_long,
        })
    }
}
