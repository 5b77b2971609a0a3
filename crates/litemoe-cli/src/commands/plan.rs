use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use litemoe_core::Similarity;
use litemoe_merge::{PlanReport, make_plan};
use serde::{Deserialize, Serialize};

use crate::args::device::cpu;
use crate::args::plan::PlanArgs;
use crate::input_files::InputFiles;
use crate::memory::{MemoryWatch, Peak};
use crate::work::{self, Report, Work};
use crate::{artefact, hub, model, output, progress};

/// Plan a proxy from scores: which experts it keeps, merges and prunes
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct PlanCommand {
    /// The foundation: a Hugging Face model directory, or the id of a pulled model.
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// The scores, from `litemoe score`.
    #[arg(value_name = "SCORES")]
    pub(crate) scores: PathBuf,
    /// Similarities from a separate file, for --merge litemoe [default: those measured with the scores].
    #[arg(long, value_name = "FILE")]
    pub(crate) similarity_file: Option<PathBuf>,
    /// Output file of the plan.
    #[arg(long, value_name = "FILE", default_value = "plan.json")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) options: PlanArgs,
    /// Print the report as JSON.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: bool,
}

/// Report of `plan`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Planned {
    plan: PathBuf,
    hash: String,
    report: PlanReport,
    seconds: f64,
    peak_bytes: Peak,
}

impl PlanCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        work::run(&self, self.json)
    }
}

impl Work for PlanCommand {
    type Report = Planned;

    fn execute(&self) -> anyhow::Result<Planned> {
        let (start, memory) = (Instant::now(), MemoryWatch::start());
        let options = self.options.options()?;
        let model = hub::locate(&self.model)?;
        let mut inputs = vec![model.as_path(), &self.scores];
        inputs.extend(self.similarity_file.as_deref());
        artefact::check_file(&self.out, &inputs)?;
        let inputs = InputFiles::of(&inputs);
        let checkpoint = model::open(&self.model)?;
        model::note_leftovers(&checkpoint);
        let scores = artefact::read_scores(&self.scores)?;
        model::expect_fingerprint(&checkpoint, &scores.fingerprint, &self.scores)?;
        let similarity: Option<Similarity> =
            self.similarity_file.as_deref().map(artefact::read).transpose()?;
        let experts = checkpoint.experts(&cpu()?);
        let bar = progress::begin("planning", scores.layers.len() as u64, "layers");
        let (plan, report) =
            make_plan(&scores, similarity.as_ref(), &experts, &options, &mut |_| bar.add(1))?;
        bar.finish();
        inputs.expect_unchanged()?;
        artefact::write_checksummed(&self.out, &plan)?;
        Ok(Planned {
            plan: self.out.clone(),
            hash: plan.hash(),
            report,
            seconds: start.elapsed().as_secs_f64(),
            peak_bytes: memory.peak(),
        })
    }
}

impl Report for Planned {
    fn print(&self) -> anyhow::Result<()> {
        output::line(&self.report.to_string())?;
        output::line(&format!("plan {} written to {}", &self.hash[..12], self.plan.display()))
    }
}
