use std::num::NonZeroUsize;

use anyhow::bail;
use clap::Args;
use litemoe_core::WeightDtype;

use super::cache::CacheArgs;
use super::listed;
use super::train_size::TrainSize;

/// Options of `inspect` that ask for a forecast of a model's memory and speed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ForecastArgs {
    /// Of a model: forecast the memory of its weights in this format, and of generation and tuning with them, from the
    /// headers alone [default: that of a quantised model, else f32, if another option asks for a forecast].
    #[arg(long, value_name = "FORMAT", value_parser = listed::weight_dtype())]
    pub(crate) dtype: Option<WeightDtype>,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    /// Tokens of the text of the forecast, which fill the KV cache [default: 4096, or what the model takes].
    #[arg(long, value_name = "N")]
    pub(crate) context: Option<NonZeroUsize>,
    /// Rows of the forecast's tuning step and tokens of each; LoRA of rank 8 on attention [default: 1x256].
    #[arg(long, value_name = "ROWSxTOKENS")]
    pub(crate) train: Option<TrainSize>,
    /// Forecast the speeds that the memory bandwidth and the arithmetic of this machine allow: measures both, which takes
    /// a few seconds.
    #[arg(long, conflicts_with_all = ["bandwidth", "peak"])]
    pub(crate) measure: bool,
    /// Forecast the speed of decoding that this memory bandwidth allows, in GB/s.
    #[arg(long, value_name = "GB/S", allow_negative_numbers = true)]
    pub(crate) bandwidth: Option<f64>,
    /// Forecast the speed of prefill that this arithmetic peak allows, in GF/s: 10⁹ floating-point operations per second,
    /// two per multiplication.
    #[arg(long, value_name = "GF/S", allow_negative_numbers = true)]
    pub(crate) peak: Option<f64>,
}

impl ForecastArgs {
    /// Whether a forecast is asked for.
    pub(crate) fn is_given(&self) -> bool {
        let Self { dtype, cache, context, train, measure, bandwidth, peak } = self;
        dtype.is_some()
            || cache.cache_dtype.is_some()
            || context.is_some()
            || train.is_some()
            || *measure
            || bandwidth.is_some()
            || peak.is_some()
    }

    /// Checks the ranges for a model that takes up to `max` tokens. Returns the tokens of the text and the tuning step.
    pub(crate) fn sizes(&self, max: usize) -> anyhow::Result<(usize, TrainSize)> {
        for (option, value) in [("bandwidth", self.bandwidth), ("peak", self.peak)] {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                bail!("--{option} is {value}, but must be a number above 0");
            }
        }
        let context = self.context.map_or(max.min(4096), NonZeroUsize::get);
        if context > max {
            bail!("--context is {context}, but the model takes at most {max} tokens");
        }
        let usual = TrainSize { tokens: TrainSize::USUAL.tokens.min(max), ..TrainSize::USUAL };
        let train = self.train.unwrap_or(usual);
        if train.tokens > max {
            bail!("--train {train}: the model takes rows of at most {max} tokens");
        }
        Ok((context, train))
    }
}
