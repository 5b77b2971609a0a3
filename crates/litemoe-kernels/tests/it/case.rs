//! Random inputs, and comparison with tolerance.

use burn::tensor::{Device, Tensor, TensorData};
use proptest::collection::vec;
use proptest::prelude::*;

/// Matrix of moderate values.
pub(crate) fn matrix(rows: usize, columns: usize) -> impl Strategy<Value = TensorData> {
    matrix_of(rows, columns, -2f32..2.)
}

/// Matrix of values from a strategy.
pub(crate) fn matrix_of(
    rows: usize,
    columns: usize,
    values: impl Strategy<Value = f32>,
) -> impl Strategy<Value = TensorData> {
    vec(values, rows * columns).prop_map(move |values| TensorData::new(values, [rows, columns]))
}

/// The data as a constant tensor.
pub(crate) fn constant(data: &TensorData) -> Tensor<2> {
    Tensor::from_data(data.clone(), &Device::flex())
}

/// The data as a leaf that requires a gradient.
pub(crate) fn tracked(data: &TensorData) -> Tensor<2> {
    Tensor::from_data(data.clone(), &Device::flex().autodiff()).require_grad()
}

/// Magnitudes of the data's elements.
///
/// The rounding error of a sum of products is proportional to the sum of their magnitudes, even where the products
/// cancel: the result of a computation on the magnitudes of its inputs is its unit of error.
pub(crate) fn magnitudes(data: &TensorData) -> TensorData {
    constant(data).abs().into_data()
}

/// Asserts that each element differs by at most `tolerance` times that element of `unit`.
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

/// Copies the elements to the host.
pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32 data")
}
