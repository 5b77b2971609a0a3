use burn::tensor::{Device, Tensor};
use litemoe_core::{LayerId, Site};
use litemoe_kernels::{ExpertBank, LinearWeight, StoredExpert};

use crate::attention::{Attention, QkNorms};
use crate::block::Block;
use crate::checkpoint::ExpertTensors;
use crate::config::{FeedForwardConfig, QkNorm};
use crate::feed_forward::{Dense, FeedForward, Moe, Shared};
use crate::linear::Linear;
use crate::norm::RmsNorm;
use crate::redirection::Redirection;
use crate::router::Router;
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

    pub(crate) fn norm(&self, site: &str) -> Result<RmsNorm, ModelError> {
        Ok(RmsNorm::new(self.weight(site)?, self.checkpoint.config.norm_eps))
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
        let linear = |leaf: &str, bias| self.linear(format!("{path}.{leaf}"), bias);
        let scale = config.scale.unwrap_or_else(|| (config.d_head as f64).powf(-0.5));
        // Rotation keeps a factor of the query's norm, and a pass over the scores is saved; clamping does not.
        let folded = config.qk_norm != QkNorm::None && config.clip.is_none();
        let norms = match config.qk_norm {
            QkNorm::None => None,
            kind => {
                let q = self.weight::<1>(&format!("{path}.q_norm"))?;
                let q = if folded { q.mul_scalar(scale) } else { q };
                let q = RmsNorm::new(q, self.checkpoint.config.norm_eps);
                let k = self.norm(&format!("{path}.k_norm"))?;
                Some(QkNorms { q, k, per_head: kind == QkNorm::PerHead })
            }
        };
        Ok(Attention {
            q_proj: linear("q_proj", config.bias)?,
            k_proj: linear("k_proj", config.bias)?,
            v_proj: linear("v_proj", config.bias)?,
            o_proj: linear("o_proj", config.bias && !config.bare_output)?,
            norms,
            clip: config.clip,
            scale: (!folded).then_some(scale),
            windowed: config.window.is_some() && !config.unwindowed.contains(&index),
            n_kv_heads: config.n_kv_heads,
            d_head: config.d_head,
        })
    }

    fn feed_forward(&self, index: usize, path: &str) -> Result<FeedForward, ModelError> {
        let names = self.checkpoint.names;
        match self.checkpoint.config.feed_forward[index] {
            FeedForwardConfig::Dense { .. } => {
                let dense = self.dense(&format!("{path}.{}", names.dense))?;
                Ok(FeedForward::Dense(Box::new(dense)))
            }
            FeedForwardConfig::Moe { top_k, renormalise, shared, .. } => {
                let weight = self.weight(&format!("{path}.{}", names.router))?;
                let weight = LinearWeight::from_stored(weight);
                let redirection = self.redirection(index);
                let router = Router { weight, top_k, renormalise, redirection };
                let experts = self.experts(index)?;
                let shared = shared.map(|_| self.shared(path)).transpose()?;
                let id = LayerId::decoder(index);
                Ok(FeedForward::Moe(Box::new(Moe { id, router, experts, shared })))
            }
        }
    }

    fn dense(&self, path: &str) -> Result<Dense, ModelError> {
        let linear = |part| self.linear(format!("{path}.{part}"), false);
        let [gate, up, down] = self.checkpoint.names.dense_parts.map(linear);
        Ok(Dense { gate: gate?, up: up?, down: down? })
    }

    fn shared(&self, path: &str) -> Result<Shared, ModelError> {
        let shared = format!("{path}.{}", self.checkpoint.names.shared);
        let gate = self.weight(&format!("{shared}_gate"))?;
        Ok(Shared { network: self.dense(&shared)?, gate: LinearWeight::from_stored(gate) })
    }

    fn redirection(&self, index: usize) -> Option<Redirection> {
        let rule = self.checkpoint.plan.as_ref()?.options.router;
        Redirection::new(self.checkpoint.layer_plan(index)?, rule, self.device)
    }

    fn experts(&self, index: usize) -> Result<ExpertBank, ModelError> {
        let n_experts = self.checkpoint.n_experts(index);
        let mut bank = ExpertBank::with_capacity(n_experts);
        for expert in 0..n_experts {
            let ExpertTensors { gate, up, down } = self.checkpoint.expert_tensors(index, expert);
            bank.push(StoredExpert {
                gate: Some(gate.tensor(self.device)?),
                up: up.tensor(self.device)?,
                down: down.tensor(self.device)?,
            });
        }
        Ok(bank)
    }
}
