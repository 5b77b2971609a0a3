use std::ops::Range;
use std::path::PathBuf;

use litemoe_core::LayerId;

use super::rounding::Rounding;
use super::update::Update;
use crate::checkpoint::expert_part::Part;
use crate::checkpoint::stored::{StoredDtype, StoredTensor};
use crate::proxy::file::ProxyFile;
use crate::{Checkpoint, ModelError};

/// Number of values that are fused at a time.
const RUN: usize = 1 << 20;

/// Tensor of a fused model.
pub(super) enum FusedTensor {
    /// Copied byte for byte.
    Copied(StoredTensor),
    /// Stored weights with updates.
    Updated(StoredTensor, Vec<Update>),
    /// A layer's fused experts, dequantised from MXFP4, with updates.
    Dequantised { experts: Dequantised, updates: Vec<Update> },
}

/// Fused tensor of a layer's experts that are stored in MXFP4.
pub(super) struct Dequantised {
    pub(super) layer: LayerId,
    pub(super) part: Part,
    pub(super) dtype: StoredDtype,
    /// `[experts, rows, columns]`
    pub(super) shape: [usize; 3],
    /// File of the blocks, for errors.
    pub(super) path: PathBuf,
}

impl FusedTensor {
    pub(super) fn dtype(&self) -> StoredDtype {
        match self {
            Self::Copied(stored) | Self::Updated(stored, _) => stored.dtype,
            Self::Dequantised { experts, .. } => experts.dtype,
        }
    }

    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Copied(stored) | Self::Updated(stored, _) => &stored.shape,
            Self::Dequantised { experts, .. } => &experts.shape,
        }
    }

    /// Size in the file, in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Copied(stored) | Self::Updated(stored, _) => stored.range.len(),
            Self::Dequantised { experts, .. } => {
                experts.shape.iter().product::<usize>() * experts.dtype.size()
            }
        }
    }

    /// Writes the tensor; returns its rounding.
    pub(super) fn write(
        &self,
        name: &str,
        checkpoint: &Checkpoint,
        out: &mut ProxyFile<'_>,
    ) -> Result<Rounding, ModelError> {
        let mut rounding = Rounding::default();
        match self {
            Self::Copied(stored) => stored.read(|bytes| out.bytes(bytes))?,
            Self::Updated(stored, updates) => {
                let n_rows: usize = stored.shape[..stored.shape.len() - 1].iter().product();
                let columns = stored.shape[stored.shape.len() - 1];
                let of_matrix = stored.shape[stored.shape.len() - 2];
                let run =
                    Fusing { name, path: stored.path(), dtype: stored.dtype, updates, of_matrix };
                let step = (RUN / columns.max(1)).max(1);
                for first in (0..n_rows).step_by(step) {
                    let rows = first..n_rows.min(first + step);
                    let weights = stored.run_of_rows(rows.clone(), columns).wide_values()?;
                    out.bytes(&run.fused(rows, weights, &mut rounding)?)?;
                }
            }
            Self::Dequantised { experts, updates } => {
                let Dequantised { layer, part, dtype, shape: [n, of_matrix, _], path } = experts;
                let run = Fusing { name, path, dtype: *dtype, updates, of_matrix: *of_matrix };
                for expert in 0..*n {
                    let tensors = checkpoint.expert_tensors(*layer, expert);
                    let weights = part.copied(layer.expert(expert), &tensors, *dtype)?;
                    let rows = expert * of_matrix..(expert + 1) * of_matrix;
                    out.bytes(&run.fused(rows, dtype.widened(&weights), &mut rounding)?)?;
                }
            }
        }
        Ok(rounding)
    }
}

/// A tensor's updates, and what its errors name.
struct Fusing<'a> {
    name: &'a str,
    path: &'a std::path::Path,
    dtype: StoredDtype,
    updates: &'a [Update],
    /// Rows of one matrix.
    of_matrix: usize,
}

impl Fusing<'_> {
    /// Bytes of rows, numbered over all matrices: weights with their updates added in f64, rounded to the tensor's
    /// number format.
    fn fused(
        &self,
        rows: Range<usize>,
        mut weights: Vec<f64>,
        rounding: &mut Rounding,
    ) -> Result<Vec<u8>, ModelError> {
        let columns = weights.len() / rows.len();
        let mut delta = vec![0.0; columns];
        for (row, weights) in rows.clone().zip(weights.chunks_mut(columns)) {
            let (matrix, row) = (row / self.of_matrix, row % self.of_matrix);
            delta.fill(0.0);
            let updates = self.updates.iter().filter(|update| update.matrix == matrix);
            updates.for_each(|update| update.add_row(row, &mut delta));
            // Weights without an update keep their bits, the sign of a zero included.
            for (weight, &delta) in
                weights.iter_mut().zip(&delta).filter(|(_, delta)| **delta != 0.0)
            {
                let exact = *weight + delta;
                let rounded = self.dtype.rounded(exact);
                rounding.add(delta, rounded - exact, rounded != *weight);
                *weight = rounded;
            }
        }
        let mut bytes = Vec::new();
        if self.dtype.encode_wide(&weights, &mut bytes) {
            return Ok(bytes);
        }
        let at = weights.iter().position(|weight| !weight.is_finite()).unwrap_or_default();
        Err(ModelError::FusedNotFinite {
            path: self.path.to_owned(),
            tensor: self.name.to_owned(),
            index: rows.start * columns + at,
            dtype: self.dtype.name(),
        })
    }
}
