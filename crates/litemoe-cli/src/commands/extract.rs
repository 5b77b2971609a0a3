use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use litemoe_core::Plan;
use litemoe_merge::merged_experts;
use litemoe_model::write_proxy;
use serde::Serialize;

use crate::device::cpu;
use crate::memory::{MemoryWatch, Peak};
use crate::{artefact, model, output, progress};

/// Write the proxy that a plan describes: a smaller model directory
#[derive(Debug, Args)]
pub(crate) struct ExtractArgs {
    /// The foundation: a Hugging Face directory, or the id of a model that was pulled.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// What `litemoe plan` wrote.
    #[arg(value_name = "PLAN")]
    plan: PathBuf,
    /// The proxy's folder.
    #[arg(long, value_name = "DIR", default_value = "proxy")]
    out: PathBuf,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Extracted {
    proxy: PathBuf,
    expert_bytes: ExpertBytes,
    seconds: f64,
    peak_bytes: Peak,
}

#[derive(Serialize)]
struct ExpertBytes {
    foundation: u64,
    proxy: u64,
}

impl ExtractArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (start, memory) = (Instant::now(), MemoryWatch::start());
        let checkpoint = model::open(&self.model)?;
        if artefact::same(&self.out, checkpoint.dir()) {
            bail!("--out {} is the model itself", self.out.display());
        }
        let plan: Plan = artefact::read(&self.plan)?;
        plan.check(checkpoint.fingerprint(), checkpoint.moe_layers()).with_context(|| {
            format!("{} does not fit {}", self.plan.display(), self.model.display())
        })?;
        artefact::create_parent(&self.out)?;
        let bar = progress::bar(plan.layers.len() as u64, "extracting");
        let experts = checkpoint.experts(&cpu()?);
        write_proxy(&checkpoint, &plan, &self.out, &mut |layer, plan| {
            bar.inc(1);
            Ok(merged_experts(layer, plan, &experts)?)
        })?;
        bar.finish_and_clear();
        let proxy = model::open(&self.out)?;
        let extracted = Extracted {
            expert_bytes: ExpertBytes {
                foundation: checkpoint.expert_bytes(),
                proxy: proxy.expert_bytes(),
            },
            proxy: self.out,
            seconds: start.elapsed().as_secs_f64(),
            peak_bytes: memory.peak(),
        };
        if self.json {
            return output::json(&extracted);
        }
        let ExpertBytes { foundation, proxy } = extracted.expert_bytes;
        output::line(&format!(
            "{} written: {} of experts, the foundation has {}",
            extracted.proxy.display(),
            output::bytes(proxy),
            output::bytes(foundation)
        ));
        Ok(())
    }
}
