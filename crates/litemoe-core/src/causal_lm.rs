use burn::tensor::Tensor;

use crate::{LanguageModel, MountedAdapter};

/// One row of a batched step: what follows in one text.
#[derive(Debug)]
pub struct RowStep<'a, C> {
    /// The next tokens, at least one: a chunk of a prompt, or the token that was drawn last.
    pub tokens: &'a [u32],
    /// The text's KV cache, which takes them up.
    pub cache: &'a mut C,
    /// The adapter that is mounted for this row.
    pub mounted: Option<&'a MountedAdapter>,
}

/// A language model that continues texts token by token.
pub trait CausalLm: LanguageModel {
    /// A KV cache: the keys and values of one text's tokens so far. Several texts with one beginning can go on from clones.
    type Cache: Clone;

    /// An empty cache.
    fn new_cache(&self) -> Self::Cache;

    /// The tokens that a decoder is given for a prompt: the prompt itself. Where there is an encoder, it reads the prompt into
    /// the cache, whatever that held, and the decoder is given its start token.
    fn begin(
        &self,
        prompt: &[u32],
        cache: &mut Self::Cache,
        mounted: Option<&MountedAdapter>,
    ) -> Vec<u32> {
        let _ = (cache, mounted);
        prompt.to_vec()
    }

    /// How many tokens may follow a prompt of this length.
    fn room_after(&self, prompt: usize) -> usize {
        self.max_tokens().saturating_sub(prompt)
    }

    /// A batched step: runs the next tokens of every row, prompts and single tokens mixed, and returns the logits after each
    /// row's last token, `[rows, vocab]`. A row's logits do not depend on the other rows but for rounding.
    ///
    /// A row's cache and its tokens together must stay within [`max_tokens`](LanguageModel::max_tokens).
    ///
    /// # Panics
    /// Without rows, and when a row has no tokens.
    fn step(&self, rows: &mut [RowStep<'_, Self::Cache>]) -> Tensor<2>;

    /// A step of one row: the logits after `tokens`, `[vocab]`.
    fn extend(
        &self,
        tokens: &[u32],
        cache: &mut Self::Cache,
        mounted: Option<&MountedAdapter>,
    ) -> Tensor<1> {
        self.step(&mut [RowStep { tokens, cache, mounted }]).flatten(0, 1)
    }
}

/// The rows of logits `[rows, vocab]` on the host.
pub fn logits_rows(logits: Tensor<2>) -> Vec<Vec<f32>> {
    let [_, vocab] = logits.dims();
    let values: Vec<f32> =
        logits.into_data().convert::<f32>().try_into_vec().expect("they were converted to f32");
    values.chunks(vocab).map(<[f32]>::to_vec).collect()
}
