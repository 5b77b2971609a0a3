//! DeepSeek families, shared part: MLA, leading dense blocks, routed and shared experts.

use crate::ModelError;
use crate::config::read::decoder::{self, Defaults, MAX_EXPERTS};
use crate::config::read::file::ConfigFile;
use crate::config::read::rope::THETA;
use crate::config::{
    FeedForwardConfig, GroupConfig, GroupScore, LatentConfig, ModelConfig, MoeConfig, RopeConfig,
};
use crate::families::family::Names;

/// Keys of the expert count.
pub(crate) const EXPERT_COUNTS: &[&str] = &["n_routed_experts", "num_local_experts", "num_experts"];

/// Ignored keys: training losses and bookkeeping.
pub(crate) const HARMLESS: &[&str] = &["aux_loss_alpha", "seq_aux"];

pub(crate) const NAMES: &[Names] = &[Names { shared: "mlp.shared_experts", ..Names::MLP }];

/// Maximum head width, far above any model. Two such widths multiply without overflow.
const MAX_WIDTH: usize = 1 << 20;

/// Keys that must have the one value that the reference computes with.
const NEUTRAL: &[(&str, &str)] = &[("ep_size", "1"), ("moe_layer_freq", "1")];

/// Reads the keys that V2 and V3 share, without the router's.
pub(crate) fn read(
    config: &mut ConfigFile,
    family: &'static str,
    max_tokens: usize,
) -> Result<(ModelConfig, MoeConfig), ModelError> {
    decoder::neutral(config, NEUTRAL)?;
    let defaults = Defaults { max_tokens, norm_eps: 1e-6, theta: THETA, d_head: Some(2) };
    let mut model = decoder::read(config, family, &defaults)?;
    let attention = &mut model.attention;
    if attention.n_kv_heads != attention.n_heads {
        let expected = format!("as many as the {} heads", attention.n_heads);
        return Err(config.wrong("num_key_value_heads", &expected));
    }
    let latent = read_latent(config)?;
    attention.d_head = config.size("qk_nope_head_dim")? + latent.d_rotated;
    let whole = config.optional_size("qk_head_dim")?;
    if whole.unwrap_or(attention.d_head) != attention.d_head || attention.d_head > MAX_WIDTH {
        let expected = format!("{}, and at most {MAX_WIDTH}", attention.d_head);
        return Err(config.wrong("qk_head_dim", &expected));
    }
    attention.latent = Some(latent);
    attention.bias = config.flag("attention_bias", false)?;
    let factor = attention.rope.as_ref().map_or(1.0, RopeConfig::score_factor);
    attention.scale = Some((attention.d_head as f64).powf(-0.5) * factor);
    let counts = decoder::experts(config, EXPERT_COUNTS)?;
    let d_expert = config.size("moe_intermediate_size")?;
    let n_shared: usize = config.required("n_shared_experts", "a whole number")?;
    if n_shared > MAX_EXPERTS {
        return Err(config.wrong("n_shared_experts", &format!("at most {MAX_EXPERTS}")));
    }
    let moe = MoeConfig {
        shared: Some(n_shared * d_expert),
        ungated_shared: true,
        ..MoeConfig::new(counts, d_expert)
    };
    Ok((model, moe))
}

fn read_latent(config: &mut ConfigFile) -> Result<LatentConfig, ModelError> {
    let q_rank = config.optional_size("q_lora_rank")?;
    let q_rank = if config.has("q_lora_rank") { q_rank } else { Some(1536) };
    let d_rotated = config.size("qk_rope_head_dim")?;
    if !d_rotated.is_multiple_of(2) {
        return Err(config.wrong("qk_rope_head_dim", "even, for rotary positions"));
    }
    let [kv_rank, d_value] = [config.size("kv_lora_rank")?, config.size("v_head_dim")?];
    Ok(LatentConfig { q_rank, kv_rank, d_rotated, d_value })
}

/// Reads group-limited routing.
pub(crate) fn read_groups(
    config: &mut ConfigFile,
    moe: &MoeConfig,
    score: GroupScore,
) -> Result<GroupConfig, ModelError> {
    let (n_groups, top_groups) = (config.size("n_group")?, config.size("topk_group")?);
    let least = match score {
        GroupScore::Best => 1,
        GroupScore::BestTwo => 2,
    };
    if !moe.n_experts.is_multiple_of(n_groups) || moe.n_experts / n_groups < least {
        let expected =
            format!("a divisor of {} experts that leaves {least} in a group", moe.n_experts);
        return Err(config.wrong("n_group", &expected));
    }
    if top_groups > n_groups || top_groups * (moe.n_experts / n_groups) < moe.top_k {
        let expected = format!("at most {n_groups} groups, with {} experts in them", moe.top_k);
        return Err(config.wrong("topk_group", &expected));
    }
    Ok(GroupConfig { n_groups, top_groups, score })
}

/// Reads the feed-forward layers: dense blocks first, then MoE blocks.
pub(crate) fn blocks(
    config: &mut ConfigFile,
    moe: MoeConfig,
    first_dense: usize,
) -> Result<Vec<FeedForwardConfig>, ModelError> {
    let n_dense =
        config.optional("first_k_dense_replace", "a whole number")?.unwrap_or(first_dense);
    let dense = decoder::dense(config.size("intermediate_size")?);
    let kind = |block| if block < n_dense { dense } else { FeedForwardConfig::Moe(moe) };
    Ok((0..decoder::n_blocks(config)?).map(kind).collect())
}
