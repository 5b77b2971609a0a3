use thiserror::Error;

use crate::{CausalLm, ConstraintError, Logprobs, MountedAdapter, Sampler, TokenConstraint};

/// Prefill chunk size in tokens: bounds the attention scores, which grow quadratically with the chunk.
pub const PREFILL_CHUNK: usize = 512;

/// A sampled token.
#[derive(Debug, Clone, PartialEq)]
pub struct SampledToken {
    /// Token id.
    pub token: u32,
    /// Its log-probability, if [requested](Generation::with_logprobs).
    pub logprobs: Option<Logprobs>,
}

/// A logit that is not a finite number: no token is sampled from it.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[error(
    "after {n_sampled} generated tokens the logit of token {token} is {logit}: the model or the adapter does not compute \
     with this text"
)]
pub struct NotFiniteLogit {
    /// Token of the logit.
    pub token: u32,
    /// Its logit: NaN or infinite.
    pub logit: f32,
    /// Number of tokens of the text that were sampled before.
    pub n_sampled: usize,
}

impl NotFiniteLogit {
    /// Checks the logits after a prompt and `n_sampled` further tokens, `[vocab]`.
    ///
    /// # Errors
    /// The first logit that is not finite.
    pub fn check(logits: &[f32], n_sampled: usize) -> Result<(), Self> {
        match (0..).zip(logits).find(|(_, logit)| !logit.is_finite()) {
            Some((token, &logit)) => Err(Self { token, logit, n_sampled }),
            None => Ok(()),
        }
    }
}

/// Error of a generation, which is over then.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum GenerationError {
    /// The model's logits are not finite.
    #[error(transparent)]
    NotFinite(#[from] NotFiniteLogit),
    /// The text's constraint has no next token.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
}

/// State of one text's generation, without the loop: the caller runs [`Self::pending`] and passes the resulting logits
/// to [`Self::advance`] until nothing is pending. A prompt becomes pending in chunks of [`PREFILL_CHUNK`] (prefill),
/// then each sampled token in turn (decode).
#[derive(Debug, Clone)]
pub struct Generation {
    sampler: Sampler,
    constraint: Option<Box<dyn TokenConstraint>>,
    n_top: Option<usize>,
    /// Tokens not yet in the cache.
    left: Vec<u32>,
    /// Maximum number of tokens that run at once.
    chunk: usize,
    /// Maximum number of tokens still to sample.
    room: usize,
    n_sampled: usize,
}

impl Generation {
    /// Starts after `prompt`, whose first `n_held` tokens are already in the cache.
    ///
    /// # Panics
    /// When the cache already holds the whole prompt, or the prompt is longer than
    /// [`max_tokens`](crate::LanguageModel::max_tokens).
    pub fn begin<M: CausalLm>(
        model: &M,
        mounted: Option<&MountedAdapter>,
        prompt: &[u32],
        cache: &mut M::Cache,
        n_held: usize,
        mut sampler: Sampler,
    ) -> Self {
        assert!(n_held < prompt.len(), "nothing of the prompt is left to run");
        assert!(prompt.len() <= model.max_tokens(), "the prompt does not fit the model");
        let room = model.room_after(prompt.len());
        if model.has_encoder() {
            return Self::new(model.begin(prompt, cache, mounted), room, sampler);
        }
        sampler.read(prompt);
        Self::new(prompt[n_held..].to_vec(), room, sampler)
    }

    /// Starts after the cached tokens, with the tokens `left` to run, and samples at most `room` tokens.
    ///
    /// # Panics
    /// When `left` is empty.
    pub fn new(left: Vec<u32>, room: usize, sampler: Sampler) -> Self {
        assert!(!left.is_empty(), "nothing of the prompt is left to run");
        Self {
            sampler,
            constraint: None,
            n_top: None,
            left,
            chunk: PREFILL_CHUNK,
            room,
            n_sampled: 0,
        }
    }

    /// Requests log-probabilities of each sampled token and of the `n_top` most probable ones; `None` requests none.
    #[must_use]
    pub fn with_logprobs(self, n_top: Option<usize>) -> Self {
        Self { n_top, ..self }
    }

    /// Samples only tokens that the constraint allows, by their logits after bias and penalties and before the other
    /// [steps](crate::Sampling); `None` for no constraint. [Log-probabilities](Self::with_logprobs) stay those of all
    /// tokens.
    #[must_use]
    pub fn with_constraint(self, constraint: Option<Box<dyn TokenConstraint>>) -> Self {
        Self { constraint, ..self }
    }

    /// Sets the number of tokens that are pending at most, from the next call of [`Self::pending`] on; [`PREFILL_CHUNK`]
    /// unless set.
    ///
    /// # Panics
    /// When it is 0.
    pub fn set_chunk(&mut self, chunk: usize) {
        assert!(chunk > 0, "a chunk has tokens");
        self.chunk = chunk;
    }

    /// Replaces the tokens that are left to run, for a cache that holds fewer or more tokens of the text than the one
    /// before.
    ///
    /// # Panics
    /// When `left` is empty.
    pub fn set_left(&mut self, left: Vec<u32>) {
        assert!(!left.is_empty(), "nothing of the text is left to run");
        self.left = left;
    }

    /// Number of tokens that are left to run before the next one is sampled; 0 when nothing is pending.
    pub fn n_left(&self) -> usize {
        match self.room {
            0 => 0,
            _ => self.left.len(),
        }
    }

    /// Tokens to run next; empty when the length limit is reached, and after an error of [`Self::advance`].
    pub fn pending(&self) -> &[u32] {
        match self.room {
            0 => &[],
            _ => &self.left[..self.left.len().min(self.chunk)],
        }
    }

    /// Takes the logits after the pending tokens, `[vocab]`, and samples a token unless part of the prompt remains.
    ///
    /// # Errors
    /// A logit to sample from that is not finite, or a constraint without a next token; the generation is over then.
    pub fn advance(&mut self, logits: &[f32]) -> Result<Option<SampledToken>, GenerationError> {
        let n_run = self.pending().len();
        self.left.drain(..n_run);
        if !self.left.is_empty() {
            return Ok(None);
        }
        let token = self.sample(logits).inspect_err(|_| self.room = 0)?;
        self.room = self.room.saturating_sub(1);
        self.n_sampled += 1;
        self.left.push(token);
        let logprobs = self.n_top.map(|n_top| Logprobs::new(logits, token, n_top));
        Ok(Some(SampledToken { token, logprobs }))
    }

    fn sample(&mut self, logits: &[f32]) -> Result<u32, GenerationError> {
        let n_sampled = self.n_sampled;
        NotFiniteLogit::check(logits, n_sampled)?;
        let Some(constraint) = &mut self.constraint else { return Ok(self.sampler.next(logits)) };
        let token = self.sampler.next_of(logits, &constraint.allowed()?);
        let token = token.ok_or(ConstraintError::NothingAllowed { n_sampled })?;
        constraint.accept(token)?;
        Ok(token)
    }

    /// Whether [`Self::advance`] samples from the next logits; those inside a prompt need not be read.
    pub fn draws_next(&self) -> bool {
        self.left.len() <= self.chunk
    }
}
