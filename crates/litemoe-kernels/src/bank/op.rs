use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{IndexingUpdateOp, Tensor};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use litemoe_core::{Adapter, Lora};

use super::adapters::ExpertAdapters;
use super::flat::{self, Layout};
use super::lora_backward;
use super::packed::PackedExpert;
use super::sorted_batch::SortedBatch;
use crate::primitive::AsPrimitive;
use crate::silu_mul::{Kernels, silu_mul};

/// Custom operation: mixture of gated experts with a hand-written backward pass.
///
/// With autodiff, each expert's slice of the rows would add a gradient of all rows, and its outputs would be kept for
/// the gates. The hand-written backward writes each row's gradient once and keeps only the products with `gate_up`:
/// with `u = ∂y·downᵀ`, the gate's gradient is `u·inner` and that of `inner` is `gate·u`; neither needs the outputs.
///
/// `low_rank` holds the LoRA matrices of the groups' experts, flattened by `layout`.
#[backend_extension(Autodiff, Flex: cfg(feature = "flex"), Cube: cfg(feature = "wgpu"))]
pub(super) trait Mix: Backend {
    fn mix(
        x: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        low_rank: FloatTensor<Self>,
        mixture: SortedBatch,
        layout: Layout,
    ) -> FloatTensor<Self>;
}

#[cfg(feature = "flex")]
impl Mix for burn_flex::Flex {
    fn mix(
        x: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        low_rank: FloatTensor<Self>,
        mixture: SortedBatch,
        layout: Layout,
    ) -> FloatTensor<Self> {
        let updates = layout.updates(&Self::tensor(low_rank));
        Self::primitive(forward(&mixture, &updates, Self::tensor(x), Self::tensor(gates)).0)
    }
}

#[cfg(feature = "wgpu")]
impl Mix for burn_cubecl::CubeBackend {
    fn mix(
        x: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        low_rank: FloatTensor<Self>,
        mixture: SortedBatch,
        layout: Layout,
    ) -> FloatTensor<Self> {
        let updates = layout.updates(&Self::tensor(low_rank));
        Self::primitive(forward(&mixture, &updates, Self::tensor(x), Self::tensor(gates)).0)
    }
}

impl<B: Kernels, C: CheckpointStrategy> Mix for Autodiff<B, C> {
    fn mix(
        x: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        low_rank: FloatTensor<Self>,
        mixture: SortedBatch,
        layout: Layout,
    ) -> FloatTensor<Self> {
        let prepared = MixBackward
            .prepare::<C>([x.node(), gates.node(), low_rank.node()])
            .compute_bound()
            .stateful();
        let [x, gates, low_rank] = [x, gates, low_rank].map(|it| B::tensor(it.into_primitive()));
        let updates = layout.updates(&low_rank);
        let (output, products) = forward(&mixture, &updates, x.clone(), gates.clone());
        match prepared {
            OpsKind::Tracked(prepared) => {
                let x = (!updates.is_empty()).then_some(x);
                let state = State { mixture, updates, x, gates, products };
                prepared.finish(state, B::primitive(output))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::primitive(output)),
        }
    }
}

#[derive(Debug)]
struct MixBackward;

/// Tensors saved by the forward pass.
#[derive(Debug, Clone)]
struct State {
    mixture: SortedBatch,
    /// Adapters of each group's expert; empty without adapters.
    updates: Vec<ExpertAdapters>,
    /// `[tokens, d_model]`; kept only for the gradients of the LoRA matrices.
    x: Option<Tensor<2>>,
    /// `[tokens, top_k]`
    gates: Tensor<2>,
    products: Products,
}

/// Products with `gate_up`, LoRA deltas included.
#[derive(Debug, Clone)]
enum Products {
    ByExpert(Vec<Tensor<2>>),
    /// Of all rows; from [`Fused`].
    #[cfg(feature = "flex")]
    Fused(Vec<f32>),
}

impl<B: Kernels> Backward<B, 3> for MixBackward {
    type State = State;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = B::tensor(grads.consume::<B>(&ops.node));
        let found = backward::<B>(ops.state, grad);
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(parent.id, B::primitive(gradient));
            }
        }
    }
}

fn forward(
    mixture: &SortedBatch,
    updates: &[ExpertAdapters],
    x: Tensor<2>,
    gates: Tensor<2>,
) -> (Tensor<2>, Products) {
    #[cfg(feature = "flex")]
    if let Some(fused) = mixture.fused(updates) {
        let (output, products) = fused.forward(x, gates);
        return (output, Products::Fused(products));
    }
    let zeros = x.zeros_like();
    let rows = mixture.gather(x);
    let computed = mixture.each(|group, expert, range| {
        let update = updates.get(group);
        let product = expert.gate_up(&rows.clone().slice(range), update);
        let output = expert.down(silu_mul(product.clone()), update);
        (product, output)
    });
    let (products, outputs) = computed.into_iter().unzip();
    let gated = Tensor::cat(outputs, 0) * mixture.gather_gates(gates);
    (mixture.scatter(gated, zeros), Products::ByExpert(products))
}

