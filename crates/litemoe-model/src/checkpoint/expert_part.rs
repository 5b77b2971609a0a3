use burn::tensor::{Tensor, TensorData};
use litemoe_core::{ExpertBiases, ExpertId, ExpertWeights, StackOrder};

use crate::ModelError;
use crate::checkpoint::expert_tensors::{ExpertMatrix, ExpertTensors};
use crate::checkpoint::stored::{StoredDtype, StoredTensor};
use crate::families::family::Names;

/// Part of an expert that a proxy stores contiguously.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Gate,
    Up,
    Down,
    /// Transposed gate and up, `[in, 2 * out]`, columns concatenated or interleaved.
    GateUp {
        interleaved: bool,
    },
    /// Transposed down, `[in, out]`.
    DownColumns,
    /// Biases of gate and up, in the same column order.
    GateUpBias {
        interleaved: bool,
    },
    DownBias,
}

/// Where a part is stored.
pub(crate) enum Place {
    /// Separate tensor; its name follows the expert's path.
    Alone(String),
    /// Fused expert tensor of this name, after the parts of the preceding experts.
    Stack(String),
}

impl Part {
    /// Parts of an expert, in the layout of released checkpoints.
    pub(crate) fn of(names: &Names, expert: &ExpertTensors) -> Vec<(Place, Self)> {
        let [gate_up, down] = names.stacks;
        let stack = |name: &str| Place::Stack(name.to_owned());
        if names.stack_order == StackOrder::Rows {
            let alone = |part: &str| Place::Alone(format!("{part}.weight"));
            let places = match names.stacked {
                true => [gate_up, gate_up, down].map(stack),
                false => names.parts.map(alone),
            };
            let parts = places.into_iter().zip([Self::Gate, Self::Up, Self::Down]);
            let skipped = usize::from(expert.gate.is_none());
            return parts.skip(skipped).collect();
        }
        let interleaved = names.stack_order == StackOrder::Interleaved;
        let mut parts =
            vec![(stack(gate_up), Self::GateUp { interleaved }), (stack(down), Self::DownColumns)];
        if expert.biases.is_some() {
            let biases = [Self::GateUpBias { interleaved }, Self::DownBias];
            let names = [gate_up, down].map(|name| stack(&format!("{name}_bias")));
            parts.extend(names.into_iter().zip(biases));
        }
        parts
    }

    /// Shape of the part for one expert.
    pub(crate) fn shape(self, expert: &ExpertTensors) -> Vec<usize> {
        let [d_expert, d_model] = expert.up.shape();
        match self {
            Self::Gate | Self::Up => vec![d_expert, d_model],
            Self::Down => vec![d_model, d_expert],
            Self::GateUp { .. } => vec![d_model, 2 * d_expert],
            Self::DownColumns => vec![d_expert, d_model],
            Self::GateUpBias { .. } => vec![2 * d_expert],
            Self::DownBias => vec![d_model],
        }
    }

    /// The stored tensor, if its layout is already the part's.
    pub(crate) fn stored(self, expert: &ExpertTensors) -> Option<&StoredTensor> {
        let matrix = match self {
            Self::Gate => expert.gate.as_ref()?,
            Self::Up => &expert.up,
            Self::Down => &expert.down,
            _ => return None,
        };
        match matrix {
            ExpertMatrix::Rows(stored) => Some(stored),
            ExpertMatrix::Columns(_) | ExpertMatrix::Mxfp4 { .. } => None,
        }
    }

    /// Bytes of the part, converted from another stored layout or number format.
    pub(crate) fn copied(
        self,
        id: ExpertId,
        expert: &ExpertTensors,
        dtype: StoredDtype,
    ) -> Result<Vec<u8>, ModelError> {
        let gate = || expert.gate.as_ref().map_or_else(|| Ok(Vec::new()), ExpertMatrix::values);
        let bias = |part: usize| match &expert.biases {
            Some(biases) => biases[part].values(),
            None => Ok(Vec::new()),
        };
        let values = match self {
            Self::Gate => gate()?,
            Self::Up => expert.up.values()?,
            Self::Down => expert.down.values()?,
            Self::GateUp { interleaved } => {
                columns(&gate()?, &expert.up.values()?, expert, interleaved)
            }
            Self::DownColumns => transposed(&expert.down.values()?, expert.down.shape()),
            Self::GateUpBias { interleaved } => side_by_side(&bias(0)?, &bias(1)?, interleaved),
            Self::DownBias => bias(2)?,
        };
        encoded(id, &values, dtype)
    }

