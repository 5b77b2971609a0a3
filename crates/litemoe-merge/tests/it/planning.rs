use std::collections::BTreeMap;

use litemoe_core::{
    Alignment, Budget, Criterion, ExactSums, ExpertScores, ExpertSource, Fingerprint, LayerId,
    LayerSums, LitemoeOptions, Plan, PlanMethod, PlanOptions, SCORES_VERSION, ScoreOrigin, Shard,
    Similarity, SimilarityKind,
};
use litemoe_merge::{MergeError, PlanReport, make_plan};
use proptest::prelude::*;

use crate::experts::Experts;

pub(crate) const LAYERS: [LayerId; 2] = [LayerId::decoder(1), LayerId::decoder(4)];

/// Scores whose values by this criterion are `values`.
pub(crate) fn scores(values: &[Vec<f64>], criterion: Criterion) -> ExpertScores {
    let layer = |values: &Vec<f64>| {
        let sums = |of| match of {
            true => ExactSums::from(values.clone()),
            false => ExactSums::zeros(values.len()),
        };
        LayerSums {
            tokens: 10,
            top_k: 1,
            count: vec![1; values.len()],
            prob: sums(criterion == Criterion::Litemoe),
            gate: sums(criterion == Criterion::SoftCount),
            norm: sums(criterion == Criterion::Ean),
            gate_norm: sums(criterion == Criterion::Task),
            gap: None,
            gated_output: None,
        }
    };
    ExpertScores {
        version: SCORES_VERSION,
        program: "0".into(),
        fingerprint: Fingerprint::new("f"),
        model: "m".into(),
        family: "toy".into(),
        origin: ScoreOrigin::Measured,
        shards: vec![Shard { sha256: "s".into(), rows: 1, tokens: 10 }],
        input_sha256: "d".into(),
        batch: 16,
        batch_tokens: 1024,
        seed: 0,
        kappa: 0.2,
        privacy: None,
        layers: LAYERS.into_iter().zip(values.iter().map(layer)).collect(),
    }
}

/// Similarity that falls with the distance of the experts' indices.
pub(crate) fn similarity(n_experts: usize) -> Similarity {
    let value = |i: usize, j: usize| 1.0 - i.abs_diff(j) as f64 / n_experts as f64;
    let table: Vec<Vec<f64>> =
        (0..n_experts).map(|i| (0..n_experts).map(|j| value(i, j)).collect()).collect();
    Similarity {
        kind: SimilarityKind::Affinity,
        kappa: 0.2,
        fingerprint: Fingerprint::new("f"),
        input_sha256: "d".into(),
        layers: LAYERS.into_iter().map(|layer| (layer, table.clone())).collect(),
    }
}

pub(crate) fn merging() -> PlanOptions {
    merging_by(LitemoeOptions::default())
}

fn merging_by(options: LitemoeOptions) -> PlanOptions {
    PlanOptions { method: PlanMethod::Litemoe(options), ..PlanOptions::default() }
}

fn plan(
    scores: &ExpertScores,
    similarity: Option<&Similarity>,
    source: &Experts,
    options: &PlanOptions,
) -> Result<(Plan, PlanReport), MergeError> {
    make_plan(scores, similarity, source, options, &mut |_| ())
}

