use litemoe_core::{Input, LanguageModel, TokenRow};

use super::RefitOptions;
use crate::MergeError;

/// Cuts rows, in their order, into batches within `options.batch` and `options.batch_tokens`.
pub(super) fn batches(rows: &[impl TokenRow], options: &RefitOptions) -> Vec<Input> {
    let mut batches: Vec<Input> = Vec::new();
    let mut longest = 0;
    for row in rows.iter().map(TokenRow::tokens) {
        longest = longest.max(row.len());
        let fits = |batch: &Input| {
            let n_rows = batch.rows.len() + 1;
            n_rows <= options.batch && n_rows * longest <= options.batch_tokens
        };
        match batches.last_mut() {
            Some(batch) if fits(batch) => batch.rows.push(row.to_vec()),
            _ => {
                batches.push(Input::decoder(vec![row.to_vec()]));
                longest = row.len();
            }
        }
    }
    batches
}

/// Refuses a row that the model cannot take, before anything is computed.
pub(super) fn check_row(
    model: &(impl LanguageModel + ?Sized),
    row: usize,
    tokens: &[u32],
) -> Result<(), MergeError> {
    let (vocab, max_tokens) = (model.vocab(), model.max_tokens());
    if tokens.is_empty() {
        return Err(MergeError::EmptyRow { row });
    }
    if tokens.len() > max_tokens {
        return Err(MergeError::LongRow { row, tokens: tokens.len(), max_tokens });
    }
    match tokens.iter().find(|&&token| token as usize >= vocab) {
        Some(&token) => Err(MergeError::UnknownToken { row, token, vocab }),
        None => Ok(()),
    }
}
