//! Expert importance criteria: each is a function from a layer's sums to a value per expert, one per file.
//!
//! X_e: tokens routed to expert e; p: router probability; g: routing weight (gate); f: expert output before the gate;
//! T: number of tokens. S(b, α, β) = |X_e|^−b Σ g^α·‖f‖^β over X_e ("How to Score Experts for One-Shot MoE Expert
//! Pruning: A Unified Formulation and Selection Principle", arXiv 2606.15716).

mod ean;
mod esft_gate;
mod esft_token;
mod frequency;
mod litemoe;
mod man;
mod means;
mod random;
mod reap;
mod soft_count;
mod task;

pub use self::ean::ean;
pub use self::esft_gate::esft_gate;
pub use self::esft_token::esft_token;
pub use self::frequency::frequency;
pub use self::litemoe::litemoe;
pub use self::man::man;
pub use self::random::random;
pub use self::reap::reap;
pub use self::soft_count::soft_count;
pub use self::task::task;
use crate::{LayerId, LayerSums, name::named_enum};

named_enum! {
    /// Expert importance criterion.
    Criterion, "score", {
        /// [`litemoe`](litemoe())
        Litemoe = "litemoe": "mean router probability over all tokens (LiteMoE, doi 10.1145/3666025.3699355)",
        /// [`frequency`](frequency())
        Frequency = "frequency": "share of tokens routed to the expert (MC-SMoE, arXiv 2310.01334)",
        /// [`soft_count`](soft_count())
        SoftCount = "soft_count": "sum of its routing weights (SEER-MoE, arXiv 2404.05089)",
        /// [`ean`](ean())
        Ean = "ean": "sum of its output norms (EAN, arXiv 2504.05586)",
        /// [`task`](task())
        Task = "task": "sum of its output norms times routing weights (arXiv 2606.15716)",
        /// [`reap`](reap())
        Reap = "reap": "mean of its output norms times routing weights over its tokens (REAP, arXiv 2510.13999)",
        /// [`man`](man())
        Man = "man": "mean of its output norms over its tokens (MAN, arXiv 2606.15716)",
        /// [`esft_gate`](esft_gate())
        EsftGate = "esft_gate": "mean of its routing weight over all tokens, 0 where not selected (ESFT-Gate, arXiv 2407.01906)",
        /// [`esft_token`](esft_token())
        EsftToken = "esft_token": "its share of all selections of experts (ESFT-Token, arXiv 2407.01906)",
        /// [`random`](random()): the control.
        Random = "random": "random numbers, the control (arXiv 2606.10703)",
    }
}

/// A quantity that is summed for each expert of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpertSum {
    /// [`LayerSums::count`]
    Count,
    /// [`LayerSums::prob`]
    Prob,
    /// [`LayerSums::gate`]
    Gate,
    /// [`LayerSums::norm`]
    Norm,
    /// [`LayerSums::gate_norm`]
    GateNorm,
}

impl Criterion {
    /// The sums that it is computed from, besides the number of tokens.
    pub fn sums(self) -> &'static [ExpertSum] {
        match self {
            Self::Litemoe => &[ExpertSum::Prob],
            Self::Frequency | Self::EsftToken => &[ExpertSum::Count],
            Self::SoftCount | Self::EsftGate => &[ExpertSum::Gate],
            Self::Ean => &[ExpertSum::Norm],
            Self::Task => &[ExpertSum::GateNorm],
            Self::Reap => &[ExpertSum::GateNorm, ExpertSum::Count],
            Self::Man => &[ExpertSum::Norm, ExpertSum::Count],
            Self::Random => &[],
        }
    }

    /// Value of each expert of a layer; `seed` is used by [`Self::Random`] only.
    pub fn values(self, layer: LayerId, sums: &LayerSums, seed: u64) -> Vec<f64> {
        match self {
            Self::Litemoe => litemoe(sums),
            Self::Frequency => frequency(sums),
            Self::SoftCount => soft_count(sums),
            Self::Ean => ean(sums),
            Self::Task => task(sums),
            Self::Reap => reap(sums),
            Self::Man => man(sums),
            Self::EsftGate => esft_gate(sums),
            Self::EsftToken => esft_token(sums),
            Self::Random => random(layer, sums.n_experts(), seed),
        }
    }
}
