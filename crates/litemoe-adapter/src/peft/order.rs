use std::path::Path;

use litemoe_core::StackOrder;

use super::config::LoraConfig;
use super::stack::Stack;
use crate::AdapterError;
use crate::tensors::Matrices;

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

    /// What the PEFT that wrote a file says, or the shapes of its stacks. Of stacks of transposed matrices the shapes come
    /// first: what PEFT makes of those depends on the transformers beside it too.
    ///
    /// # Errors
    /// When neither does.
    pub(super) fn of(
        path: &Path,
        config: &LoraConfig,
        stacks: &[Stack<'_>],
        matrices: &Matrices,
    ) -> Result<Self, AdapterError> {
        let version = config.peft_version.as_deref();
        let held = stacks.first().map_or(StackOrder::Rows, Stack::held);
        let by_version = || Self::by_version(version?, held);
        let by_shape = || stacks.iter().find_map(|stack| Self::by_shape(stack, matrices));
        let found = match held {
            StackOrder::Rows => by_version().or_else(by_shape),
            StackOrder::Columns | StackOrder::Interleaved => by_shape().or_else(by_version),
        };
        found.ok_or_else(|| AdapterError::Unsupported {
            path: path.to_owned(),
            key: "peft_version".to_owned(),
            found: version.unwrap_or("missing").to_owned(),
            expected:
                "experts in stacks lie otherwise since PEFT 0.19.1, and these shapes do not say how"
                    .to_owned(),
        })
    }

    /// What releases did: until 0.18 every stack was taken for one of transposed matrices. 0.19.0 asked the model, the wrong
    /// way round at first; development versions may be on either side.
    fn by_version(version: &str, held: StackOrder) -> Option<Self> {
        let numbers: Result<Vec<u32>, _> = version.split('.').map(str::parse).collect();
        match numbers.ok()?[..] {
            [0, 17 | 18, _] if held == StackOrder::Rows => Some(Self::OutIn),
            [0, 17 | 18, _] => Some(Self::InOut),
            [0, 19, 0] | [0, ..17, ..] => None,
            [_, _, _] => Some(Self::written(held)),
            _ => None,
        }
    }

    fn by_shape(stack: &Stack<'_>, matrices: &Matrices) -> Option<Self> {
        let [name_a, _] = stack.tensor_names();
        let &[_, width] = matrices.shape(&name_a)? else { return None };
        let (d_in, d_out) = (stack.d_in(), stack.d_out());
        match width {
            _ if d_in == d_out => None,
            width if width == d_in => Some(Self::InOut),
            width if width == d_out => Some(Self::OutIn),
            _ => None,
        }
    }
}
