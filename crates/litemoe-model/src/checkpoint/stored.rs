use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use half::{bf16, f16};
use litemoe_core::WeightDtype;
use litemoe_files::MappedFile;
use litemoe_kernels::{BLOCK_VALUES, dequantise};
use safetensors::Dtype;

use crate::checkpoint::block_dtype::BlockDtype;
use crate::{ModelError, Origin};

/// Tensors of a checkpoint by name.
pub(crate) type StoredTensors = BTreeMap<Arc<str>, StoredTensor>;

/// Size of a read window in bytes, a multiple of every value size.
const WINDOW: usize = 4 << 20;

/// Values per MXFP4 block (OCP Microscaling Formats, v1.0): two per byte, with one scale.
pub(crate) const MXFP4_BLOCK: usize = 32;

/// Number format of stored weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredDtype {
    F32,
    Bf16,
    F16,
    F64,
    /// Raw bytes: MXFP4 blocks and scales.
    U8,
    /// Blocks of 32 values of a row, see [`litemoe_kernels::block_bytes`].
    Blocks(BlockDtype),
    /// A format that no weight is read from; leftovers may have it.
    Other(Dtype),
}

impl StoredDtype {
    /// Whether weights are read from it.
    pub(crate) fn is_read(self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// Bytes per value, 1 in blocks; of other formats, whose values may be smaller than a byte, rounded up. Tensors are
    /// aligned to it.
    pub(crate) fn size(self) -> usize {
        Dtype::from(self).bitsize().div_ceil(8)
    }

    /// Bytes of a row; its last block is whole.
    pub(crate) fn row_bytes(self, n_columns: usize) -> usize {
        match self {
            Self::Blocks(blocks) => n_columns.div_ceil(BLOCK_VALUES) * blocks.block_bytes(),
            _ => n_columns * self.size(),
        }
    }

    /// The format of its values in a model that is written from them: bf16 for blocks.
    pub(crate) fn unquantised(self) -> Self {
        match self {
            Self::Blocks(_) => Self::Bf16,
            other => other,
        }
    }

    /// Name in safetensors headers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::F64 => "F64",
            Self::U8 => "U8",
            Self::Blocks(BlockDtype::Q8) => "Q8_0",
            Self::Blocks(BlockDtype::Q4) => "Q4_0",
            Self::Other(_) => "another",
        }
    }

    /// The narrowest format that holds the values of two.
    pub(crate) fn widest(self, other: Self) -> Self {
        match (self, other) {
            _ if self == other => self,
            (Self::F64, _) | (_, Self::F64) => Self::F64,
            _ => Self::F32,
        }
    }

    /// Converts little-endian values to f32: halves are widened, f64 is rounded to nearest, the blocks of a row are
    /// dequantised.
    pub(crate) fn decode_into(self, bytes: &[u8], values: &mut [f32]) {
        fn each<const N: usize>(bytes: &[u8], values: &mut [f32], widen: fn([u8; N]) -> f32) {
            let all = values.iter_mut().zip(bytes.as_chunks::<N>().0);
            all.for_each(|(value, &bytes)| *value = widen(bytes));
        }
        match self {
            Self::F32 => each(bytes, values, f32::from_le_bytes),
            Self::Bf16 => each(bytes, values, |half| bf16::from_le_bytes(half).to_f32()),
            Self::F16 => each(bytes, values, |half| f16::from_le_bytes(half).to_f32()),
            Self::F64 => each(bytes, values, |bytes| f64::from_le_bytes(bytes) as f32),
            Self::Blocks(blocks) => dequantise(blocks.weights(), bytes, values),
            Self::U8 | Self::Other(_) => {
                unreachable!("tensors of numbers were checked to be none of bytes")
            }
        }
    }

    /// Little-endian values in f64.
    pub(crate) fn widened(self, bytes: &[u8]) -> Vec<f64> {
        if self == Self::F64 {
            return bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
        }
        let mut values = vec![0.; bytes.len() / self.size()];
        self.decode_into(bytes, &mut values);
        values.into_iter().map(f64::from).collect()
    }

    /// The value in this format for an f64, by way of f32 unless the format is f64.
    pub(crate) fn rounded(self, value: f64) -> f64 {
        match self {
            Self::F64 => value,
            Self::Bf16 => bf16::from_f32(value as f32).to_f64(),
            Self::F16 => f16::from_f32(value as f32).to_f64(),
            Self::F32 | Self::U8 | Self::Blocks(_) | Self::Other(_) => f64::from(value as f32),
        }
    }

    /// As [`Self::encode`], for f64 values.
    #[must_use]
    pub(crate) fn encode_wide(self, values: &[f64], bytes: &mut Vec<u8>) -> bool {
        if self == Self::F64 {
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            return values.iter().all(|value| value.is_finite());
        }
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        self.encode(&values, bytes)
    }

    /// Rounds f32 values to this format (nearest, ties to even) and appends them little-endian. False when a value is
    /// not finite in it.
    #[must_use]
    pub(crate) fn encode(self, values: &[f32], bytes: &mut Vec<u8>) -> bool {
        bytes.reserve(values.len() * self.size());
        let mut finite = true;
        for &value in values {
            match self {
                Self::F32 => {
                    finite &= value.is_finite();
                    bytes.extend(value.to_le_bytes());
                }
                Self::Bf16 => {
                    let half = bf16::from_f32(value);
                    finite &= half.is_finite();
                    bytes.extend(half.to_le_bytes());
                }
                Self::F16 => {
                    let half = f16::from_f32(value);
                    finite &= half.is_finite();
                    bytes.extend(half.to_le_bytes());
                }
                Self::F64 => {
                    finite &= value.is_finite();
                    bytes.extend(f64::from(value).to_le_bytes());
                }
                Self::U8 | Self::Blocks(_) | Self::Other(_) => {
                    unreachable!("numbers are written, not bytes or blocks")
                }
            }
        }
        finite
    }
}

