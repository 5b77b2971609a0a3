use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::WeightDtype;

/// Weight in the checkpoint layout, `[d_out, d_in]`, whose rows are read when a packed weight is made of them, in any
/// order and by several threads: there is never a second copy of the weight.
pub trait StoredRows: Sync {
    /// `[d_out, d_in]`
    fn shape(&self) -> [usize; 2];

    /// Reads row `row` in f32 into `values`, `[d_in]`.
    fn read(&self, row: usize, values: &mut [f32]);

    /// Row `row` in little-endian bf16, `2 · d_in` bytes, if it is stored so and in memory; may hold values that are not finite.
    fn bf16(&self, row: usize) -> Option<&[u8]> {
        let _ = row;
        None
    }

    /// Row `row` in [blocks](crate::block_bytes) of a quantised format, the last padded with zeros, if it is stored so and in
    /// memory; may hold scales that are not finite.
    fn blocks(&self, row: usize, dtype: WeightDtype) -> Option<&[u8]> {
        let _ = (row, dtype);
        None
    }
}

/// All rows as a tensor `[d_out, d_in]`.
pub(crate) fn tensor(rows: &dyn StoredRows, device: &Device) -> Tensor<2> {
    let shape @ [d_out, d_in] = rows.shape();
    let mut values = vec![0f32; d_out * d_in];
    let all = values.chunks_exact_mut(d_in.max(1)).enumerate();
    all.for_each(|(row, values)| rows.read(row, values));
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Values in memory, row-major.
pub(crate) struct Values<'a> {
    values: &'a [f32],
    shape: [usize; 2],
}

impl<'a> Values<'a> {
    /// # Panics
    /// When the number of values is not that of the shape.
    pub(crate) fn new(values: &'a [f32], shape @ [d_out, d_in]: [usize; 2]) -> Self {
        assert_eq!(values.len(), d_out * d_in, "values of a matrix [{d_out}, {d_in}]");
        Self { values, shape }
    }
}

impl StoredRows for Values<'_> {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn read(&self, row: usize, values: &mut [f32]) {
        values.copy_from_slice(&self.values[row * self.shape[1]..][..self.shape[1]]);
    }
}

/// Two matrices of equal width, one above the other: gate and up.
pub(crate) struct Stacked<'a>(pub(crate) &'a dyn StoredRows, pub(crate) &'a dyn StoredRows);

impl StoredRows for Stacked<'_> {
    fn shape(&self) -> [usize; 2] {
        let ([first, d_in], [second, width]) = (self.0.shape(), self.1.shape());
        assert_eq!(d_in, width, "widths of stacked matrices");
        [first + second, d_in]
    }

    fn read(&self, row: usize, values: &mut [f32]) {
        match row.checked_sub(self.0.shape()[0]) {
            None => self.0.read(row, values),
            Some(row) => self.1.read(row, values),
        }
    }

    fn bf16(&self, row: usize) -> Option<&[u8]> {
        match row.checked_sub(self.0.shape()[0]) {
            None => self.0.bf16(row),
            Some(row) => self.1.bf16(row),
        }
    }
    fn blocks(&self, row: usize, dtype: WeightDtype) -> Option<&[u8]> {
        match row.checked_sub(self.0.shape()[0]) {
            None => self.0.blocks(row, dtype),
            Some(row) => self.1.blocks(row, dtype),
        }
    }
}
