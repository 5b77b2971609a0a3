use burn::tensor::{Device, Tensor};
use litemoe_core::{LayerId, Site, Stack, WeightDtype};
use litemoe_kernels::{ExpertBank, LinearWeight};

use crate::checkpoint::matrix_rows::MatrixRows;
use crate::checkpoint::packed_as::always;
use crate::checkpoint::stored::StoredTensor;
use crate::checkpoint::tensors;
use crate::config::{
    FeedForwardConfig, LatentConfig, ModelConfig, MoeConfig, NetworkConfig, NormKind, QkNorm,
    RouterKind,
};
use crate::families::family::Names;
use crate::layers::ExpertSites;
use crate::layers::attention::{
    Attention, GqaProjections, LowRank, MlaProjections, Projections, QkNorms, Queries,
};
use crate::layers::block::{Block, CrossAttention};
use crate::layers::embedding::EmbeddingTable;
use crate::layers::feed_forward::{Dense, FeedForward, Moe, SharedExpert};
use crate::layers::gating::TopKGating;
use crate::layers::head::LmHead;
use crate::layers::linear::Linear;
use crate::layers::norm::Norm;
use crate::layers::redirection::Redirection;
use crate::layers::relative_position_bias::RelativeBias;
use crate::layers::router::Router;
use crate::{Checkpoint, ModelError};

/// Builds model layers from a checkpoint, tensor by tensor: each is widened to f32, or packed from its rows, before the
/// next is read.
#[derive(Clone, Copy)]
pub(crate) struct Loader<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) device: &'a Device,
    /// Format of linear layers and experts. Routers, norms and biases are in f32.
    pub(crate) dtype: WeightDtype,
}

