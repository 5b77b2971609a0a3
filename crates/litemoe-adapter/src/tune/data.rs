use litemoe_core::Sequence;

/// Rows of a tuning run.
#[derive(Debug, Clone, Copy)]
pub struct TuneData<'a> {
    /// Training rows.
    pub train: &'a [Sequence],
    /// Validation rows, which select the step that is kept; if empty, the last step is.
    pub validation: &'a [Sequence],
}
