use litemoe_core::Adapters;

use crate::Evaluation;

/// What a run ends with.
#[derive(Debug, Clone)]
pub struct Tuned {
    /// The updates of the best step.
    pub adapters: Adapters,
    /// That step, from 1.
    pub best_step: usize,
    /// How they do on the validation rows; `None` without such rows.
    pub validation: Option<Evaluation>,
    /// Tokens seen, all rows of all steps.
    pub tokens: u64,
}
