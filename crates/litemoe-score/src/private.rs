use std::collections::BTreeMap;

use litemoe_core::{
    BatchLimits, BlockDriver, ExpertScores, ExpertSum, LanguageModel, LayerId, LayerSums, MoeLayer,
    Privacy, Shard, TokenRow, batches, sha256_hex,
};
use rand::{CryptoRng, RngExt};
use rand_distr::{Distribution, StandardNormal};

use crate::batches::{Row, rounds};
use crate::score::{check, scores_of};
use crate::{About, Measurement, ScoreError, ScoreOptions, Scored, Warning};

/// Released sums are multiples of 1 / `GRID` rows, so that the last bits of the noise tell nothing of what it hides ("On
/// Significance of the Least Significant Bits For Differential Privacy", doi 10.1145/2382196.2382264).
const GRID: f64 = 16.0;

/// Measures expert scores with [differential privacy](Privacy), by the Gaussian mechanism: each row is measured alone and
/// adds its shares, then noise is added, and the sums are rounded. The hashes of the rows are replaced by random numbers.
///
/// The guarantee is that of one run: with each further run on the same rows, their ρ add up. `rng` must not be
/// predictable.
///
/// `progress` receives the cumulative count of rows times blocks, `rows.len() * model.n_blocks()` at the end.
///
/// # Errors
/// Those of [`score`](crate::score()), a noise multiplier that is not above 0 and at most 1e6, a criterion that is not
/// measured, and similarities, which have no privacy.
pub fn score_private(
    model: &(impl LanguageModel + ?Sized),
    rows: &[impl TokenRow],
    options: &ScoreOptions,
    privacy: Privacy,
    about: &About,
    rng: &mut impl CryptoRng,
    mut progress: impl FnMut(usize),
) -> Result<Scored, ScoreError> {
    if !privacy.is_valid() {
        return Err(ScoreError::NoiseMultiplier { given: privacy.noise_multiplier });
    }
    if privacy.criterion.sums().is_empty() {
        return Err(ScoreError::NothingReleased { criterion: privacy.criterion });
    }
    if !options.similarities.is_empty() {
        return Err(ScoreError::PrivateSimilarity);
    }
    let rows: Vec<Row<'_>> = rows.iter().map(Row::of).collect();
    check(model, &rows, options)?;
    let limits = BatchLimits { rows: 1, tokens: options.batch_tokens };
    let mut total = Measurement::new(model.moe_layers(), &[]);
    let mut shares = Shares::new(model, privacy);
    let mut done = 0;
    for batches in rounds(batches(&rows, limits), options.held_tokens) {
        let mut driver = BlockDriver::new(model, &batches);
        for _ in 0..model.n_blocks() {
            // Of one row after the other: each begins with empty sums.
            let mut row = Measurement::new(model.moe_layers(), &[]);
            driver.run_block(&mut row, |row, batch| {
                let of_row = std::mem::replace(row, Measurement::new(model.moe_layers(), &[]));
                total.merge(&of_row)?;
                total.check_finite()?;
                shares.add(&of_row.into_layers());
                done += batches[batch].rows.len();
                progress(done);
                Ok::<(), ScoreError>(())
            })?;
        }
    }
    total.check_reported()?;
    let n_rows = rows.len() as u64;
    let layers = shares.release(model.moe_layers(), n_rows, rng);
    let sha256 = sha256_hex(&rng.random::<[u8; 32]>());
    let scores = ExpertScores {
        input_sha256: sha256_hex(sha256.as_bytes()),
        shards: vec![Shard { sha256, rows: n_rows, tokens: 0 }],
        batch: limits.rows,
        privacy: Some(privacy),
        ..scores_of(layers, options, about)
    };
    let warnings = Warning::of_rows(n_rows).into_iter().collect();
    Ok(Scored { scores, warnings })
}

/// Sums of the rows' shares.
struct Shares {
    privacy: Privacy,
    /// For each layer, one sum per expert for each released quantity.
    layers: BTreeMap<LayerId, Vec<Vec<f64>>>,
}

impl Shares {
    fn new(model: &(impl LanguageModel + ?Sized), privacy: Privacy) -> Self {
        let quantities = privacy.criterion.sums().len();
        let layers = model.moe_layers().iter();
        let layers =
            layers.map(|layer| (layer.id, vec![vec![0.0; layer.n_experts]; quantities])).collect();
        Self { privacy, layers }
    }

    /// Adds the shares of one row. Layers that it has not reached yet have none.
    fn add(&mut self, row: &BTreeMap<LayerId, LayerSums>) {
        for (layer, quantities) in &mut self.layers {
            for (shares, &quantity) in quantities.iter_mut().zip(self.privacy.criterion.sums()) {
                let values = values(&row[layer], quantity);
                let total: f64 = values.iter().map(|value| value.abs()).sum();
                if total > 0.0 {
                    shares.iter_mut().zip(values).for_each(|(sum, value)| *sum += value / total);
                }
            }
        }
    }

    /// Adds noise and rounds.
    fn release(
        self,
        layers: &[MoeLayer],
        n_rows: u64,
        rng: &mut impl CryptoRng,
    ) -> BTreeMap<LayerId, LayerSums> {
        let std = self.privacy.std(self.layers.len());
        let mut released = BTreeMap::new();
        for layer in layers {
            let mut sums = LayerSums { tokens: n_rows, ..LayerSums::empty(layer, &[]) };
            for (shares, &quantity) in
                self.layers[&layer.id].iter().zip(self.privacy.criterion.sums())
            {
                let mut noisy = |share: &f64| {
                    let noise: f64 = StandardNormal.sample(rng);
                    (share + std * noise).max(0.0)
                };
                let noisy: Vec<f64> = shares.iter().map(&mut noisy).collect();
                set(&mut sums, quantity, &noisy);
            }
            released.insert(layer.id, sums);
        }
        released
    }
}

/// The sums of a quantity.
fn values(sums: &LayerSums, quantity: ExpertSum) -> Vec<f64> {
    match quantity {
        ExpertSum::Count => sums.count.iter().map(|&count| count as f64).collect(),
        ExpertSum::Prob => sums.prob.values().to_vec(),
        ExpertSum::Gate => sums.gate.values().to_vec(),
        ExpertSum::Norm => sums.norm.values().to_vec(),
        ExpertSum::GateNorm => sums.gate_norm.values().to_vec(),
    }
}

/// Sets the sums of a quantity to rounded shares; a token counts for `top_k` experts.
fn set(sums: &mut LayerSums, quantity: ExpertSum, shares: &[f64]) {
    let rounded: Vec<f64> = shares.iter().map(|share| (share * GRID).round() / GRID).collect();
    match quantity {
        ExpertSum::Count => {
            let top_k = sums.top_k as f64;
            sums.count = shares.iter().map(|share| (share * top_k).round() as u64).collect();
        }
        ExpertSum::Prob => sums.prob.add_each(&rounded),
        ExpertSum::Gate => sums.gate.add_each(&rounded),
        ExpertSum::Norm => sums.norm.add_each(&rounded),
        ExpertSum::GateNorm => sums.gate_norm.add_each(&rounded),
    }
}
