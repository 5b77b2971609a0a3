use crate::LayerSums;

/// Token selection ratio, ESFT-Token ("Let the Expert Stick to His Last: Expert-Specialized Fine-Tuning for Sparse
/// Architectural Large Language Models", arXiv 2407.01906): |X_e| / (T·top_k).
pub fn esft_token(sums: &LayerSums) -> Vec<f64> {
    let choices = sums.tokens as f64 * sums.top_k as f64;
    sums.count.iter().map(|&count| count as f64 / choices).collect()
}
