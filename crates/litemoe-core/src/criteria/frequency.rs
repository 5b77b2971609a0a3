use crate::LayerSums;

/// Expert usage frequency ("Merge, Then Compress: Demystify Efficient SMoE with Hints from Its Routing Policy", arXiv
/// 2310.01334): |X_e| / T.
pub fn frequency(sums: &LayerSums) -> Vec<f64> {
    sums.count.iter().map(|&count| count as f64 / sums.tokens as f64).collect()
}
