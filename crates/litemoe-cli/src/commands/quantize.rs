use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use litemoe_core::{Fingerprint, WeightDtype};
use litemoe_files::TargetLock;
use litemoe_model::Quantisation;
use serde::{Deserialize, Serialize};

use crate::args::device::cpu;
use crate::args::listed;
use crate::input_files::InputFiles;
use crate::memory::{MemoryWatch, Peak};
use crate::work::{self, Report, Work};
use crate::{artefact, disk, hub, model, output, progress};

/// Write a model with its weights quantised: fewer bytes on disk, and nothing to be rounded when it is loaded
///
/// The output is a model directory for every command that runs a model. Its weights are those that --dtype gives the original
/// in memory, to the bit, and that format is its default. Adapters of the original fit it; scores and plans are those of one model
/// alone. Other programs refuse it.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct QuantizeArgs {
    /// The foundation: a model directory, or the id of a pulled model.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Number format of the weights. q4 has the routed experts in 4 bits and what every token uses in 8.
    #[arg(long, value_name = "FORMAT", default_value_t = WeightDtype::Q4, value_parser = listed::quantised_dtype())]
    dtype: WeightDtype,
    /// Output directory of the model.
    #[arg(long, value_name = "DIR", default_value = "quantized")]
    out: PathBuf,
    /// Print the report as JSON.
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

/// Report of `quantize`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Quantized {
    model: PathBuf,
    dtype: WeightDtype,
    /// Fingerprint of the original.
    source: Fingerprint,
    tensors: usize,
    /// Tensors that are quantised; the others are copied.
    quantised: usize,
    /// Bytes of all tensors.
    bytes: u64,
    /// Bytes of the original's.
    source_bytes: u64,
    seconds: f64,
    peak_bytes: Peak,
}

impl QuantizeArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        work::run(&self, self.json)
    }

    /// Locks the output, and takes the stamps of the inputs.
    fn lock(&self) -> anyhow::Result<(TargetLock, InputFiles)> {
        let foundation = hub::locate(&self.model)?;
        let inputs = [foundation.as_path()];
        Ok((artefact::lock_dir(&self.out, &inputs)?, InputFiles::of(&inputs)))
    }
}

impl Work for QuantizeArgs {
    type Report = Quantized;

    fn execute(&self) -> anyhow::Result<Quantized> {
        let (start, memory) = (Instant::now(), MemoryWatch::start());
        let (_lock, inputs) = self.lock()?;
        let checkpoint = model::open(&self.model)?;
        model::note_leftovers(&checkpoint);
        let quantisation = Quantisation::of(&checkpoint, self.dtype)?;
        disk::expect_room(&self.out, quantisation.bytes())?;
        let bar = progress::begin("quantizing", quantisation.bytes(), "bytes");
        let staged = quantisation.stage(&self.out, &cpu()?, &mut |bytes| bar.add(bytes))?;
        bar.finish();
        inputs.expect_unchanged()?;
        staged.commit()?;
        Ok(Quantized {
            model: self.out.clone(),
            dtype: self.dtype,
            source: checkpoint.fingerprint().clone(),
            tensors: quantisation.n_tensors(),
            quantised: quantisation.n_quantised(),
            bytes: quantisation.bytes(),
            source_bytes: checkpoint.bytes(),
            seconds: start.elapsed().as_secs_f64(),
            peak_bytes: memory.peak(),
        })
    }
}

impl Report for Quantized {
    fn print(&self) -> anyhow::Result<()> {
        let Self { dtype, tensors, quantised, .. } = self;
        let [bytes, source] = [self.bytes, self.source_bytes].map(output::bytes);
        output::line(&format!(
            "{} written in {dtype}: {quantised} of {tensors} tensors quantised, {bytes} instead of {source}",
            self.model.display()
        ))
    }
}
