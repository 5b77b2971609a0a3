//! The memory model: anonymous bytes of a process at its peak, as [`MemoryWatch`](crate::memory::MemoryWatch) measures them.
//!
//! Weights are in the format that they are loaded in, or streamed in f32; activations are f32. A forward pass holds one
//! block's activations: a few copies of the residual stream, and whatever is larger, the attention or the feed-forward
//! layer. Attention on the CPU is a kernel, which makes no matrix of scores. A backward pass holds what the autodiff graph
//! keeps of every operation in all blocks, and either a chunk of the loss or the gradients in one block. The program itself,
//! with the tokenizer, is measured in this process.

use litemoe_adapter::LOGITS_PER_CHUNK;
use litemoe_core::PREFILL_CHUNK;

use super::model_size::{BlockSize, ModelSize};
use super::rows::Batch;

/// Bytes per value.
const F32: f64 = 4.0;

/// Maximum values of attention scores that are computed at once.
const MAX_SCORES: f64 = (1 << 24) as f64;

/// Packed weights are in whole huge pages.
const HUGE_PAGE: u64 = 2 << 20;

/// What loading leaves in the heap, with the stacks of threads.
const STARTED: u64 = 1 << 19;

/// Memory of a process that runs a model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory<'a> {
    pub(crate) model: &'a ModelSize,
    /// Bytes of the program without a model.
    pub(crate) program: u64,
    /// Values of the adapter's matrices.
    pub(crate) adapter: f64,
}

/// What tuning does besides the forward pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TuneMemory {
    /// Rows of a micro-batch.
    pub(crate) batch: Batch,
    /// Parts of a micro-batch with a forward and backward pass each, at once.
    pub(crate) parts: usize,
    /// Whether activations are recomputed.
    pub(crate) recompute: bool,
}

