use litemoe_core::WeightDtype;
use litemoe_kernels::block_bytes;

/// Quantised number format of stored weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockDtype {
    Q8,
    Q4,
}

impl BlockDtype {
    pub(crate) const ALL: [Self; 2] = [Self::Q8, Self::Q4];

    /// `None` for formats without blocks.
    pub(crate) fn of(dtype: WeightDtype) -> Option<Self> {
        Self::ALL.into_iter().find(|blocks| blocks.weights() == dtype)
    }

    /// The format in memory.
    pub(crate) fn weights(self) -> WeightDtype {
        match self {
            Self::Q8 => WeightDtype::Q8,
            Self::Q4 => WeightDtype::Q4,
        }
    }

    /// End of the names of its tensors in files, which hold bytes `[…, blocks, bytes of a block]`.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Q8 => "_q8_0",
            Self::Q4 => "_q4_0",
        }
    }

    /// Bytes of a block of 32 values.
    pub(crate) fn block_bytes(self) -> usize {
        block_bytes(self.weights()).expect("a format with blocks")
    }
}
