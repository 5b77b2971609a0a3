use litemoe_adapter::RowEvaluation;
use litemoe_text::Row;
use serde::Serialize;

/// A line of the predictions: a row, and what the model makes of it.
#[derive(Serialize)]
pub(super) struct Prediction<'a> {
    /// The row's number in its file, from 1.
    row: usize,
    prompt: &'a str,
    expected: &'a str,
    /// The greedy answer.
    got: &'a str,
    /// Whether each of the completion's tokens is the most probable one: what accuracy counts.
    exact: bool,
    /// −ln p of the completion, end token included.
    nats: f64,
    /// The completion's tokens, end token included.
    tokens: u64,
    /// The most probable of the labels, where they were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    references: &'a [String],
}

impl<'a> Prediction<'a> {
    pub(super) fn new(
        number: usize,
        row: &'a Row,
        found: &RowEvaluation,
        got: &'a str,
        chosen: Option<&'a str>,
    ) -> Self {
        Self {
            row: number,
            prompt: &row.prompt,
            expected: &row.completion,
            got,
            exact: found.exact,
            nats: found.nll,
            tokens: found.tokens,
            chosen,
            label: row.label.as_deref(),
            references: &row.references,
        }
    }
}
