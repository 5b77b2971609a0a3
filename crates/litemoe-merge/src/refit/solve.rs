use burn::tensor::{Device, Tensor, TensorData};
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::{
    solve_lower_triangular_in_place, solve_upper_triangular_in_place,
};
use faer::{Accum, Mat, MatMut, MatRef, Par, Side, Spec};
use litemoe_core::LayerId;

use super::{DownChange, RefitSums};
use crate::MergeError;

/// Ridge solution of a layer, and its relative residual on the rows of the fit.
#[derive(Debug, Clone)]
pub struct Solution {
    /// Change of the down projections.
    pub change: DownChange,
    /// Relative residual ‖r‖² / ‖t‖² before the change; 0 if t is 0.
    pub before: f64,
    /// Relative residual with the change, at most `before`.
    pub after: f64,
}

/// Ridge regression of a layer: the change S of the down projections that minimises ‖r − Z·S‖² + λ‖S‖², with λ `ridge`
/// times the mean diagonal of ZᵀZ; or the low-rank solution of rank `rank`.
///
/// With CᵀC = ZᵀZ + λI, the objective is ‖C(S − X)‖² up to a constant, so for the best X of rank r, C·X is the best
/// rank-r approximation of C·S: X = S·V·Vᵀ, V the first r right singular vectors of C·S (Izenman 1975, *Reduced-rank
/// regression for the multivariate linear model*, doi 10.1016/0047-259X(75)90042-1). C·S = C⁻ᵀZᵀr needs only the
/// forward substitution. Full rank gives S.
///
/// # Errors
/// Sums that are not finite, or a rank outside 1 to the largest rank of S; the error names the layer.
pub fn solve(
    layer: LayerId,
    sums: RefitSums,
    rank: Option<usize>,
    ridge: f64,
    device: &Device,
) -> Result<Solution, MergeError> {
    let largest = sums.width.min(sums.d_model);
    if let Some(rank) = rank.filter(|rank| !(1..=largest).contains(rank)) {
        return Err(MergeError::Rank { layer, rank, largest });
    }
    let (r_squares, t_squares) = (sums.r_squares, sums.t_squares);
    if !(r_squares.is_finite() && t_squares.is_finite()) {
        return Err(MergeError::RefitNotFinite { layer });
    }
    let system = System::factored(layer, sums, ridge)?;
    let (change, explained) = match rank {
        None => system.full(device),
        Some(rank) => system.low_rank(layer, rank, device)?,
    };
    let share = |squares: f64| if t_squares > 0.0 { squares / t_squares } else { 0.0 };
    let after = (r_squares - explained).max(0.0);
    Ok(Solution { change, before: share(r_squares), after: share(after) })
}

/// The regression after Cholesky factorization and forward substitution.
struct System {
    d_expert: usize,
    d_model: usize,
    width: usize,
    lambda: f64,
    /// Cᵀ, lower triangular, column-major.
    factor: Vec<f64>,
    /// C·S, `[width, d_model]`, column-major.
    half: Vec<f64>,
}

impl System {
    fn factored(layer: LayerId, sums: RefitSums, ridge: f64) -> Result<Self, MergeError> {
        let RefitSums { d_expert, d_model, width, zz: mut factor, zr: mut half, .. } = sums;
        let not_finite = || MergeError::RefitNotFinite { layer };
        if !half.iter().all(|value| value.is_finite()) {
            return Err(not_finite());
        }
        let trace: f64 = factor.iter().step_by(width + 1).sum();
        let lambda = ridge * trace / width as f64;
        // If no token was routed to any expert, S is 0 for every λ.
        let lambda = if trace == 0.0 { 1.0 } else { lambda };
        factor.iter_mut().step_by(width + 1).for_each(|value| *value += lambda);
        let mut scratch =
            MemBuffer::new(cholesky_in_place_scratch::<f64>(width, Par::rayon(0), Spec::default()));
        let matrix = MatMut::from_column_major_slice_mut(&mut factor, width, width);
        let stack = MemStack::new(&mut scratch);
        cholesky_in_place(matrix, Default::default(), Par::rayon(0), stack, Spec::default())
            .map_err(|_| not_finite())?;
        let lower = MatRef::from_column_major_slice(&factor, width, width);
        let right = MatMut::from_column_major_slice_mut(&mut half, width, d_model);
        solve_lower_triangular_in_place(lower, right, Par::rayon(0));
        Ok(Self { d_expert, d_model, width, lambda, factor, half })
    }

