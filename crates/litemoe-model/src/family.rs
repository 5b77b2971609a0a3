use crate::config_file::ConfigFile;
use crate::{ModelConfig, ModelError, qwen3_moe};

/// What a model type needs beyond its sizes: how its configuration is read and its tensors are named.
#[derive(Debug)]
pub(crate) struct Family {
    /// The `model_type` in its `config.json`.
    pub(crate) model_type: &'static str,
    /// Reads the keys that matter.
    pub(crate) read: fn(&mut ConfigFile) -> Result<ModelConfig, ModelError>,
    /// Keys that change nothing a forward pass computes.
    pub(crate) harmless: &'static [&'static str],
    /// Spellings of the expert count.
    pub(crate) expert_counts: &'static [&'static str],
    /// Paths inside a block.
    pub(crate) names: Names,
}

/// Paths of the feed-forward part inside a block.
#[derive(Debug)]
pub(crate) struct Names {
    /// A dense network.
    pub(crate) dense: &'static str,
    /// The router.
    pub(crate) router: &'static str,
    /// The experts.
    pub(crate) experts: &'static str,
    /// Gate, up and down in a dense network and in an expert.
    pub(crate) parts: [&'static str; 3],
}

/// What stands before the `model_type` of a proxy that only this program computes rightly.
pub(crate) const PROXY_PREFIX: &str = "litemoe_";

const FAMILIES: &[&Family] = &[&qwen3_moe::FAMILY];

impl Family {
    /// The family of a configuration, and whether it is a proxy's.
    pub(crate) fn of(config: &mut ConfigFile) -> Result<(&'static Self, bool), ModelError> {
        let found: String = config.required("model_type", "a name")?;
        let (name, is_proxy) = match found.strip_prefix(PROXY_PREFIX) {
            Some(name) => (name, true),
            None => (&*found, false),
        };
        match FAMILIES.iter().find(|family| family.model_type == name) {
            Some(family) => Ok((family, is_proxy)),
            None => Err(ModelError::UnknownModelType {
                path: config.path.clone(),
                known: FAMILIES
                    .iter()
                    .map(|family| family.model_type)
                    .collect::<Vec<_>>()
                    .join(", "),
                found,
            }),
        }
    }
}
