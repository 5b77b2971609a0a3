use std::collections::BTreeMap;

use burn::tensor::{Gradients as Tape, Tensor};
use litemoe_core::{Adapters, LanguageModel, Lora, Pass, RouterNoise, Sequence, Site, Stream};
use litemoe_kernels::cross_entropy;

use crate::AdapterError;
use crate::batch::{Batch, LOGITS_PER_CHUNK, check_rows};
use crate::evaluate::floats;
use crate::workers::Workers;

/// How a batch is split: micro-batches, threads, activation checkpointing. It affects only rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MicroBatch {
    /// Micro-batch: rows per forward and backward pass, at least 1; gradients are accumulated.
    pub rows: usize,
    /// Threads per micro-batch, at least 1, each with its own forward and backward pass. Small operations use one core,
    /// so two parallel passes are faster than two in sequence.
    pub threads: usize,
    /// Activation checkpointing: whether each block is recomputed in the backward pass instead of keeping its
    /// activations.
    pub recompute: bool,
}

/// Gradient of the loss with respect to one LoRA.
#[derive(Debug, Clone)]
pub struct Gradient {
    /// With respect to A, `[d_in, rank]`.
    pub a: Tensor<2>,
    /// With respect to B, `[rank, d_out]`.
    pub b: Tensor<2>,
}

/// Loss of a batch and its gradients with respect to every LoRA.
#[derive(Debug, Clone, Default)]
pub struct Gradients {
    /// Mean negative log-likelihood over all tokens in the loss of the batch, in nats.
    pub loss: f64,
    /// Gradients per site; zeros where no token was computed, e.g. at an expert without tokens.
    pub by_site: BTreeMap<Site, Gradient>,
}

impl Gradients {
    /// The first site whose sum of squared gradients, which AdamW accumulates, is not finite.
    pub(super) fn not_finite(&self) -> Option<&Site> {
        let squares = |matrix: &Tensor<2>| matrix.clone().square().sum();
        let of_sites = self.by_site.values().map(|Gradient { a, b }| squares(a) + squares(b));
        let of_sites: Vec<Tensor<1>> = of_sites.collect();
        if of_sites.is_empty() {
            return None;
        }
        let sums = floats(Tensor::cat(of_sites, 0));
        self.by_site.keys().zip(sums).find(|(_, sum)| !sum.is_finite()).map(|(site, _)| site)
    }

    fn add(&mut self, part: Self) {
        self.loss += part.loss;
        for (site, gradient) in part.by_site {
            self.add_at(site, gradient);
        }
    }

    fn add_at(&mut self, site: Site, part: Gradient) {
        let sum = match self.by_site.remove(&site) {
            Some(sum) => Gradient { a: sum.a + part.a, b: sum.b + part.b },
            None => part,
        };
        self.by_site.insert(site, sum);
    }
}

/// Gradients of a batch's loss with respect to the adapters, with gradient accumulation; the model's own weights get
/// none.
///
/// The loss is Σ −ln p over the tokens in the loss of the whole batch, divided by their number, however the batch is
/// split.
pub fn gradients<M: LanguageModel + Sync + ?Sized>(
    model: &M,
    adapters: &Adapters,
    rows: &[Sequence],
    micro: MicroBatch,
) -> Result<Gradients, AdapterError> {
    check_rows(model, "training", rows)?;
    let rows: Vec<_> = rows.iter().map(|row| Row { row, noise: None }).collect();
    Ok(batch_gradients(model, adapters, &rows, micro, &Workers::new(micro.threads)))
}

/// A row of a batch.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) row: &'a Sequence,
    /// Standard deviation and seed of its router noise.
    pub(super) noise: Option<(f32, u64)>,
}

