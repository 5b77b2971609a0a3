// The macro generates items as public as the trait; none is visible outside this crate.
#![allow(missing_docs)]

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Tensor};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind, unary};

use crate::primitive::{AsPrimitive, has_kernels};

/// Kernels of one backend, in f32.
pub(crate) trait Kernels: AsPrimitive {
    /// Forward pass: `[n, 2h]` → `[n, h]`.
    fn forward(gate_up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Backward pass: the forward's input `[n, 2h]` and its output's gradient `[n, h]` → its input's gradient.
    fn backward(gate_up: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self>;
}

#[backend_extension(Autodiff, Flex: cfg(feature = "flex"), Cube: cfg(feature = "wgpu"))]
pub(super) trait SiluMul: Backend {
    fn silu_mul(gate_up: FloatTensor<Self>) -> FloatTensor<Self>;
}

#[cfg(feature = "flex")]
impl SiluMul for burn_flex::Flex {
    fn silu_mul(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::forward(gate_up)
    }
}

#[cfg(feature = "wgpu")]
impl SiluMul for burn_cubecl::CubeBackend {
    fn silu_mul(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::forward(gate_up)
    }
}

impl<B: Kernels, C: CheckpointStrategy> SiluMul for Autodiff<B, C> {
    fn silu_mul(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = SiluMulBackward.prepare::<C>([gate_up.node()]).compute_bound().stateful();
        let input = gate_up.into_primitive();
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(input.clone(), B::forward(input)),
            OpsKind::UnTracked(prepared) => prepared.finish(B::forward(input)),
        }
    }
}

#[derive(Debug)]
struct SiluMulBackward;

impl<B: Kernels> Backward<B, 1> for SiluMulBackward {
    /// The forward's input: recomputing the sigmoid is cheaper than keeping it.
    type State = FloatTensor<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gate_up = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::backward(gate_up, grad));
    }
}

/// Whether a kernel exists for the tensor's device and dtype.
pub(crate) fn is_fused(tensor: &Tensor<2>) -> bool {
    has_kernels(&tensor.device()) && tensor.dtype() == DType::F32
}

pub(super) fn silu_mul(gate_up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as SiluMul>::silu_mul(gate_up.into_dispatch()))
}
