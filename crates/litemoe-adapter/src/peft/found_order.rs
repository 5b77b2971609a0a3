use std::path::Path;

use litemoe_core::StackOrder;

use super::config::LoraConfig;
use super::order::Order;
use super::stack::Stack;
use crate::AdapterError;
use crate::tensors::Matrices;

/// Layout of the stacks in a file, from the PEFT version that wrote it, or from the shapes. For stacks of transposed
/// matrices the shapes take precedence, because PEFT's layout then also depends on the transformers version.
///
/// # Errors
/// If neither determines the layout.
pub(super) fn order_of(
    path: &Path,
    config: &LoraConfig,
    stacks: &[Stack<'_>],
    matrices: &Matrices,
) -> Result<Order, AdapterError> {
    let version = config.peft_version.as_deref();
    let held = stacks.first().map_or(StackOrder::Rows, Stack::held);
    let by_version = || Order::by_version(version?, held);
    let by_shape = || stacks.iter().find_map(|stack| by_shape(stack, matrices));
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

fn by_shape(stack: &Stack<'_>, matrices: &Matrices) -> Option<Order> {
    let [name_a, _] = stack.tensor_names();
    let &[_, width] = matrices.shape(&name_a)? else { return None };
    let (d_in, d_out) = (stack.d_in(), stack.d_out());
    match width {
        _ if d_in == d_out => None,
        width if width == d_in => Some(Order::InOut),
        width if width == d_out => Some(Order::OutIn),
        _ => None,
    }
}
