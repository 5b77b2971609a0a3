use std::fmt;

use litemoe_core::{LinearRole, LinearSite, MoeModel};
use litemoe_model::{Checkpoint, FeedForwardConfig, Outline, RouterKind};

use super::named_adapter::NamedAdapter;
use super::refused::Refused;

/// Weights that a server applies LoRAs to, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Module {
    Attention,
    Experts,
    SharedExpert,
    /// Routers, gates of shared experts, dense networks.
    Other,
}

use Module::{Attention, Experts, SharedExpert};

/// A server, and what it applies LoRAs to in each family, by the source of one version.
#[derive(Debug)]
pub(super) struct Server {
    /// Name and version.
    pub(super) name: &'static str,
    families: &'static [(&'static str, &'static [Module])],
}

/// vLLM. Not there: `llama4_text`, whose rows of queries and keys it reorders, but not those of their LoRAs;
/// `switch_transformers`, which it lacks. In `deepseek_v2` and `deepseek_v3` it fuses and absorbs projections of attention. Of
/// `gpt_oss` and `granitemoe` it reads LoRAs of experts in other layouts, or none.
pub(super) const VLLM: Server = Server {
    name: "vLLM 0.33",
    families: &[
        ("deepseek_v2", &[Experts]),
        ("deepseek_v3", &[Experts]),
        ("gpt_oss", &[Attention]),
        ("granitemoe", &[Attention]),
        ("mixtral", &[Attention, Experts]),
        ("olmoe", &[Attention, Experts]),
        ("phimoe", &[Attention, Experts]),
        ("qwen2_moe", &[Attention, Experts, SharedExpert]),
        ("qwen3_moe", &[Attention, Experts]),
    ],
};

/// SGLang. It applies LoRAs of experts only where they are named `gate_proj`, `up_proj` and `down_proj` in `target_modules`:
/// those of `mixtral` and `phimoe`, `w1`, `w2` and `w3`, are skipped with a warning.
pub(super) const SGLANG: Server = Server {
    name: "SGLang 0.5.23",
    families: &[
        ("gpt_oss", &[Attention]),
        ("granitemoe", &[Attention]),
        ("mixtral", &[Attention]),
        ("olmoe", &[Attention, Experts]),
        ("phimoe", &[Attention]),
        ("qwen2_moe", &[Attention, Experts]),
        ("qwen3_moe", &[Attention, Experts]),
    ],
};

/// Values of `--max-lora-rank` that vLLM takes.
const VLLM_RANKS: [usize; 9] = [1, 8, 16, 32, 64, 128, 256, 320, 512];

/// Half the relative distance within which experts enter SparseMixer's softmax, in both servers.
const JITTER: f64 = 0.01;

/// The least `--max-lora-rank` of vLLM for these adapters.
///
/// # Errors
/// [`Refused::Rank`]
pub(super) fn vllm_rank(adapters: &[NamedAdapter]) -> Result<usize, Refused> {
    let Some(largest) = adapters.iter().max_by_key(|adapter| adapter.rank()) else { return Ok(1) };
    let (rank, max) = (largest.rank(), VLLM_RANKS[VLLM_RANKS.len() - 1]);
    let found = VLLM_RANKS.into_iter().find(|&allowed| allowed >= rank);
    let (adapter, server) = (largest.name.clone(), VLLM.name);
    found.ok_or(Refused::Rank { adapter, server, rank, max })
}

impl Server {
    /// Checks that the server computes a model with adapters as this program does.
    ///
    /// # Errors
    /// The first reason why not.
    pub(super) fn check(
        &self,
        checkpoint: &Checkpoint,
        adapters: &[NamedAdapter],
    ) -> Result<(), Refused> {
        let (server, family) = (self.name, checkpoint.family());
        let Some((_, applied)) = self.families.iter().find(|(name, _)| *name == family) else {
            return Err(Refused::Family { server, family });
        };
        self.check_config(checkpoint)?;
        let outline = Outline::of(checkpoint);
        for adapter in adapters {
            let has_update = |site: &&LinearSite| adapter.adapters.at(site.site.as_str()).is_some();
            let mut updates = outline.linear_sites().iter().filter(has_update);
            if let Some(LinearSite { site, .. }) =
                updates.find(|site| !applied.contains(&Module::of(site)))
            {
                let (adapter, site) = (adapter.name.clone(), site.clone());
                let applied: Vec<String> = applied.iter().map(ToString::to_string).collect();
                let applied = applied.join(" and ");
                return Err(Refused::Update { adapter, server, site, family, applied });
            }
        }
        Ok(())
    }

    /// Checks keys of the configuration that the servers' code for a family does not read.
    fn check_config(&self, checkpoint: &Checkpoint) -> Result<(), Refused> {
        let (server, config, family) = (self.name, checkpoint.config(), checkpoint.family());
        let unread = |key, found: String| Err(Refused::Config { server, key, found });
        let attention = &config.attention;
        if let Some(clip) = attention.clip {
            return unread("clip_qkv", clip.to_string());
        }
        match attention.window {
            Some(window) if window < config.max_tokens && family != "gpt_oss" => {
                return unread("sliding_window", window.to_string());
            }
            _ => {}
        }
        for network in &config.feed_forward {
            let FeedForwardConfig::Moe(moe) = network else { continue };
            match moe.router {
                RouterKind::SparseMixer { jitter } if jitter != JITTER => {
                    return unread("router_jitter_noise", jitter.to_string());
                }
                _ if family == "olmoe" && moe.renormalise => {
                    return unread("norm_topk_prob", "true".to_owned());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Module {
    fn of(site: &LinearSite) -> Self {
        match site.role {
            LinearRole::Attention => Self::Attention,
            LinearRole::Expert { .. } => Self::Experts,
            LinearRole::Dense if site.site.as_str().contains(".shared_expert.") => {
                Self::SharedExpert
            }
            LinearRole::Dense | LinearRole::Router { .. } => Self::Other,
        }
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attention => "attention",
            Self::Experts => "routed experts",
            Self::SharedExpert => "the shared expert",
            Self::Other => "other weights",
        })
    }
}
