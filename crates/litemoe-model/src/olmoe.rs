//! OLMoE (arXiv 2409.02060): attention with queries and keys normalised over all heads, softmax → top-k experts.

use crate::ModelError;
use crate::attention_config::QkNorm;
use crate::config::ModelConfig;
use crate::config_file::ConfigFile;
use crate::decoder_config::{self, Defaults, NUM_EXPERTS};
use crate::family::{Family, Names};
use crate::feed_forward_config::{FeedForwardConfig, MoeConfig};
use crate::rope::THETA;

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
    let mut model = decoder_config::read(config, MODEL_TYPE, &DEFAULTS)?;
    let attention = &mut model.attention;
    if attention.n_heads * attention.d_head != model.d_model {
        // The reference's norm is as wide as the residual stream.
        let expected = format!("{} / {}", model.d_model, attention.n_heads);
        return Err(config.wrong("head_dim", &expected));
    }
    attention.bias = config.flag("attention_bias", false)?;
    attention.qk_norm = QkNorm::Projection;
    attention.clip = config.optional_positive("clip_qkv")?;
    let counts = decoder_config::experts(config, NUM_EXPERTS)?;
    let moe = MoeConfig {
        renormalise: config.flag("norm_topk_prob", false)?,
        ..MoeConfig::new(counts, config.size("intermediate_size")?)
    };
    model.feed_forward = vec![FeedForwardConfig::Moe(moe); decoder_config::n_blocks(config)?];
    Ok(model)
}
