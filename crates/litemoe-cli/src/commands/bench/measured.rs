use std::time::Instant;

use burn::tensor::Device;
use litemoe_core::{CacheDtype, LanguageModel, WeightDtype};
use litemoe_model::{Checkpoint, Model};

use super::args::{BenchArgs, Figure};
use super::passes::{self, adapter, decode, random_tokens, repeated, tuned};
use super::spread::Spread;
use crate::forecast::Limits;
use crate::memory::{MemoryWatch, anonymous_bytes};
use crate::model;
use crate::progress::Progress;

/// What was measured; figures that were skipped are absent.
pub(super) struct Measured {
    /// Anonymous bytes before the model was loaded, at the peak of loading, and with the model.
    pub(super) program: u64,
    pub(super) load_peak: u64,
    pub(super) loaded: u64,
    /// Seconds of loading, the files in the cache.
    pub(super) load: Option<Spread>,
    pub(super) prefill: Option<Pass>,
    pub(super) decode: Option<Pass>,
    pub(super) tune: Option<Pass>,
    /// Values of the adapter that is tuned.
    pub(super) adapter_values: usize,
    pub(super) limits: Option<Limits>,
}

/// Seconds of a pass, and the peak of anonymous memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    pub(super) seconds: Spread,
    pub(super) peak: u64,
}

/// The measuring of one model.
pub(super) struct Measuring<'a> {
    pub(super) args: &'a BenchArgs,
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) device: Device,
    pub(super) progress: &'a Progress,
}

impl Measuring<'_> {
    /// Measures everything that is not skipped. The first loading warms the file cache; the others come last, so that what
    /// they leave in the heap is in no other figure.
    pub(super) fn all(&self) -> anyhow::Result<Measured> {
        let program = anonymous_bytes();
        let (load_peak, model) = self.watched("reading the model", || Ok(self.load()?.0))?;
        self.progress.add(1);
        let loaded = anonymous_bytes();
        let n_prompt = self.args.prompt.get();
        let n_tokens = n_prompt + self.args.tokens.get();
        let text = random_tokens(n_tokens, model.vocab(), self.args.seed);
        let prefill = self.figure(Figure::Prefill, "prefill", || {
            Ok(self.repeated(|| passes::prefill(&model, &text[..n_prompt]).1))
        })?;
        let decode = self.figure(Figure::Decode, "decode", || {
            let mut cache = passes::prefill(&model, &text[..n_prompt]).0;
            Ok(self.repeated(|| decode(&model, &text[n_prompt..], &mut cache, n_prompt)))
        })?;
        let model = model.with_cache_dtype(CacheDtype::F32)?; // tuning has no cache
        let mut adapter_values = 0;
        let tune = self.figure(Figure::Tune, "tune", || {
            let initial = adapter(&model, self.args.seed, &self.device)?;
            adapter_values = model::n_values(&initial);
            let BenchArgs { train, seed, .. } = *self.args;
            tuned(&model, &initial, train, (self.args.repetitions.get(), seed), self.progress)
        })?;
        drop(model);
        let load = self.loads()?;
        let limits = self.limits();
        Ok(Measured {
            program,
            load_peak,
            loaded,
            load,
            prefill,
            decode,
            tune,
            adapter_values,
            limits,
        })
    }

    /// Runs something, with the peak of anonymous memory.
    fn watched<T>(
        &self,
        name: &str,
        run: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<(u64, T)> {
        self.progress.detail(name.to_owned());
        let watch = MemoryWatch::start();
        let result = run()?;
        Ok((watch.peak().anonymous, result))
    }

    fn figure(
        &self,
        figure: Figure,
        name: &str,
        run: impl FnOnce() -> anyhow::Result<Spread>,
    ) -> anyhow::Result<Option<Pass>> {
        if !self.args.measures(figure) {
            return Ok(None);
        }
        let (peak, seconds) = self.watched(name, run)?;
        Ok(Some(Pass { seconds, peak }))
    }

    fn repeated(&self, pass: impl FnMut() -> f64) -> Spread {
        repeated(self.args.repetitions.get(), self.progress, pass)
    }

    /// Loads the model; returns the seconds too.
    fn load(&self) -> anyhow::Result<(Model, f64)> {
        let (dtype, start) = (self.dtype(), Instant::now());
        let model = Model::load_as(self.checkpoint, &self.device, dtype)?
            .with_cache_dtype(self.args.cache_dtype(self.checkpoint))?;
        Ok((model, start.elapsed().as_secs_f64()))
    }

    fn loads(&self) -> anyhow::Result<Option<Spread>> {
        if !self.args.measures(Figure::Load) {
            return Ok(None);
        }
        self.progress.detail("load".to_owned());
        let seconds = (0..self.args.repetitions.get()).map(|_| {
            let seconds = self.load()?.1;
            self.progress.add(1);
            Ok(seconds)
        });
        Ok(Some(Spread::of(seconds.collect::<anyhow::Result<_>>()?)))
    }

    fn limits(&self) -> Option<Limits> {
        if !self.args.measures(Figure::Limits) {
            return None;
        }
        self.progress.detail("limits".to_owned());
        let limits = Limits::measure(self.dtype(), &self.device);
        self.progress.add(1);
        Some(limits)
    }

    fn dtype(&self) -> WeightDtype {
        self.args.weights.of(self.checkpoint)
    }
}
