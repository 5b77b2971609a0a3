use std::sync::Arc;

use litemoe_core::{
    CausalLm, Generation, MountedAdapter, PREFILL_TOKENS, RowStep, Sampler, Sampling, logits_rows,
};
use litemoe_text::{Answer, Piece, TextError, Tokenizer};

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

/// Generates a request's texts together, a token of each at a step; `None` when the listener went away.
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
        // A text that is as long as it may be has nothing to run.
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

/// The texts at their beginning. What several share, the prompt but for its last token, is run here.
fn texts<'a, M: CausalLm>(
    model: &M,
    tokenizer: &'a Tokenizer,
    request: &'a Request,
) -> Vec<Text<'a, M::Cache>> {
    let (mounted, prompt) = (request.mounted.as_deref(), &request.prompt);
    let n_held = if request.n > 1 && !model.has_encoder() { prompt.len() - 1 } else { 0 };
    let mut shared = model.new_cache();
    for chunk in prompt[..n_held].chunks(PREFILL_TOKENS) {
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

/// The texts that are not over.
fn running<'s, 'a, C>(texts: &'s mut [Text<'a, C>]) -> impl Iterator<Item = &'s mut Text<'a, C>> {
    texts.iter_mut().filter(|text| !text.answer.is_over())
}

/// The logits after the pending tokens of some texts.
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
