//! Which tensors a checkpoint must hold.

mod attention;
mod feed_forward;

use crate::config::{ModelConfig, NormKind};
use crate::family::Names;
use crate::feed_forward_config::FeedForwardConfig;
use crate::weight_files::StoredTensors;

pub(crate) use feed_forward::{is_quantised, is_stacked};

pub(crate) const EMBEDDING: &str = "model.embed_tokens";
pub(crate) const FINAL_NORM: &str = "model.norm";
pub(crate) const HEAD: &str = "lm_head";

/// A tensor that a checkpoint must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// Whether it holds bytes and not numbers.
    pub(crate) bytes: bool,
}

/// The list while it is being made.
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

/// The path of a block.
pub(crate) fn block(index: usize) -> String {
    format!("model.layers.{index}")
}

/// Every tensor that a model of this configuration has. `n_experts` are the experts really stored in a block.
pub(crate) fn expected(
    config: &ModelConfig,
    names: &Names,
    n_experts: impl Fn(usize) -> usize,
    stored: &StoredTensors,
) -> Vec<Expected> {
    let (d_model, norm) = (config.d_model, config.norm);
    let mut wanted = Wanted { names, stored, all: Vec::new() };
    wanted.weight(EMBEDDING, &[config.vocab, d_model]);
    wanted.norm(FINAL_NORM, norm, d_model);
    // A tied checkpoint that stores a head all the same means that head, as in transformers.
    if !config.tied || stored.contains_key(&*format!("{HEAD}.weight")) {
        wanted.weight(HEAD, &[config.vocab, d_model]);
    }
    if config.head_bias {
        wanted.bias(HEAD, config.vocab);
    }
    for (index, feed_forward) in config.feed_forward.iter().enumerate() {
        let block = block(index);
        wanted.norm(&format!("{block}.input_layernorm"), norm, d_model);
        wanted.norm(&format!("{block}.post_attention_layernorm"), norm, d_model);
        wanted.attention(&config.attention, &format!("{block}.self_attn"), d_model);
        match feed_forward {
            FeedForwardConfig::Dense(dense) => {
                let path = format!("{block}.{}", names.dense);
                wanted.network(&path, names.dense_parts, dense.network, [d_model, dense.d_hidden]);
            }
            FeedForwardConfig::Moe(moe) => wanted.moe(&block, moe, d_model, n_experts(index)),
        }
    }
    wanted.all
}
