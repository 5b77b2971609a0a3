use crate::api::error::ApiError;

/// Refuses a parameter's token ids that are not in the vocabulary.
pub(crate) fn check<'t>(
    tokens: impl IntoIterator<Item = &'t u32>,
    vocab: usize,
    param: &'static str,
) -> Result<(), ApiError> {
    match tokens.into_iter().find(|&&token| token as usize >= vocab) {
        None => Ok(()),
        Some(token) => {
            let message = format!("`{param}` has the token {token}, but the vocabulary is {vocab}");
            Err(ApiError::bad_request("invalid_value", message).of(param))
        }
    }
}
