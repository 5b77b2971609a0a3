use litemoe_core::{
    CausalLm, Generation, Logprobs, MountedAdapter, NotFiniteLogit, RowStep, SampledToken,
    WantedLogits,
};
use litemoe_text::{Answer, TextError, TokenLogprob, Tokenizer};

use super::prefixes::{Key, Prefixes};

/// Tokens by which KV caches grow.
const CACHE_BLOCK: usize = 64;

/// A row of the batch: a prompt that is run once for several texts or scored, or a text.
pub(super) struct Row<'t, C> {
    /// Index of the prompt.
    pub(super) prompt: usize,
    /// Tokens so far: the prompt's and the sampled ones.
    pub(super) tokens: Vec<u32>,
    n_prompt: usize,
    /// `None` before the first step, and after the cache's memory was needed for others.
    cache: Option<C>,
    /// First tokens of the cache whose memory is that of another row of the request.
    n_shared: usize,
    /// Whether it ever had a cache.
    was_open: bool,
    pub(super) work: Work<'t>,
    /// Tokens that run in the current step.
    n_chosen: usize,
    /// Whether the row must run alone until its next token, because a step with others failed.
    pub(super) alone: bool,
}

/// What a row computes.
pub(super) enum Work<'t> {
    /// The prompt without its last token.
    Prompt {
        n_run: usize,
        /// Logprobs of the tokens after the first; `None` if they are not requested.
        scores: Option<(usize, Vec<TokenLogprob>)>,
        /// What an encoder–decoder's decoder begins with.
        begin: Vec<u32>,
    },
    /// A text, by its index among those of the request.
    Text { index: usize, generation: Box<Generation>, answer: Box<Answer<'t>> },
}

impl<'t, C: Clone> Row<'t, C> {
    pub(super) fn new(prompt: usize, tokens: Vec<u32>, work: Work<'t>) -> Self {
        let n_prompt = tokens.len();
        Self {
            prompt,
            tokens,
            n_prompt,
            cache: None,
            n_shared: 0,
            was_open: false,
            work,
            n_chosen: 0,
            alone: false,
        }
    }

    /// The same with the keys and values of a prompt row, and what is left to run after them. The memory of the first
    /// `n_shared` tokens is that of another row.
    pub(super) fn continuing(mut self, cache: C, left: Vec<u32>, n_shared: usize) -> Self {
        (self.cache, self.was_open, self.n_shared) = (Some(cache), true, n_shared);
        if let Work::Text { generation, .. } = &mut self.work {
            generation.set_left(left);
        }
        self
    }

    /// Tokens that are left to run before the next one is sampled.
    pub(super) fn n_left(&self) -> usize {
        match &self.work {
            Work::Prompt { n_run, .. } => self.tokens.len() - 1 - n_run,
            Work::Text { generation, .. } => generation.n_left(),
        }
    }

    /// Whether the next token to run was sampled.
    pub(super) fn decodes(&self) -> bool {
        self.cache.is_some() && self.tokens.len() > self.n_prompt && self.n_left() == 1
    }

    /// Tokens whose keys and values the row needs memory for, also those that are not run yet. Caches grow by blocks.
    pub(super) fn n_memory(&self) -> u64 {
        let n_tokens = self.tokens.len().next_multiple_of(CACHE_BLOCK);
        (n_tokens - self.n_shared / CACHE_BLOCK * CACHE_BLOCK) as u64
    }

    /// Bytes of the cache per token of its blocks, if it has tokens.
    pub(super) fn bytes_per_token<M: CausalLm<Cache = C>>(&self, model: &M) -> Option<u64> {
        let cache = self.cache.as_ref()?;
        let n_tokens = model.n_cached(cache).next_multiple_of(CACHE_BLOCK) as u64;
        (n_tokens > 0).then(|| model.cache_bytes(cache).div_ceil(n_tokens))
    }

    /// Whether every new token's logits are wanted.
    pub(super) fn is_scored(&self) -> bool {
        matches!(self.work, Work::Prompt { scores: Some(_), .. })
    }

    pub(super) fn has_cache(&self) -> bool {
        self.cache.is_some()
    }

    /// Chooses the row for the next step, with at most so many tokens.
    pub(super) fn choose(&mut self, n_tokens: usize) {
        self.n_chosen = n_tokens.min(self.n_left());
        if let Work::Text { generation, .. } = &mut self.work {
            generation.set_chunk(self.n_chosen.max(1));
        }
    }

