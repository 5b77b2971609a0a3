use burn::tensor::{Device, Int, Tensor, TensorData};
use litemoe_core::ExpertWeights;
use litemoe_kernels::{ExpertBank, ExpertVisit, ExpertWork};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::case::{assert_close, constant, floats, magnitudes, matrix, tracked};

/// Random experts and their inputs.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// Gate, up and down of each expert, in the checkpoint layout.
    pub(crate) experts: Vec<[TensorData; 3]>,
    pub(crate) gated: bool,
    pub(crate) x: TensorData,
    pub(crate) chosen: Vec<Vec<usize>>,
    pub(crate) gates: TensorData,
    pub(crate) grad: TensorData,
}

prop_compose! {
    fn sizes()(
        tokens in 0usize..12, d_model in 1usize..7, d_expert in 1usize..5, n_experts in 1usize..7,
    )(
        top_k in 1..=n_experts, tokens in Just(tokens), d_model in Just(d_model),
        d_expert in Just(d_expert), n_experts in Just(n_experts),
    ) -> [usize; 5] {
        [tokens, d_model, d_expert, n_experts, top_k]
    }
}

/// Any selection, including the same expert twice; the index `n_experts` means no expert.
pub(crate) fn case() -> impl Strategy<Value = Case> {
    sizes().prop_flat_map(|[tokens, d_model, d_expert, n_experts, top_k]| {
        let expert =
            (matrix(d_expert, d_model), matrix(d_expert, d_model), matrix(d_model, d_expert));
        let experts = vec(expert.prop_map(|(gate, up, down)| [gate, up, down]), n_experts);
        let chosen = vec(vec(0..=n_experts, top_k), tokens);
        let (gates, x, grad) =
            (matrix(tokens, top_k), matrix(tokens, d_model), matrix(tokens, d_model));
        (experts, any::<bool>(), x, chosen, gates, grad).prop_map(
            |(experts, gated, x, chosen, gates, grad)| Case {
                experts,
                gated,
                x,
                chosen,
                gates,
                grad,
            },
        )
    })
}

impl Case {
    pub(crate) fn stored(&self) -> Vec<ExpertWeights> {
        let stored = self.experts.iter().map(|[gate, up, down]| ExpertWeights {
            gate: self.gated.then(|| constant(gate)),
            up: constant(up),
            down: constant(down),
            biases: None,
        });
        stored.collect()
    }

    pub(crate) fn bank(&self) -> ExpertBank {
        ExpertBank::new(self.stored())
    }

    /// The same case with [`magnitudes`] as values: its results are the error units of this case.
    pub(crate) fn unit(&self) -> Self {
        let experts = self.experts.iter().map(|matrices| matrices.each_ref().map(magnitudes));
        Self {
            experts: experts.collect(),
            x: magnitudes(&self.x),
            gates: magnitudes(&self.gates),
            grad: magnitudes(&self.grad),
            ..self.clone()
        }
    }

    pub(crate) fn chosen(&self) -> Tensor<2, Int> {
        let [tokens, top_k] = constant(&self.gates).dims();
        let flat: Vec<i64> = self.chosen.concat().iter().map(|&expert| expert as i64).collect();
        Tensor::from_data(TensorData::new(flat, [tokens, top_k]), &Device::flex())
    }

    fn forward(&self, x: Tensor<2>, gates: Tensor<2>) -> Tensor<2> {
        self.bank().forward(x, self.chosen(), gates, None)
    }

    /// Naive loop over tokens and selected experts.
    fn naive(&self) -> Tensor<2> {
        self.naive_with(&self.stored(), &constant(&self.x), &constant(&self.gates))
    }

    fn naive_gradients(&self) -> [Option<Tensor<2>>; 2] {
        self.gradients(|case, x, gates| case.naive_with(&case.stored(), &x, &gates))
    }

