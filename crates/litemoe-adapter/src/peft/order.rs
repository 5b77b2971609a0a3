use litemoe_core::StackOrder;

/// Layout of A and B of a stack's LoRA in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// A `[experts · r, d_in]`, expert by expert; B `[d_out, r · experts]`, expert fastest.
    InOut,
    /// The same for the transposed weight: A `[experts · r, d_out]`, B `[d_in, r · experts]`.
    OutIn,
}

impl Order {
    /// Layout of PEFT 0.21. It treats a stack of transposed matrices as plain unless the module declares the
    /// transposition; Llama 4's (`Columns`, gate before up) does not.
    pub(super) fn written(stack: StackOrder) -> Self {
        match stack {
            StackOrder::Rows | StackOrder::Interleaved => Self::InOut,
            StackOrder::Columns => Self::OutIn,
        }
    }

    /// Layout by PEFT version, if the version determines it. Until 0.18 every stack was treated as transposed. 0.19.0
    /// asked the model, with the sense inverted at first; development versions may do either.
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
