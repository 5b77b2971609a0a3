//! Mixtral (Mixtral of Experts, arXiv 2401.04088): GQA, softmax top-k gating with renormalised gates.

use crate::ModelError;
use crate::config::read::decoder::{self, Defaults, NUM_LOCAL_EXPERTS};
use crate::config::read::file::ConfigFile;
use crate::config::{FeedForwardConfig, ModelConfig, MoeConfig};
use crate::families::family::{Family, Names};

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    // Training noise on the hidden state; the reference omits it at inference.
    harmless: &["router_jitter_noise"],
    expert_counts: NUM_LOCAL_EXPERTS,
    names: &[NAMES, Names::MLP],
};

/// Names in released checkpoints, Phi's included.
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
