//! Scoring: the sums of all criteria over calibration rows, one pass.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use litemoe_benches::{foundation, tokens};
use litemoe_core::{Fingerprint, SimilarityKind};
use litemoe_score::{About, ScoreOptions, score as measure};

const ROWS: usize = 32;
const TOKENS: usize = 64;

fn score(criterion: &mut Criterion) {
    let (model, rows) = (foundation(), vec![tokens(TOKENS); ROWS]);
    let about = About {
        fingerprint: Fingerprint::new("benchmark"),
        model: String::new(),
        family: String::new(),
        program: String::new(),
    };
    let mut group = criterion.benchmark_group("score");
    group.sample_size(10).throughput(Throughput::Elements((ROWS * TOKENS) as u64));
    for (name, similarities) in [("criteria", vec![]), ("affinity", vec![SimilarityKind::Affinity])]
    {
        let options = ScoreOptions { similarities, ..ScoreOptions::default() };
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| measure(&model, &rows, &options, &about, |_| ()).expect("scores"));
        });
    }
    group.finish();
}

criterion_group!(benches, score);
criterion_main!(benches);
