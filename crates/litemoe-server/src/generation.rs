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
    /// Maximum number of new tokens.
    pub(crate) max_new: usize,
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
    let Some(mut texts) = texts(model, tokenizer, request, listener) else { return Ok(None) };
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
            if let Some(drawn) = text.generation.advance(&logits)? {
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

/// The texts at their start. The prompt, but for its last token, and the encoder run once for all texts; `None` if the client
/// disconnected meanwhile.
fn texts<'a, M: CausalLm>(
    model: &M,
    tokenizer: &'a Tokenizer,
    request: &'a Request,
    listener: &impl Listener,
) -> Option<Vec<Text<'a, M::Cache>>> {
    let (mounted, prompt) = (request.mounted.as_deref(), &request.prompt);
    let mut shared = model.new_cache();
    let mut left = prompt.clone();
    if model.has_encoder() {
        left = model.begin(prompt, &mut shared, mounted);
    } else if request.n > 1 {
        left = prompt[prompt.len() - 1..].to_vec();
        for chunk in prompt[..prompt.len() - 1].chunks(PREFILL_CHUNK) {
            if listener.is_gone() {
                return None;
            }
            model.extend(chunk, &mut shared, mounted);
        }
    }
    let room = model.room_after(prompt.len()).min(request.max_new);
    let text = |index: usize| {
        let mut sampler = Sampler::new(request.sampling.clone()).for_text(index as u64);
        if !model.has_encoder() {
            sampler.read(prompt);
        }
        let generation = Generation::new(left.clone(), room, sampler).with_logprobs(request.n_top);
        let answer = tokenizer.answer(&request.stop);
        Text { index, cache: shared.clone(), generation, answer }
    };
    Some((0..request.n).map(text).collect())
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
