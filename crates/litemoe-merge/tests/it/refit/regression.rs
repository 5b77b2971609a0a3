//! One layer's ridge regression against dense f64 arithmetic.

use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::{LayerId, MoeLayer};
use litemoe_merge::{DownChange, GatedInner, MergeError, RefitSums, Solution, solve};
use proptest::prelude::*;

const LAYER: LayerId = LayerId::decoder(3);
const RIDGE: f64 = 0.01;

/// A random regression problem of one layer.
#[derive(Debug, Clone)]
struct Case {
    n_experts: usize,
    d_expert: usize,
    d_model: usize,
    /// Which experts each token is routed to, `[tokens][n_experts]`.
    chosen: Vec<Vec<bool>>,
    seed: u64,
    /// Small integers, whose sums are exact.
    whole: bool,
}

fn case(whole: bool) -> impl Strategy<Value = Case> {
    (1..4usize, 1..5usize, 1..6usize, 1..20usize, any::<u64>()).prop_flat_map(
        move |(n_experts, d_expert, d_model, tokens, seed)| {
            let token = prop::collection::vec(any::<bool>(), n_experts);
            prop::collection::vec(token, tokens).prop_map(move |chosen| Case {
                n_experts,
                d_expert,
                d_model,
                chosen,
                seed,
                whole,
            })
        },
    )
}

impl Case {
    fn layer(&self) -> MoeLayer {
        MoeLayer {
            id: LAYER,
            n_experts: self.n_experts,
            top_k: 1,
            groups: None,
            d_model: self.d_model,
            d_expert: self.d_expert,
            expert_bytes: 1,
        }
    }

    fn width(&self) -> usize {
        self.n_experts * self.d_expert
    }

    fn draw(&self, part: u64, len: usize) -> Vec<f64> {
        let values = litemoe_fixtures::uniform(self.seed.wrapping_add(part), len);
        let value = |value: f32| if self.whole { (value * 8.0).round() } else { value };
        values.into_iter().map(|x| f64::from(value(x))).collect()
    }

    /// Z, `[tokens][width]`.
    fn z(&self) -> Vec<Vec<f64>> {
        let values = self.draw(0, self.chosen.len() * self.width());
        let row = |(row, chosen): (&[f64], &Vec<bool>)| {
            let value = |(at, value): (usize, &f64)| {
                if chosen[at / self.d_expert] { *value } else { 0.0 }
            };
            row.iter().enumerate().map(value).collect()
        };
        values.chunks(self.width()).zip(&self.chosen).map(row).collect()
    }

    /// r, `[tokens][d_model]`.
    fn residual(&self) -> Vec<Vec<f64>> {
        let values = self.draw(1, self.chosen.len() * self.d_model);
        values.chunks(self.d_model).map(<[f64]>::to_vec).collect()
    }

    /// The statistics of a range of tokens, added as one batch.
    fn sums(&self, tokens: std::ops::Range<usize>) -> RefitSums {
        let (z, residual) = (&self.z()[tokens.clone()], &self.residual()[tokens.clone()]);
        let chosen = &self.chosen[tokens];
        let inner = |expert: usize| {
            let tokens: Vec<usize> = (0..chosen.len()).filter(|&t| chosen[t][expert]).collect();
            let columns = expert * self.d_expert..(expert + 1) * self.d_expert;
            let rows: Vec<Vec<f64>> =
                tokens.iter().map(|&token| z[token][columns.clone()].to_vec()).collect();
            let inner = tensor(&rows, self.d_expert);
            (!tokens.is_empty()).then_some(GatedInner { expert, tokens, inner })
        };
        let inner: Vec<GatedInner> = (0..self.n_experts).filter_map(inner).collect();
        let residual = tensor(residual, self.d_model);
        let mut sums = RefitSums::new(&self.layer());
        sums.add_batch(&inner, &residual, &residual);
        sums
    }

    fn all(&self) -> RefitSums {
        self.sums(0..self.chosen.len())
    }

    fn solve(&self, rank: Option<usize>) -> Solution {
        solve(LAYER, self.all(), rank, RIDGE, &Device::flex()).unwrap()
    }

