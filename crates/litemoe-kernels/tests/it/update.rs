//! LoRA on experts against matrices merged by hand, W + scale · (A·B)ᵀ in the checkpoint layout.

use burn::tensor::{Tensor, TensorData};
use litemoe_core::{Adapter, ExpertBiases, ExpertWeights, Lora};
use litemoe_kernels::{ExpertAdapters, ExpertBank, ExpertVisit, HiddenAct};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::bank::{Case, case, large_case};
use crate::case::{assert_close, constant, floats, magnitudes, matrix, tracked};

/// A and B of one LoRA, and its scale.
#[derive(Debug, Clone)]
struct Update([TensorData; 2], f32);

/// LoRAs of gate, up and down, per expert.
type Updates = Vec<[Option<Update>; 3]>;

fn update(d_in: usize, d_out: usize) -> impl Strategy<Value = Option<Update>> {
    let drawn = (1usize..4).prop_flat_map(move |rank| {
        (matrix(d_in, rank), matrix(rank, d_out), 0.2f32..2.0)
            .prop_map(|(a, b, scale)| Update([a, b], scale))
    });
    proptest::option::of(drawn)
}

fn adapted() -> impl Strategy<Value = (Case, Updates)> {
    case().prop_flat_map(|case| {
        let [d_expert, d_model] = constant(&case.experts[0][1]).dims();
        let (wide, narrow) = (update(d_model, d_expert), update(d_expert, d_model));
        let gate = if case.gated { update(d_model, d_expert).boxed() } else { Just(None).boxed() };
        let parts = (gate, wide, narrow).prop_map(|(gate, up, down)| [gate, up, down]);
        (vec(parts, case.experts.len()), Just(case)).prop_map(|(updates, case)| (case, updates))
    })
}

/// A LoRA with A and B as leaves or as constants, by `make`.
fn low_rank(Update([a, b], scale): &Update, make: fn(&TensorData) -> Tensor<2>) -> Adapter {
    Lora { a: make(a), b: make(b), scale: *scale }.into()
}

/// The LoRAs as [`ExpertAdapters`].
fn updates_of(updates: &Updates, make: fn(&TensorData) -> Tensor<2>) -> Vec<ExpertAdapters> {
    let part = |part: &Option<Update>| part.as_ref().map(|part| low_rank(part, make));
    let expert = |[gate, up, down]: &[Option<Update>; 3]| ExpertAdapters {
        gate: part(gate),
        up: part(up),
        down: part(down),
    };
    updates.iter().map(expert).collect()
}

/// The experts with the LoRAs merged into their matrices.
fn composed(experts: Vec<ExpertWeights>, updates: &[ExpertAdapters]) -> Vec<ExpertWeights> {
    let add = |weight: Tensor<2>, part: &Option<Adapter>| match part {
        Some(Adapter::Lora(Lora { a, b, scale })) => {
            weight + a.clone().matmul(b.clone()).transpose().mul_scalar(*scale)
        }
        None => weight,
    };
    let expert = |(stored, update): (ExpertWeights, &ExpertAdapters)| ExpertWeights {
        gate: stored.gate.map(|gate| add(gate, &update.gate)),
        up: add(stored.up, &update.up),
        down: add(stored.down, &update.down),
        biases: stored.biases,
    };
    experts.into_iter().zip(updates).map(expert).collect()
}

fn forward(
    case: &Case,
    updates: &[ExpertAdapters],
    x: Tensor<2>,
    gates: Tensor<2>,
    is_watched: bool,
) -> Tensor<2> {
    let (bank, update) = (case.bank(), |expert: usize| updates[expert].clone());
    let mut see = |_| ();
    let visit = is_watched.then_some(ExpertVisit { see: &mut see, wants_inner: true });
    bank.forward_adapted(x, case.chosen(), gates, &update, visit)
}

