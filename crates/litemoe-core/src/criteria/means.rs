/// Means over the tokens routed to each expert; 0 for an expert without tokens.
pub(super) fn means(values: &[f64], count: &[u64]) -> Vec<f64> {
    values.iter().zip(count).map(|(value, &n)| value / (n as f64).max(1.0)).collect()
}
