use std::ops::Range;
use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Tensor};
use litemoe_core::{
    Adapters, ByTokens, CacheDtype, CausalLm, Input, LanguageModel, LinearSite, MoeLayer, MoeModel,
    MountedAdapter, Packing, Pass, RowStep, Stack, Stream, WeightDtype,
};
use litemoe_kernels::{can_pack, has_attention_kernel};

use crate::layers::attention::CrossStates;
use crate::layers::block::{Block, CrossAttention, scaled};
use crate::layers::context::LayerContext;
use crate::layers::kv_cache::{BlockCache, KvCache};
use crate::layers::norm::Norm;
use crate::layers::positions::{PositionMaker, Positions};
use crate::layers::router_bias::removed;
use crate::load::Loader;
use crate::weights::Weights;
use crate::{Checkpoint, ModelConfig, ModelError};

/// Mixture-of-experts (MoE) transformer, decoder-only or encoder–decoder. Its weights are on one device, in f32 or packed
/// (see [`Self::load_as`]), or are streamed from the files in f32.
#[derive(Debug)]
pub struct Model {
    name: String,
    config: ModelConfig,
    device: Device,
    weights: Weights,
    /// Final norm of the encoder.
    encoder_norm: Option<Norm>,
    positions: Arc<PositionMaker>,
    moe_layers: Vec<MoeLayer>,
    linear_sites: OnceLock<Vec<LinearSite>>,
    bytes: u64,
    cache_dtype: CacheDtype,
}

impl Model {
    /// Loads a checkpoint onto a device. Needs memory for the weights in f32 and one more tensor.
    ///
    /// # Errors
    /// When a weight is not finite; names its tensor.
    pub fn load(checkpoint: &Checkpoint, device: &Device) -> Result<Self, ModelError> {
        Self::load_as(checkpoint, device, WeightDtype::F32)
    }

    /// Loads a checkpoint with the weights of linear layers, experts and embeddings packed as `dtype`. With 4-bit experts,
    /// what every token uses (attention, dense networks, shared experts, embeddings, the head) has 8 bits. Routers, norms
    /// and biases are in f32. Needs memory for the packed weights, and for an expert in f32 where the files do not hold its
    /// matrices row by row.
    ///
    /// # Errors
    /// When a weight is not finite, the format cannot hold it, or the device has no such format; names the tensor.
    pub fn load_as(
        checkpoint: &Checkpoint,
        device: &Device,
        dtype: WeightDtype,
    ) -> Result<Self, ModelError> {
        if !can_pack(device, dtype) {
            return Err(ModelError::WeightDtype { dtype });
        }
        let loader = Loader { checkpoint, device, dtype };
        Self::of(loader, Weights::load(loader)?)
    }

    /// Opens the same model with its weights left in the files (streaming). Reads each block when it runs and frees it
    /// when another one does; reads embedding rows and the head on use. Needs memory for the largest block in f32.
    ///
    /// Every pass reads every block, so run all batches through one block before the next, as `litemoe-score` does.
    ///
    /// # Errors
    /// When a weight is not finite; names its tensor. Reads all weights once to check.
    pub fn stream(checkpoint: &Checkpoint, device: &Device) -> Result<Self, ModelError> {
        let loader = Loader { checkpoint, device, dtype: WeightDtype::F32 };
        Self::of(loader, Weights::stream(checkpoint, device)?)
    }

    fn of(loader: Loader<'_>, weights: Weights) -> Result<Self, ModelError> {
        let Loader { checkpoint, device, .. } = loader;
        let config = checkpoint.config.clone();
        Ok(Self {
            name: checkpoint.name(),
            device: device.clone(),
            weights,
            encoder_norm: loader.encoder_norm()?,
            positions: PositionMaker::new(config.attention.clone(), loader.relative()?, device),
            moe_layers: checkpoint.moe_layers().to_vec(),
            linear_sites: OnceLock::new(),
            bytes: checkpoint.bytes(),
            cache_dtype: CacheDtype::F32,
            config,
        })
    }

    /// The same model with keys and values in this number format in KV caches. Passes without a cache round them
    /// likewise where no gradient passes through them, so that they compute what decoding computes. f32 unless it is changed.
    ///
    /// # Errors
    /// When the model or its device has no such format, see [`Self::has_cache_dtype`].
    pub fn with_cache_dtype(self, dtype: CacheDtype) -> Result<Self, ModelError> {
        match Self::has_cache_dtype(&self.config, &self.device, dtype) {
            true => Ok(Self { cache_dtype: dtype, ..self }),
            false => Err(ModelError::CacheDtype { dtype, family: self.config.family }),
        }
    }

    /// Whether a model on a device has KV caches in this format: f32 always, bf16 where attention is a kernel, on the
    /// CPU in decoder-only models.
    pub fn has_cache_dtype(config: &ModelConfig, device: &Device, dtype: CacheDtype) -> bool {
        let is_kernel = config.attention.relative.is_none() && has_attention_kernel(device);
        dtype == CacheDtype::F32 || is_kernel
    }

