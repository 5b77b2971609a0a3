use std::collections::VecDeque;
use std::time::Instant;

use litemoe_core::{CausalLm, Generation, Sampler, TokenConstraint};
use litemoe_text::{TextError, Tokenizer};
use tracing::Span;

use super::event::{Event, Sender};
use super::prefixes::{Key, Prefixes};
use super::request::{Request, TextKind};
use super::row::{Row, Work};
use super::unended::Unended;
use crate::apps::Admission;
use crate::client::Client;
use crate::usage::Usage;

/// A request in the queue.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) client: Client,
    pub(super) request: Request,
    pub(super) events: Sender,
    /// Span of the request in the log.
    pub(super) span: Span,
    /// When it came.
    pub(super) begin: Instant,
}

/// A request that is being answered.
pub(super) struct Running<'t, C> {
    pub(super) key: Key,
    request: Request,
    pub(super) events: Sender,
    pub(super) span: Span,
    pub(super) begin: Instant,
    /// Its prompts and texts that are not finished.
    pub(super) rows: Vec<Row<'t, C>>,
    pub(super) usage: Usage,
    has_token: bool,
    tokenizer: &'t Tokenizer,
}

impl<'t, C: Clone> Running<'t, C> {
    pub(super) fn new<M: CausalLm<Cache = C>>(
        model: &M,
        tokenizer: &'t Tokenizer,
        job: Job,
    ) -> Result<Self, TextError> {
        let Job { client, request, mut events, span, begin } = job;
        let max_bytes = request.admission.as_ref().and_then(Admission::max_cache);
        let key = Key { client, mounted: request.mounted.clone(), max_bytes };
        let n_prompt = request.prompts.iter().map(Vec::len).sum();
        if let Some(admission) = &request.admission {
            admission.charge(Usage { n_prompt, ..Usage::default() });
        }
        let usage = Usage { n_prompt, ..Usage::default() };
        let mut rows = Vec::new();
        for (index, prompt) in request.prompts.iter().enumerate() {
            let scores = request.scores_prompts.then(|| (request.n_top.unwrap_or(0), Vec::new()));
            let has_prefix = prompt.len() > 1 || model.has_encoder();
            let shares_prompt = request.n > 1 && request.max_new > 0 && has_prefix;
            if shares_prompt || (scores.is_some() && prompt.len() > 1) {
                let begin = prompt[prompt.len() - 1..].to_vec();
                let work = Work::Prompt { n_run: 0, scores, begin };
                rows.push(Row::new(index, prompt.clone(), work));
            } else {
                if scores.is_some() {
                    events.send(Event::Prompt(index, Vec::new()));
                }
                rows.extend(texts(model, tokenizer, &request, index)?);
            }
        }
        Ok(Self { key, request, events, span, begin, rows, usage, has_token: false, tokenizer })
    }

    /// Whether the request waits while others run.
    pub(super) fn is_background(&self) -> bool {
        self.request.is_background
    }

    /// Gives up the app's admission.
    pub(super) fn release(&mut self) {
        self.request.admission = None;
    }

    /// Notes that the keys and values of prompt tokens were cached.
    pub(super) fn note_cached(&mut self, n_cached: usize) {
        self.usage.n_cached += n_cached;
        if let Some(admission) = &self.request.admission {
            admission.charge(Usage { n_cached, ..Usage::default() });
        }
    }

    /// Whether the request has just got its first token. Asked after every token.
    pub(super) fn is_first_token(&mut self) -> bool {
        !std::mem::replace(&mut self.has_token, true)
    }

    /// Takes a row's logits of the current step and sends what follows from them. Returns whether a token was sampled.
    pub(super) fn advance(&mut self, row: usize, logits: &[Vec<f32>]) -> Result<bool, TextError> {
        let row = &mut self.rows[row];
        let drawn = row.advance(self.tokenizer, logits)?;
        let is_drawn = drawn.is_some();
        if let (true, Some(admission)) = (is_drawn, &self.request.admission) {
            admission.charge(Usage { n_completion: 1, ..Usage::default() });
        }
        if let (Some(drawn), Work::Text { index, answer, .. }) = (drawn, &mut row.work) {
            let piece = answer.push(&drawn)?;
            self.events.send(Event::Piece(*index, piece));
        }
        Ok(is_drawn)
    }