fn leaves(updates: &[ExpertAdapters]) -> Vec<Tensor<2>> {
    let parts =
        |update: &ExpertAdapters| [update.gate.clone(), update.up.clone(), update.down.clone()];
    let parts = updates.iter().flat_map(parts).flatten();
    parts.flat_map(|Adapter::Lora(Lora { a, b, .. })| [a, b]).collect()
}

/// Gradients of the output, weighted by `grad`, with respect to x, gates and every A and B; `None` is zero.
fn gradients(
    case: &Case,
    updates: &Updates,
    f: impl Fn(&[ExpertAdapters], Tensor<2>, Tensor<2>) -> Tensor<2>,
) -> Vec<Option<Tensor<2>>> {
    let (x, gates, updates) =
        (tracked(&case.x), tracked(&case.gates), updates_of(updates, tracked));
    let output = f(&updates, x.clone(), gates.clone());
    let found = (output * constant(&case.grad)).sum().backward();
    [vec![x, gates], leaves(&updates)].concat().iter().map(|leaf| leaf.grad(&found)).collect()
}

fn any_chosen(case: &Case) -> bool {
    case.chosen.iter().flatten().any(|&expert| expert < case.experts.len())
}

/// LoRAs with [`magnitudes`] as values, for [`Case::unit`].
fn unit(updates: &Updates) -> Updates {
    let part =
        |Update(matrices, scale): &Update| Update(matrices.each_ref().map(magnitudes), *scale);
    let expert = |parts: &[Option<Update>; 3]| parts.each_ref().map(|one| one.as_ref().map(part));
    updates.iter().map(expert).collect()
}

/// Gradients of the naive loop over merged experts.
fn by_hand(case: &Case, updates: &Updates) -> Vec<Option<Tensor<2>>> {
    gradients(case, updates, |updates, x, gates| {
        case.naive_with(&composed(case.stored(), updates), &x, &gates)
    })
}

/// Asserts equality; an absent gradient counts as zero.
fn assert_same(
    ours: Vec<Option<Tensor<2>>>,
    reference: Vec<Option<Tensor<2>>>,
    unit: Vec<Option<Tensor<2>>>,
    tolerance: f32,
) {
    assert_eq!((ours.len(), reference.len()), (reference.len(), unit.len()));
    for ((ours, reference), unit) in ours.into_iter().zip(reference).zip(unit) {
        match (ours, reference) {
            (Some(ours), Some(reference)) => {
                assert_close(ours, reference, unit.expect("as there"), tolerance);
            }
            (None, None) => {}
            (Some(one), None) | (None, Some(one)) => {
                assert!(floats(one).iter().all(|&value| value == 0.));
            }
        }
    }
}

proptest! {
    #[test]
    fn an_adapter_is_composed((case, updates) in adapted(), is_watched: bool) {
        prop_assume!(any_chosen(&case));
        let (x, gates) = (constant(&case.x), constant(&case.gates));
        let plain = updates_of(&updates, constant);
        let output = |case: &Case, updates: &Updates| {
            let experts = composed(case.stored(), &updates_of(updates, constant));
            case.naive_with(&experts, &constant(&case.x), &constant(&case.gates))
        };
        let (expected, one) = (output(&case, &updates), output(&case.unit(), &unit(&updates)));
        assert_close(forward(&case, &plain, x, gates, is_watched), expected, one, 2e-6);
        let ours = gradients(&case, &updates, |updates, x, gates| forward(&case, updates, x, gates, is_watched));
        assert_same(ours, by_hand(&case, &updates), by_hand(&case.unit(), &unit(&updates)), 2e-6);
    }

    #[test]
    fn the_updates_alone_may_be_tracked((case, updates) in adapted()) {
        prop_assume!(any_chosen(&case));
        let whole = gradients(&case, &updates, |updates, x, gates| forward(&case, updates, x, gates, false));
        let tracked = updates_of(&updates, tracked);
        let output = forward(&case, &tracked, constant(&case.x), constant(&case.gates), false);
        let output = (output * constant(&case.grad)).sum();
        prop_assume!(output.is_tracked());
        let found = output.backward();
        let alone = leaves(&tracked).iter().map(|leaf| leaf.grad(&found)).collect();
        let unit = by_hand(&case.unit(), &unit(&updates));
        assert_same(alone, whole[2..].to_vec(), unit[2..].to_vec(), 1e-6);
    }

    #[test]
    fn updates_of_zeros_change_nothing((case, updates) in adapted()) {
        prop_assume!(!case.chosen.is_empty());
        let zeroed = |part: &mut Update| part.0[1] = floats_to(&part.0[1], 0.0);
        let mut zeros = updates;
        zeros.iter_mut().flatten().flatten().for_each(zeroed);
        let (x, gates) = (constant(&case.x), constant(&case.gates));
        let ours = forward(&case, &updates_of(&zeros, constant), x.clone(), gates.clone(), false);
        let plain = case.bank().forward(x, case.chosen(), gates, None);
        prop_assert_eq!(floats(ours), floats(plain));
    }
}