    /// Gives the row a cache: with the prompt's longest known prefix, or an encoder's states. Returns the number of prompt
    /// tokens that it need not run, the first time.
    pub(super) fn open<M: CausalLm<Cache = C>>(
        &mut self,
        model: &M,
        prefixes: &mut Prefixes<C>,
        key: &Key,
    ) -> usize {
        let is_first = !std::mem::replace(&mut self.was_open, true);
        let mut cache = model.new_cache();
        if model.has_encoder() {
            let (prompt, sampled) = self.tokens.split_at(self.n_prompt);
            let mut left = model.begin(prompt, &mut cache, key.mounted.as_deref());
            left.extend(sampled);
            match &mut self.work {
                Work::Prompt { n_run, begin, .. } => {
                    *n_run = self.tokens.len() - 1;
                    *begin = left;
                }
                Work::Text { generation, .. } => generation.set_left(left),
            }
            self.cache = Some(cache);
            return 0;
        }
        let found = if self.is_scored() { None } else { prefixes.find(model, key, &self.tokens) };
        let (cache, mut n) = found.unwrap_or((cache, 0));
        match &mut self.work {
            Work::Prompt { n_run, .. } => {
                n = n.min(self.tokens.len() - 1);
                *n_run = n;
            }
            Work::Text { generation, .. } => generation.set_left(self.tokens[n..].to_vec()),
        }
        self.cache = Some(cache);
        if is_first { n.min(self.n_prompt) } else { 0 }
    }

    /// Drops the cache: the row runs its tokens again.
    pub(super) fn drop_cache(&mut self) {
        (self.cache, self.n_shared, self.n_chosen) = (None, 0, 0);
        match &mut self.work {
            Work::Prompt { n_run, scores, .. } => {
                *n_run = 0;
                if let Some((_, scores)) = scores {
                    scores.clear();
                }
            }
            Work::Text { generation, .. } => generation.set_left(self.tokens.clone()),
        }
    }

    pub(super) fn into_cache(self) -> (Vec<u32>, Option<C>) {
        (self.tokens, self.cache)
    }

    /// Whether the row is in the current step.
    pub(super) fn is_chosen(&self) -> bool {
        self.n_chosen > 0
    }

    /// The row's part of the step, if it is in it.
    pub(super) fn step<'s>(
        &'s mut self,
        mounted: Option<&'s MountedAdapter>,
    ) -> Option<RowStep<'s, C>> {
        let (n_chosen, wanted) = (self.n_chosen, self.wanted());
        let tokens = match &self.work {
            _ if n_chosen == 0 => return None,
            Work::Prompt { n_run, .. } => &self.tokens[*n_run..n_run + n_chosen],
            Work::Text { generation, .. } => generation.pending(),
        };
        Some(RowStep { tokens, cache: self.cache.as_mut()?, mounted, wanted })
    }

    fn wanted(&self) -> WantedLogits {
        if self.is_scored() { WantedLogits::All } else { WantedLogits::Last }
    }

    /// Number of rows of logits that the step computes for the row.
    pub(super) fn n_logits(&self) -> usize {
        if self.is_chosen() { self.wanted().n_rows(self.n_chosen) } else { 0 }
    }

    /// Takes the logits of the current step, one vector per wanted token. Returns the token that was sampled, if one was.
    pub(super) fn advance(
        &mut self,
        tokenizer: &Tokenizer,
        logits: &[Vec<f32>],
    ) -> Result<Option<SampledToken>, TextError> {
        let n_chosen = std::mem::take(&mut self.n_chosen);
        match &mut self.work {
            Work::Prompt { n_run, scores, .. } => {
                if let Some((n_top, scores)) = scores {
                    let next = &self.tokens[*n_run + 1..][..n_chosen];
                    for (&token, logits) in next.iter().zip(logits) {
                        NotFiniteLogit::check(logits, 0)?;
                        let found = Logprobs::new(logits, token, *n_top);
                        scores.push(tokenizer.token_logprob(token, &found)?);
                    }
                }
                *n_run += n_chosen;
                self.alone &= *n_run + 1 < self.tokens.len();
                Ok(None)
            }
            Work::Text { generation, .. } => {
                let logits = logits.first().map_or(&[][..], Vec::as_slice);
                let drawn = generation.advance(logits)?;
                if let Some(drawn) = &drawn {
                    self.tokens.push(drawn.token);
                    self.alone = false;
                }
                Ok(drawn)
            }
        }
    }
}
