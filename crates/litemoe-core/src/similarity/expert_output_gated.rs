use crate::LayerSums;

/// Similarity of gated expert outputs (REAM, arXiv 2604.04356; HC-SMoE, "Retraining-Free Merging of Sparse MoE via
/// Hierarchical Clustering", arXiv 2410.08589): cosine similarity of the experts' mean g·f, computed from the sums,
/// which differ from the means only by a positive factor.
///
/// `None` if Σ g·f was not measured.
pub fn expert_output_gated(sums: &LayerSums) -> Option<Vec<Vec<f64>>> {
    let outputs: Vec<&[f64]> =
        sums.gated_output.as_ref()?.iter().map(|sums| sums.values()).collect();
    let n = outputs.len();
    let entry = |i: usize, j: usize| if i == j { 1.0 } else { cosine(outputs[i], outputs[j]) };
    Some((0..n).map(|i| (0..n).map(|j| entry(i, j)).collect()).collect())
}

/// Cosine similarity of two vectors; 0 if either is zero, as for an expert without tokens.
fn cosine(x: &[f64], y: &[f64]) -> f64 {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(a, b)| a * b).sum::<f64>();
    let norms = (dot(x, x) * dot(y, y)).sqrt();
    if norms > 0.0 { dot(x, y) / norms } else { 0.0 }
}
