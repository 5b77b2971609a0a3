use crate::LayerSums;

/// Average gate score, ESFT-Gate ("Let the Expert Stick to His Last: Expert-Specialized Fine-Tuning for Sparse
/// Architectural Large Language Models", arXiv 2407.01906): Σ g over X_e / T.
pub fn esft_gate(sums: &LayerSums) -> Vec<f64> {
    sums.gate.values().iter().map(|sum| sum / sums.tokens as f64).collect()
}
