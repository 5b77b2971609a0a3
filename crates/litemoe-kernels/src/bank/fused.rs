//! Gated experts on packed weights, without adapters: two parallel regions for all experts, inputs rounded once.

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

    /// Expert outputs with SwiGLU, weighted by the gates and summed; bit for bit what the plain operations give. Also the
    /// products with gate and up, `[n_rows, 2 * d_expert]`, for [`Self::backward`].
    ///
    /// # Shapes
    /// - `x` and output: `[tokens, d_model]`
    /// - `gates`: `[tokens, top_k]`
    pub(super) fn forward(&self, x: Tensor<2>, gates: Tensor<2>) -> (Tensor<2>, Vec<f32>) {
        let (shape, device) = (x.dims(), x.device());
        let [x, gates] = [x, gates].map(host);
        let [gate_up, down] = self.matrices[0];
        let rows = Activations::of(gate_up, values(&x)).gather(self.tokens());
        let products = self.products(&rows, |[gate_up, _]| gate_up);
        let mut inner = vec![0f32; self.dispatch.n_rows() * down.d_in()];
        by_rows(&mut inner, down.d_in(), |row, inner| {
            silu_mul::row_forward(&products[row * gate_up.d_out()..][..gate_up.d_out()], inner);
        });
        let outputs = self.products(&Activations::of(down, &inner), |[_, down]| down);
        let mut sums = vec![0f32; shape[0] * shape[1]];
        let gates = values(&gates);
        self.sum(&outputs, |place| gates[place], &mut sums);
        (Tensor::from_data(TensorData::new(sums, shape), &device), products)
    }

    /// Gradients of `x` and of the gates, from the products of the forward pass and the output's gradient.
    ///
    /// With `u = ∂y·downᵀ`, the gate's gradient is `u·inner` and that of `inner` is `gate·u`.
    pub(super) fn backward(
        &self,
        products: &[f32],
        gates: Tensor<2>,
        grad: Tensor<2>,
    ) -> [Tensor<2>; 2] {
        let (shape, gates_shape, device) = (grad.dims(), gates.dims(), grad.device());
        let [grad, gates] = [grad, gates].map(host);
        let [gate_up, down] = self.matrices[0];
        let (width, d_expert) = (gate_up.d_out(), down.d_in());
        let rows = Activations::of_gradients(down, values(&grad)).gather(self.tokens());
        let u = self.input_gradients(&rows, |[_, down]| down);
        let (places, gates) = (self.dispatch.places(), values(&gates));
        let mut d_products = vec![0f32; places.len() * width];
        let mut d_rows = vec![0f32; places.len()];
        let rows = d_products.par_chunks_exact_mut(width).zip(&mut d_rows).enumerate();
        let rows = rows.with_min_len(VALUES_PER_TASK.div_ceil(width));
        rows.for_each_init(
            || vec![0f32; d_expert],
            |inner, (row, (d_products, d_gate))| {
                let products = &products[row * width..][..width];
                let u = &u[row * d_expert..][..d_expert];
                let gate = gates[places[row]];
                InstructionSet::in_use().vectorise(|| {
                    silu_mul::row_forward(products, inner);
                    *d_gate = dot(u, inner);
                    inner.iter_mut().zip(u).for_each(|(d_inner, u)| *d_inner = gate * u);
                    silu_mul::row_backward(products, inner, d_products);
                });
            },
        );
        let mut d_gates = vec![0f32; gates.len()];
        places.iter().zip(d_rows).for_each(|(&place, d_gate)| d_gates[place] = d_gate);
        let rows = Activations::of_gradients(gate_up, &d_products);
        let d_inputs = self.input_gradients(&rows, |[gate_up, _]| gate_up);
        let mut d_x = vec![0f32; shape[0] * shape[1]];
        self.sum(&d_inputs, |_| 1., &mut d_x);
        let tensor = |values, shape| Tensor::from_data(TensorData::new(values, shape), &device);
        [tensor(d_x, shape), tensor(d_gates, gates_shape)]
    }

    /// Token of each row.
    fn tokens(&self) -> impl Iterator<Item = usize> {
        self.dispatch.places().iter().map(|place| place / self.dispatch.top_k())
    }

    /// Products of all rows, each with a matrix of its expert.
    fn products(&self, x: &Activations, of: impl Fn(Matrices<'a>) -> &'a Matrix) -> Vec<f32> {
        Matrix::products(InstructionSet::in_use(), &self.each(x, of))
    }

    /// Gradients of the inputs of [`Self::products`], from those of their outputs.
    fn input_gradients(
        &self,
        grad: &Activations,
        of: impl Fn(Matrices<'a>) -> &'a Matrix,
    ) -> Vec<f32> {
        Matrix::input_gradients(InstructionSet::in_use(), &self.each(grad, of))
    }

    fn each<'b>(
        &self,
        x: &'b Activations,
        of: impl Fn(Matrices<'a>) -> &'a Matrix,
    ) -> Vec<Product<'b>>
    where
        'a: 'b,
    {
        let groups = self.dispatch.groups().iter().zip(&self.matrices);
        let product = |((_, rows), &matrices): (&(usize, _), &Matrices<'a>)| {
            let rows = std::ops::Range::clone(rows);
            Product { matrix: of(matrices), x, rows }
        };
        groups.map(product).collect()
    }

    /// Sums the rows `[n_rows, d_model]` of each token, each times the factor of its place, in the order of the experts.
    fn sum(&self, outputs: &[f32], factor: impl Fn(usize) -> f32 + Sync, sums: &mut [f32]) {
        let (places, top_k) = (self.dispatch.places(), self.dispatch.top_k());
        let d_model = outputs.len() / places.len();
        // Ascending rows of each token: its experts ascend.
        let mut rows = vec![Vec::with_capacity(top_k); sums.len() / d_model];
        places.iter().enumerate().for_each(|(row, &place)| rows[place / top_k].push(row));
        by_rows(sums, d_model, |token, sums| {
            for &row in &rows[token] {
                let gate = factor(places[row]);
                for (sum, output) in sums.iter_mut().zip(&outputs[row * d_model..]) {
                    *sum += output * gate;
                }
            }
        });
    }
}

/// The tensor in f32, in host memory.
fn host(tensor: Tensor<2>) -> TensorData {
    tensor.into_data().convert::<f32>()
}

fn values(data: &TensorData) -> &[f32] {
    data.as_slice().expect("converted to f32")
}

/// Dot product, in sums that vectorise.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    for (a, b) in a.chunks(16).zip(b.chunks(16)) {
        sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
    }
    sums.iter().sum()
}

/// Computes values row by row, in parallel if there are many.
fn by_rows(values: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let set = InstructionSet::in_use();
    let f = |row, values: &mut [f32]| set.vectorise(|| f(row, values));
    if values.len() <= VALUES_PER_TASK {
        values.chunks_exact_mut(width).enumerate().for_each(|(row, values)| f(row, values));
    } else {
        let rows = values.par_chunks_exact_mut(width);
        let rows = rows.with_min_len(VALUES_PER_TASK.div_ceil(width)).enumerate();
        rows.for_each(|(row, values)| f(row, values));
    }
}
