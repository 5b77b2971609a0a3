//! Forward pass of gated experts on packed weights: two parallel regions for all experts, inputs rounded once.

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::packed::{PackedExpert, present};
use crate::dispatch::Dispatch;
use crate::matrix::{Activations, InstructionSet, Matrix, Product};
use crate::silu_mul;

/// Minimum number of values per parallel task of element-wise loops.
const VALUES_PER_TASK: usize = 1 << 15;

/// Gate and up, and down, of one expert.
type Matrices<'a> = [&'a Matrix; 2];

/// Experts of a batch, all with packed weights.
pub(super) struct Fused<'a> {
    dispatch: &'a Dispatch,
    /// Of each group of rows.
    matrices: Vec<Matrices<'a>>,
}

impl<'a> Fused<'a> {
    /// `None` if a weight is dense, or no token has an expert.
    pub(super) fn new(experts: &'a [Option<PackedExpert>], dispatch: &'a Dispatch) -> Option<Self> {
        let matrices = |&(expert, _): &(usize, _)| {
            let PackedExpert { gate_up, down, .. } = present(experts, expert);
            Some([gate_up.matrix()?, down.matrix()?])
        };
        let matrices: Vec<_> = dispatch.groups().iter().map(matrices).collect::<Option<_>>()?;
        (!matrices.is_empty()).then_some(Self { dispatch, matrices })
    }

    /// Expert outputs with SwiGLU, weighted by the gates and summed; bit for bit what the plain operations give.
    ///
    /// # Shapes
    /// - `x` and output: `[tokens, d_model]`
    /// - `gates`: `[tokens, top_k]`
    pub(super) fn mix(&self, x: Tensor<2>, gates: Tensor<2>) -> Tensor<2> {
        let (shape, device) = (x.dims(), x.device());
        let [x, gates] = [x, gates].map(|tensor| tensor.into_data().convert::<f32>());
        let [x, gates] = [&x, &gates].map(|data| data.as_slice::<f32>().expect("converted to f32"));
        let [gate_up, down] = self.matrices[0];
        let tokens = self.dispatch.places().iter().map(|place| place / self.dispatch.top_k());
        let rows = Activations::of(gate_up, x).gather(tokens);
        let products = self.products(&rows, |[gate_up, _]| gate_up);
        let mut inner = vec![0f32; self.dispatch.n_rows() * down.d_in()];
        by_rows(&mut inner, down.d_in(), |row, inner| {
            silu_mul::row_forward(&products[row * gate_up.d_out()..][..gate_up.d_out()], inner);
        });
        let outputs = self.products(&Activations::of(down, &inner), |[_, down]| down);
        let mut sums = vec![0f32; shape[0] * shape[1]];
        self.sum(&outputs, gates, &mut sums);
        Tensor::from_data(TensorData::new(sums, shape), &device)
    }

    /// Products of all rows, each with a matrix of its expert.
    fn products(&self, x: &Activations, of: impl Fn(Matrices<'a>) -> &'a Matrix) -> Vec<f32> {
        let groups = self.dispatch.groups().iter().zip(&self.matrices);
        let product = |((_, rows), &matrices): (&(usize, _), &Matrices<'a>)| {
            let rows = std::ops::Range::clone(rows);
            Product { matrix: of(matrices), x, rows }
        };
        Matrix::products(InstructionSet::in_use(), &groups.map(product).collect::<Vec<_>>())
    }

    /// Sums the outputs `[n_rows, d_model]` of each token, weighted by its gates, in the order of the experts.
    fn sum(&self, outputs: &[f32], gates: &[f32], sums: &mut [f32]) {
        let (places, top_k) = (self.dispatch.places(), self.dispatch.top_k());
        let d_model = outputs.len() / places.len();
        // Ascending rows of each token: its experts ascend.
        let mut rows = vec![Vec::with_capacity(top_k); sums.len() / d_model];
        places.iter().enumerate().for_each(|(row, &place)| rows[place / top_k].push(row));
        by_rows(sums, d_model, |token, sums| {
            for &row in &rows[token] {
                let gate = gates[places[row]];
                for (sum, output) in sums.iter_mut().zip(&outputs[row * d_model..]) {
                    *sum += output * gate;
                }
            }
        });
    }
}

/// Computes values row by row, in parallel if there are many.
fn by_rows(values: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if values.len() <= VALUES_PER_TASK {
        values.chunks_exact_mut(width).enumerate().for_each(|(row, values)| f(row, values));
    } else {
        let rows = values.par_chunks_exact_mut(width);
        let rows = rows.with_min_len(VALUES_PER_TASK.div_ceil(width)).enumerate();
        rows.for_each(|(row, values)| f(row, values));
    }
}
