use burn::tensor::Tensor;

/// Turns a stored `[out, in]` weight into a contiguous `[in, out]` one of the same dtype.
///
/// Goes through the host: a transposed view is 5–10 times slower in Flex's matrix product with few
/// rows, and no public operation of Burn promises to materialise one. `stored` is freed here unless
/// the caller keeps a clone.
pub(crate) fn transposed(stored: Tensor<2>) -> Tensor<2> {
    let (device, dtype) = (stored.device(), stored.dtype());
    Tensor::from_data(stored.transpose().into_data(), (&device, dtype))
}
