use litemoe_core::ExpertWeights;
use litemoe_merge::align;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::experts::{D_MODEL, assert_close, expert, matrix, output, permuted, values};

/// A random permutation of a random number of neurons.
fn orders() -> impl Strategy<Value = Vec<usize>> {
    (1usize..20).prop_flat_map(|n| Just((0..n).collect::<Vec<_>>()).prop_shuffle())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn permuting_neurons_keeps_the_function_and_alignment_finds_the_permutation(
        order in orders(), seed: u64, gated: bool,
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let centroid = expert(order.len(), &mut rng);
        let centroid = if gated { centroid } else { ExpertWeights { gate: None, ..centroid } };
        let moved = permuted(&centroid, &order);
        let x = matrix([7, D_MODEL], &mut rng);
        let flat = |expert| output(expert, x.clone()).into_data().iter().collect::<Vec<f32>>();
        assert_close(&flat(&moved), &flat(&centroid));

        let found: Vec<usize> = align(&centroid, &moved).unwrap().iter().map(|&i| i as usize).collect();
        prop_assert_eq!(values(&permuted(&moved, &found)), values(&centroid));
    }

    #[test]
    fn no_order_costs_less_than_the_one_found(n in 1usize..6, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (centroid, absorbed) = (expert(n, &mut rng), expert(n, &mut rng));
        let found: Vec<usize> = align(&centroid, &absorbed).unwrap().iter().map(|&i| i as usize).collect();
        let least = orders_of(n).iter().map(|order| cost(&centroid, &absorbed, order)).fold(f64::MAX, f64::min);
        prop_assert!((cost(&centroid, &absorbed, &found) - least).abs() < 1e-4);
    }
}

#[test]
fn weights_that_are_not_finite_have_no_alignment() {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let centroid = expert(3, &mut rng);
    let broken = ExpertWeights { up: centroid.up.clone().mul_scalar(f32::NAN), ..centroid.clone() };
    assert_eq!(align(&centroid, &broken), None);
}

/// ½ Σ over neurons of the distances between gate rows, up rows and down columns.
fn cost(centroid: &ExpertWeights, absorbed: &ExpertWeights, order: &[usize]) -> f64 {
    let moved = permuted(absorbed, order);
    let difference =
        |x: &burn::tensor::Tensor<2>, y: &burn::tensor::Tensor<2>, dim: usize| -> f64 {
            let norms = (x.clone() - y.clone()).square().sum_dim(dim).sqrt();
            norms.into_data().iter::<f64>().sum()
        };
    let gate = difference(centroid.gate.as_ref().unwrap(), moved.gate.as_ref().unwrap(), 1);
    (gate + difference(&centroid.up, &moved.up, 1) + difference(&centroid.down, &moved.down, 0))
        / 2.0
}

/// All permutations of `n` neurons.
fn orders_of(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let insert = |shorter: Vec<usize>| {
        (0..n).map(move |place| {
            let mut order = shorter.clone();
            order.insert(place, n - 1);
            order
        })
    };
    orders_of(n - 1).into_iter().flat_map(insert).collect()
}
