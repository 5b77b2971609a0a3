use std::collections::BTreeMap;

use burn::tensor::{Gradients as Tape, Tensor, activation::log_softmax};
use litemoe_core::{Adapters, LanguageModel, Lora, Pass, Sequence, Site, Stream};

use crate::AdapterError;
use crate::batch::{Batch, check_rows};

/// How a batch is cut to fit in memory. Changes nothing but rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Micro {
    /// Rows of one forward and backward pass, at least 1.
    pub rows: usize,
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
#[derive(Debug, Clone)]
pub struct Gradients {
    /// Mean −ln p over all tokens that the loss covers in the batch, in nats.
    pub loss: f64,
    /// By site. A site the model never came by has none.
    pub by_site: BTreeMap<Site, Gradient>,
}

/// The loss of a batch of rows and its gradients by the adapters; the model's own weights get none.
///
/// The loss is Σ −ln p over the covered tokens of the whole batch by their number, however it is cut.
///
/// # Errors
/// A row that the model cannot take, or no rows.
pub fn gradients<M: LanguageModel + ?Sized>(
    model: &M,
    adapters: &Adapters,
    rows: &[Sequence],
    micro: Micro,
) -> Result<Gradients, AdapterError> {
    check_rows(model, "training", rows)?;
    Ok(batch_gradients(model, adapters, &rows.iter().collect::<Vec<_>>(), micro))
}

/// As [`gradients`], for rows that were checked before.
pub(super) fn batch_gradients<M: LanguageModel + ?Sized>(
    model: &M,
    adapters: &Adapters,
    rows: &[&Sequence],
    micro: Micro,
) -> Gradients {
    let mut sum = Sum::new(adapters, rows.iter().map(|row| row.n_completion()).sum());
    for rows in rows.chunks(micro.rows.max(1)) {
        let batch = Batch::new(rows.iter().copied());
        match micro.recompute {
            true => recomputed(model, &batch, &mut sum),
            false => kept(model, &batch, &mut sum),
        }
    }
    Gradients { loss: sum.loss, by_site: sum.by_site }
}

/// What the passes of a batch add up to.
struct Sum {
    /// The updates as leaves of every tape.
    leaves: Adapters,
    /// The same updates without a tape.
    plain: Adapters,
    /// Tokens the loss covers in the whole batch.
    n_targets: usize,
    loss: f64,
    by_site: BTreeMap<Site, Gradient>,
}

impl Sum {
    fn new(adapters: &Adapters, n_targets: usize) -> Self {
        let track = |(site, lora): (&Site, &Lora)| {
            let (a, b) = (leaf(lora.a.clone()), leaf(lora.b.clone()));
            (site.clone(), Lora { a, b, scale: lora.scale })
        };
        let leaves = adapters.iter().map(track).collect();
        Self { leaves, plain: adapters.clone(), n_targets, loss: 0.0, by_site: BTreeMap::new() }
    }

    /// Adds a part's share of the loss, and returns it for its gradients.
    fn add_loss<M: LanguageModel + ?Sized>(
        &mut self,
        model: &M,
        last: Stream,
        batch: &Batch,
    ) -> Tensor<1> {
        let mut pass = Pass::adapted(&self.leaves);
        let logits = model.head(last.select(&batch.positions), &mut pass);
        let targets = batch.target_indices(&model.device());
        let nll = log_softmax(logits, 1).gather(1, targets).sum().neg();
        let loss = nll.div_scalar(self.n_targets as f64);
        self.loss += f64::from(loss.clone().into_scalar::<f32>());
        loss
    }

    /// Adds what one tape found.
    fn add(&mut self, tape: &mut Tape) {
        for (site, leaf) in self.leaves.iter() {
            let (Some(a), Some(b)) = (leaf.a.grad_remove(tape), leaf.b.grad_remove(tape)) else {
                continue;
            };
            let sum = match self.by_site.remove(site) {
                Some(sum) => Gradient { a: sum.a + a, b: sum.b + b },
                None => Gradient { a, b },
            };
            self.by_site.insert(site.clone(), sum);
        }
    }
}

/// One tape for the whole pass: every block's activations are kept.
fn kept<M: LanguageModel + ?Sized>(model: &M, batch: &Batch, sum: &mut Sum) {
    let last = model.stream(&batch.input, &mut Pass::adapted(&sum.leaves));
    let loss = sum.add_loss(model, last, batch);
    if loss.is_tracked() {
        sum.add(&mut loss.backward());
    }
}

/// One tape per block: only the blocks' inputs are kept, and each block runs again when its turn to go back comes. The
/// last block needs no second run, since its turn comes at once.
fn recomputed<M: LanguageModel + ?Sized>(model: &M, batch: &Batch, sum: &mut Sum) {
    let mut inputs = vec![model.embed(&batch.input)];
    for index in 1..model.n_blocks() {
        let input = inputs[index - 1].clone();
        inputs.push(model.block(index - 1, input, &mut Pass::adapted(&sum.plain)));
    }
    let mut gradient = None;
    for (index, input) in inputs.into_iter().enumerate().rev() {
        gradient = block_back(model, batch, (index, input), gradient, sum);
    }
}

/// Goes back through one block, and from the loss through the head when there is no gradient yet; the gradient by the
/// block's input, but for the first block, where nothing asks for it.
fn block_back<M: LanguageModel + ?Sized>(
    model: &M,
    batch: &Batch,
    (index, input): (usize, Stream),
    gradient: Option<Tensor<2>>,
    sum: &mut Sum,
) -> Option<Tensor<2>> {
    let hidden = if index > 0 { leaf(input.hidden.clone()) } else { input.hidden.clone() };
    let stream = input.with_hidden(hidden.clone());
    let output = model.block(index, stream, &mut Pass::adapted(&sum.leaves));
    let loss = match gradient {
        Some(gradient) => (output.hidden * gradient).sum(),
        None => sum.add_loss(model, output, batch),
    };
    if !loss.is_tracked() {
        return None;
    }
    let mut tape = loss.backward();
    sum.add(&mut tape);
    hidden.grad_remove(&mut tape)
}

fn leaf(tensor: Tensor<2>) -> Tensor<2> {
    tensor.autodiff().require_grad()
}
