//! A model shared by several threads is a model.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use crate::{
    CausalLm, Input, LanguageModel, LinearSite, MoeLayer, MoeModel, MountedAdapter, Pass, RowStep,
    Stream,
};

impl<M: MoeModel + ?Sized> MoeModel for Arc<M> {
    fn moe_layers(&self) -> &[MoeLayer] {
        (**self).moe_layers()
    }

    fn linear_sites(&self) -> &[LinearSite] {
        (**self).linear_sites()
    }
}

impl<M: LanguageModel + ?Sized> LanguageModel for Arc<M> {
    fn device(&self) -> Device {
        (**self).device()
    }

    fn vocab(&self) -> usize {
        (**self).vocab()
    }

    fn max_tokens(&self) -> usize {
        (**self).max_tokens()
    }

    fn has_encoder(&self) -> bool {
        (**self).has_encoder()
    }

    fn embed(&self, input: &Input) -> Stream {
        (**self).embed(input)
    }

    fn n_blocks(&self) -> usize {
        (**self).n_blocks()
    }

    fn block(&self, index: usize, stream: Stream, pass: &mut Pass<'_>) -> Stream {
        (**self).block(index, stream, pass)
    }

    fn residual_multiplier(&self) -> f64 {
        (**self).residual_multiplier()
    }

    fn release(&self) {
        (**self).release();
    }

    fn head(&self, hidden: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        (**self).head(hidden, pass)
    }

    fn stream(&self, input: &Input, pass: &mut Pass<'_>) -> Stream {
        (**self).stream(input, pass)
    }

    fn logits(&self, input: &Input, pass: &mut Pass<'_>) -> Tensor<2> {
        (**self).logits(input, pass)
    }
}

impl<M: CausalLm + ?Sized> CausalLm for Arc<M> {
    type Cache = M::Cache;

    fn new_cache(&self) -> Self::Cache {
        (**self).new_cache()
    }

    fn begin(
        &self,
        prompt: &[u32],
        cache: &mut Self::Cache,
        mounted: Option<&MountedAdapter>,
    ) -> Vec<u32> {
        (**self).begin(prompt, cache, mounted)
    }

    fn room_after(&self, prompt: usize) -> usize {
        (**self).room_after(prompt)
    }

    fn n_cached(&self, cache: &Self::Cache) -> usize {
        (**self).n_cached(cache)
    }

    fn truncate(&self, cache: &mut Self::Cache, n: usize) {
        (**self).truncate(cache, n);
    }

    fn cache_bytes(&self, cache: &Self::Cache) -> u64 {
        (**self).cache_bytes(cache)
    }

    fn step(&self, rows: &mut [RowStep<'_, Self::Cache>]) -> Tensor<2> {
        (**self).step(rows)
    }

    fn extend(
        &self,
        tokens: &[u32],
        cache: &mut Self::Cache,
        mounted: Option<&MountedAdapter>,
    ) -> Tensor<1> {
        (**self).extend(tokens, cache, mounted)
    }
}
