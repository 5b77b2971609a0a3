//! Fuzzed `scores.json`: it is refused, or everything read from it can be used.

use litemoe_core::{Criterion, ExpertScores, SimilarityKind};
use litemoe_fixtures::fuzz::{Bound, fuzz_json};
use litemoe_score::{ScoreOptions, score};

use crate::properties::about;
use crate::toy::{Shape, Toy};

/// Bound of parsing scores; an error repeats the name of an unknown field.
const BOUND: Bound = Bound { fixed: 1 << 14, per_byte: 8, per_value: 160 };

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
    fuzz_json(&documents, |_, document| {
        let Ok(json) = std::str::from_utf8(document) else { return };
        let mut scores = None;
        let allocated = allocation_counter::measure(|| scores = ExpertScores::from_json(json).ok());
        BOUND.check(document, allocated.bytes_max);
        let Some(scores) = scores else { return };
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

#[test]
fn sums_of_many_experts_and_of_many_parts_take_what_their_values_do() {
    let n = 100_000;
    let options = ScoreOptions { similarities: SimilarityKind::ALL.to_vec(), ..Default::default() };
    let model = Toy::random(Shape { blocks: 1, n_experts: 3, top_k: 2 }, 1);
    let scores = score(&model, &[vec![1, 2, 3]], &options, &about(), drop).unwrap().scores;
    let written = serde_json::to_value(&scores).unwrap();
    let layer = written["layers"].as_object().unwrap().keys().next().unwrap();
    let lists = [
        vec!["0"; n].join(","),
        vec!["[0]"; n].join(","),
        vec!["[[0]]"; n].join(","),
        vec!["[]"; n].join(","),
        vec!["[1e300],[1e-300]"; n / 2].join(","),
    ];
    for key in ["count", "prob", "gap", "gated_output"] {
        for list in &lists {
            let mut changed = written.clone();
            changed["layers"][layer][key] = "HERE".into();
            let json = changed.to_string().replace("\"HERE\"", &format!("[{list}]"));
            let allocated = allocation_counter::measure(|| drop(ExpertScores::from_json(&json)));
            BOUND.check(json.as_bytes(), allocated.bytes_max);
        }
    }
}
