//! GPU against CPU: outputs and gradients agree within 1e-4 of each tensor's largest value, and none is zero. Any wgpu
//! adapter works, including a software one.

use burn::tensor::{Device, DeviceKind, Int, Tensor, TensorData};
use litemoe_core::{ExpertWeights, Lora, WeightDtype};
use litemoe_kernels::{ExpertAdapters, ExpertBank, ExpertVisit, LinearWeight, silu_mul};

const TOLERANCE: f32 = 1e-4;

/// Named tensors on the host.
type Results = Vec<(&'static str, Vec<f32>)>;

/// Runs `compute` on both devices and compares the results.
fn assert_same(compute: impl Fn(&Device) -> Results) {
    let gpu = compute(&Device::wgpu(DeviceKind::DefaultDevice));
    for ((name, gpu), (_, cpu)) in gpu.into_iter().zip(compute(&Device::flex())) {
        assert_eq!(gpu.len(), cpu.len(), "{name}");
        let largest = cpu.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        assert!(largest > 1e-3, "{name} is zero");
        for (at, (gpu, cpu)) in gpu.iter().zip(&cpu).enumerate() {
            let difference = (gpu - cpu).abs();
            assert!(difference <= TOLERANCE * largest, "{name}[{at}]: {gpu} on the GPU, not {cpu}");
        }
    }
}

/// Matrix of values in ±`scale`, by seed.
fn matrix([rows, columns]: [usize; 2], scale: f32, mut seed: u32) -> TensorData {
    let values = (0..rows * columns).map(|_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        scale * ((seed >> 8) as f32 / (1 << 23) as f32 - 1.)
    });
    TensorData::new(values.collect::<Vec<_>>(), [rows, columns])
}

fn constant(device: &Device, data: TensorData) -> Tensor<2> {
    Tensor::from_data(data, device)
}

fn tracked(device: &Device, data: TensorData) -> Tensor<2> {
    Tensor::from_data(data, &device.clone().autodiff()).require_grad()
}

fn floats(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32 data")
}

/// The output, and the gradients of its product with random weights.
fn results<const N: usize>(
    device: &Device,
    leaves: [(&'static str, Tensor<2>); N],
    f: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) -> Results {
    let output = f(leaves.clone().map(|(_, leaf)| leaf));
    let weights = constant(device, matrix(output.dims(), 1., 99));
    let gradients = (output.clone() * weights).sum().backward();
    let mut results = vec![("output", floats(output.inner()))];
    for (name, leaf) in leaves {
        results.push((name, floats(leaf.grad(&gradients).expect("a gradient"))));
    }
    results
}

#[test]
fn silu_mul_is_the_cpus() {
    for shape in [[1, 2], [7, 10], [64, 192]] {
        assert_same(|device| {
            let input = tracked(device, matrix(shape, 8., 1));
            results(device, [("the input's gradient", input)], |[input]| silu_mul(input))
        });
    }
}

#[test]
fn silu_mul_of_a_view_is_the_cpus() {
    assert_same(|device| {
        let input = tracked(device, matrix([12, 9], 8., 2));
        results(device, [("the input's gradient", input)], |[input]| {
            silu_mul(input.transpose().narrow(0, 2, 5))
        })
    });
}

#[test]
fn silu_mul_of_nothing_is_nothing() {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    assert_eq!(silu_mul(Tensor::zeros([0, 6], &device)).dims(), [0, 3]);
}

#[test]
fn linear_weights_are_the_cpus() {
    assert_same(|device| {
        let linear =
            LinearWeight::from_stored(constant(device, matrix([33, 20], 1., 3)), WeightDtype::F32);
        let x = tracked(device, matrix([9, 20], 1., 4));
        results(device, [("the input's gradient", x)], |[x]| linear.forward(x))
    });
}

#[test]
fn expert_banks_and_their_updates_are_the_cpus() {
    const N_EXPERTS: u32 = 6;
    let [tokens, d_model, d_expert, top_k] = [40, 24, 12, 2];
    // Index 6 means no expert.
    let chosen = (0..80).map(|place| place * place % (N_EXPERTS as i32 + 1));
    let chosen = TensorData::new(chosen.collect::<Vec<_>>(), [tokens, top_k]);
    let run = |device: &Device, gated: bool, watched: bool| {
        let expert = |seed| ExpertWeights {
            gate: gated.then(|| constant(device, matrix([d_expert, d_model], 1., seed))),
            up: constant(device, matrix([d_expert, d_model], 1., seed + 1)),
            down: constant(device, matrix([d_model, d_expert], 1., seed + 2)),
            biases: None,
        };
        let bank = ExpertBank::new((0..N_EXPERTS).map(|at| expert(10 + 3 * at)).collect());
        let x = tracked(device, matrix([tokens, d_model], 1., 5));
        let gates = tracked(device, matrix([tokens, top_k], 1., 6));
        let chosen = Tensor::<2, Int>::from_data(chosen.clone(), device);
        // The same LoRA on every second expert.
        let leaf = |shape, seed| tracked(device, matrix(shape, 1., seed));
        let leaves = [
            ("the input's gradient", x),
            ("the gates' gradient", gates),
            ("the gradient of up's A", leaf([d_model, 3], 50)),
            ("the gradient of up's B", leaf([3, d_expert], 51)),
            ("the gradient of down's A", leaf([d_expert, 3], 52)),
            ("the gradient of down's B", leaf([3, d_model], 53)),
        ];
        results(device, leaves, |[x, gates, up_a, up_b, down_a, down_b]| {
            let mut see = |_| ();
            let visit = watched.then_some(ExpertVisit { see: &mut see, wants_inner: true });
            let low_rank = |a: &Tensor<2>, b: &Tensor<2>| {
                Some(Lora { a: a.clone(), b: b.clone(), scale: 0.5 }.into())
            };
            let update = |expert: usize| match expert % 2 {
                0 => ExpertAdapters::default(),
                _ => ExpertAdapters {
                    gate: None,
                    up: low_rank(&up_a, &up_b),
                    down: low_rank(&down_a, &down_b),
                },
            };
            bank.forward_adapted(x, chosen.clone(), gates, &update, visit)
        })
    };
    for (gated, watched) in [(true, false), (true, true), (false, false)] {
        assert_same(|device| run(device, gated, watched));
    }
}
