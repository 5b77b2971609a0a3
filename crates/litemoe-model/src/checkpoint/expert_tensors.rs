use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::{ExpertBiases, ExpertPart, ExpertWeights, LayerId, StackOrder};

use litemoe_kernels::{ExpertBank, StoredExpert, StoredRows};

use crate::ModelError;
use crate::checkpoint::matrix_rows::MatrixRows;
use crate::checkpoint::stored::{MXFP4_BLOCK, StoredDtype, StoredTensor, StoredTensors, mxfp4};
use crate::checkpoint::tensors::{is_quantised, is_stacked, order_of};
use crate::families::family::Names;

/// Stored tensors of one expert.
#[derive(Debug, Clone)]
pub(crate) struct ExpertTensors {
    /// `None` in ungated experts.
    pub(crate) gate: Option<ExpertMatrix>,
    pub(crate) up: ExpertMatrix,
    pub(crate) down: ExpertMatrix,
    /// Biases of gate, up and down.
    pub(crate) biases: Option<[Picked; 3]>,
}

/// Stored matrix of an expert, logically `[out, in]`.
#[derive(Debug, Clone)]
pub(crate) enum ExpertMatrix {
    /// Row-major `[out, in]`.
    Rows(StoredTensor),
    /// Transposed: selected columns of a stored `[in, columns]`.
    Columns(Picked),
    /// MXFP4: selected rows of 4-bit blocks `[rows, in / 32, 16]` and of the block scales `[rows, in / 32]`.
    Mxfp4 { blocks: StoredTensor, scales: StoredTensor, rows: Pick },
}

/// Strided indices: `first`, `first + step`, …, `n` in total.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pick {
    first: usize,
    step: usize,
    n: usize,
}

impl Pick {
    fn indices(self) -> impl Iterator<Item = usize> {
        (0..self.n).map(move |i| self.first + i * self.step)
    }
}

/// Selected indices of a stored tensor's last dimension.
#[derive(Debug, Clone)]
pub(crate) struct Picked {
    stored: StoredTensor,
    pick: Pick,
}

impl Picked {
    /// Values, transposed: `[n, rows]`.
    pub(crate) fn values(&self) -> Result<Vec<f32>, ModelError> {
        let values = self.stored.values()?;
        let width = self.stored.shape.last().copied().unwrap_or(1);
        let n_rows = values.len() / width;
        let column = |place: usize| (0..n_rows).map(move |row| row * width + place);
        Ok(self.pick.indices().flat_map(column).map(|at| values[at]).collect())
    }

    fn vector(&self, device: &Device) -> Result<Tensor<1>, ModelError> {
        Ok(Tensor::from_data(TensorData::new(self.values()?, [self.pick.n]), device))
    }
}

impl ExpertMatrix {
    /// Logical shape, `[out, in]`.
    pub(crate) fn shape(&self) -> [usize; 2] {
        match self {
            Self::Rows(stored) => [stored.shape[0], stored.shape[1]],
            Self::Columns(Picked { stored, pick }) => [pick.n, stored.shape[0]],
            Self::Mxfp4 { scales, rows, .. } => [rows.n, scales.shape[1] * MXFP4_BLOCK],
        }
    }

    /// The tensor that holds it, among others.
    pub(crate) fn stored(&self) -> &StoredTensor {
        match self {
            Self::Rows(stored) | Self::Columns(Picked { stored, .. }) => stored,
            Self::Mxfp4 { blocks, .. } => blocks,
        }
    }

    /// Number format, also used in a proxy; bf16 for quantised matrices.
    pub(crate) fn dtype(&self) -> StoredDtype {
        match self {
            Self::Rows(stored) | Self::Columns(Picked { stored, .. }) => stored.dtype.unquantised(),
            Self::Mxfp4 { .. } => StoredDtype::Bf16,
        }
    }

