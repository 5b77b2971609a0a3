use std::sync::Arc;

use litemoe_core::{Adapters, CausalLm, Sampler, Sampling};
use litemoe_text::{Detokenizer, TextError, Tokenizer};

use crate::stop::{Passed, StopScanner};

/// What is to be generated.
#[derive(Debug)]
pub(crate) struct Request {
    /// Not empty, and shorter than the model's longest row.
    pub(crate) prompt: Vec<u32>,
    pub(crate) adapters: Option<Arc<Adapters>>,
    pub(crate) sampling: Sampling,
    /// `None`: as long as the model can.
    pub(crate) max_new: Option<usize>,
    /// Strings that end the text; not empty ones.
    pub(crate) stop: Vec<String>,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FinishReason {
    /// The model drew an end token, or a stop string came.
    Stop,
    /// There is no room for more.
    Length,
}

/// A generation that came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) reason: FinishReason,
    pub(crate) n_prompt: usize,
    /// Tokens drawn, the end token included.
    pub(crate) n_completion: usize,
}

/// Whoever waits for the text.
pub(crate) trait Listener {
    /// Takes the next piece.
    fn hear(&mut self, text: String);

    /// Whether nobody waits any more.
    fn is_gone(&self) -> bool;
}

/// Generates a text piece by piece; `None` when the listener went away.
pub(crate) fn generate<M: CausalLm>(
    model: &M,
    tokenizer: &Tokenizer,
    request: &Request,
    listener: &mut impl Listener,
) -> Result<Option<Finished>, TextError> {
    let mut tokens = Tokens::new(model, request);
    let mut text = Text::new(tokenizer, &request.stop);
    let reason = loop {
        if listener.is_gone() {
            return Ok(None);
        }
        let Some(token) = tokens.next() else { break text.finish(FinishReason::Length, listener)? };
        if tokenizer.end_ids().contains(&token) {
            break text.finish(FinishReason::Stop, listener)?;
        }
        if text.push(token, listener)? {
            break FinishReason::Stop;
        }
    };
    let (n_prompt, n_completion) = (request.prompt.len(), tokens.n_drawn);
    Ok(Some(Finished { reason, n_prompt, n_completion }))
}

/// Draws tokens until there is no room for more.
struct Tokens<'a, M: CausalLm> {
    model: &'a M,
    adapters: Option<&'a Adapters>,
    cache: M::Cache,
    sampler: Sampler,
    /// What the cache does not hold yet.
    pending: Vec<u32>,
    n_drawn: usize,
    max_new: usize,
}

impl<'a, M: CausalLm> Tokens<'a, M> {
    fn new(model: &'a M, request: &'a Request) -> Self {
        let room = model.max_tokens().saturating_sub(request.prompt.len());
        Self {
            model,
            adapters: request.adapters.as_deref(),
            cache: model.new_cache(),
            sampler: Sampler::new(request.sampling),
            pending: request.prompt.clone(),
            n_drawn: 0,
            max_new: request.max_new.map_or(room, |max_new| max_new.min(room)),
        }
    }
}

impl<M: CausalLm> Iterator for Tokens<'_, M> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.n_drawn == self.max_new {
            return None;
        }
        let logits = self.model.extend(&self.pending, &mut self.cache, self.adapters);
        let logits: Vec<f32> =
            logits.into_data().convert::<f32>().try_into_vec().expect("they were converted to f32");
        let token = self.sampler.next(&logits);
        self.pending = vec![token];
        self.n_drawn += 1;
        Some(token)
    }
}

/// Tokens as text, up to a stop string.
struct Text<'a> {
    detokenizer: Detokenizer<'a>,
    scanner: StopScanner<'a>,
}

impl<'a> Text<'a> {
    fn new(tokenizer: &'a Tokenizer, stop: &'a [String]) -> Self {
        Self { detokenizer: tokenizer.detokenizer(), scanner: StopScanner::new(stop) }
    }

    /// Tells the listener what a token adds, and says whether a stop string came.
    fn push(&mut self, token: u32, listener: &mut impl Listener) -> Result<bool, TextError> {
        let Passed { text, stopped } = self.scanner.push(&self.detokenizer.push(token)?);
        tell(listener, text);
        Ok(stopped)
    }

    /// Tells the listener what was held back. It can hold a stop string too.
    fn finish(
        mut self,
        reason: FinishReason,
        listener: &mut impl Listener,
    ) -> Result<FinishReason, TextError> {
        let Passed { text, stopped } = self.scanner.push(&self.detokenizer.finish()?);
        tell(listener, text);
        if stopped {
            return Ok(FinishReason::Stop);
        }
        tell(listener, self.scanner.finish());
        Ok(reason)
    }
}

fn tell(listener: &mut impl Listener, text: String) {
    if !text.is_empty() {
        listener.hear(text);
    }
}
