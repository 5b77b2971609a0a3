use super::family::{Family, PROXY_PREFIX};
use super::{
    deepseek_v2, deepseek_v3, gpt_oss, granitemoe, llama4_text, mixtral, olmoe, phimoe, qwen2_moe,
    qwen3_moe, switch_transformers,
};
use crate::ModelError;
use crate::config::read::file::ConfigFile;

const FAMILIES: &[&Family] = &[
    &deepseek_v2::FAMILY,
    &deepseek_v3::FAMILY,
    &gpt_oss::FAMILY,
    &granitemoe::FAMILY,
    &llama4_text::FAMILY,
    &mixtral::FAMILY,
    &olmoe::FAMILY,
    &phimoe::FAMILY,
    &qwen2_moe::FAMILY,
    &qwen3_moe::FAMILY,
    &switch_transformers::FAMILY,
];

/// Family of a configuration, and whether it is a proxy's.
pub(crate) fn family_of(config: &mut ConfigFile) -> Result<(&'static Family, bool), ModelError> {
    let found: String = config.required("model_type", "a name")?;
    let (name, is_proxy) = match found.strip_prefix(PROXY_PREFIX) {
        Some(name) => (name, true),
        None => (&*found, false),
    };
    match FAMILIES.iter().find(|family| family.model_type == name) {
        Some(family) => Ok((family, is_proxy)),
        None => Err(ModelError::UnknownModelType {
            path: config.path.clone(),
            known: FAMILIES.iter().map(|family| family.model_type).collect::<Vec<_>>().join(", "),
            found,
        }),
    }
}
