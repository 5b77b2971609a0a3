//! The experts of a layer: packed once, run sorted.

mod adapters;
#[cfg(any(feature = "flex", feature = "wgpu"))]
mod flat;
#[cfg(any(feature = "flex", feature = "wgpu"))]
mod lora_backward;
mod mixture;
#[cfg(any(feature = "flex", feature = "wgpu"))]
mod op;
mod packed;

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};
use litemoe_core::ExpertWeights;

use crate::HiddenAct;
use crate::dispatch::Dispatch;
use crate::primitive::is_host;
#[cfg(any(feature = "flex", feature = "wgpu"))]
use crate::silu_mul;
pub use adapters::ExpertAdapters;
use mixture::Mixture;
use packed::PackedExpert;

/// One expert's work on the `n` rows it was given.
#[derive(Debug, Clone)]
pub struct ExpertWork {
    /// Which expert.
    pub expert: usize,
    /// The rows of `x`.
    pub rows: Vec<usize>,
    /// The factors of its outputs, `[n]`.
    pub gates: Tensor<1>,
    /// Its outputs before them, `[n, d_model]`.
    pub outputs: Tensor<2>,
    /// What down was given, `[n, d_expert]`, where it was asked for.
    pub inner: Option<Tensor<2>>,
}

/// Who sees every expert's work.
pub struct ExpertVisit<'a> {
    /// Told of one expert after the other.
    pub see: &'a mut dyn FnMut(ExpertWork),
    /// Whether to keep what down was given.
    pub wants_inner: bool,
}

/// The frozen experts of one layer, packed once for the matrix product.
///
/// An expert computes `down(act(gate(x)) * up(x))`, an ungated one `down(act(up(x)))`, with SiLU unless
/// [told otherwise](Self::activated).
#[derive(Debug, Clone, Default)]
pub struct ExpertBank {
    experts: Arc<Vec<Option<PackedExpert>>>,
    act: HiddenAct,
    gates_inputs: bool,
}

impl ExpertBank {
    /// Packs experts of one shape.
    pub fn new(experts: Vec<ExpertWeights>) -> Self {
        let mut bank = Self::with_capacity(experts.len());
        experts.into_iter().for_each(|expert| bank.push(expert));
        bank
    }

    /// An empty bank with room for `n_experts`.
    pub fn with_capacity(n_experts: usize) -> Self {
        Self { experts: Arc::new(Vec::with_capacity(n_experts)), ..Self::default() }
    }

    /// The same experts with another activation.
    #[must_use]
    pub fn activated(self, act: HiddenAct) -> Self {
        Self { act, ..self }
    }

    /// The same experts, whose gates multiply what goes in instead of what comes out (Llama 4).
    #[must_use]
    pub fn gating_inputs(self) -> Self {
        Self { gates_inputs: true, ..self }
    }

    /// Packs one more expert and frees its stored form.
    ///
    /// # Panics
    /// When the expert's shape differs from those before it.
    pub fn push(&mut self, expert: ExpertWeights) {
        let packed = PackedExpert::new(expert);
        if let Some(first) = self.first() {
            assert_eq!(first.shape(), packed.shape(), "experts of one bank have one shape");
        }
        Arc::make_mut(&mut self.experts).push(Some(packed));
    }

    /// Leaves out the weights of the next expert: no token must be sent to it.
    pub fn push_absent(&mut self) {
        Arc::make_mut(&mut self.experts).push(None);
    }

    /// The first expert whose weights are there.
    fn first(&self) -> Option<&PackedExpert> {
        self.experts.iter().flatten().next()
    }

    /// Experts in the bank.
    pub fn n_experts(&self) -> usize {
        self.experts.len()
    }

    /// An expert as checkpoints store it: views that copy nothing.
    ///
    /// # Panics
    /// When its weights were left out.
    pub fn stored(&self, expert: usize) -> ExpertWeights {
        packed::present(&self.experts, expert).stored()
    }

    /// Where the experts live; `None` for a bank without weights.
    pub fn device(&self) -> Option<Device> {
        self.first().map(|expert| expert.down.device())
    }

    /// Sends every token to its chosen experts and adds up their outputs times the gates, or their outputs for the inputs
    /// times the gates.
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
    /// When an index in `chosen` is above the number of experts, or an expert's weights were left out.
    pub fn forward(
        &self,
        x: Tensor<2>,
        chosen: Tensor<2, Int>,
        gates: Tensor<2>,
        visit: Option<ExpertVisit<'_>>,
    ) -> Tensor<2> {
        self.forward_adapted(x, chosen, gates, &|_| ExpertAdapters::default(), visit)
    }

    /// [`Self::forward`] with low-rank updates beside the experts' matrices: those of gate and up before the activation,
    /// that of down before the gate factor. `update` is asked for each expert with tokens.
    ///
    /// Differentiable with respect to the updates' matrices too.
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
        let device = x.device().without_autodiff();
        // Burn's autodiff graph is built by one thread; Flex itself may be called from many.
        let mixture = |parallel| Mixture::new(self.experts.clone(), dispatch, &device, parallel);
        #[cfg(any(feature = "flex", feature = "wgpu"))]
        if tracked && visit.is_none() && self.is_plain() && silu_mul::is_fused(&x) {
            return op::mix(x, gates, mixture(is_host(&device)), &updates);
        }
        self.reference(&mixture(!tracked && is_host(&device)), x, gates, &updates, visit)
    }

    /// What stands beside the expert of each group; nothing at all where no expert has anything.
    fn updates(
        &self,
        dispatch: &Dispatch,
        update: &dyn Fn(usize) -> ExpertAdapters,
    ) -> Vec<ExpertAdapters> {
        let updates: Vec<_> = dispatch.groups().iter().map(|(expert, _)| update(*expert)).collect();
        if updates.iter().all(ExpertAdapters::is_empty) { Vec::new() } else { updates }
    }

    /// Whether the operation with a backward by hand computes these experts.
    #[cfg(any(feature = "flex", feature = "wgpu"))]
    fn is_plain(&self) -> bool {
        let plain = |expert: &PackedExpert| expert.gated && expert.biases.is_none();
        self.first().is_some_and(plain) && self.act == HiddenAct::Silu && !self.gates_inputs
    }

    /// The mixture from plain tensor operations, which Burn differentiates step by step.
    fn reference(
        &self,
        mixture: &Mixture,
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
