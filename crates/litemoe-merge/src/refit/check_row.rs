use litemoe_core::LanguageModel;

use crate::MergeError;

/// Checks that the model can take a row.
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
