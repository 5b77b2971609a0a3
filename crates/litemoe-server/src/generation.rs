use std::sync::Arc;

use litemoe_core::{CausalLm, Decoding, MountedAdapter, Sampler, Sampling};
use litemoe_text::{Piece, TextError, Tokenizer};

/// What is to be generated.
#[derive(Debug)]
pub(crate) struct Request {
    /// Not empty, and shorter than the model's longest row.
    pub(crate) prompt: Vec<u32>,
    pub(crate) mounted: Option<Arc<MountedAdapter>>,
    pub(crate) sampling: Sampling,
    /// How many texts.
    pub(crate) n: usize,
    /// How many alternatives to tell with every token's log-probability; `None`: no log-probabilities.
    pub(crate) n_top: Option<usize>,
    /// `None`: as long as the model can.
    pub(crate) max_new: Option<usize>,
    /// Strings that end the text; not empty ones.
    pub(crate) stop: Vec<String>,
}

/// What a request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) n_prompt: usize,
    /// Tokens drawn for all texts, the end tokens included.
    pub(crate) n_completion: usize,
}

/// Whoever waits for the texts.
pub(crate) trait Listener {
    /// Takes the next piece of a text, counted from 0.
    fn hear(&mut self, text: usize, piece: Piece);

    /// Whether nobody waits any more.
    fn is_gone(&self) -> bool;
}

/// Generates texts piece by piece, one after the other; `None` when the listener went away.
pub(crate) fn generate<M: CausalLm>(
    model: &M,
    tokenizer: &Tokenizer,
    request: &Request,
    listener: &mut impl Listener,
) -> Result<Option<Usage>, TextError> {
    if listener.is_gone() {
        return Ok(None);
    }
    let mut generation = Generation::new(model, tokenizer, request);
    let mut n_completion = 0;
    for text in 0..request.n {
        match generation.text(text, listener)? {
            Some(n_drawn) => n_completion += n_drawn,
            None => return Ok(None),
        }
    }
    Ok(Some(Usage { n_prompt: request.prompt.len(), n_completion }))
}

/// Texts that go on from one prompt.
struct Generation<'a, M: CausalLm> {
    model: &'a M,
    tokenizer: &'a Tokenizer,
    request: &'a Request,
    /// Holds the first `n_held` tokens of the prompt.
    cache: M::Cache,
    n_held: usize,
}

impl<'a, M: CausalLm> Generation<'a, M> {
    /// Runs what several texts share: the prompt but for its last token.
    fn new(model: &'a M, tokenizer: &'a Tokenizer, request: &'a Request) -> Self {
        let n_held = if request.n > 1 { request.prompt.len() - 1 } else { 0 };
        let mut cache = model.new_cache();
        if n_held > 0 {
            model.extend(&request.prompt[..n_held], &mut cache, request.mounted.as_deref());
        }
        Self { model, tokenizer, request, cache, n_held }
    }

    /// Generates a text and says how many tokens were drawn; `None` when the listener went away.
    fn text(
        &mut self,
        index: usize,
        listener: &mut impl Listener,
    ) -> Result<Option<usize>, TextError> {
        let Self { model, tokenizer, request, .. } = *self;
        let sampler = Sampler::new(request.sampling.clone()).for_text(index as u64);
        let (mounted, mut cache) = (request.mounted.as_deref(), self.cache.clone());
        let prompt = &request.prompt;
        let decoding = Decoding::new(model, mounted, prompt, &mut cache, self.n_held, sampler)
            .with_logprobs(request.n_top)
            .take(request.max_new.unwrap_or(usize::MAX));
        let mut answer = tokenizer.answer(decoding, &request.stop);
        for piece in answer.by_ref() {
            listener.hear(index, piece?);
            if listener.is_gone() {
                return Ok(None);
            }
        }
        Ok(Some(answer.n_drawn()))
    }
}
