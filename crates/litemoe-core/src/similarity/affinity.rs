use crate::LayerSums;

/// Affinity ("LiteMoE: Customizing On-device LLM Serving via Proxy Submodel Tuning", doi 10.1145/3666025.3699355,
/// §3.3): mean over tokens of (1−κ)(1−|pᵢ−pⱼ|) + κ(pᵢ+pⱼ)/2.
///
/// `None` if the gaps |pᵢ−pⱼ| were not measured.
///
/// # Panics
/// When the sums are not [consistent](LayerSums::is_consistent).
pub fn affinity(sums: &LayerSums, kappa: f64) -> Option<Vec<Vec<f64>>> {
    let (gaps, prob) = (sums.gap.as_ref()?.values(), sums.prob.values());
    let (n, tokens) = (sums.n_experts(), sums.tokens as f64);
    let value = |i: usize, j: usize| {
        let (low, high) = (i.min(j), i.max(j));
        let sum = if i == j { 0.0 } else { gaps[low * (2 * n - low - 1) / 2 + high - low - 1] };
        let gap = sum / tokens;
        let level = (prob[i] + prob[j]) / (2.0 * tokens);
        (1.0 - kappa) * (1.0 - gap) + kappa * level
    };
    Some((0..n).map(|i| (0..n).map(|j| value(i, j)).collect()).collect())
}
