use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use litemoe_core::{CacheDtype, WeightDtype};
use litemoe_model::Checkpoint;
use serde::Serialize;

use super::args::BenchArgs;
use super::measured::{Measured, Pass};
use super::spread::Spread;
use crate::args::train_size::TrainSize;
use crate::forecast::{Batch, Limits, Memory, ModelSize, Work, cpu_name};
use crate::{model, output};

/// Report of `bench`.
#[derive(Serialize)]
pub(super) struct Benched {
    /// Version of this program.
    pub(super) program: &'static str,
    pub(super) model: String,
    pub(super) family: &'static str,
    pub(super) dtype: WeightDtype,
    pub(super) cache_dtype: CacheDtype,
    pub(super) machine: Machine,
    pub(super) setting: Setting,
    /// Seconds of loading with the files in the cache.
    pub(super) load: Option<Spread>,
    pub(super) prefill: Option<Speed>,
    pub(super) decode: Option<Speed>,
    pub(super) tune: Option<Speed>,
    pub(super) memory: MeasuredMemory,
    pub(super) limits: Option<Limits>,
    pub(super) shares: Option<Shares>,
    pub(super) forecast: Forecasts,
}

#[derive(Serialize)]
pub(super) struct Machine {
    /// CPU model, if known.
    pub(super) cpu: Option<String>,
    pub(super) threads: usize,
    /// Instruction set of products with packed weights.
    pub(super) instruction_set: Option<String>,
}

/// What was run.
#[derive(Serialize)]
pub(super) struct Setting {
    /// Tokens of the prompt, and of those decoded after it.
    pub(super) prompt: usize,
    pub(super) tokens: usize,
    pub(super) train: TrainSize,
    pub(super) seed: u64,
}

/// Time and speed of passes over `tokens` tokens.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Speed {
    pub(super) tokens: usize,
    pub(super) seconds: Spread,
    pub(super) tokens_per_second: Spread,
}

impl Speed {
    pub(super) fn new(tokens: usize, seconds: Spread) -> Self {
        Self { tokens, seconds, tokens_per_second: seconds.speed(tokens as f64) }
    }
}

/// Anonymous memory of the process, in bytes; 0 where the system does not report it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct MeasuredMemory {
    /// Before the model was loaded.
    program: u64,
    /// Peak of loading.
    load: u64,
    /// With the model loaded.
    loaded: u64,
    /// Peaks.
    prefill: Option<u64>,
    decode: Option<u64>,
    tune: Option<u64>,
    working: WorkingMemory,
}

/// What the peaks have beyond the loaded model.
#[derive(Debug, Clone, Copy, Serialize)]
struct WorkingMemory {
    prefill: Option<u64>,
    decode: Option<u64>,
    tune: Option<u64>,
}

impl MeasuredMemory {
    fn new(measured: &Measured) -> Self {
        let &Measured { program, load_peak, loaded, .. } = measured;
        let [prefill, decode, tune] = [measured.prefill, measured.decode, measured.tune]
            .map(|pass| pass.map(|pass| pass.peak));
        let above = |peak: u64| peak.saturating_sub(loaded);
        let working = WorkingMemory {
            prefill: prefill.map(above),
            decode: decode.map(above),
            tune: tune.map(above),
        };
        Self { program, load: load_peak, loaded, prefill, decode, tune, working }
    }
}

/// Shares of the machine's limits.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Shares {
    /// Bytes that a decode step reads: the weights that a token passes through, and keys and values at half of the decoded
    /// tokens.
    decode_bytes: u64,
    /// Share of the bandwidth.
    decode: Option<f64>,
    /// Floating-point operations of the prompt.
    prefill_flops: f64,
    /// Share of the operations per second of a large product.
    prefill: Option<f64>,
}

impl Shares {
    /// What a share above 1 means.
    fn note(self) -> Option<&'static str> {
        let is_above = [self.decode, self.prefill].into_iter().flatten().any(|share| share > 1.0);
        is_above.then_some(
            "above 100 %: caches are read faster than memory, and products of other sizes can be faster than the large one",
        )
    }
}

/// Memory that was forecast from the headers, and what was measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Forecasts {
    loaded: Forecast,
    /// Prefill and decode.
    generate: Option<Forecast>,
    tune: Option<Forecast>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Forecast {
    forecast: u64,
    measured: u64,
    /// Relative error: 0.1 where the forecast is a tenth too high; `None` where nothing was measured.
    error: Option<f64>,
}

impl Forecast {
    fn new(forecast: u64, measured: u64) -> Self {
        let error = (measured > 0).then(|| forecast as f64 / measured as f64 - 1.0);
        Self { forecast, measured, error }
    }
}

impl Benched {
    pub(super) fn new(
        args: &BenchArgs,
        checkpoint: &Checkpoint,
        measured: &Measured,
        instruction_set: Option<String>,
    ) -> Self {
        let (prompt, tokens) = (args.prompt.get(), args.tokens.get());
        let size = args.size(checkpoint);
        let speed = |pass: Option<Pass>, tokens| pass.map(|it| Speed::new(tokens, it.seconds));
        let &Measured { load, limits, .. } = measured;
        Self {
            program: env!("CARGO_PKG_VERSION"),
            model: model::name(checkpoint),
            family: checkpoint.family(),
            dtype: args.weights.of(checkpoint),
            cache_dtype: args.cache_dtype(checkpoint),
            machine: Machine {
                cpu: cpu_name(),
                threads: rayon::current_num_threads(),
                instruction_set,
            },
            setting: Setting { prompt, tokens, train: args.train, seed: args.seed },
            load,
            prefill: speed(measured.prefill, prompt),
            decode: speed(measured.decode, tokens),
            tune: speed(measured.tune, args.train.rows * args.train.tokens),
            memory: MeasuredMemory::new(measured),
            limits,
            shares: limits.map(|limits| shares(&size, args, measured, limits)),
            forecast: forecasts(&size, args, measured),
        }
    }
}

