use crate::{CausalLm, Logprobs, MountedAdapter, Sampler};

/// Tokens of a prompt that are run at once: attention scores of a whole prompt would grow with its square.
pub const PREFILL_TOKENS: usize = 512;

/// A token that was drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// Its id.
    pub token: u32,
    /// How probable it was, when that was [asked for](Generation::with_logprobs).
    pub logprobs: Option<Logprobs>,
}

/// The generation of one text, without the loop: whoever owns the loop runs [`Self::pending`] and hands over the logits after
/// it, until the text is over. A prompt is pending in chunks of [`PREFILL_TOKENS`]; a token that was drawn is pending
/// until the next one is wanted.
#[derive(Debug, Clone)]
pub struct Generation {
    sampler: Sampler,
    n_top: Option<usize>,
    /// What the cache does not hold yet.
    left: Vec<u32>,
    /// How many more tokens may be drawn.
    room: usize,
}

impl Generation {
    /// Starts a text after `prompt`, of which the cache holds the first `n_held` tokens.
    ///
    /// # Panics
    /// When the cache holds the whole prompt, or the prompt is longer than the model's longest row.
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

    /// Starts after the tokens that a cache holds, with `left` to run, and draws at most `room` tokens.
    ///
    /// # Panics
    /// When nothing is left to run.
    pub fn new(left: Vec<u32>, room: usize, sampler: Sampler) -> Self {
        assert!(!left.is_empty(), "nothing of the prompt is left to run");
        Self { sampler, n_top: None, left, room }
    }

    /// Tells with every token how probable it was, and the `n_top` most probable ones.
    #[must_use]
    pub fn with_logprobs(self, n_top: Option<usize>) -> Self {
        Self { n_top, ..self }
    }

    /// Draws at most `max` more tokens.
    #[must_use]
    pub fn limited(self, max: usize) -> Self {
        Self { room: self.room.min(max), ..self }
    }

    /// The tokens to run next; none when the text is as long as it may be.
    pub fn pending(&self) -> &[u32] {
        match self.room {
            0 => &[],
            _ => &self.left[..self.left.len().min(PREFILL_TOKENS)],
        }
    }

    /// Takes the logits after the pending tokens, over the vocabulary, and draws a token unless more of the prompt is left.
    pub fn advance(&mut self, logits: &[f32]) -> Option<Drawn> {
        let n_run = self.pending().len();
        self.left.drain(..n_run);
        if !self.left.is_empty() {
            return None;
        }
        self.room = self.room.saturating_sub(1);
        let token = self.sampler.next(logits);
        self.left.push(token);
        let logprobs = self.n_top.map(|n_top| Logprobs::new(logits, token, n_top));
        Some(Drawn { token, logprobs })
    }

    /// Whether the next logits are drawn from: those in the middle of a prompt need not be read.
    pub fn draws_next(&self) -> bool {
        self.left.len() <= PREFILL_TOKENS
    }
}