    pub(crate) fn naive_with(
        &self,
        experts: &[ExpertWeights],
        x: &Tensor<2>,
        gates: &Tensor<2>,
    ) -> Tensor<2> {
        let rows = self.chosen.iter().enumerate().map(|(token, chosen)| {
            let x = x.clone().narrow(0, token, 1);
            let zero = x.zeros_like();
            chosen.iter().enumerate().fold(zero, |sum, (choice, &expert)| {
                let gate = gates.clone().slice([token..token + 1, choice..choice + 1]);
                match experts.get(expert) {
                    Some(expert) => sum + run(expert, x.clone()) * gate,
                    None => sum,
                }
            })
        });
        Tensor::cat(rows.collect(), 0)
    }

    /// Gradients of the output, weighted by `grad`, with respect to `x` and the gates; `None` is zero.
    fn gradients(
        &self,
        f: impl Fn(&Self, Tensor<2>, Tensor<2>) -> Tensor<2>,
    ) -> [Option<Tensor<2>>; 2] {
        let (x, gates) = (tracked(&self.x), tracked(&self.gates));
        let output = f(self, x.clone(), gates.clone());
        let gradients = (output * constant(&self.grad)).sum().backward();
        [x.grad(&gradients), gates.grad(&gradients)]
    }
}

fn run(expert: &ExpertWeights, x: Tensor<2>) -> Tensor<2> {
    let silu = burn::tensor::activation::silu;
    let up = x.clone().matmul(expert.up.clone().transpose());
    let hidden = match &expert.gate {
        Some(gate) => silu(x.matmul(gate.clone().transpose())) * up,
        None => silu(up),
    };
    hidden.matmul(expert.down.clone().transpose())
}

/// Asserts that all gradients of `x` and the gates are present and equal.
fn assert_all_close(
    ours: [Option<Tensor<2>>; 2],
    reference: [Option<Tensor<2>>; 2],
    unit: [Option<Tensor<2>>; 2],
    tolerance: f32,
) {
    let there = |gradient: Option<Tensor<2>>| gradient.expect("a gradient");
    for ((ours, reference), unit) in ours.into_iter().zip(reference).zip(unit) {
        assert_close(there(ours), there(reference), there(unit), tolerance);
    }
}

