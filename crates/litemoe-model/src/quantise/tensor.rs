use std::cmp::Reverse;
use std::collections::BTreeMap;

use burn::tensor::Device;
use litemoe_core::{LayerId, WeightDtype};
use litemoe_kernels::{BLOCK_VALUES, LinearWeight};

use crate::checkpoint::expert_tensors::{ExpertMatrix, order_of};
use crate::checkpoint::matrix_rows::MatrixRows;
use crate::checkpoint::stored::{BlockDtype, StoredDtype, StoredTensor};
use crate::checkpoint::tensors::{is_quantised, is_stacked};
use crate::proxy::file::ProxyFile;
use crate::{Checkpoint, ModelError, StoredPart};

/// Number of values that are quantised at a time.
const RUN: usize = 1 << 22;

/// Tensor of a quantised model.
pub(super) enum QuantisedTensor {
    /// Copied byte for byte.
    Copied(StoredTensor),
    /// Rows of a stored tensor, whose last dimension are inputs.
    Rows(StoredTensor, BlockDtype),
    /// Fused experts of a layer that are not stored in rows of inputs.
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
    dtype: WeightDtype,
) -> Vec<(String, QuantisedTensor)> {
    let mut tensors = BTreeMap::new();
    for part in checkpoint.stored_parts() {
        let stored = checkpoint.tensor(part.name);
        match rows(&part, stored, dtype) {
            Some(blocks) => {
                let name = format!("{}{}", part.name, blocks.suffix());
                tensors.insert(name, QuantisedTensor::Rows(stored.clone(), blocks));
            }
            None => {
                tensors.insert(part.name.to_owned(), QuantisedTensor::Copied(stored.clone()));
            }
        }
    }
    for layer in checkpoint.moe_layers() {
        if let Some(dtype) = BlockDtype::of(dtype) {
            replace_stacks(&mut tensors, checkpoint, layer.id, layer.n_experts, dtype);
        }
    }
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, tensor)| Reverse(tensor.dtype().size()));
    tensors
}

/// Format of a tensor whose last dimension are inputs of a matrix; `None` if it is not quantised so.
fn rows(part: &StoredPart<'_>, stored: &StoredTensor, dtype: WeightDtype) -> Option<BlockDtype> {
    let is_matrix = stored.shape.len() == 2 && part.name.ends_with(".weight");
    let is_filled = stored.shape.iter().all(|&size| size > 0);
    BlockDtype::of(part.packed_as(dtype)).filter(|_| is_matrix && is_filled)
}

/// Replaces the fused experts of a layer, if it has them.
fn replace_stacks(
    tensors: &mut BTreeMap<String, QuantisedTensor>,
    checkpoint: &Checkpoint,
    layer: LayerId,
    n_experts: usize,
    dtype: BlockDtype,
) {
    let (names, stored) = (checkpoint.names, &checkpoint.tensors);
    let is_mxfp4 = is_quantised(stored, layer, names);
    if n_experts == 0 || !is_mxfp4 && !is_stacked(stored, layer, names) {
        return;
    }
    let expert = checkpoint.expert_tensors(layer, 0);
    let ([d_expert, d_model], [d_out, d_inner]) = (expert.up.shape(), expert.down.shape());
    let stacks = [
        (Stack::GateUp, [n_experts, 2 * d_expert, d_model]),
        (Stack::Down, [n_experts, d_out, d_inner]),
    ];
    for (name, (stack, shape)) in names.stacks.iter().zip(stacks) {
        let path = names.path(layer, name);
        for end in ["", "_blocks", "_scales"] {
            tensors.remove(&format!("{path}{end}"));
        }
        let in_rows = stored.get(&*path).filter(|_| is_in_rows(checkpoint, layer));
        let tensor = match in_rows {
            Some(stored) => QuantisedTensor::Rows(stored.clone(), dtype),
            None => QuantisedTensor::Experts(Experts { layer, stack, shape, dtype }),
        };
        tensors.insert(path + dtype.suffix(), tensor);
    }
}

fn is_in_rows(checkpoint: &Checkpoint, layer: LayerId) -> bool {
    let names = checkpoint.names;
    let gate_up = checkpoint.tensors.get(&*names.path(layer, names.stacks[0]));
    gate_up.is_some_and(|gate_up| order_of(gate_up, names) == litemoe_core::StackOrder::Rows)
}

impl QuantisedTensor {
    pub(super) fn dtype(&self) -> StoredDtype {
        match self {
            Self::Copied(stored) => stored.dtype,
            Self::Rows(_, blocks) => StoredDtype::Blocks(*blocks),
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
            Self::Rows(stored, dtype) => of_blocks(&stored.shape, *dtype),
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
            Self::Rows(stored, dtype) => {
                let columns = stored.shape[stored.shape.len() - 1];
                let n_rows: usize = stored.shape[..stored.shape.len() - 1].iter().product();
                let step = (RUN / columns).max(1);
                for first in (0..n_rows).step_by(step) {
                    let rows = stored.run_of_rows(first..n_rows.min(first + step), columns);
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
