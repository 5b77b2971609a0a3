use std::fmt;

use crate::{
    CausalLm, Generation, GenerationError, MountedAdapter, SampledToken, Sampler, TokenConstraint,
    logits_rows,
};

/// Autoregressive decoding of one prompt, as an iterator of tokens until the model's maximum length: a [`Generation`]
/// and its loop.
///
/// Each call samples one token; the model runs that token on the next call. The cache therefore holds the prompt and
/// all sampled tokens except the last. An error is the last item.
pub struct Decoding<'a, M: CausalLm> {
    model: &'a M,
    mounted: Option<&'a MountedAdapter>,
    cache: &'a mut M::Cache,
    generation: Generation,
}

impl<'a, M: CausalLm> Decoding<'a, M> {
    /// Starts after `prompt`, whose first `n_held` tokens are already in the cache. An encoder encodes the whole prompt
    /// here.
    ///
    /// # Panics
    /// When the cache already holds the whole prompt, or the prompt is longer than
    /// [`max_tokens`](crate::LanguageModel::max_tokens).
    pub fn new(
        model: &'a M,
        mounted: Option<&'a MountedAdapter>,
        prompt: &[u32],
        cache: &'a mut M::Cache,
        n_held: usize,
        sampler: Sampler,
    ) -> Self {
        let generation = Generation::begin(model, mounted, prompt, cache, n_held, sampler);
        Self { model, mounted, cache, generation }
    }

    /// Requests log-probabilities of each sampled token and of the `n_top` most probable ones; `None` requests none.
    #[must_use]
    pub fn with_logprobs(self, n_top: Option<usize>) -> Self {
        Self { generation: self.generation.with_logprobs(n_top), ..self }
    }

    /// Samples only tokens that the constraint allows; `None` for no constraint.
    #[must_use]
    pub fn with_constraint(self, constraint: Option<Box<dyn TokenConstraint>>) -> Self {
        Self { generation: self.generation.with_constraint(constraint), ..self }
    }
}

impl<M: CausalLm> Iterator for Decoding<'_, M> {
    type Item = Result<SampledToken, GenerationError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let tokens = self.generation.pending();
            if tokens.is_empty() {
                return None;
            }
            let logits = self.model.extend(tokens, self.cache, self.mounted);
            let logits = match self.generation.draws_next() {
                true => logits_rows(logits.unsqueeze_dim(0)).pop().unwrap_or_default(),
                false => Vec::new(),
            };
            if let Some(drawn) = self.generation.advance(&logits).transpose() {
                return Some(drawn);
            }
        }
    }
}

impl<M: CausalLm> fmt::Debug for Decoding<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut decoding = f.debug_struct("Decoding");
        decoding.field("generation", &self.generation).finish_non_exhaustive()
    }
}
