use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};
use litemoe_core::{Activation, ExpertId, LayerId, Observer, Routing};

/// Inputs of an expert's down projection for a batch, times the gates: the nonzero rows of the expert's columns of Z.
#[derive(Debug, Clone)]
pub struct GatedInner {
    /// The expert's index in its layer.
    pub expert: usize,
    /// Indices of the `n` tokens routed to the expert, each once.
    pub tokens: Vec<usize>,
    /// g·act(gate)·up, `[n, d_expert]`
    pub inner: Tensor<2>,
}

/// Activations of a block's experts for one batch.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// `None` if the block has no experts.
    pub(super) layer: Option<LayerId>,
    /// One entry per expert with tokens.
    pub(super) inner: Vec<GatedInner>,
    /// Σ g·f, `[tokens, d_model]`; `None` if no token was routed to an expert.
    outputs: Option<Tensor<2>>,
    tokens: usize,
    /// Whether the model did not report the down projections' inputs.
    pub(super) is_silent: bool,
}

impl Seen {
    /// Adds the experts' gated outputs to `sum`, `[tokens, d_model]`.
    pub(super) fn add_outputs(&self, sum: Tensor<2>) -> Tensor<2> {
        match &self.outputs {
            Some(outputs) => sum + outputs.clone(),
            None => sum,
        }
    }
}

impl Observer for Seen {
    fn routed(&mut self, layer: LayerId, routing: &Routing) {
        self.layer = Some(layer);
        self.tokens = routing.experts.dims()[0];
    }

    fn wants_inner(&self) -> bool {
        true
    }

    fn activated(&mut self, expert: ExpertId, activation: &Activation) {
        let Some(inner) = activation.inner.clone() else {
            self.is_silent = true;
            return;
        };
        let gates = activation.gates.clone().unsqueeze_dim::<2>(1);
        let (expert, tokens) = (expert.expert, activation.tokens.clone());
        let outputs = activation.outputs.clone() * gates.clone();
        let zeros = || Tensor::zeros([self.tokens, outputs.dims()[1]], &outputs.device());
        let sum = self.outputs.take().unwrap_or_else(zeros);
        self.outputs = Some(add_rows(sum, &tokens, outputs));
        self.inner.push(GatedInner { expert, tokens, inner: inner * gates });
    }
}

/// Scatter-add: adds `rows` to the rows of `sum` with these indices.
pub(super) fn add_rows(sum: Tensor<2>, tokens: &[usize], rows: Tensor<2>) -> Tensor<2> {
    let tokens = indices(tokens, &sum.device());
    sum.select_assign(0, tokens, rows, IndexingUpdateOp::Add)
}

fn indices(values: &[usize], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.iter().map(|&value| value as i64).collect();
    Tensor::from_data(values.as_slice(), device)
}