proptest! {
    #[test]
    fn sorted_dispatch_is_the_naive_loop(case in case()) {
        let ours = case.forward(constant(&case.x), constant(&case.gates));
        prop_assert_eq!(ours.dims(), constant(&case.x).dims());
        if case.chosen.is_empty() {
            return Ok(());
        }
        assert_close(ours, case.naive(), case.unit().naive(), 1e-6);
        let n_experts = case.experts.len();
        if case.chosen.iter().flatten().any(|&expert| expert < n_experts) {
            let ours = case.gradients(Case::forward);
            assert_all_close(ours, case.naive_gradients(), case.unit().naive_gradients(), 1e-6);
        }
    }

    #[test]
    fn only_one_side_may_be_tracked(case in case()) {
        let n_experts = case.experts.len();
        prop_assume!(case.chosen.iter().flatten().any(|&expert| expert < n_experts));
        let [x_alone, _] = case.gradients(|case, x, _| case.forward(x, constant(&case.gates)));
        let [_, gates_alone] = case.gradients(|case, _, gates| case.forward(constant(&case.x), gates));
        let (both, unit) = (case.gradients(Case::forward), case.unit().naive_gradients());
        assert_all_close([x_alone, gates_alone], both, unit, 1e-6);
    }

    #[test]
    fn copies_of_an_expert_are_that_expert(case in case(), n_copies in 1usize..5) {
        let expert = &case.stored()[0];
        let bank = ExpertBank::new(vec![expert.clone(); n_copies]);
        let x = constant(&case.x);
        let [tokens, _] = x.dims();
        let logits: Tensor<2> = Tensor::arange(0..(tokens * n_copies) as i64, &Device::flex())
            .float()
            .sin()
            .reshape([tokens, n_copies]);
        let gates = burn::tensor::activation::softmax(logits, 1);
        let chosen = Tensor::arange(0..n_copies as i64, &Device::flex())
            .unsqueeze::<2>()
            .repeat_dim(0, tokens);
        prop_assume!(tokens > 0);
        let unit = case.unit();
        let unit = run(&unit.stored()[0], constant(&unit.x));
        assert_close(bank.forward(x.clone(), chosen, gates, None), run(expert, x), unit, 1e-6);
    }

    #[test]
    fn choosing_every_expert_is_the_full_mixture(case in case()) {
        let n_experts = case.experts.len();
        let x = constant(&case.x);
        let [tokens, _] = x.dims();
        prop_assume!(tokens > 0);
        let gates = x.clone().slice([0..tokens, 0..1]).repeat_dim(1, n_experts);
        // In a different order for every token.
        let chosen: Vec<i64> = (0..tokens * n_experts)
            .map(|place| ((place / n_experts + place) % n_experts) as i64)
            .collect();
        let chosen = TensorData::new(chosen, [tokens, n_experts]);
        let chosen = Tensor::from_data(chosen, &Device::flex());
        let full = |case: &Case| {
            let x = constant(&case.x);
            let add = |sum, expert: &ExpertWeights| sum + run(expert, x.clone());
            case.stored().iter().fold(x.zeros_like(), add) * x.clone().slice([0..tokens, 0..1])
        };
        let (full, unit) = (full(&case), full(&case.unit()));
        assert_close(case.bank().forward(x, chosen, gates, None), full, unit, 1e-6);
    }

    #[test]
    fn a_visitor_sees_every_choice_once(case in case()) {
        let (x, gates) = (constant(&case.x), constant(&case.gates));
        let [tokens, d_model] = x.dims();
        let (mut visits, mut sum) = (Vec::new(), vec![0f32; tokens * d_model]);
        let mut see = |ExpertWork { expert, rows, gates, outputs, inner }: ExpertWork| {
            let inner = inner.expect("it was asked for");
            assert_eq!(inner.dims(), [rows.len(), case.stored()[expert].up.dims()[0]]);
            assert_eq!((gates.dims(), outputs.dims()), ([rows.len()], [rows.len(), d_model]));
            let (gates, outputs) = (floats(gates), floats(outputs));
            for ((&row, gate), output) in rows.iter().zip(gates).zip(outputs.chunks(d_model)) {
                let sum = &mut sum[row * d_model..][..d_model];
                sum.iter_mut().zip(output).for_each(|(sum, output)| *sum += gate * output);
            }
            visits.push((expert, rows));
        };
        let output = case.bank().forward(x, case.chosen(), gates, Some(ExpertVisit { see: &mut see, wants_inner: true }));
        if tokens > 0 {
            let sum = constant(&TensorData::new(sum, [tokens, d_model]));
            assert_close(sum, output, case.unit().naive(), 1e-6);
        }
        let expected: Vec<(usize, Vec<usize>)> = (0..case.experts.len())
            .map(|expert| {
                let choices = case.chosen.iter().enumerate();
                let rows = choices.flat_map(|(token, chosen)| {
                    std::iter::repeat_n(token, chosen.iter().filter(|&&e| e == expert).count())
                });
                (expert, rows.collect::<Vec<_>>())
            })
            .filter(|(_, rows)| !rows.is_empty())
            .collect();
        prop_assert_eq!(visits, expected);
    }

    #[test]
    fn stored_experts_come_back(case in case()) {
        let bank = case.bank();
        prop_assert_eq!(bank.n_experts(), case.experts.len());
        for (at, [gate, up, down]) in case.experts.iter().enumerate() {
            let stored = bank.stored(at);
            prop_assert_eq!(stored.gate.map(|gate| gate.into_data()), case.gated.then(|| gate.clone()));
            prop_assert_eq!(&stored.up.into_data(), up);
            prop_assert_eq!(&stored.down.into_data(), down);
        }
    }
}

