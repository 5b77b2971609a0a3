/// Maximum bytes of a conversation per token of the context: more than any tokenizer's tokens have on average. A longer
/// conversation is refused without being tokenized.
const MAX_BYTES_PER_TOKEN: usize = 64;

/// Limits of one request, checked before its conversation is tokenized. A request that exceeds one is refused with 400,
/// or with 413 if its body is too large.
#[derive(Debug, Clone)]
pub struct RequestLimits {
    /// Bytes of the body.
    pub max_body: usize,
    /// JSON values in the body, names of fields included.
    pub max_values: usize,
    /// Messages.
    pub max_messages: usize,
    /// Parts of all messages.
    pub max_parts: usize,
    /// Stop strings.
    pub max_stop: usize,
    /// Bytes of a stop string.
    pub max_stop_bytes: usize,
    /// Entries of `logit_bias`.
    pub max_logit_bias: usize,
    /// Texts of a request, `n`.
    pub max_n: usize,
    /// Prompts of a completion request.
    pub max_prompts: usize,
    /// Logprobs of a whole answer: (`top_logprobs` + 1) × `max_tokens` × `n`, and of echoed prompts. They are in memory until the answer is
    /// written, at about 300 bytes each. Streams have no such limit.
    pub max_logprobs: usize,
    /// Tokens of the prompt and the answer together; `None`: the model's maximum.
    pub max_context: Option<usize>,
}

impl Default for RequestLimits {
    /// 2 MiB, 65536 values, 2048 messages, 2048 parts, 16 stop strings of 1 KiB, 1024 logit biases, 128 texts, 128 prompts, 524288
    /// logprobs, the model's context.
    fn default() -> Self {
        Self {
            max_body: 2 << 20,
            max_values: 1 << 16,
            max_messages: 2048,
            max_parts: 2048,
            max_stop: 16,
            max_stop_bytes: 1 << 10,
            max_logit_bias: 1024,
            max_n: 128,
            max_prompts: 128,
            max_logprobs: 1 << 19,
            max_context: None,
        }
    }
}

impl RequestLimits {
    /// Checks the number of logprobs that a whole answer may have; `n_top`: `None` without logprobs.
    pub(crate) fn check_logprobs(
        &self,
        n: usize,
        max_new: usize,
        n_top: Option<usize>,
    ) -> Result<(), Excess> {
        let Some(n_top) = n_top else { return Ok(()) };
        let n_logprobs = n.saturating_mul(max_new).saturating_mul(n_top.saturating_add(1));
        let max_logprobs = self.max_logprobs;
        match n_logprobs > max_logprobs {
            true => Err(Excess::Logprobs { n_logprobs, max_logprobs }),
            false => Ok(()),
        }
    }
}

/// Context of a server's model: how many tokens a prompt and its answer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Context {
    /// Tokens of the prompt and the answer together; with an encoder, of each.
    max_tokens: usize,
    has_encoder: bool,
}

/// What is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    /// The conversation, by its bytes.
    Bytes { n_bytes: usize, max_bytes: usize },
    /// The conversation, by its text.
    Text { max_tokens: usize },
    /// The prompt leaves no room for an answer.
    Prompt { n_prompt: usize, max_tokens: usize },
    /// The prompt and the requested answer together.
    Answer { n_prompt: usize, max_new: usize, max_tokens: usize },
    /// The logprobs of a whole answer.
    Logprobs { n_logprobs: usize, max_logprobs: usize },
}

impl Context {
    pub(crate) fn new(model: usize, has_encoder: bool, limits: &RequestLimits) -> Self {
        Self { max_tokens: model.min(limits.max_context.unwrap_or(model)), has_encoder }
    }

    pub(crate) fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    pub(crate) fn has_encoder(&self) -> bool {
        self.has_encoder
    }

    /// Checks a conversation before it is tokenized.
    pub(crate) fn check_bytes(&self, n_bytes: usize) -> Result<(), Excess> {
        let max_bytes = self.max_tokens.saturating_mul(MAX_BYTES_PER_TOKEN);
        match n_bytes > max_bytes {
            true => Err(Excess::Bytes { n_bytes, max_bytes }),
            false => Ok(()),
        }
    }

    /// Maximum number of new tokens after a prompt: the requested number, or what there is room for.
    pub(crate) fn room(&self, n_prompt: usize, max_new: Option<usize>) -> Result<usize, Excess> {
        let max_tokens = self.max_tokens;
        if n_prompt >= max_tokens {
            return Err(Excess::Prompt { n_prompt, max_tokens });
        }
        // The answer begins with the decoder's start token.
        let room = max_tokens - if self.has_encoder { 1 } else { n_prompt };
        match max_new {
            Some(max_new) if max_new > room => {
                Err(Excess::Answer { n_prompt, max_new, max_tokens })
            }
            max_new => Ok(max_new.unwrap_or(room)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_and_its_answer_fill_the_smaller_context() {
        let limits = RequestLimits { max_context: Some(10), ..RequestLimits::default() };
        let context = Context::new(64, false, &limits);
        assert_eq!(context, Context::new(10, false, &RequestLimits::default()));
        assert_eq!(context.room(9, None), Ok(1));
        assert_eq!(context.room(4, Some(6)), Ok(6));
        let (n_prompt, max_new, max_tokens) = (4, 7, 10);
        assert_eq!(context.room(4, Some(7)), Err(Excess::Answer { n_prompt, max_new, max_tokens }));
        assert_eq!(context.room(10, None), Err(Excess::Prompt { n_prompt: 10, max_tokens }));
    }

    #[test]
    fn an_encoders_prompt_takes_no_room_from_the_answer() {
        let context = Context::new(10, true, &RequestLimits::default());
        assert_eq!(context.room(9, None), Ok(9));
        assert_eq!(context.room(9, Some(9)), Ok(9));
        assert!(context.room(9, Some(10)).is_err());
        assert!(context.room(10, None).is_err());
    }

    #[test]
    fn bytes_are_bounded_by_the_context() {
        let context = Context::new(10, false, &RequestLimits::default());
        assert_eq!(context.check_bytes(640), Ok(()));
        let excess = Excess::Bytes { n_bytes: 641, max_bytes: 640 };
        assert_eq!(context.check_bytes(641), Err(excess));
    }
}
