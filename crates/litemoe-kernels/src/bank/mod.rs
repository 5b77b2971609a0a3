//! Expert bank: the experts of a layer, with prepacked weights and sorted dispatch.

mod adapters;
#[cfg(any(feature = "flex", feature = "wgpu"))]
mod flat;
#[cfg(feature = "flex")]
mod fused;
#[cfg(any(feature = "flex", feature = "wgpu"))]
mod lora_backward;
#[cfg(any(feature = "flex", feature = "wgpu"))]
mod op;
mod packed;
mod sorted_batch;
mod stored_expert;

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};
use litemoe_core::{ExpertWeights, WeightDtype};

use crate::dispatch::Dispatch;
use crate::primitive::is_host;
#[cfg(any(feature = "flex", feature = "wgpu"))]
use crate::silu_mul;
use crate::{ExpertRangeError, HiddenAct};
pub use adapters::ExpertAdapters;
#[cfg(feature = "flex")]
use fused::Fused;
use packed::PackedExpert;
use sorted_batch::SortedBatch;
pub use stored_expert::StoredExpert;

/// Computation of one expert on the `n` tokens routed to it.
#[derive(Debug, Clone)]
pub struct ExpertWork {
    /// Index of the expert.
    pub expert: usize,
    /// Indices of the tokens, rows of `x`.
    pub rows: Vec<usize>,
    /// Routing weights (gates), the factors of the outputs, `[n]`.
    pub gates: Tensor<1>,
    /// Outputs before the gate, `[n, d_model]`.
    pub outputs: Tensor<2>,
    /// Input of the down projection, `[n, d_expert]`; only if [`ExpertVisit::wants_inner`].
    pub inner: Option<Tensor<2>>,
}

/// Visitor of the experts' computations.
pub struct ExpertVisit<'a> {
    /// Callback, called once per expert with tokens.
    pub see: &'a mut dyn FnMut(ExpertWork),
    /// Whether to fill [`ExpertWork::inner`].
    pub wants_inner: bool,
}

/// Frozen experts of one layer, with weights packed once for GEMM.
///
/// A gated expert computes `down(act(gate(x)) * up(x))`, an ungated one `down(act(up(x)))`. `act` is SiLU by default,
/// see [`Self::activated`].
#[derive(Debug, Clone, Default)]
pub struct ExpertBank {
    experts: Arc<Vec<Option<PackedExpert>>>,
    dtype: WeightDtype,
    act: HiddenAct,
    gates_inputs: bool,
}

impl ExpertBank {
    /// Packs experts of equal shape.
    pub fn new(experts: Vec<ExpertWeights>) -> Self {
        let mut bank = Self::with_capacity(experts.len());
        experts.into_iter().for_each(|expert| bank.push(expert));
        bank
    }

    /// An empty bank with capacity for `n_experts`.
    pub fn with_capacity(n_experts: usize) -> Self {
        Self { experts: Arc::new(Vec::with_capacity(n_experts)), ..Self::default() }
    }

    /// Sets the format in which weights are kept; f32 by default.
    ///
    /// # Panics
    /// When the bank has experts already.
    #[must_use]
    pub fn packed_as(self, dtype: WeightDtype) -> Self {
        assert!(self.experts.is_empty(), "the format of a bank with experts");
        Self { dtype, ..self }
    }

    /// Sets the activation function.
    #[must_use]
    pub fn activated(self, act: HiddenAct) -> Self {
        Self { act, ..self }
    }

    /// Applies the gates to the experts' inputs instead of their outputs (Llama 4).
    #[must_use]
    pub fn gating_inputs(self) -> Self {
        Self { gates_inputs: true, ..self }
    }

    /// Appends an expert: packs its weights and frees the unpacked ones.
    ///
    /// # Panics
    /// When its shape differs from that of the other experts, or the device has no such format, see
    /// [`crate::can_pack`], or the format cannot hold a value.
    pub fn push(&mut self, expert: ExpertWeights) {
        self.push_packed(PackedExpert::new(expert, self.dtype));
    }

    /// As [`Self::push`], without a copy of the stored matrices where they are packed.
    ///
    /// # Errors
    /// When the format cannot hold a value; the bank is unchanged.
    ///
    /// # Panics
    /// When its shape differs from that of the other experts, or the device has no such format.
    pub fn push_stored(
        &mut self,
        expert: StoredExpert<'_>,
        device: &Device,
    ) -> Result<(), ExpertRangeError> {
        self.push_packed(PackedExpert::of_rows(expert, self.dtype, device)?);
        Ok(())
    }

    fn push_packed(&mut self, packed: PackedExpert) {
        if let Some(first) = self.first() {
            assert_eq!(first.shape(), packed.shape(), "experts of one bank have one shape");
        }
        Arc::make_mut(&mut self.experts).push(Some(packed));
    }

    /// Appends an expert without weights; no token may be routed to it.
    pub fn push_absent(&mut self) {
        Arc::make_mut(&mut self.experts).push(None);
    }

    /// The first expert with weights.
    fn first(&self) -> Option<&PackedExpert> {
        self.experts.iter().flatten().next()
    }

    /// Number of experts, including those without weights.
    pub fn n_experts(&self) -> usize {
        self.experts.len()
    }

    /// Weights of an expert in the checkpoint layout: views of f32 weights, dequantised copies of others.
    ///
    /// # Panics
    /// When the expert has no weights.
    pub fn stored(&self, expert: usize) -> ExpertWeights {
        packed::present(&self.experts, expert).stored()
    }

