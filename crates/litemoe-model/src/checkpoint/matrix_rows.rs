use std::sync::atomic::{AtomicBool, Ordering};

use litemoe_kernels::StoredRows;

use crate::ModelError;
use crate::checkpoint::stored::StoredTensor;

/// Rows of a stored matrix, to be packed: read from the file one by one where it has them, else from a copy.
pub(crate) enum MatrixRows<'a> {
    File(FileRows<'a>),
    Copied { values: Vec<f32>, shape: [usize; 2] },
}

/// Rows in a mapped file.
pub(crate) struct FileRows<'a> {
    stored: &'a StoredTensor,
    bytes: &'a [u8],
    shape: [usize; 2],
    /// Whether a value that was read is not finite.
    not_finite: AtomicBool,
}

impl<'a> MatrixRows<'a> {
    /// Rows of a stored matrix `[d_out, d_in]`.
    pub(crate) fn stored(stored: &'a StoredTensor) -> Self {
        let &[d_out, d_in] = &*stored.shape else {
            unreachable!("{} is a matrix: its shape was checked", stored.name)
        };
        let bytes = &stored.file.map.as_bytes()[stored.range.clone()];
        let (shape, not_finite) = ([d_out, d_in], AtomicBool::new(false));
        Self::File(FileRows { stored, bytes, shape, not_finite })
    }

    /// Releases the file's pages from memory, after all rows were read.
    ///
    /// # Errors
    /// When a value is not finite.
    pub(crate) fn finish(self) -> Result<(), ModelError> {
        match self {
            Self::File(rows) if rows.not_finite.load(Ordering::Relaxed) => rows.stored.check(),
            Self::File(FileRows { stored, .. }) => {
                stored.file.map.release(stored.range.clone());
                Ok(())
            }
            Self::Copied { .. } => Ok(()),
        }
    }
}

impl StoredRows for MatrixRows<'_> {
    fn shape(&self) -> [usize; 2] {
        match self {
            Self::File(rows) => rows.shape,
            Self::Copied { shape, .. } => *shape,
        }
    }

    fn read(&self, row: usize, values: &mut [f32]) {
        match self {
            Self::File(rows) => rows.read(row, values),
            Self::Copied { values: all, shape: [_, d_in] } => {
                values.copy_from_slice(&all[row * d_in..][..*d_in]);
            }
        }
    }
}

impl FileRows<'_> {
    fn read(&self, row: usize, values: &mut [f32]) {
        let width = self.shape[1] * self.stored.dtype.size();
        self.stored.dtype.decode_into(&self.bytes[row * width..][..width], values);
        // Any NaN or infinity makes the sum of `0 * x` NaN; unlike a search, it vectorises.
        if values.iter().map(|value| value * 0.).sum::<f32>().is_nan() {
            self.not_finite.store(true, Ordering::Relaxed);
        }
    }
}
