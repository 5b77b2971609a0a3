//! Training step: loss and gradients of LoRA on attention and experts, sixteen rows.

use burn::tensor::Device;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use litemoe_adapter::{LoraOptions, MicroBatch, gradients, init_lora};
use litemoe_benches::{foundation, sequence};
use litemoe_core::MoeModel;

fn train_step(criterion: &mut Criterion) {
    let model = foundation();
    let adapters = init_lora(model.linear_sites(), &LoraOptions::default(), 0, &Device::flex())
        .expect("adapters on attention");
    let rows = vec![sequence(40); 16];
    let mut group = criterion.benchmark_group("train_step");
    group.sample_size(20).throughput(Throughput::Elements(16 * 40));
    for (name, recompute) in [("kept", false), ("recomputed", true)] {
        let micro = MicroBatch { rows: 16, threads: 2, recompute };
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| gradients(&model, &adapters, &rows, micro).expect("gradients").loss);
        });
    }
    group.finish();
}

criterion_group!(benches, train_step);
criterion_main!(benches);
