use std::fmt;

use crate::{CausalLm, Logprobs, MountedAdapter, Sampler};

/// A token that was drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// Its id.
    pub token: u32,
    /// How probable it was, when that was [asked for](Decoding::with_logprobs).
    pub logprobs: Option<Logprobs>,
}

/// Continues a prompt token by token, until the model's longest row is full.
///
/// A token is drawn when it is asked for, and run when the next one is: the cache then holds the prompt and what was
/// drawn, but for the last token.
pub struct Decoding<'a, M: CausalLm> {
    model: &'a M,
    mounted: Option<&'a MountedAdapter>,
    cache: &'a mut M::Cache,
    sampler: Sampler,
    n_top: Option<usize>,
    /// What the cache does not hold yet.
    pending: Vec<u32>,
    /// Whether the cache holds the beginning.
    begun: bool,
    n_left: usize,
}

impl<'a, M: CausalLm> Decoding<'a, M> {
    /// Starts after `prompt`, of which the cache holds the first `n_held` tokens. An encoder reads the prompt anew.
    ///
    /// # Panics
    /// When the cache holds the whole prompt, or the prompt is longer than the model's longest row.
    pub fn new(
        model: &'a M,
        mounted: Option<&'a MountedAdapter>,
        prompt: &[u32],
        cache: &'a mut M::Cache,
        n_held: usize,
        mut sampler: Sampler,
    ) -> Self {
        assert!(n_held < prompt.len(), "nothing of the prompt is left to run");
        assert!(prompt.len() <= model.max_tokens(), "the prompt does not fit the model");
        let n_held = if model.has_encoder() { 0 } else { n_held };
        if !model.has_encoder() {
            sampler.read(prompt);
        }
        let (pending, n_left) = (prompt[n_held..].to_vec(), model.room_after(prompt.len()));
        Self { model, mounted, cache, sampler, n_top: None, pending, begun: n_held > 0, n_left }
    }

    /// Tells with every token how probable it was, and the `n_top` most probable ones.
    pub fn with_logprobs(mut self, n_top: Option<usize>) -> Self {
        self.n_top = n_top;
        self
    }
}

impl<M: CausalLm> Iterator for Decoding<'_, M> {
    type Item = Drawn;

    fn next(&mut self) -> Option<Drawn> {
        self.n_left = self.n_left.checked_sub(1)?;
        let (pending, cache) = (&self.pending, &mut *self.cache);
        let logits = match std::mem::replace(&mut self.begun, true) {
            true => self.model.extend(pending, cache, self.mounted),
            false => self.model.begin(pending, cache, self.mounted),
        };
        let logits: Vec<f32> =
            logits.into_data().convert::<f32>().try_into_vec().expect("they were converted to f32");
        let token = self.sampler.next(&logits);
        self.pending = vec![token];
        let logprobs = self.n_top.map(|n_top| Logprobs::new(&logits, token, n_top));
        Some(Drawn { token, logprobs })
    }
}

impl<M: CausalLm> fmt::Debug for Decoding<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut decoding = f.debug_struct("Decoding");
        decoding.field("sampler", &self.sampler).field("n_left", &self.n_left);
        decoding.finish_non_exhaustive()
    }
}
