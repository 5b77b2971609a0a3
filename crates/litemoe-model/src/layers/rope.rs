use burn::tensor::{Device, Tensor, TensorData};
use litemoe_kernels::Rotation;

use crate::config::RopeConfig;

/// RoPE cosines and sines of some positions.
#[derive(Debug)]
pub(crate) struct RopeTable {
    /// `[1, columns, 1, d_rotated]`
    cos: Tensor<4>,
    /// Negated in the first half of the dimensions: the sign of the rotation. `[1, columns, 1, d_rotated]`
    sin: Tensor<4>,
    interleaved: bool,
}

impl RopeTable {
    pub(crate) fn new(
        rope: &RopeConfig,
        frequencies: &[f32],
        positions: &[usize],
        device: &Device,
    ) -> Self {
        let scale = rope.attention_factor();
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for &position in positions {
            // Rounded to f32 as in the reference, whose angles are f32.
            let angles = frequencies.iter().map(|frequency| f64::from(position as f32 * frequency));
            let pairs: Vec<(f64, f64)> = angles.map(f64::sin_cos).collect();
            let cosines = pairs.iter().map(|pair| pair.1 as f32 * scale);
            let sines = pairs.iter().map(|pair| pair.0 as f32 * scale);
            cos.extend(cosines.clone().chain(cosines));
            sin.extend(sines.clone().map(|sine| -sine).chain(sines));
        }
        let shape = [1, positions.len(), 1, 2 * frequencies.len()];
        Self {
            cos: Tensor::from_data(TensorData::new(cos, shape), device),
            sin: Tensor::from_data(TensorData::new(sin, shape), device),
            interleaved: rope.interleaved,
        }
    }

    /// The rotations, for a kernel.
    pub(crate) fn rotation(&self) -> Rotation<'_> {
        Rotation { cos: &self.cos, sin: &self.sin, interleaved: self.interleaved }
    }

    pub(crate) fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, seq, heads, width] = x.dims();
        let half = width / 2;
        let x = if self.interleaved {
            let pairs = x.reshape([batch, seq, heads, half, 2]);
            pairs.swap_dims(3, 4).reshape([batch, seq, heads, width])
        } else {
            x
        };
        let (first, second) = (x.clone().narrow(3, 0, half), x.clone().narrow(3, half, half));
        let swapped = Tensor::cat(vec![second, first], 3);
        x * self.cos.clone() + swapped * self.sin.clone()
    }
}
