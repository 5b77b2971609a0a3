// The macro generates items as public as the trait; none is visible outside this crate.
#![allow(missing_docs)]

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind, unary};

use crate::primitive::AsPrimitive;

/// Kernels of one backend, in f32.
pub(super) trait Kernels: AsPrimitive {
    /// The sum, `[1, 1]`, and the logarithms of the softmax's denominators, `[n]`.
    fn forward(logits: FloatTensor<Self>, targets: &[usize]) -> (FloatTensor<Self>, Vec<f32>);

    /// Gradient of the logits, from that of the sum.
    fn backward(
        logits: FloatTensor<Self>,
        log_sums: &[f32],
        targets: &[usize],
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// Custom operation: cross-entropy. Autodiff keeps the logits and a number per row.
#[backend_extension(Autodiff, Flex: cfg(feature = "flex"))]
pub(super) trait CrossEntropy: Backend {
    fn cross_entropy(logits: FloatTensor<Self>, targets: Arc<[usize]>) -> FloatTensor<Self>;
}

impl CrossEntropy for burn_flex::Flex {
    fn cross_entropy(logits: FloatTensor<Self>, targets: Arc<[usize]>) -> FloatTensor<Self> {
        Self::forward(logits, &targets).0
    }
}

impl<B: Kernels, C: CheckpointStrategy> CrossEntropy for Autodiff<B, C> {
    fn cross_entropy(logits: FloatTensor<Self>, targets: Arc<[usize]>) -> FloatTensor<Self> {
        let prepared =
            CrossEntropyBackward.prepare::<C>([logits.node()]).compute_bound().stateful();
        let logits = logits.into_primitive();
        match prepared {
            OpsKind::Tracked(prepared) => {
                let (sum, log_sums) = B::forward(logits.clone(), &targets);
                prepared.finish(State { logits, log_sums, targets }, sum)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::forward(logits, &targets).0),
        }
    }
}

#[derive(Debug)]
struct CrossEntropyBackward;

/// What the forward pass keeps.
#[derive(Debug, Clone)]
struct State<T> {
    logits: T,
    log_sums: Vec<f32>,
    targets: Arc<[usize]>,
}

impl<B: Kernels> Backward<B, 1> for CrossEntropyBackward {
    type State = State<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let State { logits, log_sums, targets } = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            B::backward(logits, &log_sums, &targets, grad)
        });
    }
}

pub(super) fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let [_, vocab] = logits.dims();
    let targets = targets.into_data();
    let targets = targets.iter::<i64>().map(|target| match usize::try_from(target) {
        Ok(target) if target < vocab => target,
        _ => panic!("target {target} of {vocab} logits"),
    });
    let logits = logits.into_dispatch();
    let sum = <Dispatch as CrossEntropy>::cross_entropy(logits, targets.collect());
    Tensor::<2>::from_dispatch(sum).reshape([1])
}
