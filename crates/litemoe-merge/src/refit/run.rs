use std::error::Error;

use litemoe_core::{
    BatchLimits, BlockDriver, Input, LanguageModel, LayerId, MoeLayer, Pass, Stream, TokenRow,
    batches,
};

use super::check_row::check_row;
use super::seen::Seen;
use super::solve::solve;
use super::{DownChange, GatedInner, RefitOptions, RefitSums, Solution};
use crate::MergeError;

/// Result of refitting one layer.
#[derive(Debug, Clone)]
pub struct LayerRefit {
    /// The refitted layer.
    pub layer: LayerId,
    /// Tokens of the fit.
    pub tokens: u64,
    /// The change and its residual.
    pub solution: Solution,
}

/// Callback that receives a layer's change before the next layer is solved, so only one is in memory.
pub type TakeLayer<'a> = &'a mut dyn FnMut(LayerRefit) -> Result<(), Box<dyn Error + Send + Sync>>;

/// Refits a proxy's down projections by ridge regression to the foundation's residual stream on `rows` of token ids,
/// layer by layer.
///
/// All batches run through a block of the foundation, then through the proxy's, before the next block: models that
/// stream their blocks read each once, and one block is in memory at a time. Also in memory: the hidden states of all
/// rows in both models, one layer's sums, and `options.held_bytes`. `take` receives the layers in order. `progress`
/// receives the cumulative count of rows times blocks, `2 * rows.len() * proxy.n_blocks()` at the end.
///
/// # Errors
/// Before anything is computed: an option out of range, a model with an encoder, a proxy that does not match the
/// foundation, a row that the models cannot take. Later: sums that are not finite, a rank too large for a layer, an
/// error of `take`.
pub fn refit(
    foundation: &(impl LanguageModel + ?Sized),
    proxy: &(impl LanguageModel + ?Sized),
    rows: &[impl TokenRow],
    options: &RefitOptions,
    take: TakeLayer<'_>,
    mut progress: impl FnMut(usize),
) -> Result<(), MergeError> {
    check(foundation, proxy, rows, options)?;
    let limits = BatchLimits { rows: options.batch, tokens: options.batch_tokens };
    let inputs = batches(rows, limits);
    let mut ahead = BlockDriver::new(foundation, &inputs);
    let mut behind: Vec<Stream> = inputs.iter().map(|input| proxy.embed(input)).collect();
    let mut done = 0;
    let mut passed = |input: &Input| {
        done += input.rows.len();
        progress(done);
    };
    for index in 0..proxy.n_blocks() {
        ahead.run_block(&mut (), |(), batch| {
            passed(&inputs[batch]);
            Ok::<_, MergeError>(())
        })?;
        foundation.release();
        let mut block = Block { proxy, index, options, sums: None, held: Vec::new(), bytes: 0 };
        for ((stream, target), input) in behind.drain(..).zip(ahead.streams()).zip(&inputs) {
            block.measure(stream, target)?;
            passed(input);
        }
        behind = block.refitted(take)?;
        proxy.release();
    }
    Ok(())
}

/// The proxy's block that is being refitted.
struct Block<'a, P: ?Sized> {
    proxy: &'a P,
    index: usize,
    options: &'a RefitOptions,
    /// `None` if the block has no experts.
    sums: Option<(LayerId, RefitSums)>,
    held: Vec<Held>,
    /// Bytes of the held inner activations.
    bytes: usize,
}

/// State of a batch while its block is being refitted.
enum Held {
    /// The block's output, and the inputs of its experts' down projections.
    After(Stream, Vec<GatedInner>),
    /// The block's input.
    Before(Stream),
}

