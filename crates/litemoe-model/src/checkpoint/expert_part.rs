use burn::tensor::{Tensor, TensorData};
use litemoe_core::{ExpertBiases, ExpertId, ExpertWeights, StackOrder};

use crate::ModelError;
use crate::checkpoint::expert_tensors::{ExpertMatrix, ExpertTensors};
use crate::checkpoint::stored::StoredTensor;
use crate::families::family::Names;

/// What a proxy stores of an expert in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Gate,
    Up,
    Down,
    /// Gate and up transposed, side by side or taking turns, `[in, 2 * out]`.
    GateUp {
        interleaved: bool,
    },
    /// Down transposed, `[in, out]`.
    DownColumns,
    /// The biases of gate and up, in the order of their columns.
    GateUpBias {
        interleaved: bool,
    },
    DownBias,
}

/// Where a part belongs.
pub(crate) enum Place {
    /// Behind the expert's own path.
    Alone(String),
    /// In this stack, after the parts of the experts before.
    Stack(String),
}

impl Part {
    /// The parts of an expert, as released checkpoints have them.
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

    /// Its shape in a stack of one, or alone.
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

    /// Where its bytes lie as they are wanted.
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

    /// Its bytes where they lie otherwise than they are wanted.
    pub(crate) fn copied(
        self,
        id: ExpertId,
        expert: &ExpertTensors,
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
        encoded(id, &values, expert)
    }

    /// Its bytes in a merged expert.
    ///
    /// # Errors
    /// When the merged expert has another shape than its host, or is not finite in the host's format.
    pub(crate) fn merged(
        self,
        id: ExpertId,
        expert: &ExpertWeights,
        host: &ExpertTensors,
    ) -> Result<Vec<u8>, ModelError> {
        check_shape(id, expert, host)?;
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
            Self::GateUp { interleaved } => columns(&gate(), &matrix(up), host, interleaved),
            Self::DownColumns => transposed(&matrix(down), host.down.shape()),
            Self::GateUpBias { interleaved } => {
                side_by_side(&bias(|b| b.gate.as_ref()), &bias(|b| Some(&b.up)), interleaved)
            }
            Self::DownBias => bias(|b| Some(&b.down)),
        };
        encoded(id, &values, host)
    }
}

/// Values as the host stores its own, biases in the same format as matrices.
fn encoded(id: ExpertId, values: &[f32], host: &ExpertTensors) -> Result<Vec<u8>, ModelError> {
    let (dtype, mut bytes) = (host.up.dtype(), Vec::new());
    match dtype.encode(values, &mut bytes) {
        true => Ok(bytes),
        false => Err(ModelError::MergedNotFinite { expert: id, dtype: dtype.name() }),
    }
}

/// Refuses a merged expert of another shape than its host.
fn check_shape(
    id: ExpertId,
    expert: &ExpertWeights,
    host: &ExpertTensors,
) -> Result<(), ModelError> {
    let pairs = [
        (expert.gate.as_ref().map(|gate| gate.dims()), host.gate.as_ref().map(ExpertMatrix::shape)),
        (Some(expert.up.dims()), Some(host.up.shape())),
        (Some(expert.down.dims()), Some(host.down.shape())),
    ];
    if let Some((found, expected)) = pairs.into_iter().find(|(found, expected)| found != expected) {
        let dims = |shape: Option<[usize; 2]>| shape.map_or_else(Vec::new, |shape| shape.to_vec());
        let (found, expected) = (dims(found), dims(expected));
        return Err(ModelError::MergedShape { expert: id, found, expected });
    }
    let [d_expert, d_model] = host.up.shape();
    let found = expert.biases.as_ref().map(|biases| {
        let gate = biases.gate.as_ref().map_or(0, |gate| gate.dims()[0]);
        [gate, biases.up.dims()[0], biases.down.dims()[0]]
    });
    let expected = host.biases.as_ref().map(|_| [d_expert, d_expert, d_model]);
    if found == expected {
        return Ok(());
    }
    let dims = |shape: Option<[usize; 3]>| shape.map_or_else(Vec::new, |shape| shape.to_vec());
    let (found, expected) = (dims(found), dims(expected));
    Err(ModelError::MergedShape { expert: id, found, expected })
}

/// Gate and up, `[out, in]` each, as columns: `[in, 2 * out]`.
fn columns(gate: &[f32], up: &[f32], expert: &ExpertTensors, interleaved: bool) -> Vec<f32> {
    let [d_expert, d_model] = expert.up.shape();
    let column = |matrix: &[f32], input: usize| -> Vec<f32> {
        (0..d_expert).map(|neuron| matrix[neuron * d_model + input]).collect()
    };
    let row = |input| side_by_side(&column(gate, input), &column(up, input), interleaved);
    (0..d_model).flat_map(row).collect()
}

/// One row after the other, or their values taking turns.
fn side_by_side(first: &[f32], second: &[f32], interleaved: bool) -> Vec<f32> {
    if interleaved {
        first.iter().zip(second).flat_map(|(&first, &second)| [first, second]).collect()
    } else {
        [first, second].concat()
    }
}

/// `[rows, columns]` → `[columns, rows]`
fn transposed(values: &[f32], [n_rows, n_columns]: [usize; 2]) -> Vec<f32> {
    let column = |column: usize| (0..n_rows).map(move |row| row * n_columns + column);
    (0..n_columns).flat_map(column).map(|at| values[at]).collect()
}