    /// Bytes of the part in a merged expert; `centroid` is its centroid expert.
    ///
    /// # Errors
    /// When its shape differs from the centroid's, or a value is not finite in the number format.
    pub(crate) fn merged(
        self,
        id: ExpertId,
        expert: &ExpertWeights,
        centroid: &ExpertTensors,
        dtype: StoredDtype,
    ) -> Result<Vec<u8>, ModelError> {
        check_shape(id, expert, centroid)?;
        let ExpertWeights { gate, up, down, biases } = expert;
        let values = |tensor: Option<TensorData>| {
            tensor.map_or_else(Vec::new, |data| data.iter::<f32>().collect())
        };
        let matrix = |part: &Tensor<2>| values(Some(part.to_data()));
        let gate = || values(gate.as_ref().map(|gate| gate.to_data()));
        let bias = |part: fn(&ExpertBiases) -> Option<&Tensor<1>>| {
            values(biases.as_ref().and_then(part).map(|bias| bias.to_data()))
        };
        let values = match self {
            Self::Gate => gate(),
            Self::Up => matrix(up),
            Self::Down => matrix(down),
            Self::GateUp { interleaved } => columns(&gate(), &matrix(up), centroid, interleaved),
            Self::DownColumns => transposed(&matrix(down), centroid.down.shape()),
            Self::GateUpBias { interleaved } => {
                side_by_side(&bias(|b| b.gate.as_ref()), &bias(|b| Some(&b.up)), interleaved)
            }
            Self::DownBias => bias(|b| Some(&b.down)),
        };
        encoded(id, &values, dtype)
    }
}

/// Encodes values in a number format.
fn encoded(id: ExpertId, values: &[f32], dtype: StoredDtype) -> Result<Vec<u8>, ModelError> {
    let mut bytes = Vec::new();
    match dtype.encode(values, &mut bytes) {
        true => Ok(bytes),
        false => Err(ModelError::MergedNotFinite { expert: id, dtype: dtype.name() }),
    }
}

/// Refuses a merged expert whose shape differs from its centroid's.
fn check_shape(
    id: ExpertId,
    expert: &ExpertWeights,
    centroid: &ExpertTensors,
) -> Result<(), ModelError> {
    let pairs = [
        (
            expert.gate.as_ref().map(|gate| gate.dims()),
            centroid.gate.as_ref().map(ExpertMatrix::shape),
        ),
        (Some(expert.up.dims()), Some(centroid.up.shape())),
        (Some(expert.down.dims()), Some(centroid.down.shape())),
    ];
    if let Some((found, expected)) = pairs.into_iter().find(|(found, expected)| found != expected) {
        let dims = |shape: Option<[usize; 2]>| shape.map_or_else(Vec::new, |shape| shape.to_vec());
        let (found, expected) = (dims(found), dims(expected));
        return Err(ModelError::MergedShape { expert: id, found, expected });
    }
    let [d_expert, d_model] = centroid.up.shape();
    let found = expert.biases.as_ref().map(|biases| {
        let gate = biases.gate.as_ref().map_or(0, |gate| gate.dims()[0]);
        [gate, biases.up.dims()[0], biases.down.dims()[0]]
    });
    let expected = centroid.biases.as_ref().map(|_| [d_expert, d_expert, d_model]);
    if found == expected {
        return Ok(());
    }
    let dims = |shape: Option<[usize; 3]>| shape.map_or_else(Vec::new, |shape| shape.to_vec());
    let (found, expected) = (dims(found), dims(expected));
    Err(ModelError::MergedShape { expert: id, found, expected })
}

/// Transposes gate and up, `[out, in]` each, into `[in, 2 * out]`.
fn columns(gate: &[f32], up: &[f32], expert: &ExpertTensors, interleaved: bool) -> Vec<f32> {
    let [d_expert, d_model] = expert.up.shape();
    let column = |matrix: &[f32], input: usize| -> Vec<f32> {
        (0..d_expert).map(|neuron| matrix[neuron * d_model + input]).collect()
    };
    let row = |input| side_by_side(&column(gate, input), &column(up, input), interleaved);
    (0..d_model).flat_map(row).collect()
}

/// Concatenates two rows or interleaves their values.
fn side_by_side(first: &[f32], second: &[f32], interleaved: bool) -> Vec<f32> {
    if interleaved {
        first.iter().zip(second).flat_map(|(&first, &second)| [first, second]).collect()
    } else {
        [first, second].concat()
    }
}

/// Transposes `[rows, columns]` into `[columns, rows]`.
fn transposed(values: &[f32], [n_rows, n_columns]: [usize; 2]) -> Vec<f32> {
    let column = |column: usize| (0..n_rows).map(move |row| row * n_columns + column);
    (0..n_columns).flat_map(column).map(|at| values[at]).collect()
}
