//! DeepSeek-V2 (A Strong, Economical, and Efficient Mixture-of-Experts Language Model, arXiv 2405.04434): MLA, softmax
//! top-k gating, group-limited or over all experts.

use super::deepseek;
use crate::ModelError;
use crate::config::read::decoder;
use crate::config::read::file::ConfigFile;
use crate::config::{GroupScore, ModelConfig, MoeConfig};
use crate::families::family::Family;

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    harmless: deepseek::HARMLESS,
    expert_counts: deepseek::EXPERT_COUNTS,
    names: deepseek::NAMES,
};

const MODEL_TYPE: &str = "deepseek_v2";

/// The reference never renormalises gates, whatever the configuration says.
const NEUTRAL: &[(&str, &str)] =
    &[("mlp_bias", "false"), ("norm_topk_prob", "false"), ("scoring_func", "\"softmax\"")];

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    decoder::neutral(config, NEUTRAL)?;
    let (mut model, moe) = deepseek::read(config, MODEL_TYPE, 2048)?;
    model.attention.interleave(true);
    let method: Option<String> = config.optional("topk_method", "a name")?;
    if config.is_null("topk_method") {
        return Err(config.wrong("topk_method", "greedy or group_limited_greedy"));
    }
    let groups = match method.as_deref().unwrap_or("greedy") {
        "greedy" => {
            config.optional_size("n_group")?;
            config.optional_size("topk_group")?;
            None
        }
        "group_limited_greedy" => Some(deepseek::read_groups(config, &moe, GroupScore::Best)?),
        _ => return Err(config.wrong("topk_method", "greedy or group_limited_greedy")),
    };
    let scale = config.optional_positive("routed_scaling_factor")?.unwrap_or(1.0);
    let moe = MoeConfig { groups, scale, ..moe };
    model.feed_forward = deepseek::blocks(config, moe, 0)?;
    Ok(model)
}
