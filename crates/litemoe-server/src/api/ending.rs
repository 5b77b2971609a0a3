use crate::api::error::ApiError;
use crate::api::fields::Fields;
use crate::api::token_ids;
use crate::engine::Ending;

/// Reads vLLM's `stop_token_ids`, `min_tokens` and `ignore_eos`.
pub(crate) fn take(fields: &mut Fields, max_tokens: usize) -> Result<Ending, ApiError> {
    let name = "stop_token_ids";
    let tokens: Vec<u32> = fields.optional(name, "a list of token ids")?.unwrap_or_default();
    if tokens.len() > max_tokens {
        let expected = format!("a list of at most {max_tokens} token ids");
        return Err(fields.invalid(name, "invalid_value", &expected));
    }
    let min_new = fields.optional("min_tokens", "a whole number")?.unwrap_or(0);
    let never = fields.optional("ignore_eos", "a boolean")?.unwrap_or(false);
    if min_new == usize::MAX {
        return Err(fields.invalid("min_tokens", "invalid_value", "at most `max_tokens`"));
    }
    Ok(Ending {
        tokens: tokens.into_iter().collect(),
        min_new: if never { usize::MAX } else { min_new },
    })
}

impl Ending {
    /// Name of the parameter that keeps a text from ending.
    pub(crate) fn param(&self) -> &'static str {
        if self.min_new == usize::MAX { "ignore_eos" } else { "min_tokens" }
    }

    /// Checks the minimum of new tokens against their maximum.
    pub(crate) fn check(&self, max_new: Option<usize>, fields: &Fields) -> Result<(), ApiError> {
        match max_new {
            Some(max_new) if self.min_new != usize::MAX && self.min_new > max_new => {
                Err(fields.invalid("min_tokens", "invalid_value", "at most `max_tokens`"))
            }
            _ => Ok(()),
        }
    }

    /// Checks the tokens against the model's vocabulary.
    pub(crate) fn check_tokens(&self, vocab: usize) -> Result<(), ApiError> {
        token_ids::check(&self.tokens, vocab, "stop_token_ids")
    }
}