impl From<Dtype> for StoredDtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::BF16 => Self::Bf16,
            Dtype::F16 => Self::F16,
            Dtype::F64 => Self::F64,
            Dtype::U8 => Self::U8,
            other => Self::Other(other),
        }
    }
}

impl From<StoredDtype> for Dtype {
    fn from(dtype: StoredDtype) -> Self {
        match dtype {
            StoredDtype::F32 => Self::F32,
            StoredDtype::Bf16 => Self::BF16,
            StoredDtype::F16 => Self::F16,
            StoredDtype::F64 => Self::F64,
            StoredDtype::U8 | StoredDtype::Blocks(_) => Self::U8,
            StoredDtype::Other(dtype) => dtype,
        }
    }
}

/// Memory-mapped weight file.
#[derive(Debug)]
pub(crate) struct WeightFile {
    pub(crate) path: PathBuf,
    pub(crate) map: MappedFile,
    pub(crate) origin: Option<Origin>,
}

/// Tensor in a memory-mapped file, or a range of its rows. Read on use.
#[derive(Debug, Clone)]
pub(crate) struct StoredTensor {
    pub(crate) file: Arc<WeightFile>,
    pub(crate) name: Arc<str>,
    pub(crate) dtype: StoredDtype,
    pub(crate) shape: Vec<usize>,
    /// Byte range in the file.
    pub(crate) range: Range<usize>,
}

impl StoredTensor {
    /// Whether it is in blocks that hold rows of a shape.
    pub(crate) fn holds_blocks(&self, shape: &[usize]) -> bool {
        let padded = shape
            .split_last()
            .map(|(&inputs, outer)| [outer, &[inputs.next_multiple_of(BLOCK_VALUES)]].concat());
        matches!(self.dtype, StoredDtype::Blocks(_)) && padded.as_ref() == Some(&self.shape)
    }

    /// Columns of its rows.
    fn n_columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Reads the stored bytes in order, in windows of whole values, or of whole rows of blocks. Releases each window from
    /// memory before the next, so that a file larger than memory can be read.
    pub(crate) fn read<E>(&self, mut window: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let map = &self.file.map;
        let size = match self.dtype {
            StoredDtype::Blocks(_) => {
                let row = self.dtype.row_bytes(self.n_columns());
                (WINDOW / row).max(1) * row
            }
            _ => WINDOW,
        };
        for start in self.range.clone().step_by(size) {
            let range = start..self.range.end.min(start + size);
            window(&map.as_bytes()[range.clone()])?;
            map.release(range);
        }
        Ok(())
    }

