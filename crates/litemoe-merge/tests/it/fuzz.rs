//! Fuzzed `plan.json` and `similarity.json`: they are refused, or what is read of them can be used.

use litemoe_core::{Criterion, ExpertSource, Fingerprint, Plan, Similarity};
use litemoe_fixtures::fuzz::{Bound, fuzz_json};
use litemoe_merge::make_plan;
use serde::de::DeserializeOwned;

use crate::experts::Experts;
use crate::planning::{LAYERS, merging, scores, similarity};

const N_EXPERTS: usize = 6;

/// Bound of parsing a record; an error repeats the name of an unknown field.
const BOUND: Bound = Bound { fixed: 1 << 12, per_byte: 8, per_value: 128 };

fn parsed<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    let mut parsed = None;
    let allocated =
        allocation_counter::measure(|| parsed = Some(serde_json::from_slice::<T>(json)));
    BOUND.check(json, allocated.bytes_max);
    parsed.and_then(Result::ok)
}

fn values() -> Vec<Vec<f64>> {
    vec![vec![6.0, 2.0, 0.1, 4.0, 1.0, 3.0]; LAYERS.len()]
}

#[test]
fn fuzzed_plans() {
    let source = Experts::random(N_EXPERTS, 1, 3, 0);
    let (scores, similarity) = (scores(&values(), Criterion::Litemoe), similarity(N_EXPERTS));
    let made = make_plan(&scores, Some(&similarity), &source, &merging(), &mut |_| ()).unwrap().0;
    let document = serde_json::to_vec(&made).unwrap();
    let mut used = 0;
    fuzz_json(&[document], |_, document| {
        let Some(plan) = parsed::<Plan>(document) else { return };
        if plan.check(&Fingerprint::new("f"), source.moe_layers()).is_err() {
            return;
        }
        used += 1;
        for layer in plan.layers.values() {
            assert_eq!(layer.redirections().len(), N_EXPERTS);
            assert!(layer.centroids().iter().all(|&centroid| centroid < N_EXPERTS));
        }
        assert_eq!(parsed::<Plan>(&serde_json::to_vec(&plan).unwrap()), Some(plan));
    });
    assert!(used > 0);
}

#[test]
fn fuzzed_similarities() {
    let source = Experts::random(N_EXPERTS, 1, 3, 0);
    let scores = scores(&values(), Criterion::Litemoe);
    let document = serde_json::to_vec(&similarity(N_EXPERTS)).unwrap();
    let options = merging();
    let mut used = 0;
    fuzz_json(&[document], |_, document| {
        let Some(similarity) = parsed::<Similarity>(document) else { return };
        let made = make_plan(&scores, Some(&similarity), &source, &options, &mut |_| ());
        let Ok((plan, _)) = made else { return };
        used += 1;
        plan.check(&Fingerprint::new("f"), source.moe_layers()).unwrap();
    });
    assert!(used > 0);
}

#[test]
fn records_of_many_values_take_what_their_values_do() {
    let n = 100_000;
    let lists = ["0", "[0]", "[]", "{\"host\":0,\"share\":1}", "null"];
    for item in lists {
        let list = format!("[{}]", vec![item; n].join(","));
        for key in ["groups", "removed"] {
            let layer = format!("{{\"n_experts\":3,\"{key}\":{list}}}");
            parsed::<Plan>(format!("{{\"layers\":{{\"1\":{layer}}}}}").as_bytes());
        }
        parsed::<Similarity>(format!("{{\"layers\":{{\"1\":{list}}}}}").as_bytes());
    }
}