    /// Values in f32, row-major `[out, in]`.
    ///
    /// # Errors
    /// When one is not finite.
    pub(crate) fn values(&self) -> Result<Vec<f32>, ModelError> {
        match self {
            Self::Rows(stored) => stored.values(),
            Self::Columns(picked) => picked.values(),
            Self::Mxfp4 { blocks, scales, rows } => {
                let [_, n_blocks] = scales.shape[..] else {
                    unreachable!("{}: its shape was checked", scales.name)
                };
                let (packed, exponents) = (blocks.raw_bytes(), scales.raw_bytes());
                let row = |row: usize| row * n_blocks..(row + 1) * n_blocks;
                let (packed, _) = packed.as_chunks::<{ MXFP4_BLOCK / 2 }>();
                let mut values = Vec::with_capacity(rows.n * n_blocks * MXFP4_BLOCK);
                for block in rows.indices().flat_map(row) {
                    values.extend(mxfp4(packed[block], exponents[block]).map(f32::from));
                }
                scales.expect_finite(&values, 0)?;
                Ok(values)
            }
        }
    }

    /// Rows to be packed.
    pub(crate) fn rows(&self) -> Result<MatrixRows<'_>, ModelError> {
        match self {
            Self::Rows(stored) => Ok(MatrixRows::stored(stored)),
            _ => Ok(MatrixRows::Copied { values: self.values()?, shape: self.shape() }),
        }
    }

    fn tensor(&self, device: &Device) -> Result<Tensor<2>, ModelError> {
        Ok(Tensor::from_data(TensorData::new(self.values()?, self.shape()), device))
    }
}

impl ExpertTensors {
    /// Finds the stored tensors of one expert of a block.
    pub(crate) fn find(
        tensors: &StoredTensors,
        names: &Names,
        block: LayerId,
        expert: usize,
    ) -> Self {
        if is_quantised(tensors, block, names) {
            Self::in_blocks(tensors, names, block, expert)
        } else if is_stacked(tensors, block, names) {
            Self::in_stacks(tensors, names, block, expert)
        } else {
            let path = names.path(block, names.experts) + &expert.to_string();
            let matrix = |part: &str| tensors.get(&*format!("{path}.{part}.weight"));
            let [gate, up, down] = names.parts.map(matrix);
            let there = |matrix: Option<&StoredTensor>| {
                ExpertMatrix::Rows(matrix.expect("the tensors were checked").clone())
            };
            let gate = gate.map(|gate| there(Some(gate)));
            Self { gate, up: there(up), down: there(down), biases: None }
        }
    }

    fn in_stacks(tensors: &StoredTensors, names: &Names, block: LayerId, expert: usize) -> Self {
        let [gate_up, down] = names.stacks.map(|stack| &tensors[&*names.path(block, stack)]);
        if order_of(gate_up, names) == StackOrder::Rows {
            let (d_expert, d_model) = (gate_up.shape[1] / 2, down.shape[1]);
            let rows = |stack: &StoredTensor, rows| ExpertMatrix::Rows(stack.rows_of(expert, rows));
            return Self {
                gate: Some(rows(gate_up, 0..d_expert)),
                up: rows(gate_up, d_expert..2 * d_expert),
                down: rows(down, 0..d_model),
                biases: stored_biases(tensors, names, block, expert),
            };
        }
        let whole = |stack: &StoredTensor| stack.rows_of(expert, 0..stack.shape[1]);
        let (gate_up, down) = (whole(gate_up), whole(down));
        let [gate, up, all] = picks(names.stack_order, gate_up.shape[1] / 2, down.shape[1]);
        let columns = |stored: &StoredTensor, pick| {
            ExpertMatrix::Columns(Picked { stored: stored.clone(), pick })
        };
        Self {
            gate: Some(columns(&gate_up, gate)),
            up: columns(&gate_up, up),
            down: columns(&down, all),
            biases: stored_biases(tensors, names, block, expert),
        }
    }

    fn in_blocks(tensors: &StoredTensors, names: &Names, block: LayerId, expert: usize) -> Self {
        let matrix = |stack: usize, rows| {
            let path = names.path(block, names.stacks[stack]);
            let of = |end: &str| tensors[&*format!("{path}_{end}")].part(expert);
            ExpertMatrix::Mxfp4 { blocks: of("blocks"), scales: of("scales"), rows }
        };
        let biases =
            stored_biases(tensors, names, block, expert).expect("the tensors were checked");
        let [gate, up, down] = [0, 1, 2].map(|part: usize| biases[part].pick);
        Self {
            gate: Some(matrix(0, gate)),
            up: matrix(0, up),
            down: matrix(1, down),
            biases: Some(biases),
        }
    }

