use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use litemoe_adapter::{LoadedAdapter, delta_norm, load_for};
use litemoe_files::TargetLock;
use litemoe_model::{Checkpoint, Fused, Fusion, Outline, Rounding};
use serde::{Deserialize, Serialize};

use crate::args::device::cpu;
use crate::input_files::InputFiles;
use crate::memory::{MemoryWatch, Peak};
use crate::work::{self, Report, Work};
use crate::{artefact, disk, hub, model, output, progress};

/// Write a checkpoint of the foundation with an adapter added to its weights
///
/// The output is an ordinary model directory of the family, which needs no adapter: W + scale · BA, rounded to the number
/// format of each tensor, in the layout and shards of the foundation. An adapter that is mounted with any routing but full
/// is refused, because a checkpoint cannot restrict routing.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct FuseArgs {
    /// The foundation, or the plain proxy that the adapter was tuned on: a model directory, or the id of a pulled model.
    #[arg(value_name = "FOUNDATION")]
    foundation: PathBuf,
    /// The adapter, a PEFT directory.
    #[arg(value_name = "ADAPTER")]
    adapter: PathBuf,
    /// Output directory of the model.
    #[arg(long, value_name = "DIR", default_value = "fused")]
    out: PathBuf,
    /// Print the report as JSON.
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

/// Rounding of the update, relative by norm, above which there is a warning.
const MAX_ROUNDING: f64 = 0.1;

/// Report of `fuse`.
#[derive(Serialize, Deserialize)]
pub(crate) struct FuseReport {
    model: PathBuf,
    bytes: u64,
    tensors: usize,
    /// Tensors with a value that changed.
    updated: usize,
    /// Whether MXFP4 experts are written in bf16.
    dequantised: bool,
    /// Rounding of all updated weights.
    rounding: RoundingReport,
    /// Tensor whose rounding is largest relative to its update.
    worst_tensor: Option<String>,
    worst: Option<RoundingReport>,
    /// That rounding loses much of the update.
    warning: Option<String>,
    seconds: f64,
    peak_bytes: Peak,
}

/// Rounding of W + scale · BA to the number formats of the tensors.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct RoundingReport {
    /// Largest difference that rounding makes, and largest absolute value of the update.
    max_error: f64,
    max_delta: f64,
    /// Largest difference relative to the largest update.
    relative_max: f64,
    /// Frobenius norm of the differences relative to that of the update.
    relative: f64,
}

impl From<Rounding> for RoundingReport {
    fn from(rounding: Rounding) -> Self {
        Self {
            max_error: rounding.max_error,
            max_delta: rounding.max_delta,
            relative_max: rounding.relative_max(),
            relative: rounding.relative(),
        }
    }
}

impl FuseArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        work::run(&self, self.json)
    }

    /// Locks the output, and takes the stamps of the inputs.
    fn lock(&self) -> anyhow::Result<(TargetLock, InputFiles)> {
        let foundation = hub::locate(&self.foundation)?;
        let inputs = [foundation.as_path(), &self.adapter];
        Ok((artefact::lock_dir(&self.out, &inputs)?, InputFiles::of(&inputs)))
    }

    /// Loads the adapter, and checks that its sum with the weights means what it means mounted.
    fn load(&self, checkpoint: &Checkpoint) -> anyhow::Result<LoadedAdapter> {
        let (dir, foundation) = (self.adapter.display(), self.foundation.display());
        let outline = Outline::of(checkpoint);
        let loaded = load_for(&self.adapter, &outline, checkpoint.fingerprint(), &cpu()?);
        let loaded = loaded
            .with_context(|| format!("the adapter {dir} cannot be fused with {foundation}"))?;
        let record = loaded.record.as_ref();
        if loaded.mounted.router_bias.is_some() {
            let routing =
                record.and_then(|record| record.mount.as_ref()).map(|mount| mount.routing);
            let routing = routing.map_or_else(String::new, |routing| routing.to_string());
            bail!(
                "the adapter {dir} is mounted with {routing} routing, which a checkpoint cannot keep: fused, it would \
                 compute something else; mount it with --routing full or --portable first"
            );
        }
        if loaded.mounted.adapters.loras().all(|(_, lora)| delta_norm(lora) == 0.0) {
            bail!("the adapter {dir} is all zero: it would change nothing");
        }
        if let Some(record) = record.filter(|record| record.foundation == *checkpoint.fingerprint())
        {
            if let Some(refit) = &record.refit {
                output::note(&format!(
                    "warning: the adapter was tuned on a proxy refitted in {refit}, a change that it does not carry"
                ));
            }
            if record.plan.is_some() && record.mount.is_none() {
                output::note(
                    "warning: the adapter was tuned on a proxy and is not mounted; it is fused at scale 1",
                );
            }
        }
        Ok(loaded)
    }
}

impl Work for FuseArgs {
    type Report = FuseReport;

    fn execute(&self) -> anyhow::Result<FuseReport> {
        let (start, memory) = (Instant::now(), MemoryWatch::start());
        let (_lock, inputs) = self.lock()?;
        let checkpoint = model::open(&self.foundation)?;
        checkpoint.expect_unquantised("fusing")?;
        model::note_leftovers(&checkpoint);
        let loaded = self.load(&checkpoint)?;
        let fusion = Fusion::of(&checkpoint, &loaded.mounted.adapters)?;
        disk::expect_room(&self.out, fusion.bytes())?;
        let bar = progress::begin("fusing", fusion.bytes(), "bytes");
        let staged = fusion.stage(&self.out, &mut |bytes| bar.add(bytes))?;
        bar.finish();
        inputs.expect_unchanged()?;
        let fused = staged.commit()?;
        let Fused { updated, tensors, bytes, dequantised, rounding, worst } = fused;
        let (worst_tensor, worst) = worst.unzip();
        let warning = (rounding.relative() > MAX_ROUNDING).then(|| {
            let relative = rounding.relative();
            format!("rounding to the number formats of the tensors changes the update by {relative:.2} of its norm")
        });
        if let Some(warning) = &warning {
            output::note(&format!("warning: {warning}"));
        }
        Ok(FuseReport {
            model: self.out.clone(),
            bytes,
            tensors,
            updated,
            dequantised,
            rounding: rounding.into(),
            worst_tensor,
            worst: worst.map(RoundingReport::from),
            warning,
            seconds: start.elapsed().as_secs_f64(),
            peak_bytes: memory.peak(),
        })
    }
}

impl Report for FuseReport {
    fn print(&self) -> anyhow::Result<()> {
        let Self { updated, tensors, .. } = self;
        let (model, bytes) = (self.model.display(), output::bytes(self.bytes));
        output::line(&format!("{model} written: {updated} of {tensors} tensors updated, {bytes}"))?;
        if self.dequantised {
            output::line("experts that were in MXFP4 are in bf16")?;
        }
        let (Some(tensor), Some(worst)) = (&self.worst_tensor, &self.worst) else { return Ok(()) };
        output::line(&format!(
            "rounding: {:.2e} of the update by norm, at most {:.2e} of {:.2e} in {tensor}",
            self.rounding.relative, worst.max_error, worst.max_delta
        ))
    }
}
