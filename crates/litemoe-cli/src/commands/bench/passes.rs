//! What is measured: passes of a loaded model over random tokens.

use std::time::Instant;

use burn::tensor::Device;
use litemoe_adapter::{StepReport, TuneData, TuneObserver, TuneOptions, init_lora, tune};
use litemoe_core::{Adapters, CausalLm, LanguageModel, MoeModel, PREFILL_CHUNK, Sequence};
use litemoe_model::{KvCache, Model};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::spread::Spread;
use crate::args::train_size::TrainSize;
use crate::forecast::attention_lora;
use crate::progress::Progress;

/// Token ids drawn from the whole vocabulary, so that experts are chosen as by chance.
pub(super) fn random_tokens(n: usize, vocab: usize, seed: u64) -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| random.random_range(0..vocab as u32)).collect()
}

/// Runs `pass`, which returns seconds, once for warming up, then `n` times.
pub(super) fn repeated(n: usize, progress: &Progress, mut pass: impl FnMut() -> f64) -> Spread {
    let mut run = || {
        let seconds = pass();
        progress.add(1);
        seconds
    };
    run();
    Spread::of((0..n).map(|_| run()).collect())
}

/// Runs a prompt in chunks into an empty cache, up to the logits after it.
pub(super) fn prefill(model: &Model, prompt: &[u32]) -> (KvCache, f64) {
    let (mut cache, start) = (model.new_cache(), Instant::now());
    for chunk in prompt.chunks(PREFILL_CHUNK) {
        model.extend(chunk, &mut cache, None).into_data();
    }
    (cache, start.elapsed().as_secs_f64())
}

/// Runs tokens one by one after the first `n_prompt` of a cache, each up to its logits; returns the seconds.
pub(super) fn decode(model: &Model, tokens: &[u32], cache: &mut KvCache, n_prompt: usize) -> f64 {
    cache.truncate(n_prompt);
    let start = Instant::now();
    for &token in tokens {
        model.extend(&[token], cache, None).into_data();
    }
    start.elapsed().as_secs_f64()
}

pub(super) fn adapter(model: &Model, seed: u64, device: &Device) -> anyhow::Result<Adapters> {
    Ok(init_lora(model.linear_sites(), &attention_lora(), seed, device)?)
}

/// Seconds of a tuning step — forward pass, backward pass, AdamW — on random rows, all of whose tokens but the first are
/// in the loss.
pub(super) fn tuned(
    model: &Model,
    initial: &Adapters,
    size: TrainSize,
    (n, seed): (usize, u64),
    progress: &Progress,
) -> anyhow::Result<Spread> {
    let row = |at: usize| Sequence {
        tokens: random_tokens(size.tokens, model.vocab(), seed.wrapping_add(at as u64)),
        completion: (0..size.tokens).map(|token| token > 0).collect(),
        encoder: None,
    };
    let rows: Vec<Sequence> = (0..size.rows).map(row).collect();
    let options = TuneOptions {
        steps: n + 1,
        batch: size.rows,
        micro_batch: size.rows,
        warmup: 0,
        validate_every: n + 1,
        shuffle: false,
        ..TuneOptions::default()
    };
    let mut steps = Steps { last: Instant::now(), seconds: Vec::new(), progress };
    let data = TuneData { train: &rows, validation: &[] };
    tune(model, initial, data, &options, None, &mut steps)?;
    // The first step warms up.
    Ok(Spread::of(steps.seconds.split_off(1)))
}

/// Times of the steps.
struct Steps<'a> {
    last: Instant,
    seconds: Vec<f64>,
    progress: &'a Progress,
}

impl TuneObserver for Steps<'_> {
    fn stepped(&mut self, _: &StepReport) {
        let now = Instant::now();
        self.seconds.push((now - self.last).as_secs_f64());
        self.last = now;
        self.progress.add(1);
    }
}
