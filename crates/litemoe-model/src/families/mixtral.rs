//! Mixtral (arXiv 2401.04088): grouped-query attention, softmax → top-k experts whose gates sum to 1.

use crate::ModelError;
use crate::config::read::decoder::{self, Defaults, NUM_LOCAL_EXPERTS};
use crate::config::read::file::ConfigFile;
use crate::config::{FeedForwardConfig, ModelConfig, MoeConfig};
use crate::families::family::{Family, Names};

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    // Noise on the hidden state while training; the reference leaves it out otherwise.
    harmless: &["router_jitter_noise"],
    expert_counts: NUM_LOCAL_EXPERTS,
    names: &[NAMES, Names::MLP],
};

/// As released checkpoints have them, Phi's too.
pub(crate) const NAMES: Names = Names {
    router: "block_sparse_moe.gate",
    experts: "block_sparse_moe.experts.",
    parts: ["w1", "w3", "w2"],
    ..Names::MLP
};

const MODEL_TYPE: &str = "mixtral";
const DEFAULTS: Defaults =
    Defaults { max_tokens: 131_072, norm_eps: 1e-5, theta: 1e6, d_head: None };

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    let mut model = decoder::read(config, MODEL_TYPE, &DEFAULTS)?;
    model.attention.window = config.optional_size("sliding_window")?;
    let counts = decoder::experts(config, NUM_LOCAL_EXPERTS)?;
    let d_expert = config.size("intermediate_size")?;
    let moe = MoeConfig { renormalise: true, ..MoeConfig::new(counts, d_expert) };
    model.feed_forward = vec![FeedForwardConfig::Moe(moe); decoder::n_blocks(config)?];
    Ok(model)
}
