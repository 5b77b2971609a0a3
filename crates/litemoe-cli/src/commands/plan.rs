use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use litemoe_core::Similarity;
use litemoe_merge::{PlanReport, make_plan};
use serde::Serialize;

use crate::customize::options::PlanArgs;
use crate::device::cpu;
use crate::memory::{MemoryWatch, Peak};
use crate::{artefact, model, output, progress};

/// Decide from scores which experts a proxy keeps, merges and drops
#[derive(Debug, Args)]
pub(crate) struct PlanCommand {
    /// The foundation: a Hugging Face directory, or the id of a model that was pulled.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// What `litemoe score` wrote.
    #[arg(value_name = "SCORES")]
    scores: PathBuf,
    /// Similarities from a file of their own, when merging [default: what the scores were measured with].
    #[arg(long, value_name = "FILE")]
    similarity_file: Option<PathBuf>,
    /// The plan to write.
    #[arg(long, value_name = "FILE", default_value = "plan.json")]
    out: PathBuf,
    #[command(flatten)]
    options: PlanArgs,
    /// Print what was decided as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Planned {
    plan: PathBuf,
    hash: String,
    report: PlanReport,
    seconds: f64,
    peak_bytes: Peak,
}

impl PlanCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (start, memory) = (Instant::now(), MemoryWatch::start());
        let checkpoint = model::open(&self.model)?;
        let scores = artefact::read_scores(&self.scores)?;
        model::expect_fingerprint(&checkpoint, &scores.fingerprint, &self.scores)?;
        let similarity: Option<Similarity> =
            self.similarity_file.as_deref().map(artefact::read).transpose()?;
        let experts = checkpoint.experts(&cpu()?);
        let bar = progress::bar(scores.layers.len() as u64, "planning");
        let (plan, report) = make_plan(
            &scores,
            similarity.as_ref(),
            &experts,
            &self.options.options(),
            &mut |_| bar.inc(1),
        )?;
        bar.finish_and_clear();
        artefact::write(&self.out, &plan)?;
        let seconds = start.elapsed().as_secs_f64();
        if self.json {
            return output::json(&Planned {
                plan: self.out,
                hash: plan.hash(),
                report,
                seconds,
                peak_bytes: memory.peak(),
            });
        }
        output::line(&format!("{report}"));
        output::line(&format!("plan {} written to {}", &plan.hash()[..12], self.out.display()));
        Ok(())
    }
}