    /// Number format of keys and values in KV caches.
    pub fn cache_dtype(&self) -> CacheDtype {
        self.cache_dtype
    }

    fn context<'a>(
        &self,
        packing: &'a Packing,
        positions: &'a Positions,
        adapters: &'a ByTokens<'a, Adapters>,
    ) -> LayerContext<'a> {
        LayerContext { packing, positions, adapters, cache_dtype: self.cache_dtype }
    }

    /// Name of the directory it was loaded from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `model_type` without a proxy's prefix.
    pub fn family(&self) -> &'static str {
        self.config.family
    }

    /// Model configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// End-of-sequence (EOS) token ids.
    pub fn eos_ids(&self) -> &[u32] {
        &self.config.eos_ids
    }

    /// Size of the weights as stored, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Scaled token embeddings of a stack's rows: the initial residual stream.
    fn start(&self, stack: Stack, tokens: &[u32], packing: Packing) -> Stream {
        let hidden = self.weights.embed(stack, tokens);
        let hidden = scaled(hidden, self.config.multipliers.embedding);
        Stream { hidden, packing: Arc::new(packing) }
    }

    fn start_rows(&self, stack: Stack, rows: &[Vec<u32>]) -> Stream {
        let lens = rows.iter().map(Vec::len).collect();
        self.start(stack, &rows.concat(), Packing::new(lens, &self.device))
    }

    /// Block `index`, with the experts that a pass over these rows may use.
    fn block_of(&self, index: usize, packing: &Packing, pass: &Pass<'_>) -> Arc<Block> {
        self.weights.block(index, &|layer, n_experts| {
            removed(&pass.router_bias, layer, n_experts, packing.batch())
        })
    }

    fn n_encoder(&self) -> usize {
        self.config.encoder.len()
    }

    /// Runs one encoder block over the encoder's tokens.
    fn encode(
        &self,
        index: usize,
        hidden: &Tensor<2>,
        packing: &Packing,
        pass: &mut Pass<'_>,
    ) -> Tensor<2> {
        let positions = self.positions.of(Stack::Encoder, packing);
        let adapters = pass.adapters.of_tokens(packing);
        let context = self.context(packing, &positions, &adapters);
        let hidden = self.block_of(index, packing, pass).forward(hidden, context, None, pass, None);
        match &self.encoder_norm {
            Some(norm) if index + 1 == self.n_encoder() => norm.forward(hidden),
            _ => hidden,
        }
    }

    /// Runs one decoder block over the decoder's tokens. `encoded` is the encoder's final hidden state; rows with a KV
    /// cache have its cross-attention keys and values there instead.
    fn decode(
        &self,
        index: usize,
        hidden: &Tensor<2>,
        packing: &Packing,
        encoded: Option<&Tensor<2>>,
        pass: &mut Pass<'_>,
        caches: Option<&mut [&mut BlockCache]>,
    ) -> Tensor<2> {
        let positions = self.positions.of(Stack::Decoder, packing);
        let adapters = pass.adapters.of_tokens(packing);
        let context = self.context(packing, &positions, &adapters);
        let block = self.block_of(index, packing, pass);
        if let (Some(encoded), Some(packing)) = (encoded, packing.encoder()) {
            let adapters = pass.adapters.of_tokens(packing);
            let memory = CrossStates::Stream(
                encoded,
                LayerContext { packing, adapters: &adapters, ..context },
            );
            return block.forward(hidden, context, Some(memory), pass, caches);
        }
        let Some(caches) = caches else { return block.forward(hidden, context, None, pass, None) };
        let memories: Vec<_> = caches.iter().map(|cache| cache.memory.clone()).collect();
        let memory =
            self.has_encoder().then(|| CrossStates::Cached(memories.iter().flatten().collect()));
        block.forward(hidden, context, memory, pass, Some(caches))
    }
}

impl MoeModel for Model {
    fn moe_layers(&self) -> &[MoeLayer] {
        &self.moe_layers
    }

    fn linear_sites(&self) -> &[LinearSite] {
        self.linear_sites.get_or_init(|| self.weights.linear_sites())
    }
}

impl LanguageModel for Model {
    fn device(&self) -> Device {
        self.device.clone()
    }

    fn vocab(&self) -> usize {
        self.config.vocab
    }

    fn max_tokens(&self) -> usize {
        self.config.max_tokens
    }

    fn has_encoder(&self) -> bool {
        self.n_encoder() > 0
    }

