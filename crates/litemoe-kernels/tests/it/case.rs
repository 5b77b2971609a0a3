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

/// The magnitudes of the data's elements.
///
/// A sum of products is rounded in proportion to the sum of their magnitudes, however much of it
/// cancels: what a computation gives for the magnitudes of its inputs is the unit of its error.
pub(crate) fn magnitudes(data: &TensorData) -> TensorData {
    constant(data).abs().into_data()
}

/// Fails when an element differs by more than `tolerance` times that element of `unit`.
pub(crate) fn assert_close<const D: usize>(
    ours: Tensor<D>,
    reference: Tensor<D>,
    unit: Tensor<D>,
    tolerance: f32,
) {
    assert_eq!(ours.dims(), reference.dims());
    assert_eq!(ours.dims(), unit.dims());
    let (ours, reference, unit) = (floats(ours), floats(reference), floats(unit));
    for (at, ((ours, reference), unit)) in ours.iter().zip(&reference).zip(&unit).enumerate() {
        let difference = (ours - reference).abs();
        assert!(
            difference <= tolerance * unit,
            "element {at}: {ours} is not {reference}, and its unit is {unit}"
        );
    }
}

/// The elements on the host.
pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32 data")
}
