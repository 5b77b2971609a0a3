//! SparseMixer routing at inference: top-2 experts (GRIN: GRadient-INformed MoE, arXiv 2409.12136).

use burn::tensor::{Int, Tensor, activation};

/// SparseMixer: the best expert and the best of the others; each gate is a softmax over the experts close to it.
///
/// # Shapes
/// - `logits`: `[tokens, n_experts]`
/// - output: `[tokens, 2]` each
pub(crate) fn choose(logits: &Tensor<2>, jitter: f64) -> (Tensor<2, Int>, Tensor<2>) {
    let (first, first_gate) = best(logits.clone(), logits, jitter);
    let [tokens, _] = first.dims();
    let gone = Tensor::full([tokens, 1], f32::MIN, &logits.device());
    let taken =
        logits.zeros_like().scatter(1, first.clone(), gone, burn::tensor::IndexingUpdateOp::Add);
    let is_taken = taken.lower_elem(0.0);
    let others = logits.clone().mask_fill(is_taken, f32::MIN);
    let (second, second_gate) = best(others, logits, jitter);
    (Tensor::cat(vec![first, second], 1), Tensor::cat(vec![first_gate, second_gate], 1))
}

/// Argmax of `logits`, and its softmax over those at most `2 * jitter` below it, relatively, as measured on `all`
/// logits.
fn best(logits: Tensor<2>, all: &Tensor<2>, jitter: f64) -> (Tensor<2, Int>, Tensor<2>) {
    let (max, index) = logits.clone().detach().max_dim_with_indices(1);
    let all = all.clone().detach();
    let (max, wide) = (max.clone(), max.expand(all.dims()));
    let scale = all.clone().abs().max_pair(wide);
    let is_far = ((max - all) / scale).greater_elem(2.0 * jitter);
    let gates = activation::softmax(logits.mask_fill(is_far, f32::MIN), 1);
    (index.clone(), gates.gather(1, index))
}
