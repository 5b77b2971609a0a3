use litemoe_core::WeightDtype;
use litemoe_kernels::StoredRows;

use crate::checkpoint::stored::{StoredDtype, StoredTensor};

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
}

impl<'a> MatrixRows<'a> {
    /// Rows of a stored matrix `[d_out, d_in]`.
    pub(crate) fn stored(stored: &'a StoredTensor) -> Self {
        let &[d_out, d_in] = &*stored.shape else {
            unreachable!("{} is a matrix: its shape was checked", stored.name)
        };
        let bytes = &stored.file.map.as_bytes()[stored.range.clone()];
        Self::File(FileRows { stored, bytes, shape: [d_out, d_in] })
    }

    /// Releases the file's pages from memory, after all rows were read.
    pub(crate) fn release(self) {
        if let Self::File(FileRows { stored, .. }) = self {
            stored.file.map.release(stored.range.clone());
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
            Self::File(rows) => rows.stored.dtype.decode_into(rows.bytes(row), values),
            Self::Copied { values: all, shape: [_, d_in] } => {
                values.copy_from_slice(&all[row * d_in..][..*d_in]);
            }
        }
    }

    fn bf16(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::File(rows) if rows.stored.dtype == StoredDtype::Bf16 => Some(rows.bytes(row)),
            _ => None,
        }
    }

    fn blocks(&self, row: usize, dtype: WeightDtype) -> Option<&[u8]> {
        match self {
            Self::File(rows) => match rows.stored.dtype {
                StoredDtype::Blocks(blocks) if blocks.weights() == dtype => Some(rows.bytes(row)),
                _ => None,
            },
            Self::Copied { .. } => None,
        }
    }
}

impl FileRows<'_> {
    fn bytes(&self, row: usize) -> &[u8] {
        let width = self.stored.dtype.row_bytes(self.shape[1]);
        &self.bytes[row * width..][..width]
    }
}
