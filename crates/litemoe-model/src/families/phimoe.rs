//! Phi-3.5-MoE (Phi-3 Technical Report, arXiv 2404.14219): LayerNorm, biases, SparseMixer.

use super::mixtral;
use crate::ModelError;
use crate::config::read::decoder::{self, Defaults, NUM_LOCAL_EXPERTS};
use crate::config::read::file::ConfigFile;
use crate::config::{FeedForwardConfig, ModelConfig, MoeConfig, NormKind, RopeScaling, RouterKind};
use crate::families::family::{Family, Names};

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    // Dropout, and training noise on the hidden state.
    harmless: &["hidden_dropout", "input_jitter_noise"],
    expert_counts: NUM_LOCAL_EXPERTS,
    names: &[
        Names { stacked_updates: true, ..mixtral::NAMES },
        Names { router: "mlp.router", ..Names::MLP },
    ],
};

pub(crate) const MODEL_TYPE: &str = "phimoe";
const DEFAULTS: Defaults =
    Defaults { max_tokens: 131_072, norm_eps: 1e-5, theta: 1e6, d_head: None };

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    let mut model = decoder::read(config, MODEL_TYPE, &DEFAULTS)?;
    let scaling = model.attention.rope.as_ref().map(|rope| &rope.scaling);
    if !matches!(scaling, Some(RopeScaling::None | RopeScaling::Long { .. })) {
        return Err(config.wrong_rope("default or longrope"));
    }
    model.norm = NormKind::Layer;
    model.head_bias = config.flag("lm_head_bias", false)?;
    model.attention.bias = config.flag("attention_bias", false)?;
    model.attention.window = config.optional_size("sliding_window")?;
    let counts = decoder::experts(config, NUM_LOCAL_EXPERTS)?;
    if counts[1] != 2 {
        return Err(config.wrong("num_experts_per_tok", "2, which its routing is made for"));
    }
    let jitter: f64 = config.optional("router_jitter_noise", "a number")?.unwrap_or(0.01);
    if !(jitter.is_finite() && jitter >= 0.0) {
        return Err(config.wrong("router_jitter_noise", "a number of at least 0"));
    }
    let router = RouterKind::SparseMixer { jitter };
    let moe = MoeConfig { router, ..MoeConfig::new(counts, config.size("intermediate_size")?) };
    model.feed_forward = vec![FeedForwardConfig::Moe(moe); decoder::n_blocks(config)?];
    Ok(model)
}
