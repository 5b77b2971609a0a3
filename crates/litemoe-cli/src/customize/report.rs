use std::collections::BTreeMap;

use litemoe_adapter::MountChoice;
use litemoe_core::{PlanOptions, WeightDtype};
use serde::{Deserialize, Serialize};

use crate::args::mount::MountOptions;
use crate::args::tune::TuneArgs;
use crate::commands::eval::Evaluated;
use crate::commands::extract::ExpertBytes;

/// Accuracy and perplexity on an app's test rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quality {
    /// Exact-match accuracy: share of rows for which greedy decoding gives the completion, in [0, 1].
    pub(crate) accuracy: f64,
    /// 95 % bootstrap confidence interval of the accuracy, over rows.
    pub(crate) accuracy_95: [f64; 2],
    /// Perplexity: exp of the mean negative log-likelihood over all completion tokens.
    pub(crate) perplexity: f64,
}

impl Quality {
    pub(super) fn of(evaluated: &Evaluated) -> Self {
        let Evaluated { accuracy, accuracy_95, perplexity, .. } = *evaluated;
        Self { accuracy, accuracy_95, perplexity }
    }
}

/// Report for one app.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AppReport {
    pub(crate) app: String,
    pub(crate) budget: String,
    /// Number of evaluated test rows.
    pub(crate) rows: u64,
    pub(crate) seed: u64,
    pub(crate) options: RecordedOptions,
    /// Fingerprint of the foundation.
    pub(crate) fingerprint: String,
    pub(crate) foundation: Quality,
    pub(crate) proxy: Quality,
    /// `None`, as for all controls, with `--no-controls`.
    pub(crate) random_proxy: Option<Quality>,
    pub(crate) random_mounted: Option<Quality>,
    pub(crate) tuned_proxy: Quality,
    pub(crate) mounted: Quality,
    pub(crate) full: Option<Quality>,
    /// Routing and scale of the mounted adapter; `None` if the foundation alone is better, or with `--scale 0`.
    pub(crate) choice: Option<MountChoice>,
    /// Routing and scale of the adapter tuned on the random proxy.
    pub(crate) random_choice: Option<MountChoice>,
    pub(crate) recovery: Option<f64>,
    pub(crate) recovery_perplexity: Option<f64>,
    pub(crate) expert_bytes: ExpertBytes,
    pub(crate) adapter_bytes: AdapterBytes,
    pub(crate) serve_bytes: ServeBytes,
    pub(crate) peak_bytes: PeakBytes,
    pub(crate) seconds: BTreeMap<String, f64>,
}

/// Options and program version of a report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RecordedOptions {
    pub(crate) plan: PlanOptions,
    pub(crate) tune: TuneArgs,
    /// Number of training rows used for the scores.
    pub(crate) calibration_rows: usize,
    /// Kind of the refit.
    pub(crate) refit: String,
    pub(crate) refit_rank: usize,
    /// Mounting options.
    pub(crate) mount: MountOptions,
    /// Number format of the frozen weights of tuning, mounting and evaluation.
    #[serde(default)]
    pub(crate) dtype: WeightDtype,
    pub(crate) program: String,
    /// Threads per micro-batch of tuning, not `--threads`.
    pub(crate) threads: usize,
}

/// Bytes of adapter files.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct AdapterBytes {
    /// The mounted adapter; 0 if it is not mounted.
    pub(crate) mounted: u64,
    pub(crate) full: Option<u64>,
}

/// Bytes in memory to serve the app: weights in the number format of the run, and LoRA matrices in f32.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ServeBytes {
    /// The mounted adapter, in addition to the foundation; 0 if it is not mounted.
    pub(crate) mounted: u64,
    pub(crate) full: Option<u64>,
    /// Proxy and adapter, without a foundation.
    pub(crate) proxy: u64,
    /// The foundation alone.
    pub(crate) foundation: u64,
}

/// Peak anonymous memory of the two tuning stages, each in its own process.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct PeakBytes {
    pub(crate) tune_proxy: u64,
    pub(crate) tune_full: Option<u64>,
}

/// Report of `customize`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) apps: Vec<AppReport>,
}

/// Recovery in accuracy: share of full tuning's gain that the mounted adapter keeps; `None` if full tuning gains less
/// than five points.
pub(crate) fn recovery(foundation: Quality, mounted: Quality, full: Quality) -> Option<f64> {
    let gain = full.accuracy - foundation.accuracy;
    (gain >= 0.05).then(|| (mounted.accuracy - foundation.accuracy) / gain)
}

/// Recovery in log-perplexity; `None` if full tuning gains less than .05 nats.
pub(crate) fn recovery_perplexity(
    foundation: Quality,
    mounted: Quality,
    full: Quality,
) -> Option<f64> {
    let gain = foundation.perplexity.ln() - full.perplexity.ln();
    (gain >= 0.05).then(|| (foundation.perplexity.ln() - mounted.perplexity.ln()) / gain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quality(accuracy: f64, nats: f64) -> Quality {
        Quality { accuracy, accuracy_95: [accuracy; 2], perplexity: nats.exp() }
    }

    #[test]
    fn recovery_is_a_share_of_the_full_gain() {
        let (foundation, mounted, full) = (quality(0.1, 4.0), quality(0.4, 2.0), quality(0.5, 1.5));
        assert!((recovery(foundation, mounted, full).expect("a gain") - 0.75).abs() < 1e-9);
        assert!(
            (recovery_perplexity(foundation, mounted, full).expect("a gain") - 0.8).abs() < 1e-9
        );
    }

    #[test]
    fn there_is_no_recovery_of_nothing() {
        let (foundation, full) = (quality(0.50, 1.00), quality(0.54, 0.96));
        assert_eq!(recovery(foundation, full, full), None);
        assert_eq!(recovery_perplexity(foundation, full, full), None);
    }
}