    /// Converts what [`Self::read`] gives to f32 and appends it.
    fn decode(&self, bytes: &[u8], values: &mut Vec<f32>) {
        let start = values.len();
        if let StoredDtype::Blocks(_) = self.dtype {
            let n_columns = self.n_columns();
            let row_bytes = self.dtype.row_bytes(n_columns);
            values.resize(start + bytes.len() / row_bytes * n_columns, 0.);
            let rows = values[start..].chunks_exact_mut(n_columns);
            let all = rows.zip(bytes.chunks_exact(row_bytes));
            all.for_each(|(values, bytes)| self.dtype.decode_into(bytes, values));
        } else {
            values.resize(start + bytes.len() / self.dtype.size(), 0.);
            self.dtype.decode_into(bytes, &mut values[start..]);
        }
    }

    /// Path of its file.
    pub(crate) fn path(&self) -> &Path {
        &self.file.path
    }

    /// Values in f32.
    ///
    /// # Errors
    /// When a value is not finite.
    pub(crate) fn values(&self) -> Result<Vec<f32>, ModelError> {
        let mut values = Vec::with_capacity(self.shape.iter().product());
        let Ok(()) = self.read(|bytes| {
            self.decode(bytes, &mut values);
            Ok::<_, Infallible>(())
        });
        self.expect_finite(&values, 0)?;
        Ok(values)
    }

    /// Values in f64, without rounding.
    ///
    /// # Errors
    /// As [`Self::values`].
    pub(crate) fn wide_values(&self) -> Result<Vec<f64>, ModelError> {
        let values = match self.dtype {
            StoredDtype::Blocks(_) => self.values()?.into_iter().map(f64::from).collect(),
            dtype => dtype.widened(&self.raw_bytes()),
        };
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(ModelError::NotFinite {
                path: self.path().to_owned(),
                tensor: self.name.to_string(),
                index,
                value: values[index] as f32,
            }),
            None => Ok(values),
        }
    }

    /// Checks the values without keeping them.
    ///
    /// # Errors
    /// As [`Self::values`].
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let (mut values, mut first) = (Vec::new(), 0);
        self.read(|bytes| {
            values.clear();
            self.decode(bytes, &mut values);
            self.expect_finite(&values, first)?;
            first += values.len();
            Ok(())
        })
    }

    /// Refuses values that are not finite; `first` is the index of `values[0]` in the tensor.
    pub(crate) fn expect_finite(&self, values: &[f32], first: usize) -> Result<(), ModelError> {
        // Any NaN or infinity makes the sum of `0 * x` NaN; unlike a search, it vectorises.
        let probe: f32 =
            values.chunks(1024).map(|run| run.iter().map(|x| x * 0.0).sum::<f32>()).sum();
        match values.iter().position(|value| probe.is_nan() && !value.is_finite()) {
            Some(index) => Err(ModelError::NotFinite {
                path: self.path().to_owned(),
                tensor: self.name.to_string(),
                index: first + index,
                value: values[index],
            }),
            None => Ok(()),
        }
    }

    /// Error of a value that a packed format refused: not finite, or beyond its range.
    pub(crate) fn unfit(&self, dtype: WeightDtype) -> ModelError {
        if self.dtype != StoredDtype::U8
            && let Err(error) = self.check()
        {
            return error;
        }
        let (path, tensor) = (self.path().to_owned(), self.name.to_string());
        ModelError::OutOfRange { path, tensor, dtype }
    }

    /// Reads the values in order, in windows, in a format that is not quantised.
    ///
    /// # Errors
    /// When one is not finite in it; those of `window`.
    pub(crate) fn read_unquantised(
        &self,
        mut window: impl FnMut(&[u8]) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        let dtype = self.dtype.unquantised();
        if dtype == self.dtype {
            return self.read(window);
        }
        let (mut values, mut bytes, mut first) = (Vec::new(), Vec::new(), 0);
        self.read(|blocks| {
            values.clear();
            bytes.clear();
            self.decode(blocks, &mut values);
            if !dtype.encode(&values, &mut bytes) {
                self.expect_finite(&values, first)?;
                return Err(self.unfit(WeightDtype::Bf16));
            }
            first += values.len();
            window(&bytes)
        })
    }

    /// Stored bytes, not decoded.
    pub(crate) fn raw_bytes(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.range.len());
        let Ok(()) = self.read(|bytes| {
            all.extend_from_slice(bytes);
            Ok::<_, Infallible>(())
        });
        all
    }

    /// Whether another tensor has the same format, shape and bytes.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        let [ours, theirs] =
            [self, other].map(|tensor| &tensor.file.map.as_bytes()[tensor.range.clone()]);
        (self.dtype, &self.shape) == (other.dtype, &other.shape) && ours == theirs
    }

    /// Values on a device.
    ///
    /// # Errors
    /// As [`Self::values`].
    pub(crate) fn tensor<const D: usize>(&self, device: &Device) -> Result<Tensor<D>, ModelError> {
        let data = TensorData::new(self.values()?, self.shape.clone());
        Ok(Tensor::from_data(data, device))
    }

    /// Slice at an index of the first dimension.
    pub(crate) fn part(&self, index: usize) -> Self {
        let shape = self.shape[1..].to_vec();
        let (outer, n_columns) = match shape.split_last() {
            Some((&n_columns, outer)) => (outer.iter().product::<usize>(), n_columns),
            None => (1, 1),
        };
        let bytes = outer * self.dtype.row_bytes(n_columns);
        let start = self.range.start + index * bytes;
        Self { shape, range: start..start + bytes, ..self.clone() }
    }

    /// Rows of a matrix `[rows, columns]`.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Self {
        let [_, n_columns] = self.shape[..] else {
            unreachable!("{} is a matrix: its shape was checked", self.name)
        };
        self.run_of_rows(rows, n_columns)
    }

    /// Rows `rows` of matrix `index` in a fused tensor `[n, rows, columns]`.
    pub(crate) fn rows_of(&self, index: usize, rows: Range<usize>) -> Self {
        let [_, n_rows, n_columns] = self.shape[..] else {
            unreachable!("{} is a stack of matrices: its shape was checked", self.name)
        };
        let first = index * n_rows;
        self.run_of_rows(first + rows.start..first + rows.end, n_columns)
    }

    /// Rows of `n_columns` values, numbered across all matrices.
    pub(crate) fn run_of_rows(&self, rows: Range<usize>, n_columns: usize) -> Self {
        let row_bytes = self.dtype.row_bytes(n_columns);
        let at = |row| self.range.start + row * row_bytes;
        Self {
            shape: vec![rows.len(), n_columns],
            range: at(rows.start)..at(rows.end),
            ..self.clone()
        }
    }
}

