//! Tensors that a checkpoint must hold.

mod attention;
mod feed_forward;

use litemoe_core::{LayerId, Stack};

use crate::checkpoint::stored::StoredTensors;
use crate::config::{FeedForwardConfig, ModelConfig, NormKind};
use crate::families::family::Names;

pub(crate) use feed_forward::{is_quantised, is_stacked, order_of};

pub(crate) const HEAD: &str = "lm_head";

/// Relative position bias, in the attention of a stack's first block.
pub(crate) const RELATIVE_BIAS: &str = "relative_attention_bias";

/// Tensor that a checkpoint must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// Whether it holds raw bytes rather than numbers.
    pub(crate) bytes: bool,
}

/// Builder of the list of tensors.
struct Wanted<'a> {
    names: &'a Names,
    stored: &'a StoredTensors,
    all: Vec<Expected>,
}

impl Wanted<'_> {
    fn named(&mut self, name: String, shape: &[usize]) {
        self.all.push(Expected { name, shape: shape.to_vec(), bytes: false });
    }

    fn weight(&mut self, site: &str, shape: &[usize]) {
        self.named(format!("{site}.weight"), shape);
    }

    fn bias(&mut self, site: &str, width: usize) {
        self.named(format!("{site}.bias"), &[width]);
    }

    fn norm(&mut self, site: &str, kind: NormKind, width: usize) {
        self.weight(site, &[width]);
        if kind == NormKind::Layer {
            self.bias(site, width);
        }
    }
}

/// Every tensor of a model of this configuration. Lazy: a configuration can ask for more tensors than fit in memory.
/// `n_experts` gives the experts stored in a block.
pub(crate) fn expected<'a>(
    config: &'a ModelConfig,
    names: &'static Names,
    n_experts: impl Fn(LayerId) -> usize + 'a,
    stored: &'a StoredTensors,
) -> impl Iterator<Item = Expected> + 'a {
    let mut ends = Wanted { names, stored, all: Vec::new() };
    ends.ends(config);
    let blocks = config.blocks().flat_map(move |(id, feed_forward)| {
        let mut wanted = Wanted { names, stored, all: Vec::new() };
        wanted.block(config, id);
        let separate = match feed_forward {
            FeedForwardConfig::Dense(dense) => {
                let (path, widths) =
                    (names.path(id, names.dense), [config.d_model, dense.d_hidden]);
                wanted.network(&path, names.dense_parts, dense.network, widths);
                None
            }
            FeedForwardConfig::Moe(moe) => {
                let n_experts = n_experts(id);
                let separate = wanted.moe(id, moe, config.d_model, n_experts);
                separate.then_some((moe, n_experts))
            }
        };
        let experts = separate.into_iter().flat_map(move |(moe, n_experts)| {
            (0..n_experts).flat_map(move |expert| {
                let mut wanted = Wanted { names, stored, all: Vec::with_capacity(3) };
                wanted.expert(id, expert, moe, config.d_model);
                wanted.all
            })
        });
        wanted.all.into_iter().chain(experts)
    });
    ends.all.into_iter().chain(blocks)
}

/// Names the embedding if a tied model stores it under the name of another tensor that it is tied to, as transformers
/// accepts.
pub(crate) fn name_tied(config: &ModelConfig, names: &Names, stored: &mut StoredTensors) {
    let embedding = format!("{}.weight", names.embedding);
    if !config.tied || stored.contains_key(&*embedding) {
        return;
    }
    // An encoder–decoder of which only the head is stored is not whole for transformers.
    let others = if config.encoder.is_empty() { &[HEAD][..] } else { &names.own_embeddings };
    let other = others.iter().find_map(|other| stored.remove(&*format!("{other}.weight")));
    if let Some(tensor) = other {
        stored.insert(embedding.into(), tensor);
    }
}

impl Wanted<'_> {
    /// Tensors outside the blocks.
    fn ends(&mut self, config: &ModelConfig) {
        let (names, d_model) = (self.names, config.d_model);
        self.weight(names.embedding, &[config.vocab, d_model]);
        if config.embeds_twice() {
            for embedding in names.own_embeddings {
                self.weight(embedding, &[config.vocab, d_model]);
            }
        }
        let [encoder_norm, final_norm] = names.final_norms;
        self.norm(final_norm, config.norm, d_model);
        if !config.encoder.is_empty() {
            self.norm(encoder_norm, config.norm, d_model);
        }
        // A stored head overrides tied embeddings, as in transformers.
        if !config.tied || self.stored.contains_key(&*format!("{HEAD}.weight")) {
            self.weight(HEAD, &[config.vocab, d_model]);
        }
        if config.head_bias {
            self.bias(HEAD, config.vocab);
        }
    }

    /// Tensors of a block, without its feed-forward layer.
    fn block(&mut self, config: &ModelConfig, id: LayerId) {
        let names = self.names;
        for norm in names.norms {
            self.norm(&names.path(id, norm), config.norm, config.d_model);
        }
        let attention = names.path(id, names.attention);
        self.attention(&config.attention, &attention, config.d_model);
        if let Some(relative) = config.attention.relative.filter(|_| id.block == 0) {
            let shape = [relative.n_buckets, config.attention.n_heads];
            self.weight(&format!("{attention}.{RELATIVE_BIAS}"), &shape);
        }
        if id.stack == Stack::Decoder && !config.encoder.is_empty() {
            let [attention, norm] = names.cross.map(|part| names.path(id, part));
            self.attention(&config.attention, &attention, config.d_model);
            self.norm(&norm, config.norm, config.d_model);
        }
    }
}