    /// λ
    fn lambda(&self) -> f64 {
        let trace: f64 = self.z().iter().flatten().map(|z| z * z).sum();
        RIDGE * trace / self.width() as f64
    }

    /// ‖r − Z·S‖²
    fn loss(&self, change: &[Vec<f64>]) -> f64 {
        let row = |(z, r): (&Vec<f64>, &Vec<f64>)| -> f64 {
            (0..self.d_model)
                .map(|column| {
                    let sum: f64 = z.iter().zip(change).map(|(z, s)| z * s[column]).sum();
                    (r[column] - sum).powi(2)
                })
                .sum()
        };
        self.z().iter().zip(&self.residual()).map(row).sum()
    }

    /// The objective of the ridge regression.
    fn objective(&self, change: &[Vec<f64>]) -> f64 {
        let size: f64 = change.iter().flatten().map(|s| s * s).sum();
        self.loss(change) + self.lambda() * size
    }

    /// S by Gaussian elimination of the dense system.
    fn dense(&self) -> Vec<Vec<f64>> {
        let (z, r, width) = (self.z(), self.residual(), self.width());
        let entry = |i: usize, j: usize| {
            z.iter().map(|z| z[i] * z[j]).sum::<f64>() + if i == j { self.lambda() } else { 0.0 }
        };
        let right = |i: usize, j: usize| z.iter().zip(&r).map(|(z, r)| z[i] * r[j]).sum::<f64>();
        let row = |i: usize| {
            let left = (0..width).map(|j| entry(i, j));
            left.chain((0..self.d_model).map(|j| right(i, j))).collect()
        };
        eliminated((0..width).map(row).collect(), width)
    }
}

/// Solves a positive definite system by Gaussian elimination; the right-hand side is in the columns after `width`.
fn eliminated(mut rows: Vec<Vec<f64>>, width: usize) -> Vec<Vec<f64>> {
    for pivot in 0..width {
        let scale = rows[pivot][pivot];
        rows[pivot].iter_mut().for_each(|value| *value /= scale);
        let by = rows[pivot].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(row, _)| *row != pivot) {
            let factor = row[pivot];
            row.iter_mut().zip(&by).for_each(|(value, by)| *value -= factor * by);
        }
    }
    rows.into_iter().map(|row| row[width..].to_vec()).collect()
}

fn tensor(rows: &[Vec<f64>], width: usize) -> Tensor<2> {
    let values: Vec<f32> = rows.iter().flatten().map(|&value| value as f32).collect();
    Tensor::from_data(TensorData::new(values, [rows.len(), width]), &Device::flex())
}

fn rows(tensor: &Tensor<2>) -> Vec<Vec<f64>> {
    let [_, width] = tensor.dims();
    let values: Vec<f64> = tensor.to_data().iter().collect();
    values.chunks(width).map(<[f64]>::to_vec).collect()
}

/// The changes of all experts, concatenated by rows.
fn stacked(change: &DownChange) -> Vec<Vec<f64>> {
    let down: Vec<Tensor<2>> = match change {
        DownChange::Full(down) => down.clone(),
        DownChange::LowRank { a, b } => a.iter().map(|a| a.clone().matmul(b.clone())).collect(),
    };
    down.iter().flat_map(rows).collect()
}

fn largest(rows: &[Vec<f64>]) -> f64 {
    rows.iter().flatten().fold(0.0, |largest, value| largest.max(value.abs()))
}

