/// Token usage of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Tokens of all prompts.
    pub(crate) n_prompt: usize,
    /// Those of them whose keys and values were cached already.
    pub(crate) n_cached: usize,
    /// Sampled tokens of all texts, end tokens included.
    pub(crate) n_completion: usize,
}
