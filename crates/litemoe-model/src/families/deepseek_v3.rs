//! DeepSeek-V3 (DeepSeek-V3 Technical Report, arXiv 2412.19437): MLA, sigmoid router with score correction bias
//! (aux-loss-free load balancing), group-limited routing.

use super::deepseek;
use crate::ModelError;
use crate::config::read::decoder;
use crate::config::read::file::ConfigFile;
use crate::config::{GroupScore, ModelConfig, MoeConfig, RouterKind};
use crate::families::family::Family;

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    harmless: deepseek::HARMLESS,
    expert_counts: deepseek::EXPERT_COUNTS,
    names: deepseek::NAMES,
};

const MODEL_TYPE: &str = "deepseek_v3";
const NEUTRAL: &[(&str, &str)] =
    &[("scoring_func", "\"sigmoid\""), ("topk_method", "\"noaux_tc\"")];

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    decoder::neutral(config, NEUTRAL)?;
    let (mut model, moe) = deepseek::read(config, MODEL_TYPE, 4096)?;
    model.attention.interleave(config.flag_or_null("rope_interleave", true)?);
    let moe = MoeConfig {
        router: RouterKind::Sigmoid,
        groups: Some(deepseek::read_groups(config, &moe, GroupScore::BestTwo)?),
        renormalise: config.flag_or_null("norm_topk_prob", true)?,
        scale: config.optional_positive("routed_scaling_factor")?.unwrap_or(2.5),
        ..moe
    };
    model.feed_forward = deepseek::blocks(config, moe, 3)?;
    let further = config.spelled(&["num_nextn_predict_layers", "num_mtp_layers"])?;
    model.extra_blocks = further.unwrap_or(1);
    let head: Option<usize> = config.optional_size("head_dim")?;
    if head.is_some_and(|head| head != model.attention.d_rotated()) {
        return Err(config.wrong("head_dim", "that of the rotated part, `qk_rope_head_dim`"));
    }
    Ok(model)
}
