use crate::LayerSums;

/// LiteMoE importance ("LiteMoE: Customizing On-device LLM Serving via Proxy Submodel Tuning", doi
/// 10.1145/3666025.3699355): Σ p / T over all tokens.
pub fn litemoe(sums: &LayerSums) -> Vec<f64> {
    sums.prob.values().iter().map(|sum| sum / sums.tokens as f64).collect()
}