fn shares(size: &ModelSize, args: &BenchArgs, measured: &Measured, limits: Limits) -> Shares {
    let (prompt, tokens) = (args.prompt.get(), args.tokens.get());
    let (bytes, flops) = (size.decoded(prompt + tokens / 2), Work(size).prefill(prompt));
    let per_second = |amount: f64, pass: Option<Pass>| Some(amount / pass?.seconds.median);
    let decoded = per_second(bytes * tokens as f64, measured.decode);
    Shares {
        decode_bytes: bytes as u64,
        decode: decoded.map(|it| it / limits.bytes_per_second),
        prefill_flops: flops,
        prefill: per_second(flops, measured.prefill).map(|it| it / limits.flops_per_second),
    }
}

fn forecasts(size: &ModelSize, args: &BenchArgs, measured: &Measured) -> Forecasts {
    let plain = Memory { model: size, program: measured.program, adapter: 0.0 };
    let adapted = Memory { adapter: measured.adapter_values as f64, ..plain };
    let peak = |pass: Option<Pass>| pass.map(|pass| pass.peak);
    let generated = peak(measured.prefill).max(peak(measured.decode));
    Forecasts {
        loaded: Forecast::new(plain.weights(), measured.loaded),
        generate: generated.map(|peak| Forecast::new(plain.generate(args.context()), peak)),
        tune: peak(measured.tune)
            .map(|peak| Forecast::new(adapted.tune(args.train.step(), Batch::default()), peak)),
    }
}

impl Benched {
    pub(super) fn print(&self) -> anyhow::Result<()> {
        let Self { model, family, dtype, cache_dtype, machine, .. } = self;
        let Machine { cpu, threads, instruction_set } = machine;
        let threads = output::counted(*threads, "thread", "threads");
        let cpu = cpu.as_deref().unwrap_or("unknown CPU");
        let set = instruction_set.as_deref().unwrap_or("none");
        output::line(&format!(
            "{model} ({family}), weights in {dtype}, KV cache in {cache_dtype}"
        ))?;
        output::line(&format!("{cpu}, {threads}, instruction set {set}"))?;
        output::line(&self.speeds().to_string())?;
        output::line(&self.memories().to_string())?;
        let Some(limits) = self.limits else { return Ok(()) };
        output::line(&format!(
            "limits of this machine: {:.1} GB/s read, {:.0} GF/s in a large product",
            limits.bytes_per_second / 1e9,
            limits.flops_per_second / 1e9
        ))?;
        let note = self.shares.and_then(Shares::note);
        note.map_or(Ok(()), output::line)
    }

    fn speeds(&self) -> Table {
        let mut table = table(["", "median", "least", "most", "of the limit"]);
        if let Some(load) = self.load {
            let cells = [load.median, load.least, load.most].map(|it| format!("{it:.3} s"));
            table.add_row([&["load".to_owned()][..], &cells, &[String::new()]].concat());
        }
        let Setting { prompt, tokens, train, .. } = self.setting;
        let shares = self.shares;
        let mut row = |name: String, speed: Option<Speed>, share: Option<f64>| {
            let Some(speed) = speed else { return };
            let Spread { median, least, most, .. } = speed.tokens_per_second;
            let cells = [median, least, most].map(|it| format!("{it:.1} tok/s"));
            let share = share.map_or_else(String::new, |share| format!("{:.0} %", 100.0 * share));
            table.add_row([&[name][..], &cells, &[share]].concat());
        };
        row(format!("prefill of {prompt}"), self.prefill, shares.and_then(|it| it.prefill));
        row(
            format!("decode of {tokens} after {prompt}"),
            self.decode,
            shares.and_then(|it| it.decode),
        );
        row(format!("tune on {train}"), self.tune, None);
        table
    }

    fn memories(&self) -> Table {
        let mut table = table(["anonymous memory", "measured", "forecast", "error"]);
        let Forecasts { loaded, generate, tune } = self.forecast;
        let named = [("loaded", Some(loaded)), ("generate", generate), ("tune", tune)];
        for (name, it) in named.into_iter().filter_map(|(name, it)| Some((name, it?))) {
            let error = it.error.map_or_else(String::new, |it| format!("{:+.1} %", 100.0 * it));
            let cells = [it.measured, it.forecast].map(output::bytes);
            table.add_row([&[name.to_owned()][..], &cells, &[error]].concat());
        }
        table
    }
}

/// A table with numbers to the right.
fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_above_the_limit_is_explained() {
        let note = |decode, prefill| {
            Shares { decode_bytes: 1, decode, prefill_flops: 1.0, prefill }.note()
        };
        assert!(note(Some(1.21), None).is_some_and(|note| note.starts_with("above 100 %")));
        assert!(note(Some(0.5), Some(1.01)).is_some());
        assert_eq!(note(Some(1.0), Some(0.9)), None);
        assert_eq!(note(None, None), None);
    }
}
