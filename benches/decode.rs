//! Decode: one token after a prompt, with the KV cache.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
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
            // Steady state: the cache keeps its buffers, and forgets the token of the last iteration.
            bencher.iter(|| {
                cache.truncate(n_prompt);
                model.extend(&[42], &mut cache, None).into_data()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
