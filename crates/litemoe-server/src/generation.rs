use std::sync::Arc;

use litemoe_core::{
    CausalLm, Generation, MountedAdapter, PREFILL_CHUNK, RowStep, Sampler, Sampling, logits_rows,
};
use litemoe_text::{Answer, Piece, TextError, Tokenizer};

/// Generation request.
#[derive(Debug)]
pub(crate) struct Request {
    /// Prompt tokens, not empty, fewer than the model's maximum.
    pub(crate) prompt: Vec<u32>,
    pub(crate) mounted: Option<Arc<MountedAdapter>>,
    pub(crate) sampling: Sampling,
    /// Number of texts.
    pub(crate) n: usize,
    /// Number of alternatives in every token's logprobs; `None`: no logprobs.
    pub(crate) n_top: Option<usize>,
    /// Maximum number of new tokens; `None`: up to the model's maximum.
    pub(crate) max_new: Option<usize>,
    /// Stop strings, not empty.
    pub(crate) stop: Vec<String>,
}

/// Token usage of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) n_prompt: usize,
    /// Sampled tokens of all texts, end tokens included.
    pub(crate) n_completion: usize,
}

/// Receiver of a request's texts.
pub(crate) trait Listener {
    /// Receives the next piece of a text; texts count from 0.
    fn hear(&mut self, text: usize, piece: Piece);

    /// Whether the receiver is gone.
    fn is_gone(&self) -> bool;
}

/// Generates a request's texts as a batch, one token of each per step. `None` if the listener is gone.
pub(crate) fn generate<M: CausalLm>(
    model: &M,
    tokenizer: &Tokenizer,
    request: &Request,
    listener: &mut impl Listener,
) -> Result<Option<Usage>, TextError> {
    if listener.is_gone() {
        return Ok(None);
    }
    let mut texts = texts(model, tokenizer, request);
    loop {
        // A text at its length limit has no pending tokens.
        for text in running(&mut texts).filter(|text| text.generation.pending().is_empty()) {
            listener.hear(text.index, text.answer.finish()?);
        }
        if running(&mut texts).next().is_none() {
            break;
        }
        let logits = step(model, request.mounted.as_deref(), running(&mut texts));
        for (text, logits) in running(&mut texts).zip(logits) {
            if let Some(drawn) = text.generation.advance(&logits) {
                listener.hear(text.index, text.answer.push(&drawn)?);
            }
        }
        if listener.is_gone() {
            return Ok(None);
        }
    }
    let n_completion = texts.iter().map(|text| text.answer.n_drawn()).sum();
    Ok(Some(Usage { n_prompt: request.prompt.len(), n_completion }))
}

/// One text of a request.
struct Text<'a, C> {
    index: usize,
    cache: C,
    generation: Generation,
    answer: Answer<'a>,
}

/// Starts the texts. The common prefix of several, the prompt without its last token, is prefilled here once.
fn texts<'a, M: CausalLm>(
    model: &M,
    tokenizer: &'a Tokenizer,
    request: &'a Request,
) -> Vec<Text<'a, M::Cache>> {
    let (mounted, prompt) = (request.mounted.as_deref(), &request.prompt);
    let n_held = if request.n > 1 && !model.has_encoder() { prompt.len() - 1 } else { 0 };
    let mut shared = model.new_cache();
    for chunk in prompt[..n_held].chunks(PREFILL_CHUNK) {
        model.extend(chunk, &mut shared, mounted);
    }
    let text = |index: usize| {
        let (mut cache, answer) = (shared.clone(), tokenizer.answer(&request.stop));
        let sampler = Sampler::new(request.sampling.clone()).for_text(index as u64);
        let generation = Generation::begin(model, mounted, prompt, &mut cache, n_held, sampler);
        let generation = generation.with_logprobs(request.n_top);
        let generation = generation.limited(request.max_new.unwrap_or(usize::MAX));
        Text { index, cache, generation, answer }
    };
    (0..request.n).map(text).collect()
}

/// The unfinished texts.
fn running<'s, 'a, C>(texts: &'s mut [Text<'a, C>]) -> impl Iterator<Item = &'s mut Text<'a, C>> {
    texts.iter_mut().filter(|text| !text.answer.is_over())
}

/// Runs one batched step; returns the logits after each text's pending tokens.
fn step<'s, 'a: 's, M: CausalLm>(
    model: &M,
    mounted: Option<&MountedAdapter>,
    texts: impl Iterator<Item = &'s mut Text<'a, M::Cache>>,
) -> Vec<Vec<f32>>
where
    M::Cache: 's,
{
    let rows = texts.map(|Text { cache, generation, .. }| RowStep {
        tokens: generation.pending(),
        cache,
        mounted,
    });
    logits_rows(model.step(&mut rows.collect::<Vec<_>>()))
}
