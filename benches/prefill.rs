//! Prefill: a prompt in one pass, up to the logits after it.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use litemoe_benches::{foundation, tokens};
use litemoe_core::CausalLm;

fn prefill(criterion: &mut Criterion) {
    let model = foundation();
    let mut group = criterion.benchmark_group("prefill");
    for n_prompt in [16, 128, 512] {
        let prompt = tokens(n_prompt);
        group.throughput(Throughput::Elements(n_prompt as u64));
        group.bench_function(BenchmarkId::from_parameter(n_prompt), |bencher| {
            bencher.iter(|| model.extend(&prompt, &mut model.new_cache(), None).into_data());
        });
    }
    group.finish();
}

criterion_group!(benches, prefill);
criterion_main!(benches);