    /// Gate (if any), up and down, in this order.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = &ExpertMatrix> {
        self.gate.iter().chain([&self.up, &self.down])
    }

    /// Number formats of its matrices and biases.
    pub(crate) fn dtypes(&self) -> impl Iterator<Item = StoredDtype> {
        let biases = self.biases.iter().flatten().map(|bias| bias.stored.dtype);
        self.matrices().map(ExpertMatrix::dtype).chain(biases)
    }

    /// Size in a proxy of this number format, in bytes.
    pub(crate) fn bytes_as(&self, dtype: StoredDtype) -> usize {
        let matrix = |matrix: &ExpertMatrix| {
            let [n_out, n_in] = matrix.shape();
            n_out * n_in * dtype.size()
        };
        let biases = self.biases.iter().flatten().map(|bias| bias.pick.n * dtype.size());
        self.matrices().map(matrix).sum::<usize>() + biases.sum::<usize>()
    }

    /// Dequantises the MXFP4 matrices to check their values, and discards them.
    ///
    /// # Errors
    /// When one is not finite.
    pub(crate) fn check_quantised(&self) -> Result<(), ModelError> {
        let is_quantised = |matrix: &&ExpertMatrix| matches!(matrix, ExpertMatrix::Mxfp4 { .. });
        self.matrices().filter(is_quantised).try_for_each(|matrix| matrix.values().map(drop))
    }

    /// Reads the expert in f32 onto a device.
    pub(crate) fn read(&self, device: &Device) -> Result<ExpertWeights, ModelError> {
        Ok(ExpertWeights {
            gate: self.gate.as_ref().map(|gate| gate.tensor(device)).transpose()?,
            up: self.up.tensor(device)?,
            down: self.down.tensor(device)?,
            biases: self.read_biases(device)?,
        })
    }

    fn read_biases(&self, device: &Device) -> Result<Option<ExpertBiases>, ModelError> {
        let Some([gate, up, down]) = &self.biases else { return Ok(None) };
        Ok(Some(ExpertBiases {
            gate: Some(gate.vector(device)?),
            up: up.vector(device)?,
            down: down.vector(device)?,
        }))
    }

    /// Packs the expert as the next one of a bank.
    ///
    /// # Errors
    /// When a value is not finite, or the bank's format cannot hold one.
    pub(crate) fn pack(&self, bank: &mut ExpertBank, device: &Device) -> Result<(), ModelError> {
        let gate = self.gate.as_ref().map(ExpertMatrix::rows).transpose()?;
        let (up, down) = (self.up.rows()?, self.down.rows()?);
        let stored = StoredExpert {
            gate: gate.as_ref().map(|gate| gate as &dyn StoredRows),
            up: &up,
            down: &down,
            biases: self.read_biases(device)?,
        };
        let packed = bank.push_stored(stored, device);
        gate.into_iter().chain([up, down]).for_each(MatrixRows::release);
        packed.map_err(|error| {
            let matrix = match error.part {
                ExpertPart::Gate => self.gate.as_ref().unwrap_or(&self.up),
                ExpertPart::Up => &self.up,
                ExpertPart::Down => &self.down,
            };
            matrix.stored().unfit(error.source.dtype)
        })
    }
}

/// Column indices of gate and up in the fused tensor, and of down in its own.
fn picks(order: StackOrder, d_expert: usize, d_model: usize) -> [Pick; 3] {
    let (up, step) = match order {
        StackOrder::Interleaved => (1, 2),
        StackOrder::Rows | StackOrder::Columns => (d_expert, 1),
    };
    let [gate, up] = [0, up].map(|first| Pick { first, step, n: d_expert });
    [gate, up, Pick { first: 0, step: 1, n: d_model }]
}

fn stored_biases(
    tensors: &StoredTensors,
    names: &Names,
    block: LayerId,
    expert: usize,
) -> Option<[Picked; 3]> {
    let [gate_up, down] = names.stacks.map(|stack| {
        let bias = tensors.get(&*(names.path(block, stack) + "_bias"))?;
        Some(bias.rows(expert..expert + 1))
    });
    let (gate_up, down) = (gate_up?, down?);
    let [gate, up, all] = picks(names.stack_order, gate_up.shape[1] / 2, down.shape[1]);
    let of = |stored: &StoredTensor, pick| Picked { stored: stored.clone(), pick };
    Some([of(&gate_up, gate), of(&gate_up, up), of(&down, all)])
}
