//! Memory and speed of a model in a number format, from its headers.

use comfy_table::Table;
use litemoe_core::{Budget, CacheDtype, WeightDtype};
use litemoe_merge::kept_per_layer;
use litemoe_model::{Checkpoint, ModelError};
use litemoe_text::Tokenizer;
use serde::Serialize;

use super::super::print::{aligned, table};
use crate::args::device::DeviceArgs;
use crate::args::forecast::ForecastArgs;
use crate::args::train_size::TrainSize;
use crate::args::weights::WeightArgs;
use crate::forecast::{Batch, Limits, Memory, ModelSize, TuneMemory, Work, attention_lora_values};
use crate::memory::anonymous_bytes;
use crate::output;

/// Forecast of a model, and of its proxies under budgets.
#[derive(Serialize)]
pub(super) struct ModelForecast {
    dtype: WeightDtype,
    cache_dtype: CacheDtype,
    /// Tokens of the text.
    context: usize,
    train: TrainSize,
    /// What limits the speed, in bytes and in floating-point operations per second.
    bytes_per_second: Option<f64>,
    flops_per_second: Option<f64>,
    whole: Line,
    budgets: Vec<BudgetedLine>,
}

/// Forecast of a model or of a proxy. Peaks are of anonymous memory of a process, in bytes.
#[derive(Serialize)]
struct Line {
    /// Weights.
    weights: u64,
    /// Keys and values of the text; absent for encoder–decoders, as are `generate` and the speeds.
    cache: Option<u64>,
    /// Peak of generation.
    generate: Option<u64>,
    /// Peak of tuning.
    tune: u64,
    /// Tokens per second of decoding at the end of the text, if it reads from memory as fast as the bandwidth, and of a
    /// prompt that fills the text, at the operations per second.
    decode_per_second: Option<f64>,
    prefill_per_second: Option<f64>,
}

#[derive(Serialize)]
struct BudgetedLine {
    budget: Budget,
    kept_per_layer: usize,
    #[serde(flatten)]
    line: Line,
}

/// What all lines have in common.
struct Forecaster {
    context: usize,
    train: TuneMemory,
    /// Bytes of the program, its tokenizer included, and values of the adapter.
    program: u64,
    adapter: f64,
    has_encoder: bool,
    bytes_per_second: Option<f64>,
    flops_per_second: Option<f64>,
}

impl ModelForecast {
    /// Forecast for those of the budgets that a proxy can have.
    pub(super) fn of(
        checkpoint: &Checkpoint,
        args: &ForecastArgs,
        budgets: impl Iterator<Item = Budget>,
    ) -> anyhow::Result<Self> {
        let config = checkpoint.config();
        let (context, train) = args.sizes(config.max_tokens)?;
        let dtype = WeightArgs { dtype: args.dtype }.of(checkpoint);
        let cache_dtype = args.cache.or_default(dtype, config);
        if cache_dtype != CacheDtype::F32 && !config.encoder.is_empty() {
            let family = checkpoint.family();
            return Err(ModelError::CacheDtype { dtype: cache_dtype, family }.into());
        }
        // In memory while the program is measured, before the limits take memory of their own.
        let tokenizer = Tokenizer::from_dir(checkpoint.dir()).ok();
        let program = anonymous_bytes();
        drop(tokenizer);
        let (bytes_per_second, flops_per_second) = match args.measure {
            true => {
                let limits = Limits::measure(dtype, &DeviceArgs::default().open()?);
                (Some(limits.bytes_per_second), Some(limits.flops_per_second))
            }
            false => (args.bandwidth.map(|it| 1e9 * it), args.peak.map(|it| 1e9 * it)),
        };
        let forecaster = Forecaster {
            context,
            train: train.step(),
            program,
            adapter: attention_lora_values(checkpoint)?,
            has_encoder: !config.encoder.is_empty(),
            bytes_per_second,
            flops_per_second,
        };
        let size = ModelSize::of(checkpoint, dtype).cached_as(cache_dtype);
        let budgeted = |budget| {
            let kept_per_layer = kept_per_layer(budget, checkpoint.moe_layers()).ok()?;
            let line = forecaster.line(&size.keeping(kept_per_layer));
            Some(BudgetedLine { budget, kept_per_layer, line })
        };
        let budgets = budgets.filter_map(budgeted).collect();
        let whole = forecaster.line(&size);
        Ok(Self {
            dtype,
            cache_dtype,
            context,
            train,
            bytes_per_second,
            flops_per_second,
            whole,
            budgets,
        })
    }

    /// Prints it as a table.
    pub(super) fn print(&self) -> anyhow::Result<()> {
        let Self { dtype, cache_dtype, context, train, .. } = self;
        output::line(&format!(
            "forecast: weights in {dtype}, KV cache in {cache_dtype}, a text of {context} tokens, tuning steps of {train}"
        ))?;
        output::line(&self.table().to_string())
    }

    fn table(&self) -> Table {
        let mut table = table([
            "",
            "weights",
            "KV cache",
            "generate",
            "tune",
            "decode at memory speed",
            "prefill at product speed",
        ]);
        let mut add = |name: String, line: &Line| {
            let bytes = |it: Option<u64>| it.map(output::bytes).unwrap_or_default();
            let speed = |it: Option<f64>| it.map(|it| format!("{it:.1} tok/s")).unwrap_or_default();
            table.add_row([
                name,
                output::bytes(line.weights),
                bytes(line.cache),
                bytes(line.generate),
                output::bytes(line.tune),
                speed(line.decode_per_second),
                speed(line.prefill_per_second),
            ]);
        };
        add("whole".to_owned(), &self.whole);
        self.budgets.iter().for_each(|it| add(format!("budget {}", it.budget), &it.line));
        aligned(table)
    }
}

impl Forecaster {
    fn line(&self, model: &ModelSize) -> Line {
        let memory = Memory { model, program: self.program, adapter: 0.0 };
        let tuned = Memory { adapter: self.adapter, ..memory };
        let decodes = |value: u64| (!self.has_encoder).then_some(value);
        let flops = Work(model).prefill(self.context) / self.context as f64;
        let speed = |limit: Option<f64>, cost: f64| {
            limit.filter(|_| !self.has_encoder).map(|limit| limit / cost)
        };
        Line {
            weights: model.loaded(),
            cache: decodes(model.cache(self.context)),
            generate: decodes(memory.generate(self.context)),
            tune: tuned.tune(self.train, Batch::default()),
            decode_per_second: speed(self.bytes_per_second, model.decoded(self.context)),
            prefill_per_second: speed(self.flops_per_second, flops),
        }
    }
}
