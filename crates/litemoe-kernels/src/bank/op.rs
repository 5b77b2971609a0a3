use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{IndexingUpdateOp, Tensor};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

use super::mixture::Mixture;
use crate::primitive::AsPrimitive;
use crate::silu_mul::{Kernels, silu_mul};

/// The mixture of gated experts with a backward by hand.
///
/// Derived step by step, every expert's slice of the rows would add a gradient of all rows, and its
/// outputs would be kept for the gates. By hand a row's gradient is written once, and only the
/// products with `gate_up` are kept: with `u = ∂y·downᵀ`, the gate's gradient is `u·inner` and the
/// inner one's `gate·u`, neither of which needs the outputs.
#[backend_extension(Autodiff, Flex: cfg(feature = "flex"), Cube: cfg(feature = "wgpu"))]
pub(super) trait Mix: Backend {
    fn mix(x: FloatTensor<Self>, gates: FloatTensor<Self>, mixture: Mixture) -> FloatTensor<Self>;
}

#[cfg(feature = "flex")]
impl Mix for burn_flex::Flex {
    fn mix(x: FloatTensor<Self>, gates: FloatTensor<Self>, mixture: Mixture) -> FloatTensor<Self> {
        Self::primitive(forward(&mixture, Self::tensor(x), Self::tensor(gates)).0)
    }
}

#[cfg(feature = "wgpu")]
impl Mix for burn_cubecl::CubeBackend {
    fn mix(x: FloatTensor<Self>, gates: FloatTensor<Self>, mixture: Mixture) -> FloatTensor<Self> {
        Self::primitive(forward(&mixture, Self::tensor(x), Self::tensor(gates)).0)
    }
}

impl<B: Kernels, C: CheckpointStrategy> Mix for Autodiff<B, C> {
    fn mix(x: FloatTensor<Self>, gates: FloatTensor<Self>, mixture: Mixture) -> FloatTensor<Self> {
        let prepared =
            MixBackward.prepare::<C>([x.node(), gates.node()]).compute_bound().stateful();
        let (x, gates) = (B::tensor(x.into_primitive()), B::tensor(gates.into_primitive()));
        let (output, products) = forward(&mixture, x, gates.clone());
        match prepared {
            OpsKind::Tracked(prepared) => {
                let state = State { mixture, gates, products };
                prepared.finish(state, B::primitive(output))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::primitive(output)),
        }
    }
}

#[derive(Debug)]
struct MixBackward;

/// What the backward needs of the forward.
#[derive(Debug, Clone)]
struct State {
    mixture: Mixture,
    /// `[tokens, top_k]`
    gates: Tensor<2>,
    /// Each expert's rows times its `gate_up`.
    products: Vec<Tensor<2>>,
}

impl<B: Kernels> Backward<B, 2> for MixBackward {
    type State = State;

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = B::tensor(grads.consume::<B>(&ops.node));
        let [d_x, d_gates] = backward::<B>(ops.state, grad);
        let [x, gates] = ops.parents;
        if let Some(x) = x {
            grads.register::<B>(x.id, B::primitive(d_x));
        }
        if let Some(gates) = gates {
            grads.register::<B>(gates.id, B::primitive(d_gates));
        }
    }
}

fn forward(mixture: &Mixture, x: Tensor<2>, gates: Tensor<2>) -> (Tensor<2>, Vec<Tensor<2>>) {
    let zeros = x.zeros_like();
    let rows = mixture.gather(x);
    let computed = mixture.each(|_, expert, range| {
        let product = rows.clone().slice(range).matmul(expert.gate_up.clone());
        let output = silu_mul(product.clone()).matmul(expert.down.clone());
        (product, output)
    });
    let (products, outputs) = computed.into_iter().unzip();
    let gated = Tensor::cat(outputs, 0) * mixture.gather_gates(gates);
    (mixture.scatter(gated, zeros), products)
}

fn backward<B: Kernels>(state: State, grad: Tensor<2>) -> [Tensor<2>; 2] {
    let State { mixture, gates, products } = state;
    let (zeros, shape) = (grad.zeros_like(), gates.dims());
    let (grad, gates) = (mixture.gather(grad), mixture.gather_gates(gates));
    let computed = mixture.each(|group, expert, range| {
        let product = products[group].clone();
        let u = grad.clone().slice(range.clone()).matmul(expert.down.clone().transpose());
        let d_gates = (u.clone() * silu_mul(product.clone())).sum_dim(1);
        let d_inner = u * gates.clone().slice(range);
        let d_product = B::tensor(B::backward(B::primitive(product), B::primitive(d_inner)));
        (d_product.matmul(expert.gate_up.clone().transpose()), d_gates)
    });
    let (d_rows, d_gates): (Vec<_>, Vec<_>) = computed.into_iter().unzip();
    let d_x = mixture.scatter(Tensor::cat(d_rows, 0), zeros);
    [d_x, scatter_gates(&mixture, Tensor::cat(d_gates, 0), shape)]
}

/// `[n_rows, 1]` → `[tokens, top_k]`, zero where there is no expert.
fn scatter_gates(mixture: &Mixture, rows: Tensor<2>, [tokens, top_k]: [usize; 2]) -> Tensor<2> {
    let zeros = Tensor::zeros([tokens * top_k, 1], &rows.device());
    let flat = zeros.select_assign(0, mixture.places.clone(), rows, IndexingUpdateOp::Add);
    flat.reshape([tokens, top_k])
}

pub(super) fn mix(x: Tensor<2>, gates: Tensor<2>, mixture: Mixture) -> Tensor<2> {
    let mixed = <Dispatch as Mix>::mix(x.into_dispatch(), gates.into_dispatch(), mixture);
    Tensor::from_dispatch(mixed)
}
