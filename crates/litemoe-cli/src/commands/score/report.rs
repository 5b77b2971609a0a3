use std::path::PathBuf;
use std::time::Instant;

use litemoe_core::ExpertScores;
use serde::{Deserialize, Serialize};

use crate::memory::{MemoryWatch, Peak};
use crate::output;
use crate::work::Report;

/// Report of `score`.
#[derive(Serialize, Deserialize)]
pub(crate) struct ScoreReport {
    scores: PathBuf,
    pub(crate) fingerprint: String,
    input_sha256: String,
    sequences: u64,
    tokens: u64,
    skipped: usize,
    seconds: f64,
    peak_bytes: Peak,
}

impl ScoreReport {
    pub(super) fn new(
        path: PathBuf,
        scores: &ExpertScores,
        skipped: usize,
        start: Instant,
        memory: &MemoryWatch,
    ) -> Self {
        Self {
            scores: path,
            fingerprint: scores.fingerprint.to_string(),
            input_sha256: scores.input_sha256.clone(),
            sequences: scores.rows(),
            tokens: scores.tokens(),
            skipped,
            seconds: start.elapsed().as_secs_f64(),
            peak_bytes: memory.peak(),
        }
    }
}

impl Report for ScoreReport {
    fn print(&self) -> anyhow::Result<()> {
        let Self { scores, sequences, tokens, .. } = self;
        output::line(&format!("{} written: {sequences} rows, {tokens} tokens", scores.display()))
    }
}