/// As [`gradients`], for rows that are already checked.
pub(super) fn batch_gradients<M: LanguageModel + Sync + ?Sized>(
    model: &M,
    adapters: &Adapters,
    rows: &[Row<'_>],
    micro: MicroBatch,
    workers: &Workers,
) -> Gradients {
    let n_targets = rows.iter().map(|row| row.row.n_completion()).sum();
    let part = |rows: &[Row<'_>]| {
        let batch = Batch::new(rows.iter().map(|row| row.row));
        let back = BackwardPass {
            noise: noise(rows),
            ..BackwardPass::new(model, &batch, adapters, n_targets)
        };
        if micro.recompute { back.recomputed() } else { back.kept() }
    };
    let mut total = Gradients::default();
    for rows in rows.chunks(micro.rows.max(1)) {
        let parts: Vec<_> = rows.chunks(rows.len().div_ceil(micro.threads.max(1))).collect();
        workers.run(&parts, part).into_iter().for_each(|part| total.add(part));
    }
    for (site, lora) in adapters.loras() {
        let zeros = || Gradient { a: lora.a.zeros_like(), b: lora.b.zeros_like() };
        total.by_site.entry(site.clone()).or_insert_with(zeros);
    }
    total
}

fn noise(rows: &[Row<'_>]) -> Option<RouterNoise> {
    let (std, _) = rows.first()?.noise?;
    let seeds = rows.iter().filter_map(|row| row.noise).map(|(_, seed)| seed).collect();
    Some(RouterNoise { std, seeds })
}

/// Backward pass through a model for some rows.
struct BackwardPass<'a, M: ?Sized> {
    model: &'a M,
    batch: &'a Batch,
    /// The adapters without autodiff.
    plain: &'a Adapters,
    /// The same adapters as autodiff leaves.
    leaves: Adapters,
    /// Tokens in the loss of the whole batch.
    n_targets: usize,
    /// Router noise, identical whenever a block is recomputed.
    noise: Option<RouterNoise>,
    /// Number of logits that the loss computes at once.
    logits_per_chunk: usize,
    found: Gradients,
}

impl<'a, M: LanguageModel + ?Sized> BackwardPass<'a, M> {
    fn new(model: &'a M, batch: &'a Batch, plain: &'a Adapters, n_targets: usize) -> Self {
        let track = |(site, lora): (&Site, &Lora)| {
            let (a, b) = (leaf(lora.a.clone()), leaf(lora.b.clone()));
            (site.clone(), Lora { a, b, scale: lora.scale })
        };
        let leaves = plain.loras().map(track).collect();
        Self {
            model,
            batch,
            plain,
            leaves,
            n_targets,
            noise: None,
            logits_per_chunk: LOGITS_PER_CHUNK,
            found: Gradients::default(),
        }
    }

    fn pass<'p>(&'p self, adapters: &'p Adapters) -> Pass<'p> {
        Pass { router_noise: self.noise.as_ref(), ..Pass::adapted(adapters) }
    }

    /// Backward pass with one autodiff graph for the whole model: every block's activations are kept.
    fn kept(mut self) -> Gradients {
        let last = self.model.stream(&self.batch.input, &mut self.pass(&self.leaves));
        let loss = self.loss(last);
        self.backward(&loss);
        self.found
    }

    /// Backward pass with activation checkpointing: one autodiff graph per block. Only the blocks' inputs are kept, and
    /// each block is recomputed for its backward pass. The last block runs only once, since its backward pass comes
    /// first.
    fn recomputed(mut self) -> Gradients {
        let mut inputs = vec![self.model.embed(&self.batch.input)];
        for index in 1..self.model.n_blocks() {
            let (input, mut pass) = (inputs[index - 1].clone(), self.pass(self.plain));
            inputs.push(self.model.block(index - 1, input, &mut pass));
        }
        let mut gradient = None;
        while let Some(input) = inputs.pop() {
            gradient = self.block_back(inputs.len(), input, gradient);
        }
        self.found
    }

    /// Backward pass of block `index`; without `gradient`, it starts at the loss and includes the head. Returns the
    /// gradient with respect to the block's input, except for the first block, which does not need it.
    fn block_back(
        &mut self,
        index: usize,
        input: Stream,
        gradient: Option<Tensor<2>>,
    ) -> Option<Tensor<2>> {
        let Stream { hidden, packing } = input;
        let hidden = if index > 0 { leaf(hidden) } else { hidden };
        let stream = Stream { hidden: hidden.clone(), packing };
        let output = self.model.block(index, stream, &mut self.pass(&self.leaves));
        let loss = match gradient {
            Some(gradient) => (output.hidden * gradient).sum(),
            None => self.loss(output),
        };
        hidden.grad_remove(&mut self.backward(&loss)?)
    }

    /// These rows' part of the batch's loss, in chunks of tokens: the logits and their gradients are never there for all
    /// tokens. Runs the head's backward pass, and returns a tensor of which the gradient with respect to the hidden states
    /// is that of the loss.
    fn loss(&mut self, last: Stream) -> Tensor<1> {
        let hidden = last.select(&self.batch.positions);
        let targets = self.batch.target_indices(&self.model.device());
        let ([n, _], mut gradients) = (hidden.dims(), Vec::new());
        let per_chunk = (self.logits_per_chunk / self.model.vocab()).max(1);
        for start in (0..n).step_by(per_chunk) {
            let tokens = per_chunk.min(n - start);
            let input = leaf(hidden.clone().inner().narrow(0, start, tokens));
            let logits = self.model.head(input.clone(), &mut Pass::adapted(&self.leaves));
            let targets = targets.clone().narrow(0, start, tokens);
            let loss = cross_entropy(logits, targets).div_scalar(self.n_targets as f64);
            self.found.loss += f64::from(loss.clone().into_scalar::<f32>());
            let gradient = self.backward(&loss).and_then(|mut tape| input.grad_remove(&mut tape));
            gradients.push(gradient.unwrap_or_else(|| input.inner().zeros_like()));
        }
        if gradients.is_empty() {
            return Tensor::zeros([1], &self.model.device());
        }
        (hidden * Tensor::cat(gradients, 0)).sum()
    }

    /// Runs autodiff from `loss` and accumulates the adapters' gradients. `None` if the graph contains no adapter.
    fn backward(&mut self, loss: &Tensor<1>) -> Option<Tape> {
        let mut tape = loss.is_tracked().then(|| loss.backward())?;
        for (site, leaf) in self.leaves.loras() {
            if let (Some(a), Some(b)) =
                (leaf.a.grad_remove(&mut tape), leaf.b.grad_remove(&mut tape))
            {
                self.found.add_at(site.clone(), Gradient { a, b });
            }
        }
        Some(tape)
    }
}

fn leaf(tensor: Tensor<2>) -> Tensor<2> {
    tensor.autodiff().require_grad()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn::tensor::{Device, TensorData};
    use litemoe_core::MoeModel;
    use litemoe_model::{Checkpoint, Model};

    use super::*;
    use crate::{LoraOptions, init_lora};

    /// LoRAs on attention and experts, with random B.
    fn adapters(model: &Model) -> Adapters {
        let options = LoraOptions::default();
        let made = init_lora(model.linear_sites(), &options, 3, &Device::flex()).unwrap();
        let stirred = made.loras().zip(0..).map(|((site, lora), seed)| {
            let shape = lora.b.dims();
            let values = litemoe_fixtures::uniform(seed, shape.iter().product());
            let b = Tensor::from_data(TensorData::new(values, shape), &Device::flex());
            (site.clone(), Lora { b: b.mul_scalar(0.08), ..lora.clone() })
        });
        stirred.collect()
    }

    /// Rows of 10, 13 and 16 tokens, of which the last 7 are in the loss.
    fn rows() -> Vec<Sequence> {
        let row = |n: u32| Sequence {
            tokens: (0..n).map(|token| (7 * n + 31 * token) % 128).collect(),
            completion: (0..n).map(|token| token + 7 >= n).collect(),
            encoder: None,
        };
        [10, 13, 16].map(row).into()
    }

    #[test]
    fn the_loss_in_chunks_is_the_loss_at_once() {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/base");
        let model = Model::load(&Checkpoint::open(base).unwrap(), &Device::flex()).unwrap();
        let (adapters, rows) = (adapters(&model), rows());
        let batch = Batch::new(&rows);
        let of = |logits_per_chunk, recompute: bool| {
            let back = BackwardPass {
                logits_per_chunk,
                ..BackwardPass::new(&model, &batch, &adapters, batch.targets.len())
            };
            if recompute { back.recomputed() } else { back.kept() }
        };
        assert_eq!((batch.targets.len(), model.vocab()), (21, 128));
        for recompute in [false, true] {
            let whole = of(LOGITS_PER_CHUNK, recompute);
            assert!(whole.by_site.keys().any(|site| site.as_str().contains("experts")));
            assert!(whole.by_site.keys().any(|site| site.as_str().contains("self_attn")));
            // One token, 4 tokens and 1 left, 20 and 1, 7, and one more than there are.
            for tokens in [1, 4, 20, 7, 22] {
                let cut = of(tokens * 128 + 5, recompute);
                assert!((cut.loss - whole.loss).abs() <= 1e-6 * whole.loss, "{tokens}");
                assert_eq!(cut.by_site.len(), whole.by_site.len());
                for (site, whole) in &whole.by_site {
                    let cut = &cut.by_site[site];
                    for (whole, cut) in [(&whole.a, &cut.a), (&whole.b, &cut.b)] {
                        let unit = whole.clone().abs().max().into_scalar::<f32>();
                        let far = (whole.clone() - cut.clone()).abs().max().into_scalar::<f32>();
                        assert!(
                            far <= 1e-5 * unit && unit > 0.,
                            "{tokens} {site}: {far} of {unit}"
                        );
                    }
                }
            }
        }
    }
}