/// Gradients with respect to `x`, the gates, and the flat LoRA tensor if there is one.
fn backward<B: Kernels>(state: State, grad: Tensor<2>) -> [Option<Tensor<2>>; 3] {
    let State { mixture, updates, x, gates, products } = state;
    let products = match products {
        Products::ByExpert(products) => products,
        #[cfg(feature = "flex")]
        Products::Fused(products) => {
            let fused = mixture.fused(&updates).expect("the forward pass was fused");
            let [d_x, d_gates] = fused.backward(&products, gates, grad);
            return [Some(d_x), Some(d_gates), None];
        }
    };
    let (zeros, shape) = (grad.zeros_like(), gates.dims());
    let rows = x.map(|x| mixture.gather(x));
    let (grad, gates) = (mixture.gather(grad), mixture.gather_gates(gates));
    let computed = mixture.each(|group, expert, range| {
        let update = updates.get(group).zip(rows.as_ref());
        let rows = |all: &Tensor<2>| all.clone().slice(range.clone());
        ExpertBackward {
            expert,
            update: update.map(|(update, all)| (update, rows(all))),
            product: products[group].clone(),
            gates: rows(&gates),
            grad: rows(&grad),
        }
        .run::<B>()
    });
    let (mut d_rows, mut d_gates, mut d_updates) = (Vec::new(), Vec::new(), Vec::new());
    for found in computed {
        d_rows.push(found.rows);
        d_gates.push(found.gates);
        d_updates.extend(found.updates);
    }
    let d_x = mixture.scatter(Tensor::cat(d_rows, 0), zeros);
    let d_gates = scatter_gates(&mixture, Tensor::cat(d_gates, 0), shape);
    let d_updates = (!d_updates.is_empty()).then(|| flat::row(d_updates.into_iter()));
    [Some(d_x), Some(d_gates), d_updates]
}

/// Backward pass of one expert.
struct ExpertBackward<'a> {
    expert: &'a PackedExpert,
    /// Adapters of the expert, and its input rows, `[n, d_model]`.
    update: Option<(&'a ExpertAdapters, Tensor<2>)>,
    product: Tensor<2>,
    /// `[n, 1]`
    gates: Tensor<2>,
    /// Gradient of the gated outputs, `[n, d_model]`.
    grad: Tensor<2>,
}

/// Gradients of one expert: with respect to its rows, its gates, and its LoRA matrices in the order of the layout.
struct ExpertGradients {
    rows: Tensor<2>,
    gates: Tensor<2>,
    updates: Vec<Tensor<2>>,
}

impl ExpertBackward<'_> {
    fn run<B: Kernels>(self) -> ExpertGradients {
        let Self { expert, update, product, gates, grad } = self;
        let of = |part: fn(&ExpertAdapters) -> &Option<Adapter>| {
            update.as_ref().and_then(|(update, _)| part(update).as_ref()).map(Adapter::lora)
        };
        let (gate, up, down) = (of(|it| &it.gate), of(|it| &it.up), of(|it| &it.down));
        let inner = silu_mul(product.clone());
        let u = add_lora_input_gradient(down, &grad, expert.down.input_gradient(grad.clone()));
        let d_gates = (u.clone() * inner.clone()).sum_dim(1);
        let d_inner = B::primitive(u * gates.clone());
        let d_product = B::tensor(B::backward(B::primitive(product), d_inner));
        let d_rows = expert.gate_up.input_gradient(d_product.clone());
        let Some((_, rows)) = &update else {
            return ExpertGradients { rows: d_rows, gates: d_gates, updates: Vec::new() };
        };
        let [_, d_expert] = inner.dims();
        let d_gate = d_product.clone().narrow(1, 0, d_expert);
        let d_up = d_product.narrow(1, d_expert, d_expert);
        let d_rows =
            add_lora_input_gradient(up, &d_up, add_lora_input_gradient(gate, &d_gate, d_rows));
        let parts = [(gate, rows, d_gate), (up, rows, d_up), (down, &inner, grad * gates)];
        let gradients = parts
            .into_iter()
            .filter_map(|(part, x, grad)| Some(lora_backward::by_matrices(part?, x, grad)));
        ExpertGradients { rows: d_rows, gates: d_gates, updates: gradients.flatten().collect() }
    }
}

/// Adds the input gradient through a LoRA to that through its frozen matrix.
fn add_lora_input_gradient(update: Option<&Lora>, grad: &Tensor<2>, back: Tensor<2>) -> Tensor<2> {
    match update {
        Some(update) => back + lora_backward::by_input(update, grad.clone()),
        None => back,
    }
}

/// Scatters the rows' gate gradients: `[n_rows, 1]` → `[tokens, top_k]`; 0 in slots without an expert.
fn scatter_gates(mixture: &SortedBatch, rows: Tensor<2>, [tokens, top_k]: [usize; 2]) -> Tensor<2> {
    let zeros = Tensor::zeros([tokens * top_k, 1], &rows.device());
    let flat = zeros.select_assign(0, mixture.places.clone(), rows, IndexingUpdateOp::Add);
    flat.reshape([tokens, top_k])
}

/// Runs the custom operation; `updates` holds one entry per group, or none at all.
pub(super) fn mix(
    x: Tensor<2>,
    gates: Tensor<2>,
    mixture: SortedBatch,
    updates: &[ExpertAdapters],
) -> Tensor<2> {
    let layout = Layout::of(updates);
    let matrices =
        updates.iter().flat_map(ExpertAdapters::parts).flat_map(|part| [&part.a, &part.b]);
    let low_rank = match updates {
        [] => Tensor::zeros([1, 1], &mixture.device()),
        _ => flat::row(matrices.cloned()),
    };
    let [x, gates, low_rank] = [x, gates, low_rank].map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as Mix>::mix(x, gates, low_rank, mixture, layout))
}
