use litemoe_core::Sequence;

/// The rows of a tuning run.
#[derive(Debug, Clone, Copy)]
pub struct TuneData<'a> {
    /// What is learnt from.
    pub train: &'a [Sequence],
    /// What chooses the step that is kept; without any, the last one is.
    pub validation: &'a [Sequence],
}