#[test]
fn a_token_without_experts_gets_zeros() {
    let expert = ExpertWeights {
        gate: None,
        up: Tensor::ones([3, 2], &Device::flex()),
        down: Tensor::ones([2, 3], &Device::flex()),
        biases: None,
    };
    let bank = ExpertBank::new(vec![expert]);
    let (x, gates) = (Tensor::ones([2, 2], &Device::flex()), Tensor::ones([2, 1], &Device::flex()));
    let chosen = Tensor::from_data([[1], [0]], &Device::flex());
    let output = floats(bank.forward(x.clone(), chosen, gates.clone(), None));
    assert_eq!(output[..2], [0., 0.]);
    assert!(output[2] > 1.);
    let no_expert = Tensor::from_data([[1], [1]], &Device::flex());
    assert_eq!(floats(bank.forward(x, no_expert, gates, None)), [0.; 4]);
}

#[test]
#[should_panic(expected = "expert 2 chosen of 1")]
fn an_expert_that_does_not_exist_is_a_mistake_of_the_caller() {
    let expert = ExpertWeights {
        gate: None,
        up: Tensor::ones([3, 2], &Device::flex()),
        down: Tensor::ones([2, 3], &Device::flex()),
        biases: None,
    };
    let ones = Tensor::<2>::ones([1, 1], &Device::flex());
    let chosen = Tensor::from_data([[2]], &Device::flex());
    let x = Tensor::ones([1, 2], &Device::flex());
    ExpertBank::new(vec![expert]).forward(x, chosen, ones, None);
}

#[test]
#[should_panic(expected = "experts of one bank have one shape")]
fn experts_of_two_shapes_are_refused() {
    let expert = |d_expert: usize| ExpertWeights {
        gate: None,
        up: Tensor::ones([d_expert, 2], &Device::flex()),
        down: Tensor::ones([2, d_expert], &Device::flex()),
        biases: None,
    };
    ExpertBank::new(vec![expert(3), expert(4)]);
}

/// A case large enough for multi-threading.
pub(crate) fn large_case() -> Case {
    let [tokens, d_model, d_expert, n_experts, top_k] = [300, 64, 64, 16, 2];
    let mut state = 1u32;
    let mut matrix = |rows, columns| {
        let values = (0..rows * columns).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        });
        TensorData::new(values.collect::<Vec<_>>(), [rows, columns])
    };
    let experts = (0..n_experts)
        .map(|_| [matrix(d_expert, d_model), matrix(d_expert, d_model), matrix(d_model, d_expert)]);
    let experts = experts.collect();
    let (x, grad) = (matrix(tokens, d_model), matrix(tokens, d_model));
    let gates = matrix(tokens, top_k);
    let chosen =
        (0..tokens).map(|token| vec![token * token % n_experts, token * 7 / 3 % n_experts]);
    Case { experts, gated: true, x, chosen: chosen.collect(), gates, grad }
}

#[test]
fn threads_change_no_bit() {
    let case = large_case();
    let forward = || floats(case.forward(constant(&case.x), constant(&case.gates)));
    let gradients = || case.gradients(Case::forward).map(|gradient| floats(gradient.expect("one")));
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    assert_eq!(forward(), one_thread.install(forward));
    assert_eq!(gradients(), one_thread.install(gradients));
}

#[test]
fn a_large_batch_equals_the_one_that_is_watched() {
    let case = large_case();
    // With a visitor, Burn differentiates the plain operations.
    let watched = |case: &Case, x, gates| {
        let mut see = |work: ExpertWork| assert!(work.inner.is_none());
        let visit = ExpertVisit { see: &mut see, wants_inner: false };
        case.bank().forward(x, case.chosen(), gates, Some(visit))
    };
    let (x, gates) = (constant(&case.x), constant(&case.gates));
    let output = case.forward(x.clone(), gates.clone());
    assert_eq!(floats(output), floats(watched(&case, x, gates)));
    let unit = case.unit().gradients(watched);
    assert_all_close(case.gradients(Case::forward), case.gradients(watched), unit, 1e-8);
}