/// Random scores of two layers.
fn values() -> impl Strategy<Value = Vec<Vec<f64>>> {
    (1usize..10).prop_flat_map(|n| {
        prop::collection::vec(prop::collection::vec(prop_oneof![Just(0.0), 0.0f64..10.0], n), 2)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_plan_fits_the_model_and_the_budget(
        values in values(), share in 0.1f64..=1.0, alpha in 0.0f64..1.5, max_merged in 0usize..4, merge: bool,
    ) {
        let n_experts = values[0].len();
        let source = Experts::random(n_experts, 1, 3, 0);
        let scores = scores(&values, Criterion::Task);
        let options = PlanOptions {
            budget: Budget::Share(share),
            method: match merge {
                true => PlanMethod::Litemoe(LitemoeOptions { alpha, max_merged, ..Default::default() }),
                false => PlanMethod::Prune,
            },
            ..PlanOptions::default()
        };
        let similarity = similarity(n_experts);
        let (plan, report) = match plan(&scores, Some(&similarity), &source, &options) {
            Err(MergeError::BudgetTooSmall { kept: 0, .. }) => return Ok(()),
            other => other.unwrap(),
        };
        plan.check(&Fingerprint::new("f"), source.moe_layers()).unwrap();
        prop_assert!(report.proxy_bytes <= report.budget_bytes);
        let one_more: u64 = source.layers.iter().map(|layer| layer.expert_bytes).sum();
        prop_assert!(report.proxy_bytes + one_more > report.budget_bytes || plan.is_identity());
        for (id, layer) in &report.layers {
            let groups = &plan.layers[id].groups;
            prop_assert_eq!(layer.kept + layer.merged + layer.removed, n_experts);
            prop_assert!(groups.iter().all(|group| group.absorbed.len() <= max_merged));
            prop_assert!(merge || (layer.merged, layer.surplus) == (0, 0));
            prop_assert!(layer.surplus <= layer.removed);
        }
    }

    #[test]
    fn the_whole_budget_is_the_identity(values in values(), merge: bool) {
        let source = Experts::random(values[0].len(), 1, 3, 0);
        let options = if merge { merging() } else { PlanOptions::default() };
        let options = PlanOptions { budget: Budget::Share(1.0), ..options };
        let similarity = similarity(values[0].len());
        let (plan, _) =
            plan(&scores(&values, Criterion::Task), Some(&similarity), &source, &options).unwrap();
        prop_assert!(plan.is_identity());
    }
}

#[test]
fn shares_follow_the_scores() {
    let source = Experts::random(4, 1, 3, 0);
    let values = vec![vec![6.0, 2.0, 0.1, 4.0]; 2];
    let options = PlanOptions {
        budget: Budget::Share(0.25),
        ..merging_by(LitemoeOptions { alpha: 0.5, ..Default::default() })
    };
    let make = |criterion, values: &[Vec<f64>]| {
        let options = PlanOptions { score: criterion, ..options.clone() };
        let (plan, _) =
            plan(&scores(values, criterion), Some(&similarity(4)), &source, &options).unwrap();
        plan.layers[&LAYERS[0]].clone()
    };
    let weighted = make(Criterion::Task, &values);
    let [group] = &weighted.groups[..] else { panic!("{weighted:?}") };
    let shares: Vec<(usize, f64)> = group.absorbed.iter().map(|m| (m.expert, m.share)).collect();
    assert_eq!((group.centroid, group.share), (0, 0.5));
    assert_eq!(shares, [(1, 2.0 / 12.0), (3, 4.0 / 12.0)]);
    assert_eq!(weighted.removed, [2]);
    assert!(group.absorbed.iter().all(|absorbed| absorbed.alignment.is_some()));

    // With alpha 0 no expert is cold: all that are not kept are merged, whatever the random scores.
    let options = PlanOptions {
        budget: options.budget,
        score: Criterion::Random,
        ..merging_by(LitemoeOptions { alpha: 0.0, ..Default::default() })
    };
    let drawn = scores(&values, Criterion::Task);
    let (equal, _) = plan(&drawn, Some(&similarity(4)), &source, &options).unwrap();
    for layer in equal.layers.values() {
        let [group] = &layer.groups[..] else { panic!("{layer:?}") };
        assert_eq!((group.share, group.absorbed.len()), (1.0 / 4.0, 3));
        assert!(group.absorbed.iter().all(|absorbed| absorbed.share == group.share));
    }
    let zeros = make(Criterion::Task, &vec![vec![0.0; 4]; 2]);
    assert_eq!(zeros.groups[0].share, 0.25);
}

#[test]
fn surplus_experts_are_removed_and_counted() {
    let source = Experts::random(6, 1, 3, 0);
    let values = vec![vec![2.0, 1.0, 1.0, 1.0, 1.0, 0.0]; 2];
    let options = PlanOptions { budget: Budget::Share(0.17), ..merging() };
    let (plan, report) =
        plan(&scores(&values, Criterion::Task), Some(&similarity(6)), &source, &options).unwrap();
    let layer = report.layers[&LAYERS[0]];
    assert_eq!((layer.kept, layer.merged, layer.removed, layer.surplus), (1, 3, 2, 1));
    assert_eq!(plan.layers[&LAYERS[0]].removed, [4, 5]);
    assert!(
        report
            .to_string()
            .contains("1 kept, 3 merged, 2 removed (1 of them for want of a centroid)")
    );
}

#[test]
fn without_alignment_nothing_is_read() {
    let mut source = Experts::random(4, 1, 3, 0);
    source.experts.clear();
    let options = PlanOptions {
        budget: Budget::Share(0.5),
        ..merging_by(LitemoeOptions { alignment: Alignment::None, ..Default::default() })
    };
    let scores = scores(&vec![vec![3.0, 2.0, 1.0, 1.0]; 2], Criterion::Task);
    let (plan, _) = plan(&scores, Some(&similarity(4)), &source, &options).unwrap();
    let groups = &plan.layers[&LAYERS[0]].groups;
    assert!(groups.iter().flat_map(|group| &group.absorbed).all(|m| m.alignment.is_none()));
}

#[test]
fn progress_names_each_layer() {
    let source = Experts::random(4, 1, 3, 0);
    let scores = scores(&vec![vec![1.0; 4]; 2], Criterion::Task);
    let mut done = Vec::new();
    make_plan(&scores, None, &source, &PlanOptions::default(), &mut |layer| done.push(layer))
        .unwrap();
    assert_eq!(done, LAYERS);
}

#[test]
fn scores_that_do_not_fit_are_refused() {
    let source = Experts::random(3, 1, 3, 0);
    let fine = || scores(&vec![vec![1.0; 3]; 2], Criterion::Task);
    let refusal = |scores: &ExpertScores| {
        plan(scores, None, &source, &PlanOptions::default()).unwrap_err().to_string()
    };

    let other = ExpertScores { version: 9, ..fine() };
    let expected =
        "the scores have version 9, but this program reads version 2: score the model again";
    assert_eq!(refusal(&other), expected);
    let mut missing = fine();
    missing.layers.remove(&LAYERS[1]);
    assert_eq!(refusal(&missing), "the scores say nothing of layer 4");
    let mut extra = fine();
    extra.layers.insert(LayerId::decoder(7), fine().layers[&LAYERS[0]].clone());
    assert_eq!(refusal(&extra), "the scores name layer 7, but the model has no experts there");
    let short = scores(&[vec![1.0; 3], vec![1.0; 2]], Criterion::Task);
    assert_eq!(refusal(&short), "layer 4 has 3 experts, but 2 of them have a `task` score");
    for value in [f64::NAN, f64::INFINITY, -1.0] {
        let broken = scores(&[vec![1.0; 3], vec![1.0, value, 1.0]], Criterion::Task);
        let expected = format!("layer 4 expert 1: its `task` score is {value}");
        assert!(refusal(&broken).starts_with(&expected));
    }
}

#[test]
fn similarities_that_do_not_fit_are_refused() {
    let source = Experts::random(3, 1, 3, 0);
    let scores = scores(&vec![vec![1.0; 3]; 2], Criterion::Task);
    let refusal = |similarity: Option<Similarity>| {
        plan(&scores, similarity.as_ref(), &source, &merging()).unwrap_err()
    };
    let with =
        |layers: BTreeMap<LayerId, Vec<Vec<f64>>>| Some(Similarity { layers, ..similarity(3) });

    assert!(matches!(refusal(None), MergeError::NoSimilarity));
    let kind = SimilarityKind::ExpertOutputGated;
    let other = refusal(Some(Similarity { kind, ..similarity(3) }));
    assert!(matches!(other, MergeError::OtherSimilarity { .. }));
    let fingerprint = Fingerprint::new("g");
    let other = refusal(Some(Similarity { fingerprint, ..similarity(3) }));
    assert!(matches!(other, MergeError::OtherModel { .. }));
    let other = refusal(Some(Similarity { input_sha256: "e".into(), ..similarity(3) }));
    assert!(matches!(other, MergeError::OtherData { .. }));
    assert!(matches!(refusal(with(BTreeMap::new())), MergeError::LayerNotCompared { .. }));
    assert!(matches!(refusal(Some(similarity(2))), MergeError::SimilarityTable { .. }));
    let mut broken = similarity(3).layers;
    broken.get_mut(&LAYERS[1]).unwrap()[2][0] = f64::NAN;
    assert!(matches!(refusal(with(broken)), MergeError::SimilarityTable { .. }));
}

#[test]
fn without_a_similarity_that_of_the_scores_is_taken() {
    let source = Experts::random(4, 1, 3, 0);
    let mut scores = scores(&vec![vec![3.0, 2.0, 1.0, 2.5]; 2], Criterion::Task);
    for sums in scores.layers.values_mut() {
        sums.gap = Some(ExactSums::from(vec![1.0, 2.0, 9.0, 4.0, 5.0, 6.0]));
    }
    let options = PlanOptions { budget: Budget::Share(0.5), ..merging() };
    let measured = scores.similarity(SimilarityKind::Affinity);
    let expected = plan(&scores, measured.as_ref(), &source, &options).unwrap();
    assert_eq!(plan(&scores, None, &source, &options).unwrap(), expected);
    assert!(expected.1.layers.values().all(|layer| layer.merged > 0));
    let similarity = SimilarityKind::ExpertOutputGated;
    let other = merging_by(LitemoeOptions { similarity, ..Default::default() });
    let error = plan(&scores, None, &source, &PlanOptions { budget: options.budget, ..other });
    let error = error.unwrap_err();
    assert!(matches!(error, MergeError::NoSimilarity));
}

#[test]
fn options_outside_their_range_are_refused() {
    let source = Experts::random(3, 2, 3, 0);
    let scores = scores(&vec![vec![1.0; 3]; 2], Criterion::Task);
    for alpha in [-0.1, f64::NAN, f64::INFINITY] {
        let options = merging_by(LitemoeOptions { alpha, ..Default::default() });
        assert!(matches!(plan(&scores, None, &source, &options), Err(MergeError::Alpha { .. })));
    }
    let options = PlanOptions { budget: Budget::Share(0.34), ..PlanOptions::default() };
    let error = plan(&scores, None, &source, &options).unwrap_err().to_string();
    let expected = "budget 0.34 leaves 1 experts a layer, but the router of layer 1 needs 2";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    let mut source = Experts::random(3, 1, 3, 0);
    let broken = &mut source.experts[1][2];
    broken.up = broken.up.clone().mul_scalar(f32::NAN);
    let options = PlanOptions { budget: Budget::Share(0.34), ..merging() };
    let scores = scores(&vec![vec![3.0, 2.0, 2.0]; 2], Criterion::Task);
    let error = plan(&scores, Some(&similarity(3)), &source, &options).unwrap_err();
    assert!(error.to_string().starts_with("layer 4 expert 2: its weights"));
}
