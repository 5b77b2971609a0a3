use burn::tensor::Tensor;

/// Transposes a stored `[out, in]` weight into a contiguous `[in, out]` one of the same dtype.
///
/// Copies through the host: with few rows, Flex's GEMM is 5–10 times slower on a transposed view, and no public Burn
/// operation guarantees to materialise one. Frees `stored` unless the caller keeps a clone.
pub(crate) fn transposed(stored: Tensor<2>) -> Tensor<2> {
    let (device, dtype) = (stored.device(), stored.dtype());
    Tensor::from_data(stored.transpose().into_data(), (&device, dtype))
}
