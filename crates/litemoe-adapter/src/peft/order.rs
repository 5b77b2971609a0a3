use litemoe_core::StackOrder;

/// How the two matrices of an update beside a stack lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// A `[experts · r, d_in]`, expert by expert; B `[d_out, r · experts]`, expert fastest.
    InOut,
    /// The same of the transposed weight: A `[experts · r, d_out]` and B `[d_in, r · experts]`.
    OutIn,
}

impl Order {
    /// As PEFT 0.21 has it. A stack of transposed matrices it takes for one of plain ones, unless the module says that they
    /// are transposed; Llama 4's, the one with gate before up, does not.
    pub(super) fn written(stack: StackOrder) -> Self {
        match stack {
            StackOrder::Rows | StackOrder::Interleaved => Self::InOut,
            StackOrder::Columns => Self::OutIn,
        }
    }

    /// What releases did: until 0.18 every stack was taken for one of transposed matrices. 0.19.0 asked the model, the wrong
    /// way round at first; development versions may be on either side.
    pub(super) fn by_version(version: &str, held: StackOrder) -> Option<Self> {
        let numbers: Result<Vec<u32>, _> = version.split('.').map(str::parse).collect();
        match numbers.ok()?[..] {
            [0, 17 | 18, _] if held == StackOrder::Rows => Some(Self::OutIn),
            [0, 17 | 18, _] => Some(Self::InOut),
            [0, 19, 0] | [0, 0..17, ..] => None,
            [_, _, _] => Some(Self::written(held)),
            _ => None,
        }
    }
}
