use litemoe_core::ExpertScores;

use crate::ScoreError;
use crate::criteria;
use crate::sums::LayerTotals;

/// Decimal numbers in a file may be off by a last bit.
const TOLERANCE: f64 = 1e-9;

/// Checks that the scores in a record are what its sums make of them, so that one that was edited in part is not
/// mistaken for a measurement.
///
/// # Errors
/// [`ScoreError::Contradiction`]
pub fn check(scores: &ExpertScores) -> Result<(), ScoreError> {
    for (&layer, recorded) in &scores.layers {
        let totals = LayerTotals { tokens: recorded.tokens, sums: recorded.sums.clone() };
        let expected = criteria::scores(layer, &totals, recorded.top_k, scores.seed);
        for (criterion, values) in &recorded.scores {
            if !expected.get(criterion).is_some_and(|expected| agree(values, expected)) {
                return Err(ScoreError::Contradiction { layer, criterion: *criterion });
            }
        }
    }
    Ok(())
}

fn agree(values: &[f64], expected: &[f64]) -> bool {
    let near = |(x, y): (&f64, &f64)| (x - y).abs() <= TOLERANCE * y.abs();
    values.len() == expected.len() && values.iter().zip(expected).all(near)
}
