use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};
use litemoe_core::{
    Adapters, CausalLm, Input, LanguageModel, LinearSite, MoeLayer, MoeModel, Packing, Pass, Stream,
};
use litemoe_kernels::LinearWeight;

use crate::block::{Block, scaled};
use crate::cache::{BlockCache, KvCache};
use crate::load::Loader;
use crate::norm::Norm;
use crate::positions::{PositionMaker, Span};
use crate::{Checkpoint, ModelConfig, ModelError, tensors};

/// A decoder-only mixture-of-experts transformer, its weights in f32 on one device.
#[derive(Debug)]
pub struct Model {
    name: String,
    config: ModelConfig,
    device: Device,
    /// `[vocab, d_model]`
    embedding: Tensor<2>,
    blocks: Vec<Block>,
    norm: Norm,
    head: LinearWeight,
    /// `[1, vocab]`
    head_bias: Option<Tensor<2>>,
    positions: PositionMaker,
    moe_layers: Vec<MoeLayer>,
    linear_sites: Vec<LinearSite>,
    bytes: u64,
}

impl Model {
    /// Loads a checkpoint onto a device. Needs the weights' bytes in f32 and one tensor more.
    ///
    /// # Errors
    /// When a weight is not finite, naming its tensor.
    pub fn load(checkpoint: &Checkpoint, device: &Device) -> Result<Self, ModelError> {
        let loader = Loader { checkpoint, device };
        let config = checkpoint.config.clone();
        let embedding: Tensor<2> = loader.weight(tensors::EMBEDDING)?;
        let has_head = checkpoint.tensors.contains_key(&*format!("{}.weight", tensors::HEAD));
        let head = if has_head { loader.weight(tensors::HEAD)? } else { embedding.clone() };
        let head_bias = match config.head_bias {
            true => Some(loader.tensor(&format!("{}.bias", tensors::HEAD))?),
            false => None,
        };
        let blocks: Result<Vec<Block>, _> =
            (0..config.feed_forward.len()).map(|index| loader.block(index)).collect();
        let blocks = blocks?;
        let linears = blocks.iter().flat_map(|block| {
            block.attention.linears().into_iter().chain(block.feed_forward.linears())
        });
        Ok(Self {
            name: checkpoint.name(),
            device: device.clone(),
            embedding,
            linear_sites: linears.map(|linear| linear.linear_site()).collect(),
            blocks,
            norm: loader.norm(tensors::FINAL_NORM)?,
            head: LinearWeight::from_stored(head),
            head_bias: head_bias.map(|bias: Tensor<1>| bias.unsqueeze_dim(0)),
            positions: PositionMaker::new(config.attention.clone(), device),
            moe_layers: checkpoint.moe_layers().to_vec(),
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

    /// Starts the stream of rows whose first token has position `start`.
    fn embed_from(&self, rows: &[Vec<u32>], start: usize) -> Stream {
        let lens = rows.iter().map(Vec::len).collect();
        let packing = Arc::new(Packing::new(lens, start, &self.device));
        let ids: Vec<i64> = rows.iter().flatten().map(|&id| i64::from(id)).collect();
        let ids = Tensor::<1, Int>::from_data(ids.as_slice(), &self.device);
        let hidden = self.embedding.clone().select(0, ids);
        Stream { hidden: scaled(hidden, self.config.multipliers.embedding), packing }
    }

    fn run_block(
        &self,
        index: usize,
        stream: Stream,
        pass: &mut Pass<'_>,
        cache: Option<&mut BlockCache>,
    ) -> Stream {
        let span = Span { start: stream.packing.start(), seq: stream.packing.seq() };
        let positions = self.positions.at(span);
        self.blocks[index].forward(stream, &positions, pass, cache)
    }
}

impl MoeModel for Model {
    fn moe_layers(&self) -> &[MoeLayer] {
        &self.moe_layers
    }

    fn linear_sites(&self) -> &[LinearSite] {
        &self.linear_sites
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

    fn embed(&self, input: &Input) -> Stream {
        assert!(input.encoder_rows.is_none(), "{} has no encoder", self.config.family);
        self.embed_from(&input.rows, 0)
    }

    fn n_blocks(&self) -> usize {
        self.blocks.len()
    }

    fn block(&self, index: usize, stream: Stream, pass: &mut Pass<'_>) -> Stream {
        self.run_block(index, stream, pass, None)
    }

    fn head(&self, hidden: Tensor<2>, _: &mut Pass<'_>) -> Tensor<2> {
        let logits = self.head.forward(self.norm.forward(hidden));
        let logits = match &self.head_bias {
            Some(bias) => logits + bias.clone(),
            None => logits,
        };
        scaled(logits, self.config.multipliers.logits)
    }
}

impl CausalLm for Model {
    type Cache = KvCache;

    fn new_cache(&self) -> KvCache {
        KvCache::new(self.blocks.len())
    }

    fn extend(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        adapters: Option<&Adapters>,
    ) -> Tensor<1> {
        let mut pass = Pass::plain().with_adapters(adapters);
        let mut stream = self.embed_from(&[tokens.to_vec()], cache.len());
        for index in 0..self.blocks.len() {
            stream = self.run_block(index, stream, &mut pass, Some(&mut cache.blocks[index]));
        }
        cache.advance(tokens.len());
        let last = stream.select(&[tokens.len() - 1]);
        self.head(last, &mut pass).flatten(0, 1)
    }
}