    /// Replaces prompts that have run by their texts, and removes the texts that are over. The keys and values of each
    /// prompt's first text are kept as a prefix.
    pub(super) fn settle<M: CausalLm<Cache = C>>(
        &mut self,
        model: &M,
        prefixes: &mut Prefixes<C>,
    ) -> Result<(), TextError> {
        let mut rows: VecDeque<_> = std::mem::take(&mut self.rows).into();
        while let Some(mut row) = rows.pop_front() {
            let n_left = row.n_left();
            match &mut row.work {
                Work::Prompt { scores, begin, n_run } if n_left == 0 => {
                    let n_run = *n_run;
                    if let Some((_, scores)) = scores.take() {
                        self.events.send(Event::Prompt(row.prompt, scores));
                    }
                    let begin = std::mem::take(begin);
                    let texts = texts(model, self.tokenizer, &self.request, row.prompt)?;
                    let cache = row.into_cache().1;
                    for (nth, text) in texts.into_iter().enumerate().rev() {
                        let n_shared = if nth > 0 { n_run } else { 0 };
                        rows.push_front(match &cache {
                            Some(cache) => text.continuing(cache.clone(), begin.clone(), n_shared),
                            None => text,
                        });
                    }
                    continue;
                }
                Work::Text { index, answer, .. } if n_left == 0 && !answer.is_over() => {
                    self.events.send(Event::Piece(*index, answer.finish()?));
                }
                _ => {}
            }
            match &row.work {
                Work::Text { index, answer, .. } if answer.is_over() => {
                    self.usage.n_completion += answer.n_drawn();
                    let is_first = index % self.request.n == 0;
                    if let (tokens, Some(cache)) = row.into_cache()
                        && is_first
                        && !model.has_encoder()
                    {
                        prefixes.insert(model, self.key.clone(), tokens, cache);
                    }
                }
                _ => self.rows.push(row),
            }
        }
        Ok(())
    }
}

/// The texts of a prompt at their start.
fn texts<'t, M: CausalLm>(
    model: &M,
    tokenizer: &'t Tokenizer,
    request: &Request,
    prompt: usize,
) -> Result<Vec<Row<'t, M::Cache>>, TextError> {
    let tokens = &request.prompts[prompt];
    let room = model.room_after(tokens.len()).min(request.max_new);
    let min_new = request.ending.min_new;
    let unended = (min_new > 0).then(|| {
        let ends = tokenizer.end_ids().union(&request.ending.tokens).copied();
        Unended::new(model.vocab(), ends, min_new)
    });
    let text = |nth: usize| {
        let mut sampler = Sampler::new(request.sampling.clone()).for_text(nth as u64);
        if !model.has_encoder() {
            sampler.read(tokens);
        }
        let constraint: Option<Box<dyn TokenConstraint>> = match &request.grammar {
            Some(grammar) => Some(Box::new(grammar.constraint())),
            None => unended.clone().map(|unended| Box::new(unended) as _),
        };
        let generation = Generation::new(tokens.clone(), room, sampler)
            .with_logprobs(request.n_top)
            .with_constraint(constraint);
        let answer = match request.kind {
            TextKind::Answer if request.shown.is_empty() => tokenizer.answer(&request.stop),
            TextKind::Answer => tokenizer.answer(&request.stop).showing(request.shown.clone()),
            TextKind::Continuation => tokenizer.continuation(tokens, &request.stop)?,
        };
        let answer = answer.ending_at(request.ending.tokens.clone());
        let (index, generation) = (prompt * request.n + nth, Box::new(generation));
        let answer = Box::new(answer);
        Ok(Row::new(prompt, tokens.clone(), Work::Text { index, generation, answer }))
    };
    (0..request.n).map(text).collect()
}
