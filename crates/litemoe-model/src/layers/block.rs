use burn::tensor::Tensor;
use litemoe_core::{LayerId, LinearRole, LinearSite, Pass};

use crate::layers::attention::{Attention, CrossStates};
use crate::layers::context::LayerContext;
use crate::layers::feed_forward::FeedForward;
use crate::layers::kv_cache::BlockCache;
use crate::layers::norm::Norm;

/// Multiplies by a factor, unless it is 1.
pub(crate) fn scaled(x: Tensor<2>, factor: f64) -> Tensor<2> {
    if factor == 1.0 { x } else { x.mul_scalar(factor) }
}

/// Transformer block (pre-norm): attention, then the feed-forward layer, each with a residual connection; between them,
/// in a decoder with an encoder, cross-attention.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) id: LayerId,
    pub(crate) input_norm: Norm,
    pub(crate) attention: Attention,
    pub(crate) cross: Option<CrossAttention>,
    pub(crate) post_attention_norm: Norm,
    pub(crate) feed_forward: FeedForward,
    /// Residual multiplier (muP) of attention and feed-forward outputs.
    pub(crate) multiplier: f64,
}

/// Cross-attention of a decoder to its encoder.
#[derive(Debug)]
pub(crate) struct CrossAttention {
    pub(crate) norm: Norm,
    pub(crate) attention: Attention,
}

impl Block {
    /// Linear layers that accept a LoRA adapter: attention first, routed experts last.
    pub(crate) fn linear_sites(&self) -> Vec<LinearSite> {
        let cross = self.cross.iter().flat_map(|cross| cross.attention.linears());
        let attention = self.attention.linears().into_iter().chain(cross);
        let attention = attention.map(|linear| linear.site(LinearRole::Attention));
        let dense = self.feed_forward.linears().into_iter();
        let dense = dense.map(|linear| linear.site(LinearRole::Dense));
        attention.chain(dense).chain(self.feed_forward.routed_sites()).collect()
    }

    /// # Shapes
    /// - `before` and output: `[tokens, d_model]`
    pub(crate) fn forward(
        &self,
        before: &Tensor<2>,
        context: LayerContext<'_>,
        memory: Option<CrossStates<'_>>,
        pass: &mut Pass<'_>,
        caches: Option<&mut [&mut BlockCache]>,
    ) -> Tensor<2> {
        let x = self.input_norm.forward(before.clone());
        let attended = self.attention.forward(x, context, caches);
        let middle = before.clone() + scaled(attended, self.multiplier);
        let middle = match (&self.cross, memory) {
            (Some(cross), Some(memory)) => {
                let x = cross.norm.forward(middle.clone());
                middle + cross.attention.cross_attention(x, &memory, context)
            }
            _ => middle,
        };
        let x = self.post_attention_norm.forward(middle.clone());
        let after = middle + scaled(self.feed_forward.forward(x, context, pass), self.multiplier);
        if let Some(observer) = pass.observer.as_deref_mut() {
            observer.block_output(self.id, before, &after);
        }
        after
    }
}
