//! Router biases of a pass, as tensors of one layer.

use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::{BiasStage, ByRows, LayerId, Packing, RouterBias};

use crate::layers::mask::MASKED;

/// Router bias of each token in one layer, `[tokens, n_rows]` each; `[1, n_rows]` where all rows have the same.
#[derive(Debug, Clone)]
pub(crate) struct LayerBias {
    /// Added to the logits that experts are chosen by; [`MASKED`] for removed experts.
    pub(crate) logits: Tensor<2>,
    /// Added to the logits before the scores are computed.
    pub(crate) before: Tensor<2>,
    /// Factor on the scores.
    pub(crate) after: Tensor<2>,
    /// 0, or [`MASKED`] for removed experts, which no score may bring back.
    pub(crate) barred: Tensor<2>,
}

impl LayerBias {
    /// `None` where no row has a bias in this layer.
    ///
    /// # Panics
    /// When a bias is for another number of experts.
    pub(crate) fn new(
        biases: &ByRows<'_, RouterBias>,
        layer: LayerId,
        packing: &Packing,
        n_rows: usize,
        device: &Device,
    ) -> Option<Self> {
        if biases.is_empty() {
            return None;
        }
        let of_rows = match biases.of_all(packing.batch()) {
            Some(bias) => vec![(1, Some(bias))],
            None => {
                let biases = biases.of_rows(packing.batch());
                packing.row_lens().iter().copied().zip(biases).collect()
            }
        };
        let known = |bias: Option<&RouterBias>| bias.is_some_and(|bias| bias.at(layer).is_some());
        if !of_rows.iter().any(|(_, bias)| known(*bias)) {
            return None;
        }
        let mut values = Values::default();
        for (len, bias) in of_rows {
            let row = Values::of(bias, layer, n_rows);
            (0..len).for_each(|_| values.extend(&row));
        }
        Some(values.tensors(n_rows, device))
    }
}

/// Values of the tensors, row by row.
#[derive(Default)]
struct Values {
    logits: Vec<f32>,
    before: Vec<f32>,
    after: Vec<f32>,
    barred: Vec<f32>,
}

impl Values {
    /// Values of one token.
    fn of(bias: Option<&RouterBias>, layer: LayerId, n_rows: usize) -> Self {
        let mut values = Self::default();
        let found = bias.and_then(|bias| Some((bias.stage(), bias.at(layer)?)));
        let zeros = vec![0.0; n_rows];
        let (stage, biases) = found.unwrap_or((BiasStage::Logits, &zeros));
        assert_eq!(biases.len(), n_rows, "layer {layer}: a router bias for every expert");
        for &bias in biases {
            let reached = bias.max(MASKED);
            let (before, after) = match stage {
                BiasStage::Logits => (reached, 1.0),
                BiasStage::Scores => (0.0, bias.exp()),
            };
            values.logits.push(reached);
            values.before.push(before);
            values.after.push(after);
            values.barred.push(if bias == f32::NEG_INFINITY { MASKED } else { 0.0 });
        }
        values
    }

    fn extend(&mut self, row: &Self) {
        self.logits.extend(&row.logits);
        self.before.extend(&row.before);
        self.after.extend(&row.after);
        self.barred.extend(&row.barred);
    }

    fn tensors(self, n_rows: usize, device: &Device) -> LayerBias {
        let tensor = |values: Vec<f32>| {
            let shape = [values.len() / n_rows, n_rows];
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        LayerBias {
            logits: tensor(self.logits),
            before: tensor(self.before),
            after: tensor(self.after),
            barred: tensor(self.barred),
        }
    }
}

/// Experts of a layer that the biases of all `n` rows of a batch remove.
pub(crate) fn removed(
    biases: &ByRows<'_, RouterBias>,
    layer: LayerId,
    n_experts: usize,
    n: usize,
) -> Vec<usize> {
    if biases.is_empty() {
        return Vec::new();
    }
    let rows = biases.of_rows(n);
    let by_all = |expert: &usize| {
        rows.iter().all(|bias| bias.is_some_and(|bias| bias.removes(layer.expert(*expert))))
    };
    (0..n_experts).filter(by_all).collect()
}
