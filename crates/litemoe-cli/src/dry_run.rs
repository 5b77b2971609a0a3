use std::path::PathBuf;

use litemoe_core::Sequence;
use serde::Serialize;

use crate::forecast::{Lengths, Speed, available_bytes};
use crate::output;

/// What a single command would do: `--dry-run` of `score` and `tune`.
#[derive(Debug, Serialize)]
pub(crate) struct DryRun {
    rows: usize,
    tokens: u64,
    /// Rows that are too long.
    skipped: usize,
    /// Estimated peak of anonymous memory.
    memory_bytes: u64,
    /// Memory that is available now; `None` where the system does not report it.
    available_bytes: Option<u64>,
    /// Estimated time.
    seconds: f64,
    outputs: Vec<PathBuf>,
}

impl DryRun {
    pub(crate) fn new(
        (rows, skipped): (&[Sequence], usize),
        memory_bytes: u64,
        (flops, speed): (f64, Speed),
        outputs: Vec<PathBuf>,
    ) -> Self {
        Self {
            rows: rows.len(),
            tokens: Lengths::of(rows).tokens() as u64,
            skipped,
            memory_bytes,
            available_bytes: available_bytes(),
            seconds: speed.seconds(flops),
            outputs,
        }
    }

    /// Prints it, as JSON or as text.
    pub(crate) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return output::json(self);
        }
        let Self { rows, tokens, skipped, seconds, .. } = self;
        let outputs: Vec<_> = self.outputs.iter().map(|path| path.display().to_string()).collect();
        let available = self.available_bytes.map(output::bytes);
        output::line(&format!(
            "{rows} rows, {tokens} tokens ({skipped} rows are too long and skipped)\n\
             about {} of memory{} and {} (estimates)\nwould write {}; nothing was written",
            output::bytes(self.memory_bytes),
            available.map_or_else(String::new, |it| format!(" ({it} available)")),
            output::seconds(*seconds),
            outputs.join(", ")
        ))
    }
}
