//! Fuzzed `scores.json`: it is refused, or everything read from it can be used.

use litemoe_core::{Criterion, ExpertScores, SimilarityKind};
use litemoe_fixtures::fuzz::{JSON_VALUES, fuzz};
use litemoe_score::{ScoreOptions, score};

use crate::properties::about;
use crate::toy::{Shape, Toy};

#[test]
fn fuzzed_scores() {
    let options = ScoreOptions { similarities: SimilarityKind::ALL.to_vec(), ..Default::default() };
    let scored = |blocks, rows: &[Vec<u32>]| {
        let model = Toy::random(Shape { blocks, n_experts: 3, top_k: 2 }, 1);
        score(&model, rows, &options, &about(), drop).unwrap().scores
    };
    let honest = scored(2, &[vec![1, 2, 3], vec![4, 5]]);
    let other = scored(2, &[vec![6, 7]]);
    let documents = [&honest, &other, &scored(1, &[vec![8]])];
    let documents = documents.map(|scores| serde_json::to_vec(scores).unwrap());
    let mut read = 0;
    fuzz(&documents, JSON_VALUES, |_, document| {
        let Ok(json) = std::str::from_utf8(document) else { return };
        let Ok(scores) = ExpertScores::from_json(json) else { return };
        read += 1;
        for (&layer, sums) in &scores.layers {
            for criterion in Criterion::ALL {
                assert_eq!(criterion.values(layer, sums, scores.seed).len(), sums.n_experts());
            }
        }
        SimilarityKind::ALL.iter().for_each(|&kind| drop(scores.similarity(kind)));
        for honest in [&honest, &other] {
            if let Ok(sum) = scores.clone().merged(honest) {
                let json = serde_json::to_string(&sum).unwrap();
                assert_eq!(ExpertScores::from_json(&json).unwrap(), sum);
            }
        }
    });
    assert!(read > 0, "not one document was read");
}
