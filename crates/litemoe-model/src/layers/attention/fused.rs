use burn::tensor::{DType, Tensor};
use litemoe_core::CacheDtype;
use litemoe_kernels::{AttentionRow, attention, fuses_attention, self_attention};

use super::Attention;
use super::qkv::Qkv;
use crate::layers::context::LayerContext;
use crate::layers::kv_cache::BlockCache;

impl Attention {
    /// Causal self-attention by the kernels of litemoe-kernels; `None` where they have none. Padding gives zeros.
    ///
    /// # Shapes
    /// - output: `[rows * columns, n_heads * d_value]`
    pub(super) fn fused(
        &self,
        projected: &Qkv,
        context: LayerContext<'_>,
        caches: Option<&mut [&mut BlockCache]>,
    ) -> Option<Tensor<2>> {
        let queries = flat(&projected.q);
        let span = context.positions.span(self.windowed).filter(|_| fuses_attention(&queries))?;
        let sinks = self.sinks.clone().map(|sinks| sinks.flatten::<1>(0, 3).unsqueeze());
        let Qkv { q, k, v } = projected;
        let has_gradients = [q, k, v].iter().any(|it| it.device().is_autodiff());
        let Some(caches) = caches else {
            let columns = q.dims()[1];
            let text = |(row, len): (usize, &usize)| row * columns..row * columns + len;
            let texts = context.packing.row_lens().iter().enumerate().map(text).collect();
            let dtype = if has_gradients { CacheDtype::F32 } else { context.cache_dtype };
            let [keys, values] = [k, v].map(|it| rounded(flat(it), dtype));
            let inputs = [queries, keys, values];
            return Some(self_attention(inputs, texts, self.n_kv_heads, span, sinks));
        };
        if has_gradients {
            return None;
        }
        let starts = context.packing.starts().unwrap_or(&[]);
        let rows = caches.iter_mut().zip(context.packing.row_ranges()).zip(starts);
        let rows = rows.map(|((cache, tokens), &start)| {
            let Qkv { k, v, .. } = projected.columns(tokens.clone());
            AttentionRow { tokens, keys_values: cache.extend_blocks(start, k, v) }
        });
        let rows: Vec<AttentionRow<'_>> = rows.collect();
        Some(attention(queries, &rows, span, sinks))
    }
}

/// Values as a KV cache holds them.
fn rounded(x: Tensor<2>, dtype: CacheDtype) -> Tensor<2> {
    match dtype {
        CacheDtype::F32 => x,
        CacheDtype::Bf16 => x.cast(DType::BF16).cast(DType::F32),
    }
}

/// Heads of packed tokens side by side, `[rows * columns, heads * width]`.
fn flat(x: &Tensor<4>) -> Tensor<2> {
    let [rows, columns, heads, width] = x.dims();
    x.clone().reshape([rows * columns, heads * width])
}
