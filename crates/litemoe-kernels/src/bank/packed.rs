use burn::tensor::{Device, Tensor};

use litemoe_core::{ExpertBiases, ExpertPart, ExpertWeights, WeightDtype};

use super::adapters::ExpertAdapters;
use super::stored_expert::StoredExpert;
use crate::stored_rows::Stacked;
use crate::weight::Weight;
use crate::{ExpertRangeError, HiddenAct, RangeError};

/// One expert with weights packed for GEMM.
#[derive(Debug, Clone)]
pub(super) struct PackedExpert {
    pub(super) gated: bool,
    /// Fused gate and up projections, `d_model` to `2 * d_expert`, gate first; only up when ungated.
    pub(super) gate_up: Weight,
    /// `d_expert` to `d_model`
    pub(super) down: Weight,
    pub(super) biases: Option<PackedBiases>,
}

/// Biases of the two products, `[1, width]` each.
#[derive(Debug, Clone)]
pub(super) struct PackedBiases {
    gate_up: Tensor<2>,
    down: Tensor<2>,
}

/// An expert that has weights.
///
/// # Panics
/// When its weights were left out.
pub(super) fn present(experts: &[Option<PackedExpert>], expert: usize) -> &PackedExpert {
    experts[expert]
        .as_ref()
        .unwrap_or_else(|| panic!("the weights of expert {expert} were left out"))
}

impl PackedExpert {
    pub(super) fn new(expert: ExpertWeights, dtype: WeightDtype) -> Self {
        let ExpertWeights { gate, up, down, biases } = expert;
        let gated = gate.is_some();
        let gate_up = match gate {
            Some(gate) => Tensor::cat(vec![gate, up], 0),
            None => up,
        };
        let biases = biases.map(PackedBiases::new);
        Self {
            gated,
            gate_up: Weight::pack(gate_up, dtype),
            down: Weight::pack(down, dtype),
            biases,
        }
    }

    pub(super) fn of_rows(
        expert: StoredExpert<'_>,
        dtype: WeightDtype,
        device: &Device,
    ) -> Result<Self, ExpertRangeError> {
        let StoredExpert { gate, up, down, biases } = expert;
        let gate_up = match gate {
            Some(gate) => Weight::of_rows(&Stacked(gate, up), dtype, device),
            None => Weight::of_rows(up, dtype, device),
        };
        let gate_up = gate_up.map_err(|source| {
            let n_gate = gate.map_or(0, |gate| gate.shape()[0]);
            match source.row.checked_sub(n_gate) {
                None => ExpertRangeError { part: ExpertPart::Gate, source },
                Some(row) => {
                    let source = RangeError { row, ..source };
                    ExpertRangeError { part: ExpertPart::Up, source }
                }
            }
        })?;
        let down = Weight::of_rows(down, dtype, device)
            .map_err(|source| ExpertRangeError { part: ExpertPart::Down, source })?;
        let biases = biases.map(PackedBiases::new);
        Ok(Self { gated: gate.is_some(), gate_up, down, biases })
    }

    pub(super) fn stored(&self) -> ExpertWeights {
        let d_expert = self.down.d_in();
        let gate_up = self.gate_up.stored();
        let (gate, up) = if self.gated {
            let up = gate_up.clone().narrow(0, d_expert, d_expert);
            (Some(gate_up.narrow(0, 0, d_expert)), up)
        } else {
            (None, gate_up)
        };
        let biases = self.biases.as_ref().map(|biases| biases.stored(self.gated, d_expert));
        ExpertWeights { gate, up, down: self.down.stored(), biases }
    }

    pub(super) fn shape(&self) -> (bool, bool, [usize; 2], [usize; 2]) {
        let dims = |weight: &Weight| [weight.d_in(), weight.d_out()];
        (self.gated, self.biases.is_some(), dims(&self.gate_up), dims(&self.down))
    }

    /// Input of the down projection, `[n, d_expert]`.
    pub(super) fn inner(
        &self,
        x: &Tensor<2>,
        act: HiddenAct,
        update: Option<&ExpertAdapters>,
    ) -> Tensor<2> {
        let inner = self.gate_up(x, update);
        let inner = match &self.biases {
            Some(biases) => inner + biases.gate_up.clone(),
            None => inner,
        };
        if self.gated { act.gated(inner) } else { act.apply(inner) }
    }

    /// Output of the expert, `[n, d_model]`, from the input of the down projection.
    pub(super) fn output(&self, inner: Tensor<2>, update: Option<&ExpertAdapters>) -> Tensor<2> {
        let output = self.down(inner, update);
        match &self.biases {
            Some(biases) => output + biases.down.clone(),
            None => output,
        }
    }

    /// Product with gate and up, plus LoRA.
    pub(super) fn gate_up(&self, x: &Tensor<2>, update: Option<&ExpertAdapters>) -> Tensor<2> {
        let products = self.gate_up.product(x.clone());
        match update {
            Some(update) => update.add_to_gate_up(x, products, self.gated),
            None => products,
        }
    }

    /// Product with down, plus LoRA.
    pub(super) fn down(&self, inner: Tensor<2>, update: Option<&ExpertAdapters>) -> Tensor<2> {
        let output = self.down.product(inner.clone());
        match update {
            Some(update) => update.add_to_down(inner, output),
            None => output,
        }
    }
}

impl PackedBiases {
    fn new(ExpertBiases { gate, up, down }: ExpertBiases) -> Self {
        let gate_up = match gate {
            Some(gate) => Tensor::cat(vec![gate, up], 0),
            None => up,
        };
        Self { gate_up: gate_up.unsqueeze_dim(0), down: down.unsqueeze_dim(0) }
    }

    fn stored(&self, gated: bool, d_expert: usize) -> ExpertBiases {
        let gate_up: Tensor<1> = self.gate_up.clone().squeeze_dim(0);
        let (gate, up) = if gated {
            let up = gate_up.clone().narrow(0, d_expert, d_expert);
            (Some(gate_up.narrow(0, 0, d_expert)), up)
        } else {
            (None, gate_up)
        };
        ExpertBiases { gate, up, down: self.down.clone().squeeze_dim(0) }
    }
}