fn assert_close(found: &[Vec<f64>], expected: &[Vec<f64>]) {
    let unit = largest(expected).max(1.0);
    for (x, y) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((x - y).abs() <= 1e-4 * unit, "{x} is not {y}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_solution_is_that_of_the_dense_system(case in case(false)) {
        prop_assume!(case.lambda() > 0.0);
        let (found, expected) = (case.solve(None), case.dense());
        assert_close(&stacked(&found.change), &expected);
        let share = |change: &[Vec<f64>]| case.loss(change) / case.loss(&vec![vec![0.0; case.d_model]; case.width()]);
        prop_assert!((found.before - 1.0).abs() < 1e-6);
        prop_assert!((found.after - share(&expected)).abs() < 1e-5, "{} {}", found.after, share(&expected));
    }

    #[test]
    fn low_rank_at_full_rank_is_the_full_solution(case in case(false)) {
        let (full, low) = (case.solve(None), case.solve(Some(case.width().min(case.d_model))));
        assert_close(&stacked(&low.change), &stacked(&full.change));
        prop_assert!((full.after - low.after).abs() < 1e-6);
    }

    #[test]
    fn no_other_change_of_the_rank_is_better(case in case(false), direction in any::<u64>()) {
        prop_assume!(case.lambda() > 0.0);
        let found = stacked(&case.solve(Some(1)).change);
        let best = case.objective(&found);
        let full = case.dense();
        prop_assert!(best >= case.objective(&full) * (1.0 - 1e-4));
        // The full-rank solution projected on a random direction: another choice of V.
        let v: Vec<f64> = litemoe_fixtures::uniform(direction, case.d_model).into_iter().map(f64::from).collect();
        let norm: f64 = v.iter().map(|v| v * v).sum();
        let along = |row: &Vec<f64>| {
            let part: f64 = row.iter().zip(&v).map(|(s, v)| s * v).sum::<f64>() / norm;
            v.iter().map(|v| part * v).collect()
        };
        let other: Vec<Vec<f64>> = full.iter().map(along).collect();
        prop_assert!(best <= case.objective(&other) * (1.0 + 1e-4), "{best} {}", case.objective(&other));
    }

    #[test]
    fn shards_add_up(case in case(true), at in any::<prop::sample::Index>()) {
        let cut = at.index(case.chosen.len() + 1);
        let (mut first, second) = (case.sums(0..cut), case.sums(cut..case.chosen.len()));
        first.add(&second).unwrap();
        prop_assert_eq!(first, case.all());
    }

    #[test]
    fn one_case_has_one_solution(case in case(false)) {
        let data = |solution: Solution| stacked(&solution.change);
        prop_assert_eq!(data(case.solve(Some(1))), data(case.solve(Some(1))));
        prop_assert_eq!(data(case.solve(None)), data(case.solve(None)));
    }
}

fn tiny() -> Case {
    let (n_experts, d_expert, d_model, seed) = (2, 3, 4, 1);
    let chosen = vec![vec![true, false], vec![true, true]];
    Case { n_experts, d_expert, d_model, chosen, seed, whole: false }
}

#[test]
fn sums_of_another_layer_do_not_add_up() {
    let (case, mut sums) = (tiny(), tiny().all());
    let other = Case { n_experts: 3, chosen: vec![vec![true; 3]], ..case };
    let before = sums.clone();
    assert!(matches!(sums.add(&other.all()), Err(MergeError::OtherSums { .. })));
    assert_eq!(sums, before);
}

#[test]
fn a_rank_that_no_change_has_is_refused() {
    for rank in [0, 5] {
        let refused = solve(LAYER, tiny().all(), Some(rank), RIDGE, &Device::flex());
        let named = MergeError::Rank { layer: LAYER, rank, largest: 4 }.to_string();
        assert_eq!(refused.unwrap_err().to_string(), named);
    }
}

#[test]
fn what_is_not_finite_is_refused_by_its_layer() {
    let mut sums = tiny().all();
    let nan = tensor(&[vec![f64::NAN; 4]], 4);
    let inner = GatedInner { expert: 0, tokens: vec![0], inner: tensor(&[vec![1.0; 3]], 3) };
    sums.add_batch(&[inner], &nan, &nan);
    let refused = solve(LAYER, sums, None, RIDGE, &Device::flex());
    assert!(matches!(refused, Err(MergeError::RefitNotFinite { layer: LAYER })));
}

#[test]
fn where_no_token_chose_an_expert_nothing_changes() {
    let sums = RefitSums::new(&tiny().layer());
    let found = solve(LAYER, sums, None, RIDGE, &Device::flex()).unwrap();
    assert_eq!((largest(&stacked(&found.change)), found.before, found.after), (0.0, 0.0, 0.0));
}
