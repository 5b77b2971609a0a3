//! Decode: one token after a prompt, with the KV cache.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use litemoe_benches::{foundation, tokens};
use litemoe_core::CausalLm;

fn decode(criterion: &mut Criterion) {
    let model = foundation();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    for n_prompt in [16, 256] {
        let mut cache = model.new_cache();
        model.extend(&tokens(n_prompt), &mut cache, None);
        group.bench_function(BenchmarkId::from_parameter(n_prompt), |bencher| {
            bencher.iter_batched(
                || cache.clone(),
                |mut cache| model.extend(&[42], &mut cache, None).into_data(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
