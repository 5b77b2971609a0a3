use burn::tensor::{Device, Tensor};
use litemoe_core::{LayerId, Site};
use litemoe_kernels::{ExpertBank, LinearWeight, StoredExpert};

use crate::attention::Attention;
use crate::block::Block;
use crate::checkpoint::ExpertTensors;
use crate::config::FeedForwardConfig;
use crate::feed_forward::{Dense, FeedForward, Moe};
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
            attention: self.attention(&format!("{path}.self_attn"))?,
            post_attention_norm: self.norm(&format!("{path}.post_attention_layernorm"))?,
            feed_forward: self.feed_forward(index, &path)?,
        })
    }

    fn attention(&self, path: &str) -> Result<Attention, ModelError> {
        let config = &self.checkpoint.config.attention;
        let linear = |leaf: &str| self.linear(format!("{path}.{leaf}"), config.bias);
        let scale = (config.d_head as f64).powf(-0.5);
        let q_norm = self.weight::<1>(&format!("{path}.q_norm"))?.mul_scalar(scale);
        Ok(Attention {
            q_proj: linear("q_proj")?,
            k_proj: linear("k_proj")?,
            v_proj: linear("v_proj")?,
            o_proj: linear("o_proj")?,
            q_norm: RmsNorm::new(q_norm, self.checkpoint.config.norm_eps),
            k_norm: self.norm(&format!("{path}.k_norm"))?,
            n_kv_heads: config.n_kv_heads,
            d_head: config.d_head,
        })
    }

    fn feed_forward(&self, index: usize, path: &str) -> Result<FeedForward, ModelError> {
        let names = &self.checkpoint.family.names;
        match self.checkpoint.config.feed_forward[index] {
            FeedForwardConfig::Dense { .. } => {
                let linear = |part| self.linear(format!("{path}.{}.{part}", names.dense), false);
                let [gate, up, down] = names.parts.map(linear);
                Ok(FeedForward::Dense(Box::new(Dense { gate: gate?, up: up?, down: down? })))
            }
            FeedForwardConfig::Moe { top_k, renormalise, .. } => {
                let weight = self.weight(&format!("{path}.{}", names.router))?;
                let weight = LinearWeight::from_stored(weight);
                let redirection = self.redirection(index);
                let router = Router { weight, top_k, renormalise, redirection };
                let experts = self.experts(index)?;
                Ok(FeedForward::Moe(Box::new(Moe { id: LayerId::decoder(index), router, experts })))
            }
        }
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
