use anyhow::bail;
use litemoe_core::{Criterion, ExpertScores, LayerId};
use serde::Serialize;

/// Distribution of a criterion over the experts of a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Shares {
    /// Share of each expert in the layer's sum; all 0 if that is 0.
    pub(super) shares: Vec<f64>,
    /// Shannon entropy of the shares, in nats.
    pub(super) entropy: f64,
    /// Effective number of experts: exp of the entropy; 0 if all scores are 0.
    pub(super) effective: f64,
    /// Number of experts with a score of 0.
    pub(super) unused: usize,
}

impl Shares {
    /// Shares of a layer of scores.
    ///
    /// # Errors
    /// A score that is negative or not finite.
    pub(super) fn of(
        scores: &ExpertScores,
        layer: LayerId,
        criterion: Criterion,
    ) -> anyhow::Result<Self> {
        let values = scores.of(layer, criterion).unwrap_or_default();
        if let Some(expert) = values.iter().position(|value| !(value.is_finite() && *value >= 0.0))
        {
            bail!("{}: its score {criterion} is {}", layer.expert(expert), values[expert]);
        }
        Ok(Self::of_values(&values))
    }

    fn of_values(values: &[f64]) -> Self {
        let total: f64 = values.iter().sum();
        let share = |value: &f64| if total > 0.0 { value / total } else { 0.0 };
        let shares: Vec<f64> = values.iter().map(share).collect();
        let used = shares.iter().filter(|share| **share > 0.0);
        let entropy = used.map(|share| -share * share.ln()).sum::<f64>().max(0.0);
        let unused = shares.iter().filter(|share| **share <= 0.0).count();
        let effective = if total > 0.0 { entropy.exp() } else { 0.0 };
        Self { shares, entropy, effective, unused }
    }

    /// The share of each expert if all were equal.
    pub(super) fn mean(&self) -> f64 {
        1.0 / self.shares.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_counts_the_experts_that_are_used() {
        let even = Shares::of_values(&[2.0; 8]);
        assert!((even.effective - 8.0).abs() < 1e-12 && (even.entropy - 8f64.ln()).abs() < 1e-12);
        // By hand: ½, ¼, ¼ have ½ ln 2 + ½ ln 4 = 1.5 ln 2.
        let uneven = Shares::of_values(&[2.0, 0.0, 1.0, 1.0]);
        assert!((uneven.entropy - 1.5 * 2f64.ln()).abs() < 1e-12);
        assert!((uneven.effective - 2f64.powf(1.5)).abs() < 1e-12);
        assert_eq!((uneven.unused, &uneven.shares[..]), (1, &[0.5, 0.0, 0.25, 0.25][..]));
        let none = Shares::of_values(&[0.0; 3]);
        assert_eq!((none.entropy, none.effective, none.unused), (0.0, 0.0, 3));
    }
}
