//! Extraction: a proxy of a third of the experts, written to disk.

use std::collections::BTreeMap;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use litemoe_core::{AbsorbedExpert, Group, LayerPlan, PLAN_VERSION, Plan, PlanOptions};
use litemoe_fixtures::foundation_dir;
use litemoe_merge::merged_experts;
use litemoe_model::{Checkpoint, write_proxy};

/// Experts kept of a layer's 32.
const KEPT: usize = 10;

/// Keeps the first experts of each layer; merged, each absorbs one more.
fn plan(checkpoint: &Checkpoint, merges: bool) -> Plan {
    let group = |centroid| match merges {
        false => Group::single(centroid),
        true => {
            let absorbed = AbsorbedExpert { expert: KEPT + centroid, share: 0.5, alignment: None };
            Group { share: 0.5, absorbed: vec![absorbed], ..Group::single(centroid) }
        }
    };
    let first_removed = if merges { 2 * KEPT } else { KEPT };
    let layer = |n_experts: usize| LayerPlan {
        n_experts,
        groups: (0..KEPT).map(group).collect(),
        removed: (first_removed..n_experts).collect(),
    };
    let layers: BTreeMap<_, _> =
        checkpoint.moe_layers().iter().map(|it| (it.id, layer(it.n_experts))).collect();
    Plan {
        version: PLAN_VERSION,
        fingerprint: checkpoint.fingerprint().clone(),
        input_sha256: String::new(),
        options: PlanOptions::default(),
        layers,
    }
}

fn extract(criterion: &mut Criterion) {
    let checkpoint = Checkpoint::open(foundation_dir()).expect("the embedded foundation");
    let experts = checkpoint.experts(&burn::tensor::Device::flex());
    let dir = tempfile::tempdir().expect("a folder");
    let target = dir.path().join("proxy");
    let mut group = criterion.benchmark_group("extract");
    group.sample_size(20).throughput(Throughput::Bytes(checkpoint.bytes()));
    for (name, merges) in [("pruned", false), ("merged", true)] {
        let plan = plan(&checkpoint, merges);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                write_proxy(&checkpoint, &plan, &target, &mut |layer, plan| {
                    Ok(merged_experts(layer, plan, &experts)?)
                })
                .expect("a proxy");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, extract);
criterion_main!(benches);
