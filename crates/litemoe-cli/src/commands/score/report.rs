use std::path::PathBuf;
use std::time::Instant;

use litemoe_core::{ExpertScores, Privacy};
use serde::{Deserialize, Serialize};

use crate::memory::{MemoryWatch, Peak};
use crate::output;
use crate::work::Report;

/// δ at which ε is reported.
const DELTA: f64 = 1e-5;

/// Differential privacy of one run.
#[derive(Serialize, Deserialize)]
struct PrivacyReport {
    #[serde(flatten)]
    privacy: Privacy,
    /// Standard deviation of the noise, in rows.
    std: f64,
    rho: f64,
    epsilon: f64,
    delta: f64,
}

/// Report of `score`.
#[derive(Serialize, Deserialize)]
pub(crate) struct ScoreReport {
    scores: PathBuf,
    pub(crate) fingerprint: String,
    input_sha256: String,
    sequences: u64,
    /// `None` for private scores.
    tokens: Option<u64>,
    skipped: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    privacy: Option<PrivacyReport>,
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
            tokens: scores.privacy.is_none().then(|| scores.tokens()),
            skipped,
            privacy: scores.privacy.map(|privacy| PrivacyReport::new(privacy, scores)),
            seconds: start.elapsed().as_secs_f64(),
            peak_bytes: memory.peak(),
        }
    }
}

impl PrivacyReport {
    fn new(privacy: Privacy, scores: &ExpertScores) -> Self {
        // Each shard has noise of its own.
        let std = privacy.std(scores.layers.len()) * (scores.shards.len() as f64).sqrt();
        Self { privacy, std, rho: privacy.rho(), epsilon: privacy.epsilon(DELTA), delta: DELTA }
    }
}

impl Report for ScoreReport {
    fn print(&self) -> anyhow::Result<()> {
        let Self { scores, sequences, tokens, privacy, .. } = self;
        let Some(PrivacyReport { privacy, std, epsilon, delta, .. }) = privacy else {
            let tokens = tokens.unwrap_or_default();
            let counts = format!("{sequences} rows, {tokens} tokens");
            return output::line(&format!("{} written: {counts}", scores.display()));
        };
        output::line(&format!(
            "{} written: {sequences} rows; {} released with noise of standard deviation {std:.1} rows: ε = {epsilon:.2} at δ \
             = {delta:e} for a row that is in no other scores",
            scores.display(),
            privacy.criterion
        ))
    }
}
