//! Between Burn's tensors and one backend's primitives, and what a device is.

#[cfg(any(feature = "flex", feature = "wgpu"))]
use burn::backend::{
    Backend, BackendTensor, DispatchDevice, DispatchKindConversion, DispatchTensor,
    tensor::FloatTensor,
};
use burn::tensor::Device;
#[cfg(any(feature = "flex", feature = "wgpu"))]
use burn::tensor::Tensor;

/// A backend whose primitives can be tensors again, without autodiff.
///
/// A hand-written backward composes ordinary tensors with kernels of the backend.
#[cfg(any(feature = "flex", feature = "wgpu"))]
pub(crate) trait AsPrimitive: Backend {
    /// The primitive as a tensor.
    fn tensor(primitive: FloatTensor<Self>) -> Tensor<2>;

    /// The tensor's primitive.
    ///
    /// # Panics
    /// When the tensor is tracked or lives on another backend.
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

/// Whether the crate was built with kernels for the device.
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

/// Whether the device is this process's own memory, where many threads may compute at once.
pub(crate) fn is_host(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    return matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_));
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}
