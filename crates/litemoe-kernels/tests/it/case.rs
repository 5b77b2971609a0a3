//! Random inputs, and comparison.

use burn::tensor::{Device, Tensor, TensorData};
use proptest::collection::vec;
use proptest::prelude::*;

/// A matrix of moderate values.
pub(crate) fn matrix(rows: usize, columns: usize) -> impl Strategy<Value = TensorData> {
    matrix_of(rows, columns, -2f32..2.)
}

/// A matrix of given values.
pub(crate) fn matrix_of(
    rows: usize,
    columns: usize,
    values: impl Strategy<Value = f32>,
) -> impl Strategy<Value = TensorData> {
    vec(values, rows * columns).prop_map(move |values| TensorData::new(values, [rows, columns]))
}

/// The data as a constant.
pub(crate) fn constant(data: &TensorData) -> Tensor<2> {
    Tensor::from_data(data.clone(), &Device::flex())
}

/// The data as a leaf whose gradient is kept.
pub(crate) fn tracked(data: &TensorData) -> Tensor<2> {
    Tensor::from_data(data.clone(), &Device::flex().autodiff()).require_grad()
}

/// Fails when any element differs by more than `tolerance` times the largest magnitude, at least 1.
pub(crate) fn assert_close<const D: usize>(ours: Tensor<D>, reference: Tensor<D>, tolerance: f32) {
    assert_eq!(ours.dims(), reference.dims());
    let (ours, reference) = (floats(ours), floats(reference));
    let scale = reference.iter().fold(1f32, |scale, value| scale.max(value.abs()));
    for (at, (ours, reference)) in ours.iter().zip(&reference).enumerate() {
        let difference = (ours - reference).abs();
        assert!(difference <= tolerance * scale, "element {at}: {ours} is not {reference}");
    }
}

/// The elements on the host.
pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32 data")
}
