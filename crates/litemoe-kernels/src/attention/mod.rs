//! Scaled dot-product attention with an online softmax, on the CPU.
//!
//! `blocks` stores keys and values; `kernel` cuts the rows into tiles; `tile` and `backward` compute one, with the
//! products of `product` and the vector operations of `simd` per instruction set; `op` registers self-attention for
//! Burn's run-time dispatch. The plain operations, for other devices, are those of the models.

#[cfg(feature = "flex")]
mod backward;
#[cfg_attr(not(feature = "flex"), allow(dead_code))]
mod blocks;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod kernel;
#[cfg_attr(not(feature = "flex"), allow(dead_code))]
mod key_values;
#[cfg_attr(not(feature = "flex"), allow(dead_code))]
mod lanes;
#[cfg(feature = "flex")]
mod op;
#[cfg(feature = "flex")]
mod product;
mod row;
#[cfg(feature = "flex")]
mod simd;
mod span;
#[cfg(feature = "flex")]
mod tile;

use std::ops::Range;

use burn::tensor::{DType, Device, Tensor};

use crate::primitive::is_host;

pub use key_values::KeyValues;
pub use row::AttentionRow;
pub use span::AttentionSpan;

/// Whether a device has kernels of attention, and so [`KeyValues`]: the CPU.
pub fn has_attention_kernel(device: &Device) -> bool {
    is_host(device)
}

/// Whether [`self_attention`], and [`attention`] on a device without autodiff, have kernels for the queries: f32 on the
/// CPU.
pub fn fuses_attention(queries: &Tensor<2>) -> bool {
    has_attention_kernel(&queries.device()) && queries.dtype() == DType::F32
}

/// [`attention`] of texts to themselves, differentiable with respect to queries, keys and values, whose backward pass
/// has no matrix of scores either.
///
/// # Shapes
/// - `queries`, already scaled: `[tokens, n_heads * d_key]`
/// - `keys`: `[tokens, n_kv_heads * d_key]`
/// - `values`: `[tokens, n_kv_heads * d_value]`
/// - `texts`: the tokens of each text, in order
/// - `sinks`: `[1, n_heads]`
/// - output: `[tokens, n_heads * d_value]`
///
/// # Panics
/// When [`fuses_attention`] is false, texts overlap or are not in order, or shapes are not these.
pub fn self_attention(
    [queries, keys, values]: [Tensor<2>; 3],
    texts: Vec<Range<usize>>,
    n_kv_heads: usize,
    span: AttentionSpan,
    sinks: Option<Tensor<2>>,
) -> Tensor<2> {
    assert!(fuses_attention(&queries), "attention of other tensors than f32 on the CPU");
    #[cfg(feature = "flex")]
    {
        let values_of = |sinks: Tensor<2>| sinks.into_data().try_into_vec().expect("f32 sinks");
        let sinks = sinks.map(values_of);
        let texts = op::Texts { rows: texts, n_kv_heads, span, sinks };
        op::self_attention(queries, keys, values, texts)
    }
    #[cfg(not(feature = "flex"))]
    unreachable!("no kernel of {texts:?}, {n_kv_heads}, {span:?}, {sinks:?}, {keys:?}, {values:?}")
}

/// Causal scaled dot-product attention, `softmax(q·kᵀ)·v`, without the matrix of scores; grouped-query attention where
/// there are more query heads than key–value heads. A row's result depends neither on the other rows nor on the number
/// of threads.
///
/// `sinks` are logits per head in the softmax, without a value. Tokens of no row give zeros.
///
/// # Shapes
/// - `queries`, already scaled: `[tokens, n_heads * d_key]`
/// - `sinks`: `[1, n_heads]`
/// - output: `[tokens, n_heads * d_value]`
///
/// # Panics
/// When [`fuses_attention`] is false, the device has autodiff, rows overlap or are not in order, or shapes are not these.
pub fn attention(
    queries: Tensor<2>,
    rows: &[AttentionRow<'_>],
    span: AttentionSpan,
    sinks: Option<Tensor<2>>,
) -> Tensor<2> {
    assert!(fuses_attention(&queries), "attention of other tensors than f32 on the CPU");
    #[cfg(feature = "flex")]
    return flex::attention(queries, rows, span, sinks);
    #[cfg(not(feature = "flex"))]
    unreachable!("no kernel of {rows:?}, {span:?}, {sinks:?}")
}

impl KeyValues {
    /// Writes the keys and values of tokens after the first `held`, and drops those that were there.
    ///
    /// # Shapes
    /// - `keys`: `[tokens, n_kv_heads * d_key]`
    /// - `values`: `[tokens, n_kv_heads * d_value]`
    ///
    /// # Panics
    /// When there are fewer than `held` tokens, [`fuses_attention`] of the keys is false, or the device has autodiff.
    pub fn extend(&mut self, held: usize, keys: Tensor<2>, values: Tensor<2>) {
        #[cfg(feature = "flex")]
        flex::extend(self, held, keys, values);
        #[cfg(not(feature = "flex"))]
        unreachable!("no kernel: {held} tokens held, {:?} and {:?}", keys.dims(), values.dims())
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests;
