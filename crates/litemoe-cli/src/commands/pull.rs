use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use litemoe_model::{Checkpoint, Part};
use serde::Serialize;

use crate::hub::{self, ModelId};
use crate::output;

/// Fetch a model from the Hugging Face Hub into its cache
///
/// Other commands then take the id in place of a model directory. The cache is the one that other Hugging Face programs
/// use, and so are the environment variables: HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_TOKEN_PATH, HF_ENDPOINT,
/// HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT. An interrupted transfer is resumed.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// The model, org/name or org/name@revision.
    #[arg(value_name = "ID")]
    id: ModelId,
    /// Branch, tag or commit [default: main].
    #[arg(long)]
    revision: Option<String>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    id: String,
    snapshot: PathBuf,
    /// Bytes of each file in the snapshot.
    files: BTreeMap<String, u64>,
    /// Bytes transferred over the network.
    fetched: u64,
    family: &'static str,
    bytes: u64,
    expert_bytes: u64,
    seconds: f64,
}

impl PullArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let start = Instant::now();
        let id = match &self.revision {
            Some(revision) => self.id.at(revision).map_err(anyhow::Error::msg)?,
            None => self.id,
        };
        let hub::Pulled { snapshot, fetched } = hub::pull(&id)?;
        let checkpoint = Checkpoint::open(&snapshot)
            .with_context(|| format!("{id} is in the cache, but is of no use here"))?;
        let report = Report {
            id: id.to_string(),
            files: files(&snapshot)
                .with_context(|| format!("cannot read {}", snapshot.display()))?,
            snapshot,
            fetched,
            family: checkpoint.family(),
            bytes: checkpoint.bytes(),
            expert_bytes: stored_expert_bytes(&checkpoint),
            seconds: start.elapsed().as_secs_f64(),
        };
        if self.json { output::json(&report) } else { report.print() }
    }
}

fn files(dir: &Path) -> std::io::Result<BTreeMap<String, u64>> {
    let entries = fs::read_dir(dir)?.map(|entry| {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, fs::metadata(path)?.len()))
    });
    entries.collect()
}

fn stored_expert_bytes(checkpoint: &Checkpoint) -> u64 {
    let experts = checkpoint.stored_parts().filter(|stored| stored.part == Part::Experts);
    experts.map(|stored| stored.bytes).sum()
}

impl Report {
    fn print(&self) -> anyhow::Result<()> {
        output::line(&self.snapshot.display().to_string())?;
        for (name, &bytes) in &self.files {
            output::line(&format!("{:>12}  {name}", output::bytes(bytes)))?;
        }
        output::line(&format!(
            "{}: {}, of which routed experts {}; {} fetched",
            self.family,
            output::bytes(self.bytes),
            output::bytes(self.expert_bytes),
            output::bytes(self.fetched)
        ))
    }
}
