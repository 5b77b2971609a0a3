use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Tensor};
use litemoe_core::{
    CausalLm, Input, LanguageModel, LinearSite, MoeLayer, MoeModel, MountedAdapter, Packing, Pass,
    Stack, Stream,
};

use crate::layers::attention::Memory;
use crate::layers::block::{Block, Cross, Rows, scaled};
use crate::layers::cache::{BlockCache, KvCache};
use crate::layers::norm::Norm;
use crate::layers::positions::{PositionMaker, Positions, Span};
use crate::layers::relative::RelativeBias;
use crate::layers::router_bias::removed;
use crate::load::Loader;
use crate::weights::Weights;
use crate::{Checkpoint, ModelConfig, ModelError};

/// A mixture-of-experts transformer, its weights in f32 on one device or in the files until they are used: a decoder, some
/// with an encoder before it.
#[derive(Debug)]
pub struct Model {
    name: String,
    config: ModelConfig,
    device: Device,
    weights: Weights,
    /// At the end of the encoder.
    encoder_norm: Option<Norm>,
    positions: PositionMaker,
    /// Of encoder and decoder, where positions are a bias.
    relative: Option<[RelativeBias; 2]>,
    moe_layers: Vec<MoeLayer>,
    linear_sites: OnceLock<Vec<LinearSite>>,
    bytes: u64,
}

impl Model {
    /// Loads a checkpoint onto a device. Needs the weights' bytes in f32 and one tensor more.
    ///
    /// # Errors
    /// When a weight is not finite, naming its tensor.
    pub fn load(checkpoint: &Checkpoint, device: &Device) -> Result<Self, ModelError> {
        Self::of(checkpoint, device, Weights::load(checkpoint, device)?)
    }

    /// The same model with its weights left in the files: each block is read when it is run and freed when another one is,
    /// rows of the embedding and the head when they are used. Needs the bytes of the largest block in f32.
    ///
    /// Every pass reads every block, so run all batches through a block before the next, as `litemoe-score` does.
    ///
    /// # Errors
    /// When a weight is not finite, naming its tensor: all of them are read once.
    pub fn stream(checkpoint: &Checkpoint, device: &Device) -> Result<Self, ModelError> {
        Self::of(checkpoint, device, Weights::stream(checkpoint, device)?)
    }

    fn of(checkpoint: &Checkpoint, device: &Device, weights: Weights) -> Result<Self, ModelError> {
        let (config, loader) = (checkpoint.config.clone(), Loader { checkpoint, device });
        Ok(Self {
            name: checkpoint.name(),
            device: device.clone(),
            weights,
            encoder_norm: loader.encoder_norm()?,
            positions: PositionMaker::new(config.attention.clone(), device),
            relative: loader.relative()?,
            moe_layers: checkpoint.moe_layers().to_vec(),
            linear_sites: OnceLock::new(),
            bytes: checkpoint.bytes(),
            config,
        })
    }

