use burn::tensor::{Tensor, TensorData};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use litemoe_core::MoeLayer;

use super::GatedInner;
use crate::MergeError;

/// Sufficient statistics of a layer's ridge regression, in f64. Those of shards of the rows, even from different
/// machines, [can be added](Self::add).
///
/// Z is `[tokens, n_experts · d_expert]`, mostly zeros, and never materialised: each pair of experts is summed over the
/// tokens routed to both.
#[derive(Debug, Clone, PartialEq)]
pub struct RefitSums {
    pub(super) d_expert: usize,
    pub(super) d_model: usize,
    /// `n_experts · d_expert`
    pub(super) width: usize,
    /// Tokens seen.
    pub(super) tokens: u64,
    /// ZᵀZ, `[width, width]`, column-major. Entries above the block diagonal are never written and take no memory.
    pub(super) zz: Vec<f64>,
    /// Zᵀr, `[width, d_model]`, column-major.
    pub(super) zr: Vec<f64>,
    /// ‖r‖²
    pub(super) r_squares: f64,
    /// ‖t‖²
    pub(super) t_squares: f64,
}

impl RefitSums {
    /// Empty statistics of a proxy's layer.
    pub fn new(layer: &MoeLayer) -> Self {
        let MoeLayer { n_experts, d_expert, d_model, .. } = *layer;
        let width = n_experts * d_expert;
        Self {
            d_expert,
            d_model,
            width,
            tokens: 0,
            zz: vec![0.0; width * width],
            zr: vec![0.0; width * d_model],
            r_squares: 0.0,
            t_squares: 0.0,
        }
    }

    /// Tokens seen.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Adds a batch of tokens.
    ///
    /// # Shapes
    /// - `inner`: one entry per expert with tokens
    /// - `residual`: r, the target minus the experts' summed outputs, `[tokens, d_model]`
    /// - `target`: t, the target of the experts' summed outputs, `[tokens, d_model]`
    pub fn add_batch(&mut self, inner: &[GatedInner], residual: &Tensor<2>, target: &Tensor<2>) {
        self.tokens += residual.dims()[0] as u64;
        let residual = Rows::of(residual);
        self.r_squares += residual.squares();
        self.t_squares += Rows::of(target).squares();
        let z: Vec<Rows> = inner.iter().map(|seen| Rows::of(&seen.inner)).collect();
        for (first, seen) in inner.iter().enumerate() {
            self.add_residual(seen, &z[first], &residual);
            for (second, other) in inner.iter().enumerate() {
                if other.expert <= seen.expert {
                    self.add_pair([seen, other], [&z[first], &z[second]]);
                }
            }
        }
    }

    /// Adds the statistics of another shard.
    ///
    /// # Errors
    /// [`MergeError::OtherSums`] if they are of a layer of another shape; nothing is added then.
    pub fn add(&mut self, other: &Self) -> Result<(), MergeError> {
        let shape = |sums: &Self| [sums.width / sums.d_expert, sums.d_expert, sums.d_model];
        let (found, expected) = (shape(other), shape(self));
        if found != expected {
            return Err(MergeError::OtherSums { found, expected });
        }
        self.tokens += other.tokens;
        self.r_squares += other.r_squares;
        self.t_squares += other.t_squares;
        let (width, d_expert) = (self.width, self.d_expert);
        for column in 0..width {
            let below = column * width + column / d_expert * d_expert..(column + 1) * width;
            add_all(&mut self.zz[below.clone()], &other.zz[below]);
        }
        add_all(&mut self.zr, &other.zr);
        Ok(())
    }

    /// Adds to an expert's rows of Zᵀr.
    fn add_residual(&mut self, seen: &GatedInner, z: &Rows, residual: &Rows) {
        let zr = MatMut::from_column_major_slice_mut(&mut self.zr, self.width, self.d_model);
        let block = zr.subrows_mut(seen.expert * self.d_expert, self.d_expert);
        let (z, residual) = (z.all(), residual.of_tokens(&seen.tokens));
        add_product(block, matrix(&z, self.d_expert), matrix(&residual, self.d_model));
    }

    /// Adds to a pair's block of ZᵀZ, over the tokens routed to both experts.
    fn add_pair(&mut self, [seen, other]: [&GatedInner; 2], [z, other_z]: [&Rows; 2]) {
        let (d_expert, [row, column]) =
            (self.d_expert, [seen, other].map(|seen| seen.expert * self.d_expert));
        let zz = MatMut::from_column_major_slice_mut(&mut self.zz, self.width, self.width);
        let block = zz.submatrix_mut(row, column, d_expert, d_expert);
        if row == column {
            let z = z.all();
            return add_product(block, matrix(&z, d_expert), matrix(&z, d_expert));
        }
        let [here, there] = common(&seen.tokens, &other.tokens);
        let (z, other_z) = (z.of_tokens(&here), other_z.of_tokens(&there));
        add_product(block, matrix(&z, d_expert), matrix(&other_z, d_expert));
    }
}

/// A matrix in centroid memory, converted to f64 a few rows at a time.
struct Rows {
    data: TensorData,
    width: usize,
}

impl Rows {
    fn of(tensor: &Tensor<2>) -> Self {
        Self { data: tensor.to_data().convert::<f32>(), width: tensor.dims()[1] }
    }

    fn values(&self) -> &[f32] {
        self.data.as_slice().expect("it was converted")
    }

    fn all(&self) -> Vec<f64> {
        self.values().iter().copied().map(f64::from).collect()
    }

    fn of_tokens(&self, tokens: &[usize]) -> Vec<f64> {
        let mut rows = Vec::with_capacity(tokens.len() * self.width);
        for &token in tokens {
            let row = &self.values()[token * self.width..(token + 1) * self.width];
            rows.extend(row.iter().copied().map(f64::from));
        }
        rows
    }

    fn squares(&self) -> f64 {
        self.values().iter().map(|&value| f64::from(value) * f64::from(value)).sum()
    }
}

/// `sum += xᵀ·y`
fn add_product(sum: MatMut<'_, f64>, x: MatRef<'_, f64>, y: MatRef<'_, f64>) {
    matmul(sum, Accum::Add, x.transpose(), y, 1.0, Par::rayon(0));
}

/// A row-major matrix of `width` columns.
fn matrix(values: &[f64], width: usize) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice(values, values.len() / width, width)
}

/// Positions, in each of two ascending lists, of the numbers in both.
fn common(x: &[usize], y: &[usize]) -> [Vec<usize>; 2] {
    let (mut places, mut at) = ([Vec::new(), Vec::new()], 0);
    for (here, token) in x.iter().enumerate() {
        at += y[at..].iter().take_while(|other| *other < token).count();
        if y.get(at) == Some(token) {
            places[0].push(here);
            places[1].push(at);
        }
    }
    places
}

fn add_all(sums: &mut [f64], more: &[f64]) {
    sums.iter_mut().zip(more).for_each(|(sum, value)| *sum += value);
}
