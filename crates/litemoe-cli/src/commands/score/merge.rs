use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use litemoe_score::Warning;

use super::report::ScoreReport;
use crate::input_files::InputFiles;
use crate::memory::MemoryWatch;
use crate::work::Report;
use crate::{artefact, output};

/// Add up the scores of shards of an app's rows
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// Score files of the shards, from `litemoe score --shard` or from this command.
    #[arg(value_name = "SCORES", required = true, num_args = 2..)]
    files: Vec<PathBuf>,
    /// Output file of the merged scores.
    #[arg(long, value_name = "FILE", default_value = "scores.json")]
    out: PathBuf,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl MergeArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (start, memory) = (Instant::now(), MemoryWatch::start());
        let files: Vec<&Path> = self.files.iter().map(PathBuf::as_path).collect();
        artefact::check_file(&self.out, &files)?;
        let inputs = InputFiles::of(&files);
        let (first, others) = self.files.split_first().context("there is nothing to add up")?;
        let mut scores = artefact::read_scores(first)?;
        for path in others {
            let more = artefact::read_scores(path)?;
            scores = scores.merged(&more).with_context(|| path.display().to_string())?;
        }
        scores.program = env!("CARGO_PKG_VERSION").to_owned();
        if let Some(warning) = Warning::of_rows(scores.rows()) {
            output::note(&format!("warning: {warning}"));
        }
        inputs.expect_unchanged()?;
        artefact::write_checksummed(&self.out, &scores)?;
        let report = ScoreReport::new(self.out, &scores, 0, start, &memory);
        if self.json {
            return output::json(&report);
        }
        report.print()
    }
}
