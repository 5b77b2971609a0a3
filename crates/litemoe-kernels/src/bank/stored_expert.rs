use litemoe_core::ExpertBiases;

use crate::StoredRows;

/// Stored matrices of one expert, in the checkpoint layout.
#[derive(Clone)]
pub struct StoredExpert<'a> {
    /// Gate projection, `[d_expert, d_model]`; `None` in ungated experts.
    pub gate: Option<&'a dyn StoredRows>,
    /// Up projection, `[d_expert, d_model]`.
    pub up: &'a dyn StoredRows,
    /// Down projection, `[d_model, d_expert]`.
    pub down: &'a dyn StoredRows,
    /// Biases.
    pub biases: Option<ExpertBiases>,
}
