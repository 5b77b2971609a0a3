use litemoe_core::Lora;

use crate::evaluate::floats;

/// Frobenius norm of a LoRA's update, ‖scale · A·B‖. The Gram matrices of A and B give it without the product: its square
/// is scale² Σᵢⱼ (AᵀA)ᵢⱼ (BBᵀ)ᵢⱼ.
pub fn delta_norm(lora: &Lora) -> f64 {
    let (rank, [_, d_out]) = (lora.rank(), lora.b.dims());
    let (a, b) = (floats(lora.a.clone()), floats(lora.b.clone()));
    let column = |slot: usize| a.iter().skip(slot).step_by(rank).copied().collect();
    let a: Vec<Vec<f32>> = (0..rank).map(column).collect();
    let b: Vec<Vec<f32>> = b.chunks(d_out).map(<[f32]>::to_vec).collect();
    f64::from(lora.scale).abs() * product_norm(&a, &b)
}

/// ‖Σᵢ aᵢ ⊗ bᵢ‖ of the rank-one components of a matrix.
pub(crate) fn product_norm(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    };
    let entry = |i: usize, j: usize| dot(&a[i], &a[j]) * dot(&b[i], &b[j]);
    let rank = a.len();
    let square: f64 =
        (0..rank).flat_map(|i| (0..rank).map(move |j| (i, j))).map(|(i, j)| entry(i, j)).sum();
    // Rounding can make the square of a cancelled sum negative.
    square.max(0.0).sqrt()
}
