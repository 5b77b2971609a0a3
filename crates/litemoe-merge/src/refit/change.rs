use burn::tensor::Tensor;

use super::GatedInner;
use super::seen::add_rows;

/// A change of a layer's down projections, as they multiply: `[in, out]`, an expert after the other.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // one is in memory at a time
pub enum DownChange {
    /// What is added to each, `[d_expert, d_model]`.
    Full(Vec<Tensor<2>>),
    /// A·B is, with one B for the layer.
    LowRank {
        /// `[d_expert, rank]`
        a: Vec<Tensor<2>>,
        /// `[rank, d_model]`
        b: Tensor<2>,
    },
}

impl DownChange {
    /// Moves a block's output to that of the changed block, since it is linear in the down projections: adds `multiplier` times
    /// Z·ΔW to `output`, `[tokens, d_model]`.
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