    /// Device of the weights; `None` for a bank without weights.
    pub fn device(&self) -> Option<Device> {
        self.first().map(|expert| expert.down.device())
    }

    /// Mixture-of-experts forward pass: runs each token through its selected experts and sums their outputs, weighted
    /// by the gates (or the outputs of gated inputs, see [`Self::gating_inputs`]).
    ///
    /// Differentiable with respect to `x` and `gates`. Copies `chosen` to the host once. Calls `visit` for each expert
    /// with tokens, in ascending order.
    ///
    /// # Shapes
    /// - `x`: `[tokens, d_model]`
    /// - `chosen`: `[tokens, top_k]`; the index [`Self::n_experts`] means no expert
    /// - `gates`: `[tokens, top_k]`
    /// - output: `[tokens, d_model]`
    ///
    /// # Panics
    /// When an index in `chosen` exceeds the number of experts, or a selected expert has no weights.
    pub fn forward(
        &self,
        x: Tensor<2>,
        chosen: Tensor<2, Int>,
        gates: Tensor<2>,
        visit: Option<ExpertVisit<'_>>,
    ) -> Tensor<2> {
        self.forward_adapted(x, chosen, gates, &|_| ExpertAdapters::default(), visit)
    }

    /// [`Self::forward`] with LoRA on the experts' projections: gate and up before the activation, down before the gate
    /// factor. `update` is called for each expert with tokens.
    ///
    /// Also differentiable with respect to the LoRA matrices.
    ///
    /// # Panics
    /// As [`Self::forward`], and when an ungated expert's gate has an update.
    pub fn forward_adapted(
        &self,
        x: Tensor<2>,
        chosen: Tensor<2, Int>,
        gates: Tensor<2>,
        update: &dyn Fn(usize) -> ExpertAdapters,
        visit: Option<ExpertVisit<'_>>,
    ) -> Tensor<2> {
        let dispatch = Dispatch::new(chosen, self.n_experts());
        if dispatch.n_rows() == 0 {
            return x.zeros_like();
        }
        let updates = self.updates(&dispatch, update);
        let tracked = x.device().is_autodiff()
            || gates.device().is_autodiff()
            || updates.iter().any(ExpertAdapters::is_tracked);
        #[cfg(feature = "flex")]
        if !tracked
            && visit.is_none()
            && updates.is_empty()
            && self.is_plain()
            && let Some(experts) = Fused::new(&self.experts, &dispatch)
        {
            return experts.forward(x, gates).0;
        }
        let device = x.device().without_autodiff();
        // Burn builds the autodiff graph on one thread; Flex operations may run on many.
        let mixture =
            |parallel| SortedBatch::new(self.experts.clone(), dispatch, &device, parallel);
        #[cfg(any(feature = "flex", feature = "wgpu"))]
        if tracked && visit.is_none() && self.is_plain() && silu_mul::is_fused(&x) {
            return op::mix(x, gates, mixture(is_host(&device)), &updates);
        }
        self.reference(&mixture(!tracked && is_host(&device)), x, gates, &updates, visit)
    }

    /// Adapters of each group's expert; empty if no expert has any.
    fn updates(
        &self,
        dispatch: &Dispatch,
        update: &dyn Fn(usize) -> ExpertAdapters,
    ) -> Vec<ExpertAdapters> {
        let updates: Vec<_> = dispatch.groups().iter().map(|(expert, _)| update(*expert)).collect();
        if updates.iter().all(ExpertAdapters::is_empty) { Vec::new() } else { updates }
    }

    /// Whether the custom operation supports these experts.
    #[cfg(any(feature = "flex", feature = "wgpu"))]
    fn is_plain(&self) -> bool {
        let plain = |expert: &PackedExpert| expert.gated && expert.biases.is_none();
        self.first().is_some_and(plain) && self.act == HiddenAct::Silu && !self.gates_inputs
    }

    /// Reference implementation from plain tensor operations, differentiated by Burn.
    fn reference(
        &self,
        mixture: &SortedBatch,
        x: Tensor<2>,
        gates: Tensor<2>,
        updates: &[ExpertAdapters],
        visit: Option<ExpertVisit<'_>>,
    ) -> Tensor<2> {
        let zeros = x.zeros_like();
        let (rows, gates) = (mixture.gather(x), mixture.gather_gates(gates));
        let (rows, factors) = if self.gates_inputs {
            (rows * gates.clone(), gates.ones_like())
        } else {
            (rows, gates)
        };
        let wants_inner = visit.as_ref().is_some_and(|visit| visit.wants_inner);
        let computed = mixture.each(|group, expert, range| {
            let update = updates.get(group);
            let inner = expert.inner(&rows.clone().slice(range), self.act, update);
            (wants_inner.then(|| inner.clone()), expert.output(inner, update))
        });
        let (inner, outputs): (Vec<_>, Vec<_>) = computed.into_iter().unzip();
        if let Some(visit) = visit {
            let groups = mixture.dispatch().groups().iter();
            for (((expert, rows), inner), outputs) in groups.zip(inner).zip(&outputs) {
                (visit.see)(ExpertWork {
                    expert: *expert,
                    gates: factors.clone().slice(rows.clone()).squeeze_dim(1),
                    rows: mixture.dispatch().tokens_of(rows),
                    outputs: outputs.clone(),
                    inner,
                });
            }
        }
        let outputs = Tensor::cat(outputs, 0);
        mixture.scatter(if self.gates_inputs { outputs } else { outputs * factors }, zeros)
    }
}
