use litemoe_adapter::RowEvaluation;
use litemoe_text::{Row, RowContent};
use serde::Serialize;
use serde_json::{Map, Value};

/// Prediction for one row: a line of the predictions file.
#[derive(Serialize)]
pub(super) struct Prediction<'a> {
    /// Row number in the file, from 1.
    row: usize,
    prompt: Prompt<'a>,
    expected: &'a str,
    /// The greedy answer.
    got: &'a str,
    /// Exact match: whether each token in the loss is the most probable one. Accuracy is the mean of this.
    exact: bool,
    /// Negative log-likelihood of the tokens in the loss, in nats: of the completion, or of a conversation's turns in the
    /// loss, of which `expected` is the last; end tokens included.
    nats: f64,
    /// Number of tokens in the loss.
    tokens: u64,
    /// The most probable label, with --labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    references: &'a [String],
}

/// What precedes the expected answer.
#[derive(Serialize)]
#[serde(untagged)]
enum Prompt<'a> {
    Text(&'a str),
    Messages(&'a [Map<String, Value>]),
}

impl<'a> Prompt<'a> {
    fn of(row: &'a Row) -> Self {
        match &row.content {
            RowContent::Pair { prompt, .. } => Self::Text(prompt),
            RowContent::Conversation(conversation) => Self::Messages(conversation.prompt()),
            RowContent::Text(_) => Self::Text(""),
        }
    }
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
            prompt: Prompt::of(row),
            expected: row.completion().unwrap_or_default(),
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
