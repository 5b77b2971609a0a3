// The macro generates items as public as the trait; none is visible outside this crate.
#![allow(missing_docs)]

use std::ops::Range;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

use super::span::AttentionSpan;
use crate::primitive::AsPrimitive;

/// Texts that attend to themselves.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    /// Tokens of each text.
    pub(super) rows: Vec<Range<usize>>,
    pub(super) n_kv_heads: usize,
    pub(super) span: AttentionSpan,
    /// Attention sink of each head.
    pub(super) sinks: Option<Vec<f32>>,
}

/// Queries, keys and values of packed tokens, `[tokens, heads * width]` each.
#[derive(Debug, Clone)]
pub(super) struct Inputs<T> {
    pub(super) queries: T,
    pub(super) keys: T,
    pub(super) values: T,
}

/// Kernels of one backend, in f32.
pub(super) trait Kernels: AsPrimitive {
    /// Output, and the logarithms of the softmax's denominators, `[tokens, n_heads]`, if they are wanted.
    fn forward(
        inputs: Inputs<FloatTensor<Self>>,
        texts: &Texts,
        log_sums: bool,
    ) -> (FloatTensor<Self>, Vec<f32>);

    /// Gradients of queries, keys and values, from the output and its gradient.
    fn backward(
        inputs: Inputs<FloatTensor<Self>>,
        output: FloatTensor<Self>,
        log_sums: &[f32],
        grad: FloatTensor<Self>,
        texts: &Texts,
    ) -> [FloatTensor<Self>; 3];
}

/// Custom operation: self-attention. Autodiff keeps the inputs, the output and one number per query and head; the
/// backward pass computes the weights again.
#[backend_extension(Autodiff, Flex: cfg(feature = "flex"))]
pub(super) trait SelfAttention: Backend {
    fn self_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        texts: Texts,
    ) -> FloatTensor<Self>;
}

impl SelfAttention for burn_flex::Flex {
    fn self_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        texts: Texts,
    ) -> FloatTensor<Self> {
        Self::forward(Inputs { queries, keys, values }, &texts, false).0
    }
}

impl<B: Kernels, C: CheckpointStrategy> SelfAttention for Autodiff<B, C> {
    fn self_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        texts: Texts,
    ) -> FloatTensor<Self> {
        let prepared = SelfAttentionBackward
            .prepare::<C>([queries.node(), keys.node(), values.node()])
            .compute_bound()
            .stateful();
        let [queries, keys, values] = [queries, keys, values].map(|it| it.into_primitive());
        let inputs = Inputs { queries, keys, values };
        match prepared {
            OpsKind::Tracked(prepared) => {
                let (output, log_sums) = B::forward(inputs.clone(), &texts, true);
                prepared.finish(State { inputs, output: output.clone(), log_sums, texts }, output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::forward(inputs, &texts, false).0),
        }
    }
}

#[derive(Debug)]
struct SelfAttentionBackward;

/// What the forward pass keeps.
#[derive(Debug, Clone)]
struct State<T> {
    inputs: Inputs<T>,
    output: T,
    log_sums: Vec<f32>,
    texts: Texts,
}

impl<B: Kernels> Backward<B, 3> for SelfAttentionBackward {
    type State = State<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let State { inputs, output, log_sums, texts } = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let found = B::backward(inputs, output, &log_sums, grad, &texts);
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

pub(super) fn self_attention(
    queries: Tensor<2>,
    keys: Tensor<2>,
    values: Tensor<2>,
    texts: Texts,
) -> Tensor<2> {
    let [queries, keys, values] = [queries, keys, values].map(Tensor::into_dispatch);
    let output = <Dispatch as SelfAttention>::self_attention(queries, keys, values, texts);
    Tensor::from_dispatch(output)
}
