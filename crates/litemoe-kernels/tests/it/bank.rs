use burn::tensor::{Device, Distribution, Int, Tensor, Tolerance};
use litemoe_kernels::{ExpertBank, StoredExpert, silu_mul};

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0., 1.), &Device::flex())
}

#[test]
fn smoke() {
    let experts: Vec<_> = (0..4)
        .map(|_| StoredExpert {
            gate: Some(random([3, 5])),
            up: random([3, 5]),
            down: random([5, 3]),
        })
        .collect();
    let bank = ExpertBank::new(experts.clone());
    let x = random([6, 5]);
    let gates = random([6, 2]);
    let chosen = Tensor::<2, Int>::from_data(
        [[0, 1], [3, 4], [2, 0], [4, 4], [1, 3], [0, 3]],
        &Device::flex(),
    );
    let mut seen = 0;
    let y = bank.forward(
        x.clone(),
        chosen.clone(),
        gates.clone(),
        Some(&mut |_, rows, _, _| seen += rows.len()),
    );
    assert_eq!(seen, 9);
    let mut naive = vec![];
    for (t, choices) in chosen.into_data().try_into_vec::<i64>().unwrap().chunks(2).enumerate() {
        let mut sum = Tensor::zeros([1, 5], &Device::flex());
        for (k, &e) in choices.iter().enumerate().filter(|(_, e)| **e < 4) {
            let e = &experts[e as usize];
            let x = x.clone().slice([t..t + 1]);
            let hidden = Tensor::cat(
                vec![
                    x.clone().matmul(e.gate.clone().unwrap().transpose()),
                    x.matmul(e.up.clone().transpose()),
                ],
                1,
            );
            let out = silu_mul(hidden).matmul(e.down.clone().transpose());
            sum = sum + out * gates.clone().slice([t..t + 1, k..k + 1]);
        }
        naive.push(sum);
    }
    let naive = Tensor::cat(naive, 0);
    y.into_data().assert_approx_eq::<f32>(&naive.into_data(), Tolerance::default());
}