impl<P: LanguageModel + ?Sized> Block<'_, P> {
    /// Runs a batch and adds it to the layer's statistics.
    fn measure(&mut self, stream: Stream, target: &Stream) -> Result<(), MergeError> {
        let (after, seen) = self.run(stream.clone().waiting());
        let Some(layer) = seen.layer else {
            self.held.push(Held::After(after, Vec::new()));
            return Ok(());
        };
        if seen.is_silent {
            return Err(MergeError::NoInner { layer });
        }
        let ahead = target.hidden.clone() - after.hidden.clone();
        let residual = ahead.div_scalar(self.proxy.residual_multiplier());
        let wanted = seen.add_outputs(residual.clone());
        if self.sums.is_none() {
            let found = self.proxy.moe_layers().iter().find(|known| known.id == layer);
            let known = found.ok_or(MergeError::NoSuchLayer { layer })?;
            self.sums = Some((layer, RefitSums::new(known)));
        }
        if let Some((_, sums)) = &mut self.sums {
            sums.add_batch(&seen.inner, &residual, &wanted);
        }
        self.hold(stream, after, seen.inner);
        Ok(())
    }

    fn run(&self, stream: Stream) -> (Stream, Seen) {
        let mut seen = Seen::default();
        let after = self.proxy.block(self.index, stream, &mut Pass::observed(&mut seen));
        (after.waiting(), seen)
    }

    fn hold(&mut self, before: Stream, after: Stream, inner: Vec<GatedInner>) {
        let values: usize =
            inner.iter().map(|seen| seen.inner.dims().iter().product::<usize>()).sum();
        let bytes = self.bytes + values * size_of::<f32>();
        if bytes <= self.options.held_bytes {
            self.bytes = bytes;
            self.held.push(Held::After(after, inner));
        } else {
            self.held.push(Held::Before(before));
        }
    }

    /// Solves the layer and applies the change to every batch; after the last block no batches are needed.
    fn refitted(mut self, take: TakeLayer<'_>) -> Result<Vec<Stream>, MergeError> {
        let Some((layer, sums)) = self.sums.take() else { return Ok(self.advanced(None)) };
        // Reading the block again for batches that are not held costs less than keeping it in memory during the solve.
        self.proxy.release();
        let RefitOptions { rank, ridge, .. } = *self.options;
        let tokens = sums.tokens();
        let solution = solve(layer, sums, rank, ridge, &self.proxy.device())?;
        let change = solution.change.clone();
        take(LayerRefit { layer, tokens, solution })
            .map_err(|source| MergeError::Take { layer, source })?;
        let is_last = self.index + 1 == self.proxy.n_blocks();
        Ok(if is_last { Vec::new() } else { self.advanced(Some(&change)) })
    }

    fn advanced(&mut self, change: Option<&DownChange>) -> Vec<Stream> {
        let multiplier = self.proxy.residual_multiplier();
        let held = std::mem::take(&mut self.held);
        let advance = |held| {
            let (after, inner) = match held {
                Held::After(after, inner) => (after, inner),
                Held::Before(before) => {
                    let (after, seen) = self.run(before);
                    (after, seen.inner)
                }
            };
            match change {
                Some(change) => {
                    after.with_hidden(change.applied(after.hidden.clone(), &inner, multiplier))
                }
                None => after,
            }
        };
        held.into_iter().map(advance).collect()
    }
}

fn check(
    foundation: &(impl LanguageModel + ?Sized),
    proxy: &(impl LanguageModel + ?Sized),
    rows: &[impl TokenRow],
    options: &RefitOptions,
) -> Result<(), MergeError> {
    if !(options.ridge.is_finite() && options.ridge > 0.0) {
        return Err(MergeError::Ridge { ridge: options.ridge });
    }
    if options.batch == 0 {
        return Err(MergeError::EmptyBatch);
    }
    if proxy.has_encoder() || foundation.has_encoder() {
        return Err(MergeError::Encoder);
    }
    check_proxy(foundation, proxy)?;
    check_sums(proxy.moe_layers(), options.max_sum_bytes)?;
    if rows.is_empty() {
        return Err(MergeError::NoRows);
    }
    (0..).zip(rows).try_for_each(|(index, row)| check_row(proxy, index, row.tokens()))
}

/// Checks every layer's sums against the limit.
fn check_sums(layers: &[MoeLayer], max: usize) -> Result<(), MergeError> {
    let bytes = |layer: &MoeLayer| sum_bytes(layer.n_experts * layer.d_expert);
    match layers.iter().find(|layer| bytes(layer) > max) {
        Some(layer) => Err(MergeError::SumsTooLarge { layer: layer.id, bytes: bytes(layer), max }),
        None => Ok(()),
    }
}

/// Bytes of a layer's ZᵀZ in f64, for `neurons` neurons over all kept experts.
pub fn sum_bytes(neurons: usize) -> usize {
    neurons.saturating_mul(neurons).saturating_mul(size_of::<f64>())
}

/// Checks that the proxy differs from the foundation only in its number of experts.
fn check_proxy(
    foundation: &(impl LanguageModel + ?Sized),
    proxy: &(impl LanguageModel + ?Sized),
) -> Result<(), MergeError> {
    if proxy.moe_layers().is_empty() {
        return Err(MergeError::NoExperts);
    }
    let shape = |layer: &MoeLayer| (layer.id, layer.d_model, layer.d_expert);
    let shapes = |layers: &[MoeLayer]| layers.iter().map(shape).collect::<Vec<_>>();
    let same = foundation.n_blocks() == proxy.n_blocks()
        && foundation.vocab() == proxy.vocab()
        && shapes(foundation.moe_layers()) == shapes(proxy.moe_layers());
    if same { Ok(()) } else { Err(MergeError::OtherProxy) }
}
