use litemoe_core::{ExpertPart, LinearRole, LinearSite, Site};

/// Architecture of a family in llama.cpp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Architecture {
    /// `general.architecture`
    pub(super) name: &'static str,
    /// Whether the converter reorders the rows of query and key heads, from rotated halves to rotated pairs.
    pub(super) permuted: bool,
    /// Weights of attention that its graph multiplies without their LoRAs.
    pub(super) unapplied: &'static [&'static str],
}

/// Projections to queries and latents in multi-head latent attention.
const LATENT: [&str; 4] = ["q_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa"];

/// Families that llama.cpp has, as `convert_hf_to_gguf.py` converts them.
const ARCHITECTURES: [(&str, Architecture); 10] = [
    ("deepseek_v2", Architecture { name: "deepseek2", permuted: false, unapplied: &LATENT }),
    ("deepseek_v3", Architecture { name: "deepseek2", permuted: false, unapplied: &LATENT }),
    ("gpt_oss", Architecture { name: "gpt-oss", permuted: false, unapplied: &[] }),
    ("granitemoe", Architecture { name: "granitemoe", permuted: true, unapplied: &[] }),
    ("llama4_text", Architecture { name: "llama4", permuted: false, unapplied: &[] }),
    ("mixtral", Architecture { name: "llama", permuted: true, unapplied: &[] }),
    ("olmoe", Architecture { name: "olmoe", permuted: false, unapplied: &[] }),
    ("phimoe", Architecture { name: "phimoe", permuted: false, unapplied: &[] }),
    ("qwen2_moe", Architecture { name: "qwen2moe", permuted: false, unapplied: &[] }),
    ("qwen3_moe", Architecture { name: "qwen3moe", permuted: false, unapplied: &[] }),
];

/// Architecture of a family; `None` if llama.cpp has none.
pub(super) fn architecture(family: &str) -> Option<Architecture> {
    ARCHITECTURES.iter().find(|(name, _)| *name == family).map(|&(_, architecture)| architecture)
}

/// Weights outside the experts by the last component of their paths. `kv_b_proj` has none: llama.cpp splits it by heads into
/// two tensors.
const NAMES: [(&str, &str); 8] = [
    ("q_proj", "attn_q"),
    ("k_proj", "attn_k"),
    ("v_proj", "attn_v"),
    ("o_proj", "attn_output"),
    ("gate_proj", "ffn_gate"),
    ("up_proj", "ffn_up"),
    ("down_proj", "ffn_down"),
    ("shared_expert_gate", "ffn_gate_inp_shexp"),
];

/// llama.cpp's tensor of a weight; experts share one tensor per projection. `None` if there is none.
pub(super) fn tensor_name(linear: &LinearSite) -> Option<String> {
    let (block, name) = match linear.role {
        LinearRole::Router { layer } => (layer.block, "ffn_gate_inp".to_owned()),
        LinearRole::Expert { expert, part } => {
            let part = match part {
                ExpertPart::Gate => "gate",
                ExpertPart::Up => "up",
                ExpertPart::Down => "down",
            };
            (expert.layer.block, format!("ffn_{part}_exps"))
        }
        LinearRole::Attention | LinearRole::Dense => {
            let leaf = linear.site.leaf();
            let (_, name) = NAMES.iter().find(|(known, _)| *known == leaf)?;
            let shared = if is_of_shared(&linear.site) { "_shexp" } else { "" };
            (block(&linear.site)?, format!("{name}{shared}"))
        }
    };
    Some(format!("blk.{block}.{name}.weight"))
}

/// Whether a weight is a projection of a shared expert.
fn is_of_shared(site: &Site) -> bool {
    site.as_str().split('.').any(|word| matches!(word, "shared_expert" | "shared_experts"))
}

/// Block of a weight: the first number in its path.
fn block(site: &Site) -> Option<usize> {
    site.as_str().split('.').find_map(|word| word.parse().ok())
}
