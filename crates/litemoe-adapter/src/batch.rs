use burn::tensor::{Device, Int, Tensor};
use litemoe_core::{Input, LanguageModel, Sequence};

use crate::{AdapterError, RowProblem};

/// Number of logits that a loss or an evaluation computes at once: 8 MiB in f32.
pub const LOGITS_PER_CHUNK: usize = 1 << 21;

/// Rows prepared for one teacher-forced pass: inputs, positions of the needed logits, and targets.
pub(crate) struct Batch {
    /// Each row up to the token before its last token in the loss; later tokens predict nothing in the loss.
    pub(crate) input: Input,
    /// Packed indices of the tokens whose next token is in the loss.
    pub(crate) positions: Vec<usize>,
    /// The target tokens, one per position.
    pub(crate) targets: Vec<u32>,
    /// Number of targets per row.
    pub(crate) row_targets: Vec<usize>,
}

impl Batch {
    /// Prepares rows that [`check_rows`] accepted.
    pub(crate) fn new<'a>(rows: impl IntoIterator<Item = &'a Sequence>) -> Self {
        let mut batch = Self {
            input: Input::default(),
            positions: Vec::new(),
            targets: Vec::new(),
            row_targets: Vec::new(),
        };
        let mut first = 0;
        for row in rows {
            first += batch.push(row, first);
        }
        batch
    }

    /// Adds a row whose first token is packed at `first`. Returns its number of input tokens.
    fn push(&mut self, row: &Sequence, first: usize) -> usize {
        let covered = |&token: &usize| row.completion[token];
        let before = self.targets.len();
        for token in (1..row.tokens.len()).filter(covered) {
            self.positions.push(first + token - 1);
            self.targets.push(row.tokens[token]);
        }
        self.row_targets.push(self.targets.len() - before);
        let n_input = n_decoded(row);
        self.input.rows.push(row.tokens[..n_input].to_vec());
        if let Some(encoder) = &row.encoder {
            self.input.encoder_rows.get_or_insert_default().push(encoder.clone());
        }
        n_input
    }

    /// The targets as indices, `[n]`.
    pub(crate) fn target_indices(&self, device: &Device) -> Tensor<1, Int> {
        let targets: Vec<i64> = self.targets.iter().map(|&token| i64::from(token)).collect();
        Tensor::from_data(targets.as_slice(), device)
    }
}

/// Number of input tokens of a row: decoder tokens before the last one in the loss, plus encoder tokens.
pub(crate) fn n_input(row: &Sequence) -> usize {
    n_decoded(row) + row.encoder.as_ref().map_or(0, Vec::len)
}

/// Number of decoder input tokens.
fn n_decoded(row: &Sequence) -> usize {
    row.completion.iter().rposition(|&covered| covered).unwrap_or(0)
}

/// What a model takes as a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowLimits {
    /// Vocabulary size.
    pub vocab: usize,
    /// Maximum row length, in tokens.
    pub max_tokens: usize,
    /// Whether rows have encoder tokens.
    pub has_encoder: bool,
}

impl RowLimits {
    /// Limits of a model.
    pub fn of<M: LanguageModel + ?Sized>(model: &M) -> Self {
        let (vocab, max_tokens) = (model.vocab(), model.max_tokens());
        Self { vocab, max_tokens, has_encoder: model.has_encoder() }
    }

    /// Checks rows for tuning and evaluation. `rows` names them in errors, which count from 0.
    ///
    /// # Errors
    /// [`AdapterError::NoRows`], and [`AdapterError::Row`] for a row that is too long, has no token before or in the
    /// loss, tokens outside the vocabulary, or encoder tokens that the model does not take.
    pub fn check(&self, rows: &'static str, sequences: &[Sequence]) -> Result<(), AdapterError> {
        if sequences.is_empty() {
            return Err(AdapterError::NoRows { rows });
        }
        for (row, sequence) in sequences.iter().enumerate() {
            if let Some(problem) = self.problem(sequence) {
                return Err(AdapterError::Row { rows, row, problem });
            }
        }
        Ok(())
    }

    fn problem(&self, row: &Sequence) -> Option<RowProblem> {
        let Self { vocab, max_tokens: max, has_encoder } = *self;
        let tokens = row.tokens.len();
        if tokens != row.completion.len() {
            return Some(RowProblem::Mask { tokens, mask: row.completion.len() });
        }
        if row.n_completion() == 0 {
            return Some(RowProblem::NoCompletion);
        }
        if row.completion[0] {
            return Some(RowProblem::NoPrompt);
        }
        let n_encoder = row.encoder.as_ref().map(Vec::len);
        if n_encoder.is_some_and(|tokens| tokens > 0) != has_encoder {
            return Some(RowProblem::Encoder { tokens: n_encoder.unwrap_or(0) });
        }
        let tokens = tokens.max(n_encoder.unwrap_or(0));
        if tokens > max {
            return Some(RowProblem::TooLong { tokens, max });
        }
        let mut all = row.tokens.iter().chain(row.encoder.iter().flatten());
        let unknown = all.find(|&&token| token as usize >= vocab);
        unknown.map(|&token| RowProblem::Token { token, vocab })
    }
}

/// Checks rows against a model. `rows` names them in errors, which count from 0.
pub(crate) fn check_rows<M: LanguageModel + ?Sized>(
    model: &M,
    rows: &'static str,
    sequences: &[Sequence],
) -> Result<(), AdapterError> {
    RowLimits::of(model).check(rows, sequences)
}
