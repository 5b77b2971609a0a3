//! OLMoE (OLMoE: Open Mixture-of-Experts Language Models, arXiv 2409.02060): QK norm over the whole projection, softmax
//! top-k gating.

use crate::ModelError;
use crate::config::read::decoder::{self, Defaults, NUM_EXPERTS};
use crate::config::read::file::ConfigFile;
use crate::config::read::rope::THETA;
use crate::config::{FeedForwardConfig, ModelConfig, MoeConfig, QkNorm};
use crate::families::family::{Family, Names};

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    harmless: &[],
    expert_counts: NUM_EXPERTS,
    names: &[Names::MLP],
};

const MODEL_TYPE: &str = "olmoe";
const DEFAULTS: Defaults =
    Defaults { max_tokens: 4096, norm_eps: 1e-5, theta: THETA, d_head: None };

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    let mut model = decoder::read(config, MODEL_TYPE, &DEFAULTS)?;
    let attention = &mut model.attention;
    if attention.n_heads * attention.d_head != model.d_model {
        // The reference's QK norm is as wide as the residual stream.
        let expected = format!("{} / {}", model.d_model, attention.n_heads);
        return Err(config.wrong("head_dim", &expected));
    }
    attention.bias = config.flag("attention_bias", false)?;
    attention.qk_norm = QkNorm::Projection;
    attention.clip = config.optional_positive("clip_qkv")?;
    let counts = decoder::experts(config, NUM_EXPERTS)?;
    let moe = MoeConfig {
        renormalise: config.flag("norm_topk_prob", false)?,
        ..MoeConfig::new(counts, config.size("intermediate_size")?)
    };
    model.feed_forward = vec![FeedForwardConfig::Moe(moe); decoder::n_blocks(config)?];
    Ok(model)
}
