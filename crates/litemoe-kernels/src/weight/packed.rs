use std::ops::Range;
use std::sync::Arc;

use crate::matrix::{InstructionSet, Matrix, PackedFormat};
use crate::{RangeError, StoredRows};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Packed matrix with the device of its products.
#[derive(Debug, Clone)]
pub(crate) struct PackedWeight {
    matrix: Arc<Matrix>,
    device: Device,
}

impl PackedWeight {
    /// # Errors
    /// When the format cannot hold a value.
    pub(super) fn new(
        stored: &dyn StoredRows,
        format: PackedFormat,
        device: &Device,
    ) -> Result<Self, RangeError> {
        let matrix = Matrix::pack(InstructionSet::in_use(), format, stored)?;
        Ok(Self { matrix: Arc::new(matrix), device: device.clone() })
    }

    /// Product with rows `[n, d_in]`, row-major.
    pub(super) fn product(&self, x: &[f32]) -> Vec<f32> {
        self.matrix.product(InstructionSet::in_use(), x)
    }

    /// Gradient of the input.
    pub(super) fn input_gradient(&self, grad: Tensor<2>) -> Tensor<2> {
        let [n, _] = grad.dims();
        let grad = grad.into_data().convert::<f32>();
        let grad = grad.as_slice().expect("converted to f32");
        self.tensor(self.matrix.input_gradient(InstructionSet::in_use(), grad), n)
    }

    pub(super) fn stored_rows(&self, indices: Tensor<1, Int>) -> Tensor<2> {
        let indices: Vec<i64> = indices.into_data().iter().collect();
        let outputs = indices.iter().map(|&index| usize::try_from(index).expect("an index"));
        self.tensor(self.matrix.rows(outputs), indices.len())
    }

    pub(super) fn stored(&self) -> Tensor<2> {
        self.dequantised(0..self.d_out())
    }

    fn dequantised(&self, outputs: Range<usize>) -> Tensor<2> {
        let n = outputs.len();
        self.tensor(self.matrix.rows(outputs), n)
    }

    fn tensor(&self, values: Vec<f32>, n: usize) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, [n, self.d_in()]), &self.device)
    }

    pub(crate) fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    pub(super) fn d_in(&self) -> usize {
        self.matrix.d_in()
    }

    pub(super) fn d_out(&self) -> usize {
        self.matrix.d_out()
    }

    pub(super) fn device(&self) -> Device {
        self.device.clone()
    }
}
