//! Granite MoE: embedding, residual, attention and logits multipliers (muP), softmax over the top-k experts.

use crate::ModelError;
use crate::config::read::decoder::{self, Defaults, NUM_LOCAL_EXPERTS};
use crate::config::read::file::ConfigFile;
use crate::config::read::rope::THETA;
use crate::config::{FeedForwardConfig, ModelConfig, MoeConfig, Multipliers};
use crate::families::family::{Family, Names};

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    harmless: &[],
    expert_counts: NUM_LOCAL_EXPERTS,
    names: &[
        Names {
            router: "block_sparse_moe.router.layer",
            stacks: [
                "block_sparse_moe.input_linear.weight",
                "block_sparse_moe.output_linear.weight",
            ],
            stacked: true,
            ..NAMES
        },
        NAMES,
    ],
};

/// As transformers 5 holds it in memory.
const NAMES: Names = Names {
    router: "block_sparse_moe.router",
    experts: "block_sparse_moe.experts.",
    stacks: ["block_sparse_moe.experts.gate_up_proj", "block_sparse_moe.experts.down_proj"],
    ..Names::MLP
};

const MODEL_TYPE: &str = "granitemoe";
const DEFAULTS: Defaults =
    Defaults { max_tokens: 2048, norm_eps: 1e-6, theta: THETA, d_head: None };

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    let mut model = decoder::read(config, MODEL_TYPE, &DEFAULTS)?;
    let mut factor = |key| Ok(config.optional_positive(key)?.unwrap_or(1.0));
    model.multipliers = Multipliers {
        embedding: factor("embedding_multiplier")?,
        residual: factor("residual_multiplier")?,
        logits: 1.0 / factor("logits_scaling")?,
    };
    model.attention.scale = Some(factor("attention_multiplier")?);
    model.attention.bias = config.flag("attention_bias", false)?;
    let counts = decoder::experts(config, NUM_LOCAL_EXPERTS)?;
    let d_expert = config.size("intermediate_size")?;
    // Softmax over the top-k logits is the renormalised softmax over all of them.
    let moe = MoeConfig { renormalise: true, ..MoeConfig::new(counts, d_expert) };
    model.feed_forward = vec![FeedForwardConfig::Moe(moe); decoder::n_blocks(config)?];
    Ok(model)
}
