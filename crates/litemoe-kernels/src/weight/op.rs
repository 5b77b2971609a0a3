// The macro generates items as public as the trait; none is visible outside this crate.
#![allow(missing_docs)]

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Bytes, DType, Shape, Tensor};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn_flex::{Flex, FlexTensor, Layout};

use super::packed::PackedWeight;
use crate::primitive::AsPrimitive;

/// Custom operation: product with a packed weight, `x·W`.
#[backend_extension(Autodiff, Flex: cfg(feature = "flex"))]
pub(super) trait PackedProduct: Backend {
    fn packed_product(x: FloatTensor<Self>, weight: PackedWeight) -> FloatTensor<Self>;
}

impl PackedProduct for Flex {
    fn packed_product(x: FlexTensor, weight: PackedWeight) -> FlexTensor {
        let [n, _] = x.shape().dims();
        let x = if x.as_slice::<f32>().is_some() { x } else { x.to_contiguous() };
        let product = weight.product(x.as_slice().expect("a contiguous f32 tensor"));
        let layout = Layout::contiguous(Shape::new([n, weight.d_out()]));
        FlexTensor::new(Bytes::from_elems(product), layout, DType::F32)
    }
}

impl<B: AsPrimitive + PackedProduct, C: CheckpointStrategy> PackedProduct for Autodiff<B, C> {
    fn packed_product(x: FloatTensor<Self>, weight: PackedWeight) -> FloatTensor<Self> {
        let prepared = PackedProductBackward.prepare::<C>([x.node()]).compute_bound().stateful();
        let product = B::packed_product(x.into_primitive(), weight.clone());
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(weight, product),
            OpsKind::UnTracked(prepared) => prepared.finish(product),
        }
    }
}

#[derive(Debug)]
struct PackedProductBackward;

impl<B: AsPrimitive> Backward<B, 1> for PackedProductBackward {
    type State = PackedWeight;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let weight = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            B::primitive(weight.input_gradient(B::tensor(grad)))
        });
    }
}

pub(super) fn product(x: Tensor<2>, weight: PackedWeight) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as PackedProduct>::packed_product(x.into_dispatch(), weight))
}
