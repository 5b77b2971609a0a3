use serde::Serialize;

use crate::usage::Usage;

/// Token usage as OpenAI's API writes it.
#[derive(Debug, Serialize)]
pub(crate) struct UsageFields {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptDetails,
}

#[derive(Debug, Serialize)]
struct PromptDetails {
    /// Prompt tokens whose keys and values were cached.
    cached_tokens: usize,
}

impl From<Usage> for UsageFields {
    fn from(Usage { n_prompt, n_cached, n_completion }: Usage) -> Self {
        Self {
            prompt_tokens: n_prompt,
            completion_tokens: n_completion,
            total_tokens: n_prompt + n_completion,
            prompt_tokens_details: PromptDetails { cached_tokens: n_cached },
        }
    }
}
