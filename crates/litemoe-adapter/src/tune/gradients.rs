use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::thread;

use burn::tensor::{Gradients as Tape, Tensor, activation::log_softmax};
use litemoe_core::{Adapters, LanguageModel, Lora, Pass, RouterNoise, Sequence, Site, Stream};

use crate::AdapterError;
use crate::batch::{Batch, check_rows};

/// How a batch is cut. Changes nothing but rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Micro {
    /// Rows in memory at once, at least 1: forward and backward run over so many, and gradients add up.
    pub rows: usize,
    /// Threads that share those rows, at least 1, each with a forward and backward of its own. Small operations run on
    /// one core, so two passes side by side are faster than one after the other.
    pub threads: usize,
    /// Whether each block is computed again in the backward pass instead of keeping its activations.
    pub recompute: bool,
}

/// The gradient of the loss by one update.
#[derive(Debug, Clone)]
pub struct Gradient {
    /// By A, `[d_in, rank]`.
    pub a: Tensor<2>,
    /// By B, `[rank, d_out]`.
    pub b: Tensor<2>,
}

/// A batch's loss and its gradients by every update.
#[derive(Debug, Clone, Default)]
pub struct Gradients {
    /// Mean −ln p over all tokens that the loss covers in the batch, in nats.
    pub loss: f64,
    /// By site: zeros at one that no token came by, as at an expert nobody was sent to.
    pub by_site: BTreeMap<Site, Gradient>,
}

impl Gradients {
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

/// The loss of a batch of rows and its gradients by the adapters; the model's own weights get none.
///
/// The loss is Σ −ln p over the covered tokens of the whole batch by their number, however it is cut.
///
/// # Errors
/// A row that the model cannot take, or no rows.
pub fn gradients<M: LanguageModel + Sync + ?Sized>(
    model: &M,
    adapters: &Adapters,
    rows: &[Sequence],
    micro: Micro,
) -> Result<Gradients, AdapterError> {
    check_rows(model, "training", rows)?;
    let rows: Vec<_> = rows.iter().map(|row| Row { row, noise: None }).collect();
    Ok(batch_gradients(model, adapters, &rows, micro))
}

/// A row of a batch.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) row: &'a Sequence,
    /// Deviation and seed of its router noise.
    pub(super) noise: Option<(f32, u64)>,
}

/// As [`gradients`], for rows that were checked before.
pub(super) fn batch_gradients<M: LanguageModel + Sync + ?Sized>(
    model: &M,
    adapters: &Adapters,
    rows: &[Row<'_>],
    micro: Micro,
) -> Gradients {
    let n_targets = rows.iter().map(|row| row.row.n_completion()).sum();
    let part = |rows: &[Row<'_>]| {
        let batch = Batch::new(rows.iter().map(|row| row.row));
        let back = Back { noise: noise(rows), ..Back::new(model, &batch, adapters, n_targets) };
        if micro.recompute { back.recomputed() } else { back.kept() }
    };
    let mut total = Gradients::default();
    for rows in rows.chunks(micro.rows.max(1)) {
        let parts: Vec<_> = rows.chunks(rows.len().div_ceil(micro.threads.max(1))).collect();
        side_by_side(&parts, part).into_iter().for_each(|part| total.add(part));
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

/// Runs each part on a thread of its own, the first on this one; results in order.
fn side_by_side<P: Copy + Send, T: Send>(parts: &[P], run: impl Fn(P) -> T + Sync) -> Vec<T> {
    let Some((&first, others)) = parts.split_first() else { return Vec::new() };
    thread::scope(|scope| {
        let run = &run;
        let spawn = |&part: &P| scope.spawn(move || run(part));
        let others: Vec<_> = others.iter().map(spawn).collect();
        let mut results = vec![run(first)];
        for other in others {
            results.push(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        results
    })
}

/// The way back through a model for some rows.
struct Back<'a, M: ?Sized> {
    model: &'a M,
    batch: &'a Batch,
    /// The updates without a tape.
    plain: &'a Adapters,
    /// The same updates as leaves of every tape.
    leaves: Adapters,
    /// Tokens the loss covers in the whole batch.
    n_targets: usize,
    /// The same whenever a block runs.
    noise: Option<RouterNoise>,
    found: Gradients,
}

impl<'a, M: LanguageModel + ?Sized> Back<'a, M> {
    fn new(model: &'a M, batch: &'a Batch, plain: &'a Adapters, n_targets: usize) -> Self {
        let track = |(site, lora): (&Site, &Lora)| {
            let (a, b) = (leaf(lora.a.clone()), leaf(lora.b.clone()));
            (site.clone(), Lora { a, b, scale: lora.scale })
        };
        let leaves = plain.loras().map(track).collect();
        let found = Gradients::default();
        Self { model, batch, plain, leaves, n_targets, noise: None, found }
    }

    fn pass<'p>(&'p self, adapters: &'p Adapters) -> Pass<'p> {
        Pass { router_noise: self.noise.as_ref(), ..Pass::adapted(adapters) }
    }

    /// One tape for the whole pass: every block's activations are kept.
    fn kept(mut self) -> Gradients {
        let last = self.model.stream(&self.batch.input, &mut self.pass(&self.leaves));
        let loss = self.loss(last);
        self.backward(&loss);
        self.found
    }

    /// One tape per block: only the blocks' inputs are kept, and each block runs again when its turn to go back comes.
    /// The last block needs no second run, since its turn comes at once.
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

    /// Goes back through block `index`, and before it from the loss through the head when there is no gradient yet. Gives
    /// the gradient by the block's input, but for the first block, where nothing asks for it.
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

    /// The rows' share of the batch's loss.
    fn loss(&mut self, last: Stream) -> Tensor<1> {
        let hidden = last.select(&self.batch.positions);
        let logits = self.model.head(hidden, &mut Pass::adapted(&self.leaves));
        let targets = self.batch.target_indices(&self.model.device());
        let nll = log_softmax(logits, 1).gather(1, targets).sum().neg();
        let loss = nll.div_scalar(self.n_targets as f64);
        self.found.loss += f64::from(loss.clone().into_scalar::<f32>());
        loss
    }

    /// Unrolls a tape and adds up what it says of the updates. There is none where no update was passed.
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
