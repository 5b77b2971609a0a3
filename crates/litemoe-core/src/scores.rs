use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::by_layer;
use crate::{Fingerprint, LayerId, name::named_enum};

/// Version of the shape of `scores.json`.
pub const SCORES_VERSION: u32 = 1;

named_enum! {
    /// How much an expert matters to an app. X_e are the tokens routed to expert e, p the router's probability,
    /// g the gate, f the expert's output before the gate, T all tokens.
    Criterion, "score", {
        /// mean p over all tokens (LiteMoE, doi 10.1145/3666025.3699355).
        Litemoe = "litemoe",
        /// |X_e| / T.
        Frequency = "frequency",
        /// Σ g over X_e (SEER-MoE, arXiv 2404.05089).
        SoftCount = "soft_count",
        /// Σ ‖f‖ over X_e.
        Ean = "ean",
        /// Σ g·‖f‖ over X_e: S(0,1,1) of arXiv 2606.15716.
        Task = "task",
        /// mean g·‖f‖ over X_e (REAP, arXiv 2510.13999); 0 where X_e is empty.
        Reap = "reap",
        /// mean ‖f‖ over X_e: S(1,0,1) of arXiv 2606.15716; 0 where X_e is empty.
        Man = "man",
        /// mean g over all tokens (ESFT, arXiv 2407.01906).
        EsftGate = "esft_gate",
        /// |X_e| / (T·k) (ESFT, arXiv 2407.01906).
        EsftToken = "esft_token",
        /// The control: uniform in [0, 1), from a seed.
        Random = "random",
    }
}

/// Sums over one layer's tokens, a value per expert. They add up over shards of the data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSums {
    /// |X_e|
    pub count: Vec<f64>,
    /// Σ p over all tokens.
    pub prob: Vec<f64>,
    /// Σ g over X_e.
    pub gate: Vec<f64>,
    /// Σ ‖f‖ over X_e.
    pub norm: Vec<f64>,
    /// Σ g·‖f‖ over X_e.
    pub gate_norm: Vec<f64>,
}

/// What was measured in one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerScores {
    /// T: tokens seen.
    pub tokens: u64,
    /// Experts a token is sent to.
    pub top_k: usize,
    /// The sums.
    pub sums: LayerSums,
    /// What the criteria make of them, a value per expert.
    pub scores: BTreeMap<Criterion, Vec<f64>>,
}

/// `scores.json`: how much each expert of a model matters on some data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertScores {
    /// [`SCORES_VERSION`]
    pub version: u32,
    /// Version of the program that wrote the file.
    pub program: String,
    /// The model's fingerprint.
    pub fingerprint: Fingerprint,
    /// The model's name.
    pub model: String,
    /// Its `model_type`.
    pub family: String,
    /// Sequences seen.
    pub sequences: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// SHA-256 over all token ids as little-endian u32, in order.
    pub input_sha256: String,
    /// The seed of [`Criterion::Random`].
    pub seed: u64,
    /// Per layer.
    #[serde(deserialize_with = "by_layer::deserialize")]
    pub layers: BTreeMap<LayerId, LayerScores>,
}

impl ExpertScores {
    /// A criterion's values in a layer, if both are there.
    pub fn of(&self, layer: LayerId, criterion: Criterion) -> Option<&[f64]> {
        self.layers.get(&layer)?.scores.get(&criterion).map(Vec::as_slice)
    }
}
