use serde::{Deserialize, Serialize};

use crate::Criterion;

/// Differential privacy of scores: which sums were released, and with how much noise.
///
/// The Gaussian mechanism of zero-concentrated differential privacy ("Concentrated Differential Privacy:
/// Simplifications, Extensions, and Lower Bounds", arXiv 1605.02065), for zero-out neighbours ("How to DP-fy ML", arXiv
/// 2303.00654): data sets that are equal but for one row, whose shares are 0 in one of them. The number of rows is public, and
/// a row that is not scored counts as none. In every layer and for every released quantity, a row adds its *shares*: its own sums,
/// divided by their total over the experts, so that long rows count as much as short ones. The shares of a row have an L1
/// norm of 1, hence an L2 norm of at most 1, and those of all layers and quantities together one of at most √(layers ×
/// quantities).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    /// The criterion whose sums were released; all other sums are 0.
    pub criterion: Criterion,
    /// Noise multiplier: standard deviation of the noise, divided by the L2 sensitivity; above 0.
    pub noise_multiplier: f64,
}

impl Privacy {
    /// Largest noise multiplier: beyond it nothing is left of the sums.
    pub const MAX_NOISE_MULTIPLIER: f64 = 1e6;

    /// Whether the noise multiplier is above 0 and at most [`MAX_NOISE_MULTIPLIER`](Self::MAX_NOISE_MULTIPLIER).
    pub fn is_valid(&self) -> bool {
        self.noise_multiplier > 0.0 && self.noise_multiplier <= Self::MAX_NOISE_MULTIPLIER
    }

    /// Whether a criterion can be computed from the released sums.
    pub fn releases(&self, criterion: Criterion) -> bool {
        criterion.sums().iter().all(|sum| self.criterion.sums().contains(sum))
    }

    /// Standard deviation of the noise on the sum of shares of each expert, in rows.
    pub fn std(&self, n_layers: usize) -> f64 {
        let quantities = n_layers * self.criterion.sums().len();
        self.noise_multiplier * (quantities as f64).sqrt()
    }

    /// ρ of zero-concentrated differential privacy.
    pub fn rho(&self) -> f64 {
        0.5 / (self.noise_multiplier * self.noise_multiplier)
    }

    /// ε of (ε, δ)-differential privacy: ρ + 2√(ρ ln 1/δ).
    pub fn epsilon(&self, delta: f64) -> f64 {
        let rho = self.rho();
        rho + 2.0 * (rho * (1.0 / delta).ln()).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epsilon_of_a_noise_multiplier() {
        let privacy = Privacy { criterion: Criterion::Task, noise_multiplier: 2.0 };
        // By hand: ρ = 1/8, and 1/8 + 2 √(ln(10⁵) / 8) = 0.125 + 2 · 1.19963.
        assert!((privacy.rho() - 0.125).abs() < 1e-15);
        assert!((privacy.epsilon(1e-5) - 2.524_26).abs() < 1e-4, "{}", privacy.epsilon(1e-5));
    }

    #[test]
    fn noise_grows_with_layers_and_quantities() {
        let of = |criterion| Privacy { criterion, noise_multiplier: 1.5 }.std(8);
        assert!((of(Criterion::Task) - 1.5 * 8f64.sqrt()).abs() < 1e-12);
        assert!((of(Criterion::Reap) - 1.5 * 4.0).abs() < 1e-12);
    }

    #[test]
    fn criteria_of_the_same_sums_are_released_together() {
        let of = |criterion| Privacy { criterion, noise_multiplier: 1.0 };
        let released = |privacy: Privacy| -> Vec<&str> {
            let all = Criterion::ALL.iter().filter(|it| privacy.releases(**it));
            all.map(|criterion| criterion.name()).collect()
        };
        assert_eq!(released(of(Criterion::Task)), ["task", "random"]);
        assert_eq!(released(of(Criterion::Frequency)), ["frequency", "esft_token", "random"]);
        assert_eq!(
            released(of(Criterion::Reap)),
            ["frequency", "task", "reap", "esft_token", "random"]
        );
    }
}