/// Dequantises an MXFP4 block: 4-bit floats (1 sign, 2 exponent, 1 mantissa bits), low nibble first,
/// times `2^(scale - 127)`.
pub(crate) fn mxfp4(packed: [u8; MXFP4_BLOCK / 2], scale: u8) -> [bf16; MXFP4_BLOCK] {
    const MAGNITUDES: [f64; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    // f64: the largest scale overflows f32, half of it does not.
    let factor = f64::powi(2.0, i32::from(scale) - 127);
    std::array::from_fn(|i| {
        let half = packed[i / 2] >> (4 * (i % 2)) & 0xf;
        let magnitude = MAGNITUDES[usize::from(half & 7)];
        bf16::from_f64(if half < 8 { magnitude } else { -magnitude } * factor)
    })
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn mxfp4_is_the_references_to_the_last_bit() {
        let bytes = std::fs::read(litemoe_fixtures::tiny_dir().with_file_name("mxfp4.safetensors"));
        let bytes = bytes.unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let part = |name: &str| file.tensor(name).unwrap().data().to_vec();
        let (blocks, scales, values) = (part("blocks"), part("scales"), part("values"));
        let expected = values.as_chunks::<2>().0.iter().map(|&half| bf16::from_le_bytes(half));
        let (blocks, _) = blocks.as_chunks();
        let found = blocks.iter().zip(scales).flat_map(|(&packed, scale)| mxfp4(packed, scale));
        let mut n_finite = 0;
        for (index, (found, expected)) in found.zip(expected).enumerate() {
            assert_eq!(found.to_bits(), expected.to_bits(), "{index}: {found}, not {expected}");
            n_finite += usize::from(found.is_finite());
        }
        assert!((254 * MXFP4_BLOCK..256 * MXFP4_BLOCK).contains(&n_finite), "{n_finite}");
    }
}
