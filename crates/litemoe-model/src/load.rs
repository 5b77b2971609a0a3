use burn::tensor::{Device, Tensor};
use litemoe_core::{LayerId, Site};
use litemoe_kernels::{ExpertBank, LinearWeight};

use crate::attention::{Attention, Grouped, Latent, LowRank, Projections, QkNorms, Queries};
use crate::attention_config::{LatentConfig, QkNorm};
use crate::block::Block;
use crate::config::NormKind;
use crate::feed_forward::{Dense, FeedForward, Moe, Shared};
use crate::feed_forward_config::{FeedForwardConfig, MoeConfig, NetworkConfig, RouterKind};
use crate::linear::Linear;
use crate::norm::{LayerNorm, Norm, RmsNorm};
use crate::redirection::Redirection;
use crate::router::{Choice, Router};
use crate::{Checkpoint, ModelError, tensors};

/// Builds the parts of a model from a checkpoint, tensor by tensor: each is widened to f32, packed and freed
/// before the next is read.
#[derive(Clone, Copy)]
pub(crate) struct Loader<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) device: &'a Device,
}

impl Loader<'_> {
    pub(crate) fn tensor<const D: usize>(&self, name: &str) -> Result<Tensor<D>, ModelError> {
        self.checkpoint.tensor(name).tensor(self.device)
    }

    /// The tensor `site.weight`.
    pub(crate) fn weight<const D: usize>(&self, site: &str) -> Result<Tensor<D>, ModelError> {
        self.tensor(&format!("{site}.weight"))
    }

    /// A normalisation of the residual stream.
    pub(crate) fn norm(&self, site: &str) -> Result<Norm, ModelError> {
        let config = &self.checkpoint.config;
        if config.norm == NormKind::Layer {
            let bias = self.tensor(&format!("{site}.bias"))?;
            let norm = LayerNorm::new(self.weight(site)?, bias, config.norm_eps);
            return Ok(Norm::Layer(norm));
        }
        Ok(Norm::Rms(self.rms_norm(site, config.norm_eps)?))
    }

    fn rms_norm(&self, site: &str, eps: f64) -> Result<RmsNorm, ModelError> {
        Ok(RmsNorm::new(self.weight(site)?, eps))
    }

    fn linear(&self, site: String, bias: bool) -> Result<Linear, ModelError> {
        let weight = LinearWeight::from_stored(self.weight(&site)?);
        let bias = if bias { Some(self.tensor(&format!("{site}.bias"))?) } else { None };
        Ok(Linear { site: Site::new(site), weight, bias })
    }

    pub(crate) fn block(&self, index: usize) -> Result<Block, ModelError> {
        let path = tensors::block(index);
        Ok(Block {
            id: LayerId::decoder(index),
            input_norm: self.norm(&format!("{path}.input_layernorm"))?,
            attention: self.attention(index, &format!("{path}.self_attn"))?,
            post_attention_norm: self.norm(&format!("{path}.post_attention_layernorm"))?,
            feed_forward: self.feed_forward(index, &path)?,
            multiplier: self.checkpoint.config.multipliers.residual,
        })
    }

    fn attention(&self, index: usize, path: &str) -> Result<Attention, ModelError> {
        let config = &self.checkpoint.config.attention;
        let projections = match &config.latent {
            Some(latent) => Projections::Latent(Box::new(self.latent(latent, path)?)),
            None => Projections::Grouped(self.grouped(index, path)?),
        };
        let sinks = match config.sinks {
            true => Some(self.tensor::<1>(&format!("{path}.sinks"))?),
            false => None,
        };
        let has_reach = config.window.is_some() || config.chunk.is_some();
        Ok(Attention {
            projections,
            o_proj: self.linear(format!("{path}.o_proj"), config.bias && !config.bare_output)?,
            windowed: has_reach && !config.unwindowed.contains(&index),
            // Every head has keys of its own once they are made from what is latent.
            n_kv_heads: config.n_kv_heads,
            sinks: sinks.map(|sinks| sinks.reshape([1, config.n_heads, 1, 1])),
        })
    }

    fn grouped(&self, index: usize, path: &str) -> Result<Grouped, ModelError> {
        let (config, eps) = (&self.checkpoint.config.attention, self.checkpoint.config.norm_eps);
        let linear = |leaf: &str| self.linear(format!("{path}.{leaf}"), config.bias);
        let scale = config.scale.unwrap_or_else(|| (config.d_head as f64).powf(-0.5));
        let has_weights = matches!(config.qk_norm, QkNorm::PerHead | QkNorm::Projection);
        // Rotation keeps a factor of the query's norm, and a pass over the scores is saved; clamping does not.
        let folded = has_weights && config.clip.is_none();
        let norms = if has_weights {
            let q = self.weight::<1>(&format!("{path}.q_norm"))?;
            let q = RmsNorm::new(if folded { q.mul_scalar(scale) } else { q }, eps);
            let k = self.rms_norm(&format!("{path}.k_norm"), eps)?;
            Some(QkNorms { q, k, per_head: config.qk_norm == QkNorm::PerHead })
        } else {
            None
        };
        let rotated = !config.unrotated.contains(&index);
        Ok(Grouped {
            q_proj: linear("q_proj")?,
            k_proj: linear("k_proj")?,
            v_proj: linear("v_proj")?,
            norms,
            clip: config.clip,
            scale: (!folded).then_some(scale),
            rotated,
            norm_after: (rotated && config.qk_norm == QkNorm::Rotated).then_some(eps),
            d_head: config.d_head,
        })
    }

    fn latent(&self, latent: &LatentConfig, path: &str) -> Result<Latent, ModelError> {
        let config = &self.checkpoint.config.attention;
        let low_rank = |down: &str, norm: &str, up: &str| {
            Ok::<_, ModelError>(LowRank {
                down: self.linear(format!("{path}.{down}"), config.bias)?,
                norm: self.rms_norm(&format!("{path}.{norm}"), LATENT_EPS)?,
                up: self.linear(format!("{path}.{up}"), false)?,
            })
        };
        let queries = match latent.q_rank {
            None => Queries::Full(self.linear(format!("{path}.q_proj"), false)?),
            Some(_) => Queries::LowRank(low_rank("q_a_proj", "q_a_layernorm", "q_b_proj")?),
        };
        Ok(Latent {
            queries,
            keys_values: low_rank("kv_a_proj_with_mqa", "kv_a_layernorm", "kv_b_proj")?,
            scale: config.scale.unwrap_or_else(|| (config.d_head as f64).powf(-0.5)),
            d_plain: config.d_head - latent.d_rotated,
            d_rotated: latent.d_rotated,
            d_value: latent.d_value,
        })
    }

    fn feed_forward(&self, index: usize, path: &str) -> Result<FeedForward, ModelError> {
        match &self.checkpoint.config.feed_forward[index] {
            FeedForwardConfig::Dense(dense) => {
                let path = format!("{path}.{}", self.checkpoint.names.dense);
                Ok(FeedForward::Dense(Box::new(self.dense(&path, dense.network)?)))
            }
            FeedForwardConfig::Moe(moe) => {
                Ok(FeedForward::Moe(Box::new(self.moe(index, path, moe)?)))
            }
        }
    }

    fn dense(&self, path: &str, network: NetworkConfig) -> Result<Dense, ModelError> {
        let linear = |part| self.linear(format!("{path}.{part}"), false);
        let [gate, up, down] = self.checkpoint.names.dense_parts;
        Ok(Dense {
            gate: network.gated.then(|| linear(gate)).transpose()?,
            up: linear(up)?,
            down: linear(down)?,
            act: network.act,
        })
    }

    fn moe(&self, index: usize, path: &str, moe: &MoeConfig) -> Result<Moe, ModelError> {
        let has_shared = moe.shared.is_some_and(|d_hidden| d_hidden > 0);
        Ok(Moe {
            id: LayerId::decoder(index),
            router: self.router(index, path, moe)?,
            experts: self.experts(index, moe)?,
            shared: has_shared.then(|| self.shared(path, moe)).transpose()?,
            capacity: moe.capacity,
        })
    }

    fn router(&self, index: usize, path: &str, moe: &MoeConfig) -> Result<Router, ModelError> {
        let path = format!("{path}.{}", self.checkpoint.names.router);
        let row = |leaf: &str| -> Result<Tensor<2>, ModelError> {
            Ok(self.tensor::<1>(&format!("{path}.{leaf}"))?.unsqueeze_dim(0))
        };
        let redirection = self.redirection(index);
        let correction = match (moe.router, &redirection) {
            (RouterKind::Sigmoid, Some(redirection)) => {
                Some(redirection.of_experts(row("e_score_correction_bias")?))
            }
            (RouterKind::Sigmoid, None) => Some(row("e_score_correction_bias")?),
            _ => None,
        };
        let choice = Choice {
            kind: moe.router,
            top_k: moe.top_k,
            correction,
            groups: moe.groups,
            renormalise: moe.renormalise,
            scale: moe.scale,
        };
        Ok(Router {
            weight: LinearWeight::from_stored(self.weight(&path)?),
            bias: moe.router_bias.then(|| row("bias")).transpose()?,
            choice,
            redirection,
        })
    }

    fn shared(&self, path: &str, moe: &MoeConfig) -> Result<Shared, ModelError> {
        let path = format!("{path}.{}", self.checkpoint.names.shared);
        let gate = match moe.ungated_shared {
            true => None,
            false => Some(LinearWeight::from_stored(self.weight(&format!("{path}_gate"))?)),
        };
        Ok(Shared { network: self.dense(&path, NetworkConfig::SWIGLU)?, gate })
    }

    fn redirection(&self, index: usize) -> Option<Redirection> {
        let rule = self.checkpoint.plan.as_ref()?.options.router;
        Redirection::new(self.checkpoint.layer_plan(index)?, rule, self.device)
    }

    fn experts(&self, index: usize, moe: &MoeConfig) -> Result<ExpertBank, ModelError> {
        let n_experts = self.checkpoint.n_experts(index);
        let mut bank = ExpertBank::with_capacity(n_experts).activated(moe.network.act);
        if moe.router == RouterKind::InputSigmoid {
            bank = bank.gating_inputs();
        }
        for expert in 0..n_experts {
            bank.push(self.checkpoint.expert_tensors(index, expert).stored(self.device)?);
        }
        Ok(bank)
    }
}

/// ε between the matrices of latent attention, which no configuration names.
const LATENT_EPS: f64 = 1e-6;
