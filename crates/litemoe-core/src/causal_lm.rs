use burn::tensor::Tensor;

use crate::{LanguageModel, MountedAdapter};

/// One row of a batched step (prefill or decode): new tokens of one text.
#[derive(Debug)]
pub struct RowStep<'a, C> {
    /// The new tokens, at least one: a chunk of the prompt (prefill), or the last sampled token (decode).
    pub tokens: &'a [u32],
    /// KV cache of the text; the step appends the new tokens.
    pub cache: &'a mut C,
    /// Adapter mounted for this row.
    pub mounted: Option<&'a MountedAdapter>,
    /// New tokens after which the logits are wanted.
    pub wanted: WantedLogits,
}

/// New tokens of a row after which a step computes logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WantedLogits {
    /// The last one: to sample the next token.
    #[default]
    Last,
    /// Every one: to score the tokens of a prompt.
    All,
}

impl WantedLogits {
    /// Number of rows of logits for `n_tokens` new tokens.
    pub fn n_rows(self, n_tokens: usize) -> usize {
        match self {
            Self::Last => 1,
            Self::All => n_tokens,
        }
    }
}

/// Causal language model: a [`LanguageModel`] with a KV cache for autoregressive generation.
pub trait CausalLm: LanguageModel {
    /// KV cache: keys and values of one text's tokens so far. Texts with a common prefix can continue from clones.
    type Cache: Clone;

    /// An empty cache.
    fn new_cache(&self) -> Self::Cache;

    /// Decoder tokens of a prompt: the prompt itself. An encoder–decoder encodes the prompt into the cache, replacing
    /// its contents, and returns the decoder's start token.
    fn begin(
        &self,
        prompt: &[u32],
        cache: &mut Self::Cache,
        mounted: Option<&MountedAdapter>,
    ) -> Vec<u32> {
        let _ = (cache, mounted);
        prompt.to_vec()
    }

    /// Maximum number of tokens that can follow a prompt of `prompt` tokens.
    fn room_after(&self, prompt: usize) -> usize {
        self.max_tokens().saturating_sub(prompt)
    }

    /// Number of tokens in the cache.
    fn n_cached(&self, cache: &Self::Cache) -> usize;

    /// Keeps the first `n` tokens of the cache: another text with this prefix can continue from there. Not for an
    /// encoder–decoder, whose cache depends on its whole prompt.
    ///
    /// # Panics
    /// When fewer are cached.
    fn truncate(&self, cache: &mut Self::Cache, n: usize);

    /// Memory of the cache in bytes.
    fn cache_bytes(&self, cache: &Self::Cache) -> u64;

    /// Batched step: runs the new tokens of every row (prefill chunks and decode steps mixed) and returns the wanted
    /// logits of each row in turn, `[wanted, vocab]`: those after its last token, or after every new one. Apart from
    /// rounding, a row's logits do not depend on the other rows.
    ///
    /// The cached and new tokens of a row together must not exceed [`max_tokens`](LanguageModel::max_tokens).
    ///
    /// # Panics
    /// When there are no rows, or a row has no tokens. A model may also panic when cached tokens that were computed with
    /// autodiff (of a mounted adapter) are continued without it, or the reverse.
    fn step(&self, rows: &mut [RowStep<'_, Self::Cache>]) -> Tensor<2>;

    /// Step of a single row: the logits after `tokens`, `[vocab]`.
    fn extend(
        &self,
        tokens: &[u32],
        cache: &mut Self::Cache,
        mounted: Option<&MountedAdapter>,
    ) -> Tensor<1> {
        let wanted = WantedLogits::Last;
        self.step(&mut [RowStep { tokens, cache, mounted, wanted }]).flatten(0, 1)
    }
}

/// Copies logits `[rows, vocab]` to the host, one vector per row.
pub fn logits_rows(logits: Tensor<2>) -> Vec<Vec<f32>> {
    let [_, vocab] = logits.dims();
    let values: Vec<f32> =
        logits.into_data().convert::<f32>().try_into_vec().expect("they were converted to f32");
    values.chunks(vocab).map(<[f32]>::to_vec).collect()
}
