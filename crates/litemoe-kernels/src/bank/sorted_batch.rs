use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};
use rayon::prelude::*;

#[cfg(feature = "flex")]
use super::adapters::ExpertAdapters;
#[cfg(feature = "flex")]
use super::fused::Fused;
use super::packed::{PackedExpert, present};
use crate::dispatch::Dispatch;

/// Minimum number of multiplications for multi-threading.
const PARALLEL_WORK: usize = 1 << 20;

/// One forward pass of a bank: its experts and the sorted dispatch of the batch.
///
/// "Rows" are token–expert pairs sorted by expert: row `i` of `[n_rows, …]`.
#[derive(Debug, Clone)]
pub(super) struct SortedBatch {
    experts: Arc<Vec<Option<PackedExpert>>>,
    dispatch: Arc<Dispatch>,
    /// Token index of each row, `[n_rows]`.
    tokens: Tensor<1, Int>,
    /// Index of each row in the flattened `[tokens, top_k]`, `[n_rows]`.
    pub(super) places: Tensor<1, Int>,
    parallel: bool,
}

impl SortedBatch {
    /// `parallel`: whether operations on `device` may be called from many threads at once.
    pub(super) fn new(
        experts: Arc<Vec<Option<PackedExpert>>>,
        dispatch: Dispatch,
        device: &Device,
        parallel: bool,
    ) -> Self {
        let (tokens, places) = (dispatch.token_indices(device), dispatch.place_indices(device));
        let size = experts.iter().flatten().next().map_or(0, |it| it.down.d_in() * it.down.d_out());
        let parallel = parallel && dispatch.n_rows() * size >= PARALLEL_WORK;
        Self { experts, dispatch: Arc::new(dispatch), tokens, places, parallel }
    }

    /// Device of the index tensors.
    #[cfg(any(feature = "flex", feature = "wgpu"))]
    pub(super) fn device(&self) -> Device {
        self.tokens.device()
    }

    /// The experts as one computation; `None` with adapters, or if a weight is dense.
    #[cfg(feature = "flex")]
    pub(super) fn fused(&self, updates: &[ExpertAdapters]) -> Option<Fused<'_>> {
        if updates.is_empty() { Fused::new(&self.experts, &self.dispatch) } else { None }
    }

    pub(super) fn dispatch(&self) -> &Dispatch {
        &self.dispatch
    }

    /// Gathers each row's token: `[tokens, width]` → `[n_rows, width]`.
    pub(super) fn gather(&self, x: Tensor<2>) -> Tensor<2> {
        x.select(0, self.tokens.clone())
    }

    /// Sums the rows of each token: `[n_rows, d_model]` → `[tokens, d_model]`.
    pub(super) fn scatter(&self, rows: Tensor<2>, zeros: Tensor<2>) -> Tensor<2> {
        zeros.select_assign(0, self.tokens.clone(), rows, IndexingUpdateOp::Add)
    }

    /// Gathers each row's gate: `[tokens, top_k]` → `[n_rows, 1]`.
    pub(super) fn gather_gates(&self, gates: Tensor<2>) -> Tensor<2> {
        gates.reshape([-1, 1]).select(0, self.places.clone())
    }

    /// Calls `f` with each group of rows: group index, expert, range of rows. Results are in group order.
    pub(super) fn each<T: Send>(
        &self,
        f: impl Fn(usize, &PackedExpert, Range<usize>) -> T + Sync,
    ) -> Vec<T> {
        let groups = self.dispatch.groups();
        let call = |(group, (expert, rows)): (usize, &(usize, Range<usize>))| {
            f(group, present(&self.experts, *expert), rows.clone())
        };
        if self.parallel {
            groups.par_iter().enumerate().map(call).collect()
        } else {
            groups.iter().enumerate().map(call).collect()
        }
    }
}