fn floats_to(data: &TensorData, value: f32) -> TensorData {
    let shape = constant(data).dims();
    TensorData::new(vec![value; shape[0] * shape[1]], shape)
}

fn large_updates(case: &Case) -> Updates {
    let numbers = |rows: usize, columns: usize, seed: usize| {
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5;
        TensorData::new((0..rows * columns).map(value).collect::<Vec<_>>(), [rows, columns])
    };
    let part = |expert: usize, part: usize| {
        // Some matrices have no LoRA.
        (!(expert + part).is_multiple_of(4)).then(|| {
            let seed = 3 * expert + part;
            Update([numbers(64, 4, seed), numbers(4, 64, seed + 1)], 0.5)
        })
    };
    (0..case.experts.len()).map(|expert| [0, 1, 2].map(|at| part(expert, at))).collect()
}

#[test]
fn threads_change_no_bit_of_a_gradient() {
    let case = large_case();
    let updates = large_updates(&case);
    let found = || {
        let all = gradients(&case, &updates, |updates, x, gates| {
            forward(&case, updates, x, gates, false)
        });
        all.into_iter().map(|one| floats(one.expect("every expert has tokens"))).collect::<Vec<_>>()
    };
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    assert_eq!(found(), one_thread.install(found));
}

#[test]
fn a_large_batch_equals_the_one_that_is_watched() {
    let case = large_case();
    let updates = large_updates(&case);
    let of = |is_watched| {
        gradients(&case, &updates, |updates, x, gates| {
            forward(&case, updates, x, gates, is_watched)
        })
    };
    assert_same(of(false), of(true), by_hand(&case.unit(), &unit(&updates)), 1e-8);
}

#[test]
#[should_panic(expected = "an update of the gate of an ungated expert")]
fn a_gate_that_is_not_there_has_no_update() {
    let case = Case { gated: false, ..large_case() };
    let updates = updates_of(&large_updates(&case), constant);
    forward(&case, &updates, constant(&case.x), constant(&case.gates), false);
}

/// Experts that the custom operation does not support: gpt-oss (biases and clamp) and Llama 4 (gates on the inputs).
#[derive(Clone, Copy)]
struct Other {
    is_biased: bool,
    act: HiddenAct,
    gates_inputs: bool,
}

impl Other {
    fn stored(self, case: &Case) -> Vec<ExpertWeights> {
        let bias = |matrix: &Tensor<2>| matrix.clone().narrow(0, 0, 1).squeeze_dim::<1>(0);
        let biased = |expert: ExpertWeights| {
            let biases = ExpertBiases {
                gate: expert.gate.as_ref().map(bias),
                up: bias(&expert.up),
                down: bias(&expert.down),
            };
            ExpertWeights { biases: self.is_biased.then_some(biases), ..expert }
        };
        case.stored().into_iter().map(biased).collect()
    }

    fn updates_of(
        self,
        case: &Case,
        updates: &[ExpertAdapters],
        x: Tensor<2>,
        gates: Tensor<2>,
    ) -> Tensor<2> {
        let bank = ExpertBank::new(self.stored(case)).activated(self.act);
        let bank = if self.gates_inputs { bank.gating_inputs() } else { bank };
        bank.forward_adapted(x, case.chosen(), gates, &|expert| updates[expert].clone(), None)
    }

