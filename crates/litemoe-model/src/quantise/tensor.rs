use std::cmp::Reverse;
use std::collections::BTreeMap;

use burn::tensor::Device;
use litemoe_core::{LayerId, MoeLayer};
use litemoe_kernels::{BLOCK_VALUES, LinearWeight};

use crate::checkpoint::block_dtype::BlockDtype;
use crate::checkpoint::expert_tensors::ExpertMatrix;
use crate::checkpoint::matrix_rows::MatrixRows;
use crate::checkpoint::stored::{StoredDtype, StoredTensor};
use crate::checkpoint::tensors::{is_quantised, is_stacked};
use crate::proxy::file::ProxyFile;
use crate::{Checkpoint, ModelError};

/// Number of values that are quantised at a time.
const RUN: usize = 1 << 22;

/// Tensor of a quantised model.
pub(super) enum QuantisedTensor {
    /// Copied byte for byte.
    Copied(StoredTensor),
    /// Matrix `[rows, inputs]`.
    Matrix(StoredTensor, BlockDtype),
    /// Fused experts of a layer, gate before up, in rows of inputs whatever the family's layout.
    Experts(Experts),
}

/// Matrices of all experts of a layer, `[experts, rows, inputs]`.
pub(super) struct Experts {
    layer: LayerId,
    stack: Stack,
    shape: [usize; 3],
    dtype: BlockDtype,
}

/// Fused tensor of experts.
#[derive(Clone, Copy)]
enum Stack {
    GateUp,
    Down,
}

/// Tensors of a quantised model with their names, in file order: wide number formats first, so that every tensor is
/// aligned.
pub(super) fn tensors(
    checkpoint: &Checkpoint,
    dtype: BlockDtype,
) -> Vec<(String, QuantisedTensor)> {
    let mut tensors = BTreeMap::new();
    for part in checkpoint.stored_parts() {
        let stored = checkpoint.tensor(part.name);
        match part.blocks_of(&stored.shape, dtype) {
            Some(blocks) => {
                let name = format!("{}{}", part.name, blocks.suffix());
                tensors.insert(name, QuantisedTensor::Matrix(stored.clone(), blocks));
            }
            None => {
                tensors.insert(part.name.to_owned(), QuantisedTensor::Copied(stored.clone()));
            }
        }
    }
    for layer in checkpoint.moe_layers() {
        replace_stacks(&mut tensors, checkpoint, layer, dtype);
    }
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, tensor)| Reverse(tensor.dtype().size()));
    tensors
}

/// Replaces the fused experts of a layer, if it has them.
fn replace_stacks(
    tensors: &mut BTreeMap<String, QuantisedTensor>,
    checkpoint: &Checkpoint,
    &MoeLayer { id: layer, n_experts, d_model, d_expert, .. }: &MoeLayer,
    dtype: BlockDtype,
) {
    let (names, stored) = (checkpoint.names, &checkpoint.tensors);
    let is_fused = is_quantised(stored, layer, names) || is_stacked(stored, layer, names);
    if !is_fused {
        return;
    }
    let stacks = [
        (Stack::GateUp, [n_experts, 2 * d_expert, d_model]),
        (Stack::Down, [n_experts, d_model, d_expert]),
    ];
    for (name, (stack, shape)) in names.stacks.iter().zip(stacks) {
        let path = names.path(layer, name);
        for end in ["", "_blocks", "_scales"] {
            tensors.remove(&format!("{path}{end}"));
        }
        let experts = Experts { layer, stack, shape, dtype };
        tensors.insert(path + dtype.suffix(), QuantisedTensor::Experts(experts));
    }
}

impl QuantisedTensor {
    pub(super) fn dtype(&self) -> StoredDtype {
        match self {
            Self::Copied(stored) => stored.dtype,
            Self::Matrix(_, blocks) => StoredDtype::Blocks(*blocks),
            Self::Experts(experts) => StoredDtype::Blocks(experts.dtype),
        }
    }

    /// Shape in the file.
    pub(super) fn shape(&self) -> Vec<usize> {
        let of_blocks = |shape: &[usize], dtype: BlockDtype| {
            let (inputs, outer) = shape.split_last().expect("a matrix");
            [outer, &[inputs.div_ceil(BLOCK_VALUES), dtype.block_bytes()]].concat()
        };
        match self {
            Self::Copied(stored) => stored.shape.clone(),
            Self::Matrix(stored, dtype) => of_blocks(&stored.shape, *dtype),
            Self::Experts(Experts { shape, dtype, .. }) => of_blocks(shape, *dtype),
        }
    }

    /// Size in the file, in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Copied(stored) => stored.range.len(),
            _ => self.shape().iter().product(),
        }
    }

    pub(super) fn write(
        &self,
        checkpoint: &Checkpoint,
        device: &Device,
        out: &mut ProxyFile<'_>,
    ) -> Result<(), ModelError> {
        match self {
            Self::Copied(stored) => stored.read(|bytes| out.bytes(bytes)),
            Self::Matrix(stored, dtype) => {
                let (n_rows, n_columns) = (stored.shape[0], stored.shape[1]);
                let step = (RUN / n_columns).max(1);
                for first in (0..n_rows).step_by(step) {
                    let rows = stored.rows(first..n_rows.min(first + step));
                    out.bytes(&blocks(MatrixRows::stored(&rows), stored, *dtype, device)?)?;
                }
                Ok(())
            }
            Self::Experts(Experts { layer, stack, shape: [n, ..], dtype }) => {
                for expert in 0..*n {
                    let tensors = checkpoint.expert_tensors(*layer, expert);
                    let matrices: Vec<&ExpertMatrix> = match stack {
                        Stack::GateUp => tensors.gate.iter().chain([&tensors.up]).collect(),
                        Stack::Down => vec![&tensors.down],
                    };
                    for matrix in matrices {
                        out.bytes(&blocks(matrix.rows()?, matrix.stored(), *dtype, device)?)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Quantised rows; `stored` is what errors name.
fn blocks(
    rows: MatrixRows<'_>,
    stored: &StoredTensor,
    dtype: BlockDtype,
    device: &Device,
) -> Result<Vec<u8>, ModelError> {
    let weight = LinearWeight::from_rows(&rows, dtype.weights(), device);
    rows.release();
    let weight = weight.map_err(|error| stored.unfit(error.dtype))?;
    Ok(weight.stored_blocks().expect("a quantised weight"))
}
