//! One MoE layer of the foundation's size: 32 experts, top-2, d_model 192, d_expert 96.

use burn::tensor::{Device, Int, Tensor, TensorData};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use litemoe_core::{ExpertWeights, Lora, WeightDtype};
use litemoe_kernels::{ExpertAdapters, ExpertBank, LinearWeight, silu_mul};

const D_MODEL: usize = 192;
const D_EXPERT: usize = 96;
const N_EXPERTS: usize = 32;
const TOP_K: usize = 2;
const RANK: usize = 8;

fn random(rows: usize, columns: usize) -> Tensor<2> {
    let values = litemoe_fixtures::uniform(0, rows * columns);
    Tensor::from_data(TensorData::new(values, [rows, columns]), &Device::flex()).mul_scalar(0.17)
}

fn tracked(tensor: Tensor<2>) -> Tensor<2> {
    Tensor::from_data(tensor.into_data(), &Device::flex().autodiff()).require_grad()
}

fn bank() -> ExpertBank {
    let expert = |_| ExpertWeights {
        gate: Some(random(D_EXPERT, D_MODEL)),
        up: random(D_EXPERT, D_MODEL),
        down: random(D_MODEL, D_EXPERT),
        biases: None,
    };
    ExpertBank::new((0..N_EXPERTS).map(expert).collect())
}

/// LoRA of every matrix of an expert.
fn update() -> ExpertAdapters {
    let low_rank = |d_in, d_out| {
        let (a, b) = (tracked(random(d_in, RANK)), tracked(random(RANK, d_out)));
        Some(Lora { a, b, scale: 2.0 }.into())
    };
    ExpertAdapters {
        gate: low_rank(D_MODEL, D_EXPERT),
        up: low_rank(D_MODEL, D_EXPERT),
        down: low_rank(D_EXPERT, D_MODEL),
    }
}

/// Top-2 expert indices, unevenly distributed, two different ones per token.
fn chosen(tokens: usize) -> Tensor<2, Int> {
    let experts = (0..tokens).flat_map(|token| {
        let first = token * token % N_EXPERTS;
        [first as i64, ((first + 1 + token % (N_EXPERTS - 1)) % N_EXPERTS) as i64]
    });
    let experts = TensorData::new(experts.collect::<Vec<_>>(), [tokens, TOP_K]);
    Tensor::from_data(experts, &Device::flex())
}

fn moe_layer(criterion: &mut Criterion) {
    let bank = bank();
    let updates: Vec<ExpertAdapters> = (0..N_EXPERTS).map(|_| update()).collect();
    let update = |expert: usize| updates[expert].clone();
    let mut group = criterion.benchmark_group("moe_layer");
    for tokens in [1, 16, 600] {
        let (x, gates, chosen) = (random(tokens, D_MODEL), random(tokens, TOP_K), chosen(tokens));
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_function(BenchmarkId::new("forward", tokens), |bencher| {
            bencher.iter(|| bank.forward(x.clone(), chosen.clone(), gates.clone(), None));
        });
        let (x, gates) = (tracked(x), tracked(gates));
        group.bench_function(BenchmarkId::new("forward_backward", tokens), |bencher| {
            bencher.iter(|| {
                bank.forward(x.clone(), chosen.clone(), gates.clone(), None).sum().backward()
            });
        });
        group.bench_function(BenchmarkId::new("forward_backward_adapted", tokens), |bencher| {
            bencher.iter(|| {
                let (x, chosen, gates) = (x.clone(), chosen.clone(), gates.clone());
                bank.forward_adapted(x, chosen, gates, &update, None).sum().backward()
            });
        });
    }
    group.finish();
}

fn parts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("moe_layer/parts");
    let gate_up = random(600 * TOP_K, 2 * D_EXPERT);
    group.bench_function("silu_mul", |bencher| bencher.iter(|| silu_mul(gate_up.clone())));
    let linear = LinearWeight::from_stored(random(D_MODEL, D_MODEL), WeightDtype::F32);
    let x = random(600, D_MODEL);
    group.bench_function("linear", |bencher| bencher.iter(|| linear.forward(x.clone())));
    group.finish();
}

criterion_group!(benches, moe_layer, parts);
criterion_main!(benches);
