//! Conversions between Burn's tensors and the primitives of one backend; device queries.

#[cfg(any(feature = "flex", feature = "wgpu"))]
use burn::backend::{
    Backend, BackendTensor, DispatchDevice, DispatchKindConversion, DispatchTensor,
    tensor::FloatTensor,
};
use burn::tensor::Device;
#[cfg(any(feature = "flex", feature = "wgpu"))]
use burn::tensor::Tensor;

/// Backend whose primitives convert to tensors and back, without autodiff.
///
/// A hand-written backward pass combines ordinary tensors with kernels of the backend.
#[cfg(any(feature = "flex", feature = "wgpu"))]
pub(crate) trait AsPrimitive: Backend {
    /// Wraps a primitive as a tensor.
    fn tensor(primitive: FloatTensor<Self>) -> Tensor<2>;

    /// Unwraps a tensor's primitive.
    ///
    /// # Panics
    /// When the tensor is tracked by autodiff or on another backend.
    fn primitive(tensor: Tensor<2>) -> FloatTensor<Self>;
}

#[cfg(any(feature = "flex", feature = "wgpu"))]
impl<B: Backend> AsPrimitive for B
where
    DispatchTensor: DispatchKindConversion<B>,
{
    fn tensor(primitive: FloatTensor<Self>) -> Tensor<2> {
        Tensor::from_dispatch(DispatchTensor::from_backend(BackendTensor::Float(primitive)))
    }

    fn primitive(tensor: Tensor<2>) -> FloatTensor<Self> {
        let tensor = DispatchTensor::try_into_backend(tensor.into_dispatch());
        tensor.expect("an untracked tensor of this backend").float()
    }
}

/// Whether the crate is built with kernels for the device.
#[cfg(any(feature = "flex", feature = "wgpu"))]
pub(crate) fn has_kernels(device: &Device) -> bool {
    match device.clone().without_autodiff().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "wgpu")]
        DispatchDevice::Cube(_) => true,
        #[allow(unreachable_patterns)] // which devices exist depends on the build
        _ => false,
    }
}

/// Whether the device is host memory, where many threads may compute at once.
pub(crate) fn is_host(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    return matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_));
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}

/// Copies the tensor unless its elements are already contiguous.
#[cfg(feature = "flex")]
pub(crate) fn contiguous(tensor: burn_flex::FlexTensor) -> burn_flex::FlexTensor {
    if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() }
}

/// Elements of a contiguous f32 tensor.
#[cfg(feature = "flex")]
pub(crate) fn values(tensor: &burn_flex::FlexTensor) -> &[f32] {
    tensor.as_slice().expect("a contiguous f32 tensor")
}
