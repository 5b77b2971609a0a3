use litemoe_core::Adapters;

use crate::Evaluation;

/// Result of a tuning run.
#[derive(Debug, Clone)]
pub struct Tuned {
    /// LoRAs of the best step.
    pub adapters: Adapters,
    /// The best step, from 1.
    pub best_step: usize,
    /// Evaluation on the validation rows at that step; `None` without validation rows.
    pub validation: Option<Evaluation>,
    /// Training tokens, over all rows of all steps.
    pub tokens: u64,
}