    /// S, and the decrease of ‖r‖²: 2⟨S, Zᵀr⟩ − ‖Z·S‖², which is ‖C·S‖² + λ‖S‖².
    fn full(mut self, device: &Device) -> (DownChange, f64) {
        let explained = squares(&self.half);
        let lower = MatRef::from_column_major_slice(&self.factor, self.width, self.width);
        let right = MatMut::from_column_major_slice_mut(&mut self.half, self.width, self.d_model);
        solve_upper_triangular_in_place(lower.transpose(), right, Par::rayon(0));
        let explained = explained + self.lambda * squares(&self.half);
        let solution = MatRef::from_column_major_slice(&self.half, self.width, self.d_model);
        (DownChange::Full(self.by_expert(solution, device)), explained)
    }

    /// Low-rank solution: S·V per expert and Vᵀ, and the decrease of ‖r‖² by S·V·Vᵀ.
    fn low_rank(
        self,
        layer: LayerId,
        rank: usize,
        device: &Device,
    ) -> Result<(DownChange, f64), MergeError> {
        let half = MatRef::from_column_major_slice(&self.half, self.width, self.d_model);
        let v = right_singular(half, rank).ok_or(MergeError::RefitNotFinite { layer })?;
        let mut a: Mat<f64> = Mat::zeros(self.width, rank);
        matmul(a.as_mut(), Accum::Replace, half, v.as_ref(), 1.0, Par::rayon(0));
        let explained = a.squared_norm_l2();
        let lower = MatRef::from_column_major_slice(&self.factor, self.width, self.width);
        solve_upper_triangular_in_place(lower.transpose(), a.as_mut(), Par::rayon(0));
        let explained = explained + self.lambda * a.squared_norm_l2();
        let b = tensor(v.transpose(), device);
        Ok((DownChange::LowRank { a: self.by_expert(a.as_ref(), device), b }, explained))
    }

    /// Splits a matrix into the rows of each expert.
    fn by_expert(&self, matrix: MatRef<'_, f64>, device: &Device) -> Vec<Tensor<2>> {
        let starts = (0..self.width).step_by(self.d_expert);
        starts.map(|start| tensor(matrix.subrows(start, self.d_expert), device)).collect()
    }
}

/// The first `rank` right singular vectors of a matrix, as columns: eigenvectors of its Gram matrix. `None` if it is
/// not finite.
fn right_singular(matrix: MatRef<'_, f64>, rank: usize) -> Option<Mat<f64>> {
    let mut gram: Mat<f64> = Mat::zeros(matrix.ncols(), matrix.ncols());
    matmul(gram.as_mut(), Accum::Replace, matrix.transpose(), matrix, 1.0, Par::rayon(0));
    let found = gram.self_adjoint_eigen(Side::Lower).ok()?;
    // Eigenvalues are in ascending order.
    let vectors = found.U();
    Some(vectors.subcols(vectors.ncols() - rank, rank).reverse_cols().to_owned())
}

fn squares(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum()
}

fn tensor(matrix: MatRef<'_, f64>, device: &Device) -> Tensor<2> {
    let (n_rows, n_columns) = (matrix.nrows(), matrix.ncols());
    let row = |row: usize| (0..n_columns).map(move |column| matrix[(row, column)] as f32);
    let values: Vec<f32> = (0..n_rows).flat_map(row).collect();
    Tensor::from_data(TensorData::new(values, [n_rows, n_columns]), device)
}