    fn embed(&self, input: &Input) -> Stream {
        assert_eq!(input.encoder_rows.is_some(), self.has_encoder(), "{}", self.config.family);
        let decoder = self.start_rows(Stack::Decoder, &input.rows);
        let Some(rows) = &input.encoder_rows else { return decoder };
        let encoder = self.start_rows(Stack::Encoder, rows);
        let packing = (*decoder.packing).clone().behind((*encoder.packing).clone());
        let hidden = Tensor::cat(vec![encoder.hidden, decoder.hidden], 0);
        Stream { hidden, packing: Arc::new(packing) }
    }

    fn n_blocks(&self) -> usize {
        self.weights.n_blocks()
    }

    fn block(&self, index: usize, stream: Stream, pass: &mut Pass<'_>) -> Stream {
        let Stream { hidden, packing } = stream;
        let Some(encoder) = packing.encoder() else {
            let hidden = self.decode(index, &hidden, &packing, None, pass, None);
            return Stream { hidden, packing };
        };
        let (before, tokens) = (packing.n_before(), packing.tokens());
        let mut encoded = hidden.clone().narrow(0, 0, before);
        let mut decoded = hidden.narrow(0, before, tokens);
        if index < self.n_encoder() {
            encoded = self.encode(index, &encoded, encoder, pass);
        } else {
            decoded = self.decode(index, &decoded, &packing, Some(&encoded), pass, None);
        }
        Stream { hidden: Tensor::cat(vec![encoded, decoded], 0), packing }
    }

    fn residual_multiplier(&self) -> f64 {
        self.config.multipliers.residual
    }

    fn release(&self) {
        self.weights.release();
    }

    fn head(&self, hidden: Tensor<2>, _: &mut Pass<'_>) -> Tensor<2> {
        scaled(self.weights.head().forward(hidden), self.config.multipliers.logits)
    }
}

impl CausalLm for Model {
    type Cache = KvCache;

    fn new_cache(&self) -> KvCache {
        KvCache::new(self.config.feed_forward.len(), self.cache_dtype)
    }

    fn begin(
        &self,
        prompt: &[u32],
        cache: &mut KvCache,
        mounted: Option<&MountedAdapter>,
    ) -> Vec<u32> {
        if !self.has_encoder() {
            return prompt.to_vec();
        }
        cache.truncate(0);
        let mut pass = Pass::mounted(mounted);
        let Stream { mut hidden, packing } = self.start_rows(Stack::Encoder, &[prompt.to_vec()]);
        for index in 0..self.n_encoder() {
            hidden = self.encode(index, &hidden, &packing, &mut pass);
        }
        let positions = self.positions.of(Stack::Encoder, &packing);
        let adapters = pass.adapters.of_tokens(&packing);
        let context = self.context(&packing, &positions, &adapters);
        for (index, cache) in (self.n_encoder()..).zip(&mut cache.blocks) {
            let cross_keys_values =
                |cross: &CrossAttention| cross.attention.cross_keys_values(hidden.clone(), context);
            cache.memory =
                self.block_of(index, &packing, &pass).cross.as_ref().map(cross_keys_values);
        }
        vec![self.config.start_id]
    }

    fn room_after(&self, prompt: usize) -> usize {
        let used = if self.has_encoder() { 1 } else { prompt };
        self.max_tokens().saturating_sub(used)
    }

    fn n_cached(&self, cache: &KvCache) -> usize {
        cache.len()
    }

    fn truncate(&self, cache: &mut KvCache, n: usize) {
        cache.truncate(n);
    }

    fn cache_bytes(&self, cache: &KvCache) -> u64 {
        cache.bytes()
    }

    fn step(&self, rows: &mut [RowStep<'_, KvCache>]) -> Tensor<2> {
        let lens: Vec<usize> = rows.iter().map(|row| row.tokens.len()).collect();
        assert!(!lens.is_empty() && !lens.contains(&0), "every row has tokens to run");
        let starts = rows.iter().map(|row| row.cache.len()).collect();
        let tokens: Vec<u32> = rows.iter().flat_map(|row| row.tokens).copied().collect();
        let mut pass = Pass::mounted_by_row(rows.iter().map(|row| row.mounted));
        let packing = Packing::continuing(lens, starts);
        let Stream { mut hidden, packing } = self.start(Stack::Decoder, &tokens, packing);
        for block in 0..self.config.feed_forward.len() {
            let caches = rows.iter_mut().map(|row| &mut row.cache.blocks[block]);
            let mut caches: Vec<&mut BlockCache> = caches.collect();
            let index = self.n_encoder() + block;
            hidden = self.decode(index, &hidden, &packing, None, &mut pass, Some(&mut caches));
        }
        rows.iter_mut().for_each(|row| row.cache.advance(row.tokens.len()));
        let wanted = |(tokens, row): (Range<usize>, &RowStep<'_, KvCache>)| {
            tokens.end - row.wanted.n_rows(tokens.len())..tokens.end
        };
        let wanted: Vec<usize> = packing.row_ranges().zip(&*rows).flat_map(wanted).collect();
        self.head(Stream { hidden, packing }.select(&wanted), &mut pass)
    }
}