impl Memory<'_> {
    /// Evaluation with all weights in memory; `batch` is what is computed at once.
    pub(crate) fn eval(&self, batch: Batch) -> u64 {
        self.loaded(self.adapter + self.forward(batch) + self.scored(batch))
    }

    /// Values of the logits of two batches at once, in chunks, and of a copy of them on the host.
    fn scored(&self, batch: Batch) -> f64 {
        let chunks = 2.0 * (LOGITS_PER_CHUNK as f64).max(self.model.vocab);
        2.0 * chunks.min(batch.targets * self.model.vocab)
    }

    /// As [`Self::eval`], for adapters of several scales: a scaled copy is in memory with the adapter.
    pub(crate) fn mount(&self, batch: Batch) -> u64 {
        self.eval(batch).saturating_add((F32 * self.adapter) as u64)
    }

    /// Scoring with streamed weights: one block, the hidden states of all `held` tokens, and one batch.
    pub(crate) fn score(&self, batch: Batch, held: f64) -> u64 {
        let hidden = held * self.model.d_model;
        self.bytes(self.model.largest_block() + hidden + self.forward(batch))
    }

    /// Planning and extraction without refit: a layer's experts, one at a time.
    pub(crate) fn extract(&self) -> u64 {
        self.bytes(3.0 * self.model.most(|block| block.expert))
    }

    /// Refit: one block, the hidden states of the rows in both models, the sums of a layer of `kept` experts in f64 and
    /// the factor that the solver makes of them, and the activations that are held for the layer's change.
    pub(crate) fn refit(&self, batch: Batch, held: f64, kept: f64, held_bytes: f64) -> u64 {
        let hidden = 2.0 * held * self.model.d_model;
        let neurons = |block: &BlockSize| kept.min(block.n_experts) * block.d_expert;
        let d_model = self.model.d_model;
        // In units of f32.
        let sums = self.model.most(|block| 2.0 * neurons(block) * neurons(block));
        let change = self.model.most(|block| 4.0 * neurons(block) * d_model);
        let inner = self.model.most(|block| held * block.top_k * block.d_expert);
        let held_inner = inner.min(held_bytes / F32);
        let solving = 2.0 * sums + change + held_inner;
        let running = self.model.largest_block() + self.forward(batch) + held_inner;
        self.bytes(hidden + solving.max(running + sums) + self.adapter)
    }

    /// Tuning: weights, optimizer, and the activations that the backward pass needs.
    pub(crate) fn tune(&self, tune: TuneMemory, validation: Batch) -> u64 {
        // The adapter now, at the start and at its best; gradients of two parts and their sum; two moments.
        let adapter = 8.0 * self.adapter;
        let TuneMemory { batch, parts, recompute } = tune;
        let kept: f64 = match recompute {
            false => self.model.blocks.iter().map(|block| self.kept(block, batch)).sum(),
            true => {
                let inputs = batch.tokens * self.model.d_model * self.model.blocks.len() as f64;
                inputs + self.model.most(|block| self.kept(block, batch))
            }
        };
        // Logits, their gradient in their place, and what the head's backward pass makes of it.
        let chunks = parts as f64 * (LOGITS_PER_CHUNK as f64).max(self.model.vocab);
        let logits = 2.5 * chunks.min(batch.targets * self.model.vocab);
        let back = self.model.most(|block| self.backward(block, batch));
        let validated = self.forward(validation) + self.scored(validation);
        self.loaded(adapter + (kept + logits.max(back)).max(validated))
    }

    /// Generation of one text of up to `context` tokens, whose prompt is prefilled in chunks.
    pub(crate) fn generate(&self, context: usize) -> u64 {
        let tokens = context.min(PREFILL_CHUNK) as f64;
        let chunk = Batch { tokens, squares: tokens * context as f64, targets: 1.0 };
        self.eval(chunk).saturating_add(self.model.cache(context))
    }

    /// A loaded model.
    pub(crate) fn weights(&self) -> u64 {
        self.loaded(0.0)
    }

    /// With all weights in memory.
    fn loaded(&self, values: f64) -> u64 {
        let weights = self.model.loaded();
        let resident = match self.model.packed {
            true => weights.checked_next_multiple_of(HUGE_PAGE).unwrap_or(weights),
            false => weights,
        };
        self.bytes(values).saturating_add(resident).saturating_add(STARTED)
    }

    fn bytes(&self, values: f64) -> u64 {
        self.program.saturating_add((F32 * values) as u64)
    }

    /// Values of the largest block's activations in a forward pass.
    fn forward(&self, batch: Batch) -> f64 {
        let ModelSize { d_model, d_queries, d_keys_values, packed, .. } = *self.model;
        let scores = self.scores(batch).min(MAX_SCORES);
        let stream = 5.0 * d_model * batch.tokens;
        let attention = (3.0 * d_queries + 2.0 * d_keys_values) * batch.tokens + 2.0 * scores;
        // Inputs and outputs of the experts; products with dense weights are copied once more, and gated.
        let copies = if packed { 2.0 } else { 4.0 };
        let feed_forward = self.model.most(|block| {
            let routed = block.top_k * (copies * d_model + 4.0 * block.d_expert);
            batch.tokens * (routed + 3.0 * block.n_experts + 3.0 * block.d_dense)
        });
        stream + attention.max(feed_forward)
    }

    /// Values that the autodiff graph keeps of a block.
    fn kept(&self, block: &BlockSize, batch: Batch) -> f64 {
        let ModelSize { d_model, d_queries, d_keys_values, .. } = *self.model;
        // Queries and keys before and after their norm and rotation; values; the output.
        let attention = 3.0 * d_queries + 1.5 * d_keys_values;
        // Of experts in one operation, only the products with gate and up.
        let expert = match block.fused_experts {
            true => 2.0 * block.d_expert,
            false => 2.0 * d_model + 6.0 * block.d_expert,
        };
        let routed = block.top_k * expert + 2.0 * block.n_experts;
        let per_token = 4.0 * d_model + attention + routed + 3.0 * block.d_dense;
        batch.tokens * per_token + self.scores(batch)
    }

    /// Values of the gradients in a block's backward pass.
    fn backward(&self, block: &BlockSize, batch: Batch) -> f64 {
        let ModelSize { d_model, d_queries, d_keys_values, .. } = *self.model;
        // With LoRAs on experts or dense weights; packed experts alone copy half as much.
        let routed = block.top_k * (4.0 * d_model + 4.0 * block.d_expert);
        let feed_forward = routed + 3.0 * block.n_experts + 3.0 * block.d_dense;
        let attention = 3.0 * d_queries + 2.0 * d_keys_values;
        let per_token = 3.0 * d_model + attention.max(feed_forward);
        batch.tokens * per_token + 2.0 * self.scores(batch)
    }

    /// Values of a block's attention scores, if they are in memory.
    fn scores(&self, batch: Batch) -> f64 {
        if self.model.fused_attention { 0.0 } else { self.model.n_heads * batch.squares }
    }
}