    /// Naive loop over tokens, with LoRAs merged into the matrices.
    fn by_hand(
        self,
        case: &Case,
        updates: &[ExpertAdapters],
        x: &Tensor<2>,
        gates: &Tensor<2>,
    ) -> Tensor<2> {
        let experts = composed(self.stored(case), updates);
        let row = |(token, chosen): (usize, &Vec<usize>)| {
            let x = x.clone().narrow(0, token, 1);
            chosen.iter().enumerate().fold(x.zeros_like(), |sum, (choice, &expert)| {
                let gate = gates.clone().slice([token..token + 1, choice..choice + 1]);
                sum + match self.gates_inputs {
                    true => self.run(&experts[expert], x.clone() * gate),
                    false => self.run(&experts[expert], x.clone()) * gate,
                }
            })
        };
        Tensor::cat(case.chosen.iter().enumerate().map(row).collect(), 0)
    }

    fn run(self, expert: &ExpertWeights, x: Tensor<2>) -> Tensor<2> {
        let biases = expert.biases.clone();
        let product = |x: Tensor<2>, weight: &Tensor<2>, bias: Option<Tensor<1>>| {
            let product = x.matmul(weight.clone().transpose());
            bias.map_or(product.clone(), |bias| product + bias.unsqueeze_dim(0))
        };
        let gate = expert.gate.as_ref().expect("a gated expert");
        let gate = product(x.clone(), gate, biases.clone().and_then(|biases| biases.gate));
        let up = product(x, &expert.up, biases.clone().map(|biases| biases.up));
        let hidden = match self.act {
            HiddenAct::ClampedSwish { alpha, limit } => {
                let gate = gate.clamp_max(limit);
                let swish =
                    gate.clone() * burn::tensor::activation::sigmoid(gate.mul_scalar(alpha));
                swish * up.clamp(-limit, limit).add_scalar(1.0)
            }
            _ => burn::tensor::activation::silu(gate) * up,
        };
        product(hidden, &expert.down, biases.map(|biases| biases.down))
    }
}

#[test]
fn an_adapter_is_composed_in_experts_of_other_kinds_too() {
    let mut case = large_case();
    let first = |data: &TensorData| constant(data).narrow(0, 0, 24).into_data();
    (case.x, case.gates, case.grad) = (first(&case.x), first(&case.gates), first(&case.grad));
    case.chosen.truncate(24);
    let updates = large_updates(&case);
    let silu = Other { is_biased: false, act: HiddenAct::Silu, gates_inputs: true };
    let clamped = HiddenAct::ClampedSwish { alpha: 1.702, limit: 1.0 };
    let gpt_oss = Other { is_biased: true, act: clamped, gates_inputs: false };
    for other in [silu, gpt_oss, Other { gates_inputs: true, ..gpt_oss }] {
        let ours = gradients(&case, &updates, |updates, x, gates| {
            other.updates_of(&case, updates, x, gates)
        });
        let expected = gradients(&case, &updates, |updates, x, gates| {
            other.by_hand(&case, updates, &x, &gates)
        });
        for (ours, expected) in ours.into_iter().zip(expected) {
            let (Some(ours), Some(expected)) = (ours, expected) else { continue };
            let largest = expected.clone().max_abs().into_scalar::<f32>();
            let error = (ours - expected).max_abs().into_scalar::<f32>();
            assert!(largest > 0.0 && error < 1e-5 * largest, "{error} of {largest}");
        }
        let plain = updates_of(&updates, constant);
        let (x, gates) = (constant(&case.x), constant(&case.gates));
        let expected = other.by_hand(&case, &plain, &x, &gates);
        let error = (other.updates_of(&case, &plain, x, gates) - expected).max_abs();
        assert!(error.into_scalar::<f32>() < 1e-5);
    }
}