    /// The name of the directory it was loaded from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its `model_type`, without a proxy's prefix.
    pub fn family(&self) -> &'static str {
        self.config.family
    }

    /// What its configuration says.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The ids that end a text.
    pub fn eos_ids(&self) -> &[u32] {
        &self.config.eos_ids
    }

    /// Bytes of its weights as stored.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Starts the stream of a stack's rows whose first token has position `start`.
    fn embed_from(&self, stack: Stack, rows: &[Vec<u32>], start: usize) -> Stream {
        let lens = rows.iter().map(Vec::len).collect();
        let packing = Arc::new(Packing::new(lens, start, &self.device));
        let hidden = self.weights.embed(stack, &rows.concat());
        Stream { hidden: scaled(hidden, self.config.multipliers.embedding), packing }
    }

    /// Block `index` with the experts that a pass over these rows may use.
    fn block_of(&self, index: usize, packing: &Packing, pass: &Pass<'_>) -> Arc<Block> {
        self.weights.block(index, &|layer, n_experts| {
            removed(&pass.router_bias, layer, n_experts, packing.batch())
        })
    }

    fn n_encoder(&self) -> usize {
        self.config.encoder.len()
    }

    fn positions(&self, stack: Stack, packing: &Packing) -> Arc<Positions> {
        match (&self.relative, stack) {
            (Some([bias, _]), Stack::Encoder) | (Some([_, bias]), Stack::Decoder) => {
                bias.at(packing)
            }
            (None, _) => self.positions.at(Span { start: packing.start(), seq: packing.seq() }),
        }
    }

    /// Runs a block of the encoder over the encoder's tokens.
    fn encode(
        &self,
        index: usize,
        hidden: &Tensor<2>,
        packing: &Packing,
        pass: &mut Pass<'_>,
    ) -> Tensor<2> {
        let positions = self.positions(Stack::Encoder, packing);
        let rows = Rows { packing, positions: &positions };
        let hidden = self.block_of(index, packing, pass).forward(hidden, rows, None, pass, None);
        match &self.encoder_norm {
            Some(norm) if index + 1 == self.n_encoder() => norm.forward(hidden),
            _ => hidden,
        }
    }

    /// Runs a block of the decoder over the decoder's tokens. `encoded` is the encoder's last hidden state; where a cache holds
    /// what was made of it, it is not needed.
    fn decode(
        &self,
        index: usize,
        hidden: &Tensor<2>,
        packing: &Packing,
        encoded: Option<&Tensor<2>>,
        pass: &mut Pass<'_>,
        cache: Option<&mut BlockCache>,
    ) -> Tensor<2> {
        let positions = self.positions(Stack::Decoder, packing);
        let rows = Rows { packing, positions: &positions };
        let remembered = cache.as_ref().and_then(|cache| cache.memory.clone());
        let memory = match (&remembered, encoded, packing.encoder()) {
            (Some(remembered), _, _) => Some(Memory::Cached(remembered)),
            (None, Some(encoded), Some(packing)) => {
                Some(Memory::Stream(encoded, Rows { packing, ..rows }.place(pass.adapters)))
            }
            _ => None,
        };
        self.block_of(index, packing, pass).forward(hidden, rows, memory, pass, cache)
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
        let decoder = self.embed_from(Stack::Decoder, &input.rows, 0);
        let Some(rows) = &input.encoder_rows else { return decoder };
        let encoder = self.embed_from(Stack::Encoder, rows, 0);
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
        KvCache::new(self.config.feed_forward.len())
    }

    fn begin(
        &self,
        prompt: &[u32],
        cache: &mut KvCache,
        mounted: Option<&MountedAdapter>,
    ) -> Tensor<1> {
        if !self.has_encoder() {
            return self.extend(prompt, cache, mounted);
        }
        cache.truncate(0);
        let mut pass = Pass::mounted(mounted);
        let Stream { mut hidden, packing } = self.embed_from(Stack::Encoder, &[prompt.to_vec()], 0);
        for index in 0..self.n_encoder() {
            hidden = self.encode(index, &hidden, &packing, &mut pass);
        }
        let positions = self.positions(Stack::Encoder, &packing);
        let place = Rows { packing: &packing, positions: &positions }.place(pass.adapters);
        for (index, cache) in (self.n_encoder()..).zip(&mut cache.blocks) {
            let remember = |cross: &Cross| cross.attention.remember(hidden.clone(), place);
            cache.memory = self.block_of(index, &packing, &pass).cross.as_ref().map(remember);
        }
        self.extend(&[self.config.start_id], cache, mounted)
    }

    fn room_after(&self, prompt: usize) -> usize {
        let used = if self.has_encoder() { 1 } else { prompt };
        self.max_tokens().saturating_sub(used)
    }

    fn extend(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        mounted: Option<&MountedAdapter>,
    ) -> Tensor<1> {
        let mut pass = Pass::mounted(mounted);
        let Stream { mut hidden, packing } =
            self.embed_from(Stack::Decoder, &[tokens.to_vec()], cache.len());
        for (index, cache) in (self.n_encoder()..).zip(&mut cache.blocks) {
            hidden = self.decode(index, &hidden, &packing, None, &mut pass, Some(cache));
        }
        cache.advance(tokens.len());
        let last = Stream { hidden, packing }.select(&[tokens.len() - 1]);
        self.head(last, &mut pass).flatten(0, 1)
    }
}
