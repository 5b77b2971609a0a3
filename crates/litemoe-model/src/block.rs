use burn::tensor::Tensor;
use litemoe_core::{LayerId, Pass, Stream};

use crate::attention::{Attention, Place};
use crate::cache::BlockCache;
use crate::feed_forward::FeedForward;
use crate::norm::Norm;
use crate::positions::Positions;

/// A product, where it changes anything.
pub(crate) fn scaled(x: Tensor<2>, factor: f64) -> Tensor<2> {
    if factor == 1.0 { x } else { x.mul_scalar(factor) }
}

/// A decoder block: attention, then the feed-forward part, each on a normalised input and added back.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) id: LayerId,
    pub(crate) input_norm: Norm,
    pub(crate) attention: Attention,
    pub(crate) post_attention_norm: Norm,
    pub(crate) feed_forward: FeedForward,
    /// Of what attention and feed-forward part add.
    pub(crate) multiplier: f64,
}

impl Block {
    pub(crate) fn forward(
        &self,
        stream: Stream,
        positions: &Positions,
        pass: &mut Pass<'_>,
        cache: Option<&mut BlockCache>,
    ) -> Stream {
        let (before, packing) = (stream.hidden, stream.packing);
        let x = self.input_norm.forward(before.clone());
        let place = Place { packing: &packing, positions, adapters: pass.adapters };
        let attended = self.attention.forward(x, place, cache);
        let middle = before.clone() + scaled(attended, self.multiplier);
        let x = self.post_attention_norm.forward(middle.clone());
        let after = middle + scaled(self.feed_forward.forward(x, &packing, pass), self.multiplier);
        if let Some(observer) = pass.observer.as_deref_mut() {
            observer.block_output(self.id, &before, &after);
        }
        Stream { hidden: after, packing }
    }
}
