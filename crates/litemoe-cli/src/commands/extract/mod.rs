use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use litemoe_core::Plan;
use litemoe_merge::merged_experts;
use litemoe_model::{Checkpoint, StagedProxy, proxy_bytes, stage_proxy};
use serde::{Deserialize, Serialize};

use self::refit::{Refit, RefitReport};
use crate::args::device::cpu;
use crate::args::refit::RefitArgs;
use crate::input_files::InputFiles;
use crate::memory::{MemoryWatch, Peak};
use crate::row_check::{self, Source};
use crate::work::{self, Report, Work};
use crate::{artefact, disk, fingerprints, hub, model, output, progress};

mod preview;
mod refit;

/// Write the proxy of a plan: a smaller model directory
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct ExtractArgs {
    /// The foundation: a Hugging Face model directory, or the id of a pulled model.
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// The plan, from `litemoe plan`.
    #[arg(value_name = "PLAN")]
    pub(crate) plan: PathBuf,
    /// Output directory of the proxy.
    #[arg(long, value_name = "DIR", default_value = "proxy")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) refit: RefitArgs,
    /// Check everything and print what the run would need, with estimates of memory and time; write nothing.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) dry_run: bool,
    /// Print the report as JSON.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: bool,
}

/// Report of `extract`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Extracted {
    proxy: PathBuf,
    pub(crate) expert_bytes: ExpertBytes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refit: Option<RefitReport>,
    seconds: f64,
    peak_bytes: Peak,
}

/// Bytes of the routed experts, as a proxy has them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ExpertBytes {
    pub(crate) foundation: u64,
    pub(crate) proxy: u64,
}

impl ExtractArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if let Some(rows) = &self.refit.data {
            row_check::note(&[Source::calibration(rows)])?;
        }
        if self.dry_run {
            fingerprints::keep_none();
            return self.preview()?.print(self.json);
        }
        work::run(&self, self.json)
    }

    /// Paths of all inputs.
    fn inputs(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut inputs = vec![hub::locate(&self.model)?, self.plan.clone()];
        inputs.extend(self.refit.data.clone());
        Ok(inputs)
    }

    fn plan(&self, checkpoint: &Checkpoint) -> anyhow::Result<Plan> {
        let plan: Plan = artefact::read(&self.plan)?;
        plan.check(checkpoint.fingerprint(), checkpoint.moe_layers()).with_context(|| {
            format!("{} does not fit {}", self.plan.display(), self.model.display())
        })?;
        Ok(plan)
    }

    /// Writes the plan's proxy to a temporary directory, not yet renamed to its target.
    fn staged(&self, checkpoint: &Checkpoint, plan: &Plan) -> anyhow::Result<StagedProxy> {
        let bar = progress::begin("extracting", plan.layers.len() as u64, "layers");
        let experts = checkpoint.experts(&cpu()?);
        let staged = stage_proxy(checkpoint, plan, &self.out, None, &mut |layer, plan| {
            bar.add(1);
            Ok(merged_experts(layer, plan, &experts)?)
        })?;
        bar.finish();
        Ok(staged)
    }
}

impl Work for ExtractArgs {
    type Report = Extracted;

    fn execute(&self) -> anyhow::Result<Extracted> {
        let (start, memory) = (Instant::now(), MemoryWatch::start());
        let inputs = self.inputs()?;
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        let _lock = artefact::lock_dir(&self.out, &inputs)?;
        let input_files = InputFiles::of(&inputs);
        let refit = Refit::prepared(&self.refit, &self.model, &self.out, &inputs)?;
        let opened;
        let checkpoint = match &refit {
            Some(refit) => refit.foundation(),
            None => {
                opened = model::open(&self.model)?;
                model::note_leftovers(&opened);
                &opened
            }
        };
        let plan = self.plan(checkpoint)?;
        disk::expect_room(&self.out, proxy_bytes(checkpoint, &plan)?)?;
        let staged = self.staged(checkpoint, &plan)?;
        let report = match &refit {
            None => {
                input_files.expect_unchanged()?;
                staged.commit()?;
                None
            }
            Some(refit) => Some(refit.run(&plan, staged, &input_files)?),
        };
        Ok(Extracted {
            expert_bytes: ExpertBytes {
                foundation: checkpoint.expert_bytes(),
                proxy: Checkpoint::open(&self.out)?.expert_bytes(),
            },
            refit: report,
            proxy: self.out.clone(),
            seconds: start.elapsed().as_secs_f64(),
            peak_bytes: memory.peak(),
        })
    }
}

impl Report for Extracted {
    fn print(&self) -> anyhow::Result<()> {
        let ExpertBytes { foundation, proxy } = self.expert_bytes;
        output::line(&format!(
            "{} written: {} of experts, the foundation has {}",
            self.proxy.display(),
            output::bytes(proxy),
            output::bytes(foundation)
        ))?;
        match &self.refit {
            Some(refit) => refit.print(),
            None => Ok(()),
        }
    }
}
