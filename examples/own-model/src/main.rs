//! Scores the experts of a custom model type that litemoe does not know.

mod model;

use std::error::Error;

use burn::tensor::Device;
use litemoe_core::{Criterion, ExpertScores, Fingerprint, LayerId};
use litemoe_score::{About, ScoreError, ScoreOptions, score};

use crate::model::Compass;

fn main() -> Result<(), Box<dyn Error>> {
    // Expert 2 has the largest outputs, and the app's rows are routed to it most often.
    let model = Compass::new([1.0, 1.0, 5.0, 1.0], Device::flex());
    let scores = scores_of(&model, &[vec![2, 2, 0], vec![1, 2], vec![3, 2, 2]])?;
    for &criterion in Criterion::ALL {
        if let Some(values) = scores.of(LayerId::decoder(0), criterion) {
            println!("{criterion:<12} {values:.3?}");
        }
    }
    Ok(())
}

fn scores_of(model: &Compass, rows: &[Vec<u32>]) -> Result<ExpertScores, ScoreError> {
    let about = About {
        fingerprint: Fingerprint::new("whatever names the model's weights"),
        model: "compass".to_owned(),
        family: "compass".to_owned(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Ok(score(model, rows, &ScoreOptions::default(), &about, |_| ())?.scores)
}

#[cfg(test)]
mod tests {
    use super::*;
    use litemoe_core::{Input, LanguageModel, Pass};

    fn winner(scores: &ExpertScores, criterion: Criterion) -> usize {
        let values = scores.of(LayerId::decoder(0), criterion).expect("the criterion was scored");
        (0..values.len())
            .max_by(|&i, &j| values[i].total_cmp(&values[j]))
            .expect("there are experts")
    }

    #[test]
    fn the_expert_that_was_made_important_wins() {
        for important in 0..4u32 {
            let mut strengths = [1.0; 4];
            strengths[important as usize] = 5.0;
            let model = Compass::new(strengths, Device::flex());
            let rows = [vec![0, 1, 2, 3], vec![important, important]];
            let scores = scores_of(&model, &rows).expect("the rows are fine");
            for &criterion in Criterion::ALL.iter().filter(|&&other| other != Criterion::Random) {
                assert_eq!(winner(&scores, criterion), important as usize, "{criterion}");
            }
        }
    }

    #[test]
    fn strength_and_demand_are_told_apart() {
        let model = Compass::new([1.0, 1.0, 5.0, 1.0], Device::flex());
        let scores = scores_of(&model, &[vec![0, 0, 0, 2]]).expect("the rows are fine");
        assert_eq!(winner(&scores, Criterion::Frequency), 0);
        assert_eq!(winner(&scores, Criterion::Reap), 2);
    }

    #[test]
    fn the_model_points_to_the_next_token() {
        let model = Compass::new([9.0; 4], Device::flex());
        let logits = model.logits(&Input::decoder(vec![vec![0, 3]]), &mut Pass::plain());
        let next: Vec<i64> = logits.argmax(1).into_data().iter().collect();
        assert_eq!(next, [1, 0]);
    }
}
