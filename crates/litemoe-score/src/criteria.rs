use std::collections::BTreeMap;

use litemoe_core::{Criterion, LayerId, Stack};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::sums::LayerTotals;

/// Every criterion's values in a layer, one per expert.
pub(crate) fn scores(
    layer: LayerId,
    totals: &LayerTotals,
    top_k: usize,
    seed: u64,
) -> BTreeMap<Criterion, Vec<f64>> {
    let values = |criterion| match criterion {
        Criterion::Random => random(layer, totals.sums.count.len(), seed),
        _ => measured(criterion, totals, top_k),
    };
    Criterion::ALL.iter().map(|&criterion| (criterion, values(criterion))).collect()
}

fn measured(criterion: Criterion, totals: &LayerTotals, top_k: usize) -> Vec<f64> {
    let sums = &totals.sums;
    let tokens = totals.tokens as f64;
    let over = |values: &[f64], n: f64| values.iter().map(|value| value / n).collect();
    // an expert that no token chose has sums of 0, so its means are 0
    let mean =
        |values: &[f64]| values.iter().zip(&sums.count).map(|(v, n)| v / n.max(1.0)).collect();
    match criterion {
        Criterion::Litemoe => over(&sums.prob, tokens),
        Criterion::Frequency => over(&sums.count, tokens),
        Criterion::SoftCount => sums.gate.clone(),
        Criterion::Ean => sums.norm.clone(),
        Criterion::Task => sums.gate_norm.clone(),
        Criterion::Reap => mean(&sums.gate_norm),
        Criterion::Man => mean(&sums.norm),
        Criterion::EsftGate => over(&sums.gate, tokens),
        Criterion::EsftToken => over(&sums.count, tokens * top_k as f64),
        Criterion::Random => unreachable!("random values are drawn, not measured"),
    }
}

/// Uniform values in [0, 1): a stream of its own for every layer, so that a layer's values do not depend on the
/// others.
fn random(layer: LayerId, n_experts: usize, seed: u64) -> Vec<f64> {
    let stack = match layer.stack {
        Stack::Decoder => 0,
        Stack::Encoder => 1 << 63,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stack | layer.block as u64);
    (0..n_experts).map(|_| rng.random()).collect()
}
