use std::collections::BTreeMap;

use litemoe_core::{
    Criterion, ExactSums, ExpertScores, Fingerprint, LayerId, LayerSums, MoeLayer, SCORES_VERSION,
    ScoreOrigin, ScoresError, Shard, SimilarityKind,
};
use serde_json::{Value, json};

const LAYER: MoeLayer = MoeLayer {
    id: LayerId::decoder(1),
    n_experts: 3,
    top_k: 2,
    groups: None,
    d_model: 4,
    d_expert: 1,
    expert_bytes: 1,
};

/// Scores of one shard of one row.
fn scores(shard: &str) -> ExpertScores {
    let mut sums = LayerSums::empty(&LAYER, SimilarityKind::ALL);
    sums.tokens = 5;
    sums.count = vec![5, 4, 1];
    sums.prob = ExactSums::from(vec![2.5, 2.0, 0.5]);
    sums.gate.add_each(&[0.1, 0.2, 0.3]);
    ExpertScores {
        version: SCORES_VERSION,
        program: "0".into(),
        fingerprint: Fingerprint::new("f"),
        model: "m".into(),
        family: "toy".into(),
        origin: ScoreOrigin::Measured,
        shards: vec![Shard { sha256: shard.into(), rows: 1, tokens: 5 }],
        input_sha256: "d".into(),
        batch: 16,
        batch_tokens: 1024,
        seed: 0,
        kappa: 0.2,
        privacy: None,
        layers: BTreeMap::from([(LAYER.id, sums)]),
    }
}

fn written(scores: &ExpertScores) -> Value {
    serde_json::to_value(scores).expect("JSON")
}

#[test]
fn either_origin_is_read_back() {
    for &origin in ScoreOrigin::ALL {
        let scores = ExpertScores { origin, ..scores("a") };
        assert_eq!(written(&scores)["origin"], origin.name());
        let read = ExpertScores::from_json(&written(&scores).to_string()).expect("scores");
        assert_eq!(read, scores);
    }
}

#[test]
fn another_version_is_refused_by_its_number() {
    // Version 1 has none of version 2's fields.
    let old = r#"{"sequences": 1, "layers": {"0": {"scores": {}}}, "version": 1}"#;
    let error = ExpertScores::from_json(old).expect_err("another version");
    assert!(matches!(error, ScoresError::Version { found: 1 }));
    let message =
        "the scores have version 1, but this program reads version 2: score the model again";
    assert_eq!(error.to_string(), message);
    assert!(matches!(ExpertScores::from_json("{}"), Err(ScoresError::Json(_))));
}

#[test]
fn sums_of_different_experts_are_refused() {
    let fine = written(&scores("a"));
    for list in ["count", "prob", "gate", "norm", "gate_norm", "gap", "gated_output"] {
        let mut broken = fine.clone();
        let sums = &mut broken["layers"]["1"][list];
        let values = if list == "count" || list == "gated_output" { sums } else { &mut sums[0] };
        values.as_array_mut().expect("a list").pop();
        let error = ExpertScores::from_json(&broken.to_string()).expect_err(list);
        assert!(matches!(error, ScoresError::Experts { layer } if layer == LAYER.id), "{list}");
    }
}

#[test]
fn shards_add_up_in_any_order() {
    let (a, b, c) = (scores("a"), scores("b"), scores("c"));
    let sum = |x: &ExpertScores, y, z| x.clone().merged(y).expect("two").merged(z).expect("three");
    let whole = sum(&a, &b, &c);
    assert_eq!((whole.rows(), whole.tokens()), (3, 15));
    assert_eq!(whole.of(LAYER.id, Criterion::EsftToken), Some(vec![0.5, 0.4, 0.1]));
    assert_eq!(written(&sum(&c, &a, &b)), written(&whole));
    let other_way = a.merged(&c.merged(&b).expect("two")).expect("three");
    assert_eq!(written(&other_way), written(&whole));
}

#[test]
fn scores_that_do_not_add_up_are_refused() {
    let refusal = |other: ExpertScores| scores("a").merged(&other).expect_err("refused");
    assert!(matches!(refusal(scores("a")), ScoresError::SameRows { sha256 } if sha256 == "a"));
    let both = scores("b").merged(&scores("c")).expect("two");
    assert!(matches!(both.merged(&scores("c")), Err(ScoresError::SameRows { .. })));
    let fingerprint = Fingerprint::new("g");
    let other = ExpertScores { fingerprint, ..scores("b") };
    assert!(matches!(refusal(other), ScoresError::OtherModel { .. }));
    for (other, name) in [
        (ExpertScores { seed: 1, ..scores("b") }, "seed"),
        (ExpertScores { kappa: 0.5, ..scores("b") }, "kappa"),
        (ExpertScores { batch: 8, ..scores("b") }, "batch"),
        (ExpertScores { batch_tokens: 8, ..scores("b") }, "batch_tokens"),
        (ExpertScores { origin: ScoreOrigin::Predicted, ..scores("b") }, "origin"),
    ] {
        assert!(matches!(refusal(other), ScoresError::OtherOption { option } if option == name));
    }
    let edited = |edit: fn(&mut LayerSums)| {
        let mut other = scores("b");
        other.layers.values_mut().for_each(edit);
        refusal(other)
    };
    assert!(matches!(edited(|sums| sums.top_k = 1), ScoresError::OtherLayers));
    assert!(matches!(edited(|sums| sums.gap = None), ScoresError::OtherLayers));
    assert!(matches!(
        refusal(ExpertScores { layers: BTreeMap::new(), ..scores("b") }),
        ScoresError::OtherLayers
    ));
    let huge = |sums: &mut LayerSums| sums.norm.add(0, f64::INFINITY);
    assert!(matches!(edited(huge), ScoresError::NotFinite { layer } if layer == LAYER.id));
}

#[test]
fn similarities_are_there_where_they_were_measured() {
    let mut scores = scores("a");
    for &kind in SimilarityKind::ALL {
        assert_eq!(scores.similarity(kind).expect("measured").layers[&LAYER.id].len(), 3);
    }
    let mut json = written(&scores);
    json["layers"]["1"]["gap"] = json!([[1.0, 2.0, 3.0]]);
    let read = ExpertScores::from_json(&json.to_string()).expect("scores");
    let table = &read.similarity(SimilarityKind::Affinity).expect("measured").layers[&LAYER.id];
    // (1−κ)(1−gap/T) + κ(pᵢ+pⱼ)/2T
    let expected = |gap: f64, level: f64| 0.8 * (1.0 - gap / 5.0) + 0.2 * level / 10.0;
    for (i, j, value) in [
        (0, 1, expected(1.0, 4.5)),
        (0, 2, expected(2.0, 3.0)),
        (2, 1, expected(3.0, 2.5)),
        (1, 1, expected(0.0, 4.0)),
    ] {
        assert!((table[i][j] - value).abs() < 1e-15 && table[i][j] == table[j][i]);
    }
    scores.layers.values_mut().for_each(|sums| (sums.gap, sums.gated_output) = (None, None));
    assert!(SimilarityKind::ALL.iter().all(|&kind| scores.similarity(kind).is_none()));
}
