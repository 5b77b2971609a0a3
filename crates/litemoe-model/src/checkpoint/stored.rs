use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use half::{bf16, f16};
use litemoe_files::MappedFile;
use safetensors::Dtype;

use crate::{ModelError, Origin};

/// The tensors of a checkpoint by name.
pub(crate) type StoredTensors = BTreeMap<Arc<str>, StoredTensor>;

/// Bytes of a file that are looked at together, a whole number of values of every format.
const WINDOW: usize = 4 << 20;

/// Values in a block of MXFP4 (OCP Microscaling Formats, v1.0): two to a byte, with one scale.
pub(crate) const MXFP4_BLOCK: usize = 32;

/// A number format of stored weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum StoredDtype {
    F32,
    Bf16,
    F16,
    /// Bytes that are no numbers by themselves.
    U8,
}

impl StoredDtype {
    pub(crate) fn from_safetensors(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::BF16 => Some(Self::Bf16),
            Dtype::F16 => Some(Self::F16),
            Dtype::U8 => Some(Self::U8),
            _ => None,
        }
    }

    /// Bytes of one value.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
            Self::U8 => 1,
        }
    }

    /// The name in safetensors headers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::U8 => "U8",
        }
    }

    /// Widens little-endian values and appends them.
    fn decode(self, bytes: &[u8], values: &mut Vec<f32>) {
        let mut halves = |widen: fn([u8; 2]) -> f32| {
            values.extend(bytes.as_chunks::<2>().0.iter().map(|&half| widen(half)));
        };
        match self {
            Self::F32 => {
                values.extend(bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)));
            }
            Self::Bf16 => halves(|half| bf16::from_le_bytes(half).to_f32()),
            Self::F16 => halves(|half| f16::from_le_bytes(half).to_f32()),
            Self::U8 => unreachable!("tensors of numbers were checked to be none of bytes"),
        }
    }

    /// Rounds values to nearest, ties to even, and appends them little-endian.
    /// False when a value is not finite in this format.
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
                Self::U8 => unreachable!("tensors of numbers were checked to be none of bytes"),
            }
        }
        finite
    }
}

impl From<StoredDtype> for Dtype {
    fn from(dtype: StoredDtype) -> Self {
        match dtype {
            StoredDtype::F32 => Self::F32,
            StoredDtype::Bf16 => Self::BF16,
            StoredDtype::F16 => Self::F16,
            StoredDtype::U8 => Self::U8,
        }
    }
}

/// A mapped weight file.
#[derive(Debug)]
pub(crate) struct WeightFile {
    pub(crate) path: PathBuf,
    pub(crate) map: MappedFile,
    pub(crate) origin: Option<Origin>,
}

/// A tensor as it lies in a mapped file, or a run of its rows; nothing is read before it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct StoredTensor {
    pub(crate) file: Arc<WeightFile>,
    pub(crate) name: Arc<str>,
    pub(crate) dtype: StoredDtype,
    pub(crate) shape: Vec<usize>,
    /// Where its bytes are in the file.
    pub(crate) range: Range<usize>,
}

impl StoredTensor {
    /// Passes the stored bytes on, a window after the other, each a whole number of values. A window leaves memory
    /// before the next is read, so that a file larger than memory can be gone through.
    pub(crate) fn read<E>(&self, mut window: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let map = &self.file.map;
        for start in self.range.clone().step_by(WINDOW) {
            let range = start..self.range.end.min(start + WINDOW);
            window(&map.as_bytes()[range.clone()])?;
            map.release(range);
        }
        Ok(())
    }

    /// The file it is in.
    pub(crate) fn path(&self) -> &Path {
        &self.file.path
    }

    /// The values in f32.
    ///
    /// # Errors
    /// When a value is not finite.
    pub(crate) fn values(&self) -> Result<Vec<f32>, ModelError> {
        let mut values = Vec::with_capacity(self.range.len() / self.dtype.size());
        let Ok(()) = self.read(|bytes| {
            self.dtype.decode(bytes, &mut values);
            Ok::<_, Infallible>(())
        });
        self.expect_finite(&values, 0)?;
        Ok(values)
    }

    /// Reads the values and keeps none.
    ///
    /// # Errors
    /// As [`Self::values`].
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let (mut values, mut first) = (Vec::new(), 0);
        self.read(|bytes| {
            values.clear();
            self.dtype.decode(bytes, &mut values);
            self.expect_finite(&values, first)?;
            first += values.len();
            Ok(())
        })
    }

    /// Refuses values, of which the first is the tensor's value `first`, that are not all finite.
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

    /// The bytes as they lie.
    pub(crate) fn raw_bytes(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.range.len());
        let Ok(()) = self.read(|bytes| {
            all.extend_from_slice(bytes);
            Ok::<_, Infallible>(())
        });
        all
    }

    /// The values on a device.
    ///
    /// # Errors
    /// As [`Self::values`].
    pub(crate) fn tensor<const D: usize>(&self, device: &Device) -> Result<Tensor<D>, ModelError> {
        let data = TensorData::new(self.values()?, self.shape.clone());
        Ok(Tensor::from_data(data, device))
    }

    /// What stands at an index of the first dimension.
    pub(crate) fn part(&self, index: usize) -> Self {
        let shape = self.shape[1..].to_vec();
        let bytes = shape.iter().product::<usize>() * self.dtype.size();
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

    /// Rows `rows` of matrix `index` of a stack of matrices `[n, rows, columns]`.
    pub(crate) fn rows_of(&self, index: usize, rows: Range<usize>) -> Self {
        let [_, n_rows, n_columns] = self.shape[..] else {
            unreachable!("{} is a stack of matrices: its shape was checked", self.name)
        };
        let first = index * n_rows;
        self.run_of_rows(first + rows.start..first + rows.end, n_columns)
    }

    /// Rows of `n_columns` values, counted over all matrices.
    fn run_of_rows(&self, rows: Range<usize>, n_columns: usize) -> Self {
        let row_bytes = n_columns * self.dtype.size();
        let at = |row| self.range.start + row * row_bytes;
        Self {
            shape: vec![rows.len(), n_columns],
            range: at(rows.start)..at(rows.end),
            ..self.clone()
        }
    }
}

/// The values of a block of MXFP4: 4-bit numbers (1 sign, 2 exponent and 1 mantissa bits), the low half of a byte before the
/// high one, times 2 to the scale less 127.
pub(crate) fn mxfp4(packed: [u8; MXFP4_BLOCK / 2], scale: u8) -> [bf16; MXFP4_BLOCK] {
    const MAGNITUDES: [f64; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    // Wide enough for the largest scale, which one half brings back into range.
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