impl Loader<'_> {
    pub(crate) fn tensor<const D: usize>(&self, name: &str) -> Result<Tensor<D>, ModelError> {
        self.checkpoint.tensor(name).tensor(self.device)
    }

    /// Tensor `site.weight`.
    pub(crate) fn weight<const D: usize>(&self, site: &str) -> Result<Tensor<D>, ModelError> {
        self.tensor(&format!("{site}.weight"))
    }

    /// RMSNorm or LayerNorm of the residual stream.
    pub(crate) fn norm(&self, site: &str) -> Result<Norm, ModelError> {
        let ModelConfig { norm, norm_eps: eps, .. } = self.checkpoint.config;
        match norm {
            NormKind::Rms => self.rms_norm(site, eps),
            NormKind::Layer => {
                let bias = self.tensor(&format!("{site}.bias"))?;
                Ok(Norm::layer(self.weight(site)?, bias, eps))
            }
        }
    }

    fn rms_norm(&self, site: &str, eps: f64) -> Result<Norm, ModelError> {
        Ok(Norm::rms(self.weight(site)?, eps))
    }

    fn linear(&self, site: String, bias: bool) -> Result<Linear, ModelError> {
        let weight = self.checkpoint.tensor(&format!("{site}.weight"));
        let weight = self.linear_weight(weight, always(self.dtype))?;
        let bias = if bias { Some(self.tensor(&format!("{site}.bias"))?) } else { None };
        Ok(Linear { site: Site::new(site), weight, bias })
    }

    fn linear_weight(
        &self,
        stored: &StoredTensor,
        dtype: WeightDtype,
    ) -> Result<LinearWeight, ModelError> {
        if dtype == WeightDtype::F32 {
            return Ok(LinearWeight::from_stored(stored.tensor(self.device)?, dtype));
        }
        let rows = MatrixRows::stored(stored);
        let weight = LinearWeight::from_rows(&rows, dtype, self.device);
        rows.release();
        weight.map_err(|error| stored.unfit(error.dtype))
    }

    /// Token embedding of a stack.
    pub(crate) fn embedding(&self, stack: Stack) -> Result<EmbeddingTable, ModelError> {
        let stored = self.checkpoint.embedding(stack);
        Ok(match self.dtype {
            WeightDtype::F32 => EmbeddingTable::Dense(stored.tensor(self.device)?),
            _ => EmbeddingTable::Packed(self.linear_weight(stored, always(self.dtype))?),
        })
    }

    /// Tied embeddings: whether the checkpoint has no head of its own.
    pub(crate) fn is_tied(&self) -> bool {
        !self.checkpoint.tensors.contains_key(&*format!("{}.weight", tensors::HEAD))
    }

    /// Final norm and LM head.
    pub(crate) fn head(&self) -> Result<LmHead, ModelError> {
        let weight = match self.is_tied() {
            true => self.checkpoint.embedding(Stack::Decoder),
            false => self.checkpoint.tensor(&format!("{}.weight", tensors::HEAD)),
        };
        let bias = match self.checkpoint.config.head_bias {
            true => Some(self.row(&format!("{}.bias", tensors::HEAD))?),
            false => None,
        };
        let [_, norm] = self.checkpoint.names.final_norms;
        Ok(LmHead {
            norm: self.norm(norm)?,
            weight: self.linear_weight(weight, always(self.dtype))?,
            bias,
        })
    }

    /// Final norm of the encoder, if there is one.
    pub(crate) fn encoder_norm(&self) -> Result<Option<Norm>, ModelError> {
        let [encoder, _] = self.checkpoint.names.final_norms;
        match self.checkpoint.config.encoder.is_empty() {
            true => Ok(None),
            false => Ok(Some(self.norm(encoder)?)),
        }
    }

    /// Relative position biases of encoder and decoder, stored in their first blocks.
    pub(crate) fn relative(&self) -> Result<Option<[RelativeBias; 2]>, ModelError> {
        let Some(config) = self.checkpoint.config.attention.relative else { return Ok(None) };
        let bias = |block: LayerId| {
            let path = self.checkpoint.names.path(block, self.checkpoint.names.attention);
            let weight = self.weight(&format!("{path}.{}", tensors::RELATIVE_BIAS))?;
            let both_ways = block.stack == Stack::Encoder;
            Ok::<_, ModelError>(RelativeBias::new(weight, config, both_ways))
        };
        Ok(Some([bias(LayerId::encoder(0))?, bias(LayerId::decoder(0))?]))
    }

    /// Vector as a row, `[1, width]`.
    fn row(&self, name: &str) -> Result<Tensor<2>, ModelError> {
        Ok(self.tensor::<1>(name)?.unsqueeze_dim(0))
    }

    /// Loads a block, without the weights of `unused` experts.
    pub(crate) fn block(&self, id: LayerId, unused: &[usize]) -> Result<Block, ModelError> {
        let names = self.checkpoint.names;
        let path = |part| names.path(id, part);
        let [input_norm, post_attention_norm] = names.norms.map(path);
        Ok(Block {
            id,
            input_norm: self.norm(&input_norm)?,
            attention: self.attention(id.block, &path(names.attention))?,
            cross: self.cross(id)?,
            post_attention_norm: self.norm(&post_attention_norm)?,
            feed_forward: self.feed_forward(id, unused)?,
            multiplier: self.checkpoint.config.multipliers.residual,
        })
    }

    fn cross(&self, id: LayerId) -> Result<Option<CrossAttention>, ModelError> {
        if id.stack == Stack::Encoder || self.checkpoint.config.encoder.is_empty() {
            return Ok(None);
        }
        let [attention, norm] =
            self.checkpoint.names.cross.map(|part| self.checkpoint.names.path(id, part));
        let attention = self.attention(id.block, &attention)?;
        Ok(Some(CrossAttention { norm: self.norm(&norm)?, attention }))
    }

    fn attention(&self, index: usize, path: &str) -> Result<Attention, ModelError> {
        let config = &self.checkpoint.config.attention;
        let projections = match &config.latent {
            Some(latent) => Projections::Mla(Box::new(self.latent(latent, path)?)),
            None => Projections::Gqa(Box::new(self.grouped(index, path)?)),
        };
        let [.., output] = self.checkpoint.names.projections;
        let sinks = match config.sinks {
            true => Some(self.tensor::<1>(&format!("{path}.sinks"))?),
            false => None,
        };
        let has_reach = config.window.is_some() || config.chunk.is_some();
        Ok(Attention {
            projections,
            o_proj: self.linear(format!("{path}.{output}"), config.bias && !config.bare_output)?,
            windowed: has_reach && !config.unwindowed.contains(&index),
            // In MLA, every head has its own keys after the up-projection.
            n_kv_heads: config.n_kv_heads,
            sinks: sinks.map(|sinks| sinks.reshape([1, config.n_heads, 1, 1])),
        })
    }

    fn grouped(&self, index: usize, path: &str) -> Result<GqaProjections, ModelError> {
        let (config, eps) = (&self.checkpoint.config.attention, self.checkpoint.config.norm_eps);
        let linear = |leaf| self.linear(format!("{path}.{leaf}"), config.bias);
        let scale = config.scale.unwrap_or_else(|| (config.d_head as f64).powf(-0.5));
        let has_weights = matches!(config.qk_norm, QkNorm::PerHead | QkNorm::Projection);
        // Folding the scale into the query norm saves a pass; RoPE keeps the factor, clamping does not.
        let folded = has_weights && config.clip.is_none();
        let norms = if has_weights {
            let q = self.weight::<1>(&format!("{path}.q_norm"))?;
            let q = Norm::rms(if folded { q.mul_scalar(scale) } else { q }, eps);
            let k = self.rms_norm(&format!("{path}.k_norm"), eps)?;
            Some(QkNorms { q, k, per_head: config.qk_norm == QkNorm::PerHead })
        } else {
            None
        };
        let rotated = config.rope.is_some() && !config.unrotated.contains(&index);
        let [q, k, v, _] = self.checkpoint.names.projections;
        Ok(GqaProjections {
            q_proj: linear(q)?,
            k_proj: linear(k)?,
            v_proj: linear(v)?,
            norms,
            clip: config.clip,
            scale: (!folded && scale != 1.0).then_some(scale),
            rotated,
            norm_after: (rotated && config.qk_norm == QkNorm::Rotated).then_some(eps),
            d_head: config.d_head,
        })
    }

    fn latent(&self, latent: &LatentConfig, path: &str) -> Result<MlaProjections, ModelError> {
        let config = &self.checkpoint.config.attention;
        let low_rank = |down: &str, norm: &str, up: &str| {
            Ok::<_, ModelError>(LowRank {
                down: self.linear(format!("{path}.{down}"), config.bias)?,
                norm: self.rms_norm(&format!("{path}.{norm}"), LATENT_EPS)?,
                up: self.linear(format!("{path}.{up}"), false)?,
            })
        };
        let queries = match latent.q_rank {
            None => Queries::Full(Box::new(self.linear(format!("{path}.q_proj"), false)?)),
            Some(_) => {
                let queries = low_rank("q_a_proj", "q_a_layernorm", "q_b_proj")?;
                Queries::LowRank(Box::new(queries))
            }
        };
        Ok(MlaProjections {
            queries,
            keys_values: low_rank("kv_a_proj_with_mqa", "kv_a_layernorm", "kv_b_proj")?,
            scale: config.scale.unwrap_or_else(|| (config.d_head as f64).powf(-0.5)),
            d_plain: config.d_head - latent.d_rotated,
            d_rotated: latent.d_rotated,
            d_value: latent.d_value,
        })
    }

    fn feed_forward(&self, id: LayerId, unused: &[usize]) -> Result<FeedForward, ModelError> {
        let checkpoint = self.checkpoint;
        match checkpoint.config.feed_forward_of(id) {
            FeedForwardConfig::Dense(dense) => {
                let path = checkpoint.names.path(id, checkpoint.names.dense);
                Ok(FeedForward::Dense(Box::new(self.dense(&path, dense.network)?)))
            }
            FeedForwardConfig::Moe(moe) => {
                Ok(FeedForward::Moe(Box::new(self.moe(id, moe, unused)?)))
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

    fn moe(&self, id: LayerId, moe: &MoeConfig, unused: &[usize]) -> Result<Moe, ModelError> {
        let has_shared = moe.shared.is_some_and(|d_hidden| d_hidden > 0);
        let Checkpoint { family, config, .. } = self.checkpoint;
        let experts = self.experts(id, moe, unused)?;
        Ok(Moe {
            id,
            router: self.router(id, moe)?,
            sites: ExpertSites::new(family, id, experts.n_experts(), moe, config.d_model),
            experts,
            shared: has_shared.then(|| self.shared(id, moe)).transpose()?,
            capacity: moe.capacity,
        })
    }

    fn router(&self, id: LayerId, moe: &MoeConfig) -> Result<Router, ModelError> {
        let path = self.checkpoint.names.path(id, self.checkpoint.names.router);
        let row = |leaf: &str| self.row(&format!("{path}.{leaf}"));
        let redirection = self.redirection(id);
        let correction = match (moe.router, &redirection) {
            (RouterKind::Sigmoid, Some(redirection)) => {
                Some(redirection.of_experts(row("e_score_correction_bias")?))
            }
            (RouterKind::Sigmoid, None) => Some(row("e_score_correction_bias")?),
            _ => None,
        };
        let gating = TopKGating {
            kind: moe.router,
            top_k: moe.top_k,
            correction,
            groups: moe.groups,
            renormalise: moe.renormalise,
            scale: moe.scale,
        };
        let family = self.checkpoint.family;
        let of = |names: &Names| Site::new(names.path(id, names.router));
        // Sites are those of released checkpoints.
        let exact = Self { dtype: WeightDtype::F32, ..*self };
        let linear = exact.linear(path, moe.router_bias)?;
        let linear = Linear { site: of(family.released_names()), ..linear };
        let held = family.held_names();
        let parameter = (!held.linear_router).then(|| of(held));
        Ok(Router { linear, parameter, gating, redirection })
    }

    fn shared(&self, id: LayerId, moe: &MoeConfig) -> Result<SharedExpert, ModelError> {
        let path = self.checkpoint.names.path(id, self.checkpoint.names.shared);
        let gate = match moe.ungated_shared {
            true => None,
            false => Some(self.linear(format!("{path}_gate"), false)?),
        };
        Ok(SharedExpert { network: self.dense(&path, NetworkConfig::SWIGLU)?, gate })
    }

    fn redirection(&self, id: LayerId) -> Option<Redirection> {
        let rule = self.checkpoint.plan.as_ref()?.options.router;
        Redirection::new(self.checkpoint.layer_plan(id)?, rule, self.device)
    }

    fn experts(
        &self,
        id: LayerId,
        moe: &MoeConfig,
        unused: &[usize],
    ) -> Result<ExpertBank, ModelError> {
        let n_experts = self.checkpoint.n_experts(id);
        let bank = ExpertBank::with_capacity(n_experts).packed_as(self.dtype);
        let mut bank = bank.activated(moe.network.act);
        if moe.router == RouterKind::InputSigmoid {
            bank = bank.gating_inputs();
        }
        for expert in 0..n_experts {
            match unused.binary_search(&expert) {
                Ok(_) => bank.push_absent(),
                Err(_) => {
                    let stored = self.checkpoint.expert_tensors(id, expert);
                    match self.dtype {
                        WeightDtype::F32 => bank.push(stored.read(self.device)?),
                        _ => stored.pack(&mut bank, self.device)?,
                    }
                }
            }
        }
        Ok(bank)
    }
}

/// ε of the RMSNorms inside MLA, which no configuration names.
const LATENT_EPS: f64 = 1e-6;
