use crate::config_file::ConfigFile;
use crate::{
    ModelConfig, ModelError, deepseek_v2, deepseek_v3, gpt_oss, granitemoe, llama4_text, mixtral,
    olmoe, phimoe, qwen2_moe, qwen3_moe,
};

/// What a model type needs beyond its sizes: how its configuration is read and its tensors are named.
#[derive(Debug)]
pub(crate) struct Family {
    /// The `model_type` in its `config.json`.
    pub(crate) model_type: &'static str,
    /// Reads the keys that matter.
    pub(crate) read: fn(&mut ConfigFile) -> Result<ModelConfig, ModelError>,
    /// Keys beside [`HARMLESS`](crate::decoder_config::HARMLESS) that change nothing a forward pass computes.
    pub(crate) harmless: &'static [&'static str],
    /// Spellings of the expert count.
    pub(crate) expert_counts: &'static [&'static str],
    /// Paths inside a block, the first as released checkpoints have them.
    pub(crate) names: &'static [Names],
    /// Whether files may hold blocks beyond the configured ones, which predict further tokens and are left out.
    pub(crate) extra_blocks: bool,
}

/// Paths of the feed-forward part inside a block.
#[derive(Debug)]
pub(crate) struct Names {
    /// A dense network.
    pub(crate) dense: &'static str,
    /// The router.
    pub(crate) router: &'static str,
    /// What stands before an expert's number.
    pub(crate) experts: &'static str,
    /// Gate, up and down in an expert.
    pub(crate) parts: [&'static str; 3],
    /// Gate and up in one stack of matrices, and down in another: how transformers 5 holds experts in memory, and some
    /// families' released checkpoints too. Biases' names end in `_bias`, those of 4-bit blocks in `_blocks` and `_scales`.
    pub(crate) stacks: [&'static str; 2],
    /// How a matrix lies in a stack.
    pub(crate) stack_order: StackOrder,
    /// Whether a proxy's experts are written so.
    pub(crate) stacked: bool,
    /// The shared expert; its gate's path ends in `_gate`.
    pub(crate) shared: &'static str,
    /// Gate, up and down in a dense network and in the shared expert.
    pub(crate) dense_parts: [&'static str; 3],
}

impl Names {
    /// Whether experts are never stored one by one.
    pub(crate) fn stacked_only(&self) -> bool {
        self.stack_order != StackOrder::Rows
    }

    /// What qwen's, OLMo's and DeepSeek's models are like, and every family as transformers 5 holds it in memory.
    pub(crate) const MLP: Self = Self {
        dense: "mlp",
        router: "mlp.gate",
        experts: "mlp.experts.",
        parts: ["gate_proj", "up_proj", "down_proj"],
        stacks: ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        stack_order: StackOrder::Rows,
        stacked: false,
        shared: "mlp.shared_expert",
        dense_parts: ["gate_proj", "up_proj", "down_proj"],
    };
}

/// How a matrix of an expert, `[out, in]` when it stands alone, lies in a stack of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StackOrder {
    /// As it is, gate before up.
    Rows,
    /// Transposed, gate before up.
    Columns,
    /// Transposed, columns of gate and up taking turns.
    Interleaved,
}

/// What stands before the `model_type` of a proxy that only this program computes rightly.
pub(crate) const PROXY_PREFIX: &str = "litemoe_";

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
];

impl Family {
    /// How released checkpoints name their tensors, and proxies.
    pub(crate) fn released_names(&self) -> &'static Names {
        &self.names[0]
    }

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
