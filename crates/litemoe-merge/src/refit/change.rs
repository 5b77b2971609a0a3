use burn::tensor::Tensor;

use super::GatedInner;
use super::seen::add_rows;

/// Change of a layer's down projections, one matrix per expert, stored `[in, out]`.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // only one is in memory at a time
pub enum DownChange {
    /// Full-rank change of each expert, `[d_expert, d_model]`.
    Full(Vec<Tensor<2>>),
    /// Low-rank change A·B of each expert; B is common to the layer.
    LowRank {
        /// `[d_expert, rank]`
        a: Vec<Tensor<2>>,
        /// `[rank, d_model]`
        b: Tensor<2>,
    },
}

impl DownChange {
    /// Applies the change to a block's output, which is linear in the down projections: adds `multiplier` times Z·ΔW to
    /// `output`, `[tokens, d_model]`.
    pub(super) fn applied(
        &self,
        output: Tensor<2>,
        inner: &[GatedInner],
        multiplier: f64,
    ) -> Tensor<2> {
        match self {
            Self::Full(down) => inner.iter().fold(output, |sum, seen| {
                let change = seen.inner.clone().matmul(down[seen.expert].clone());
                add_rows(sum, &seen.tokens, change.mul_scalar(multiplier))
            }),
            Self::LowRank { a, b } => {
                let zeros = Tensor::zeros([output.dims()[0], b.dims()[0]], &output.device());
                let narrow = inner.iter().fold(zeros, |sum, seen| {
                    add_rows(sum, &seen.tokens, seen.inner.clone().matmul(a[seen.expert].clone()))
                });
                output + narrow.matmul(b.clone()).mul_scalar(multiplier)
            }
        }
    }
}
