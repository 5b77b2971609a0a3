use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, activation};

use crate::dispatch::Dispatch;
use crate::{pack, silu_mul};

/// One expert as checkpoints store it, `[out, in]`.
#[derive(Debug, Clone)]
pub struct StoredExpert {
    /// `[d_expert, d_model]`; absent in ungated experts.
    pub gate: Option<Tensor<2>>,
    /// `[d_expert, d_model]`
    pub up: Tensor<2>,
    /// `[d_model, d_expert]`
    pub down: Tensor<2>,
}

/// Sees one expert's work: the expert, the rows of `x` it was given, its gates `[n]` and its outputs
/// before the gate `[n, d_model]`.
pub type ExpertVisit<'a> = &'a mut dyn FnMut(usize, Vec<usize>, Tensor<1>, Tensor<2>);

/// The frozen experts of one layer, packed once for the matrix product.
///
/// An expert computes `down(silu(gate(x)) * up(x))`, an ungated one `down(silu(up(x)))`.
#[derive(Debug, Clone, Default)]
pub struct ExpertBank {
    experts: Vec<PackedExpert>,
}

impl ExpertBank {
    /// Packs experts of one shape.
    pub fn new(experts: Vec<StoredExpert>) -> Self {
        let mut bank = Self::with_capacity(experts.len());
        experts.into_iter().for_each(|expert| bank.push(expert));
        bank
    }

    /// An empty bank with room for `n_experts`.
    pub fn with_capacity(n_experts: usize) -> Self {
        Self { experts: Vec::with_capacity(n_experts) }
    }

    /// Packs one more expert and frees its stored form.
    ///
    /// # Panics
    /// When the expert's shape differs from those before it.
    pub fn push(&mut self, expert: StoredExpert) {
        let packed = PackedExpert::new(expert);
        if let Some(first) = self.experts.first() {
            assert_eq!(first.shape(), packed.shape(), "experts of one bank have one shape");
        }
        self.experts.push(packed);
    }

    /// Experts in the bank.
    pub fn n_experts(&self) -> usize {
        self.experts.len()
    }

    /// An expert as checkpoints store it: views that copy nothing.
    pub fn stored(&self, expert: usize) -> StoredExpert {
        self.experts[expert].stored()
    }

    /// Where the experts live; `None` for an empty bank.
    pub fn device(&self) -> Option<Device> {
        self.experts.first().map(|expert| expert.down.device())
    }

    /// Sends every token to its chosen experts and adds up their outputs times the gates.
    ///
    /// Differentiable with respect to `x` and `gates`. Reads `chosen` on the host, once. Each expert
    /// with tokens is shown to `visit`, in ascending order.
    ///
    /// # Shapes
    /// - `x`: `[tokens, d_model]`
    /// - `chosen`: `[tokens, top_k]`, the index [`Self::n_experts`] meaning no expert
    /// - `gates`: `[tokens, top_k]`
    /// - output: `[tokens, d_model]`
    ///
    /// # Panics
    /// When an index in `chosen` is above the number of experts.
    pub fn forward(
        &self,
        x: Tensor<2>,
        chosen: Tensor<2, Int>,
        gates: Tensor<2>,
        mut visit: Option<ExpertVisit<'_>>,
    ) -> Tensor<2> {
        let dispatch = Dispatch::new(chosen, self.n_experts());
        let zeros = x.zeros_like();
        if dispatch.is_empty() {
            return zeros;
        }
        let device = x.device();
        let tokens = dispatch.token_indices(&device);
        let gates = gates.flatten::<1>(0, 1).select(0, dispatch.place_indices(&device));
        let rows = x.select(0, tokens.clone());
        let mut outputs = Vec::with_capacity(dispatch.groups().len());
        for (expert, range) in dispatch.groups() {
            let output = self.experts[*expert].forward(rows.clone().slice(range.clone()));
            if let Some(visit) = visit.as_mut() {
                let tokens = dispatch.tokens().skip(range.start).take(range.len()).collect();
                visit(*expert, tokens, gates.clone().slice(range.clone()), output.clone());
            }
            outputs.push(output);
        }
        let gated = Tensor::cat(outputs, 0) * gates.unsqueeze_dim(1);
        zeros.select_assign(0, tokens, gated, IndexingUpdateOp::Add)
    }
}

#[derive(Debug, Clone)]
struct PackedExpert {
    gated: bool,
    /// Gate and up side by side, `[d_model, 2 * d_expert]`; up alone when ungated.
    gate_up: Tensor<2>,
    /// `[d_expert, d_model]`
    down: Tensor<2>,
}

impl PackedExpert {
    fn new(StoredExpert { gate, up, down }: StoredExpert) -> Self {
        let gated = gate.is_some();
        let gate_up = match gate {
            Some(gate) => Tensor::cat(vec![gate, up], 0),
            None => up,
        };
        Self { gated, gate_up: pack::transposed(gate_up), down: pack::transposed(down) }
    }

    fn stored(&self) -> StoredExpert {
        let d_expert = self.down.dims()[0];
        let gate_up = self.gate_up.clone().transpose();
        let (gate, up) = match self.gated {
            true => {
                let up = gate_up.clone().narrow(0, d_expert, d_expert);
                (Some(gate_up.narrow(0, 0, d_expert)), up)
            }
            false => (None, gate_up),
        };
        StoredExpert { gate, up, down: self.down.clone().transpose() }
    }

    fn shape(&self) -> (bool, [usize; 2], [usize; 2]) {
        (self.gated, self.gate_up.dims(), self.down.dims())
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let hidden = x.matmul(self.gate_up.clone());
        let hidden = if self.gated { silu_mul(hidden) } else { activation::silu(hidden) };
        hidden.matmul(self.down.clone())
    }
}
